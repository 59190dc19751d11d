"""What schemathesis is told besides the API's description; it loads this file itself.

Every check is on for every operation. What the API means to answer although a check expects otherwise is here, each with
its reason, and only in the words of that answer: a refusal has to name the very field.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.transport import Response
from schemathesis.generation.meta import TestPhase
from schemathesis.openapi.checks import (
    EnsureResourceAvailability,
    RejectedPositiveData,
    UseAfterFree,
)

EVERY = int(os.environ.get("FUZZ_EVERY", "1"))
"""Of the requests for each limit of an operation, so many at a time are passed over for one that is sent."""

# Why a field may be refused that is as the description says, by its last name.
CURSOR = "only one that was given out is a cursor, and it says where to begin alone"
CLOCK = "now decides what lies ahead, and the other end how long a span is"
DATABASE = "the database knows its languages, the model how much it reads, the one size what the other may be"
EITHER = "the description of a query cannot say that there is one of two"
FILTER = "how deep, how many, and what the built-in fields are compared with; in a query it is JSON in a text"
FORM = "a form's field is a text: that it is JSON, and within its size, is not the form's to describe"
NAME = "what is printable is Unicode's to say"
SETTINGS = (
    "settings say how large a file may be; two of a name exclude each other; metadata has a size in all"
)
MODEL = "the encoder has its dimensions, and reads so many tokens"
TURNS = "the last turn is a question, of the user, of a question's length"
URL = "an address is more than a pattern, and is nobody's own network"

MEANT: Mapping[str, Mapping[str, str]] = {
    "GET /v1/admin/feedback": {"cursor": CURSOR},
    "GET /v1/admin/keys": {"cursor": CURSOR},
    "GET /v1/admin/tenants": {"cursor": CURSOR},
    "GET /v1/collections": {"cursor": CURSOR},
    "GET /v1/documents": {"cursor": CURSOR},
    "GET /v1/documents/{id}/chunks": {"cursor": CURSOR},
    "GET /v1/explain": {"filter": FILTER},
    "GET /v1/index/why": {"key": EITHER},
    "GET /v1/usage": {"from": CLOCK},
    "PATCH /v1/admin/keys/{id}": {"expires_at": CLOCK, "name": NAME},
    "PATCH /v1/collections/{name}": dict.fromkeys(("language", "chunk_tokens", "overlap_tokens"), DATABASE),
    "PATCH /v1/documents/{id}": {"metadata": SETTINGS},
    "POST /v1/admin/keys": {"expires_at": CLOCK, "name": NAME},
    "POST /v1/admin/tenants": {"name": NAME},
    "POST /v1/answers/{id}/feedback": {"filter": FILTER},
    "POST /v1/chat/completions": {"messages": TURNS, "filter": FILTER},
    "POST /v1/collections": dict.fromkeys(("language", "chunk_tokens", "overlap_tokens"), DATABASE),
    "POST /v1/deletions": {"filter": FILTER},
    "POST /v1/documents": {"metadata": FORM},
    "POST /v1/embeddings": {"dimensions": MODEL, "input": MODEL},
    "POST /v1/evaluations/{id}/questions": {"filter": FILTER},
    "POST /v1/index/candidates": dict.fromkeys(("language", "chunk_tokens", "overlap_tokens"), DATABASE),
    "POST /v1/query": {"filter": FILTER},
    "POST /v1/search": {"filter": FILTER},
    "POST /v1/uploads": {"files": SETTINGS, "metadata": SETTINGS},
    "POST /v1/webhooks": {"url": URL},
}

# A deleted document is told of, and nothing that stood in it. The default collection is emptied.
GONE: Mapping[str, Callable[[Any], bool]] = {
    "GET /v1/documents/{id}": lambda said: (
        said["status"] == "deleted" and not (said["chunks"] or said["metadata"] or said["reason"])
    ),
    "GET /v1/documents/{id}/chunks": lambda said: said["generation"] is None and not said["items"],
    "GET /v1/documents/{id}/deletion": lambda said: said["status"] in ("removing", "removed"),
    "GET /v1/collections/{name}": lambda said: said["name"] == "default" and not said["documents"],
}
_RECEIPT = "GET /v1/documents/{id}/deletion"
_BATCH, _UPLOAD = "POST /v1/query/batch", "POST /v1/documents"
_tried = Counter[str]()


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext, failure: Failure, case: schemathesis.Case[Any], response: Response
) -> bool:
    return not meant(failure, case.operation.label, response.status_code, response.content)


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """All but the requests for limits, which are ten times as many, are sent."""
    if case.meta is None or case.meta.phase.name is not TestPhase.COVERAGE:
        return True
    _tried[case.operation.label] += 1
    return _tried[case.operation.label] % EVERY == 1 % EVERY


def meant(failure: Failure, operation: str, status: int, body: bytes) -> bool:
    match failure:
        case UseAfterFree():
            return operation in GONE and GONE[operation](json.loads(body))
        case EnsureResourceAvailability():  # there is no receipt before there is a delete
            return operation == _RECEIPT and json.loads(body)["detail"] == "the document is not deleted"
        case AcceptedNegativeData() if (
            operation == _BATCH
        ):  # says of each question what is wrong with its filter
            return _told(json.loads(body)["items"]) == {"filter"}
        case AcceptedNegativeData() if (
            operation == _UPLOAD
        ):  # on its way, whatever stands there is a file of so many bytes
            return "at /properties/file (" in failure.message
        case RejectedPositiveData():
            blamed = _blamed(status, json.loads(body))
            return bool(blamed) and blamed <= MEANT.get(operation, {}).keys()
    return False


def _told(items: Any) -> set[str]:
    return {field for item in items for field in _blamed(item["status"], item["problem"])}


def _blamed(status: int, problem: Any) -> set[str]:
    """The fields that a refusal is about; none for any other answer than a refusal of what stands in the request."""
    if status not in (400, 422):
        return set()
    if "error" in problem:  # as OpenAI says it
        named = [problem["error"]["param"]]
    else:
        named = [problem["field"]] if "field" in problem else [one["field"] for one in problem["errors"]]
    return {str(name).rpartition(".")[2] for name in named}
