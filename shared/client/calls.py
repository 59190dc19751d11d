"""What is asked, without asking: a call is a request and where in the answer its value is."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from . import types
from .errors import ApiError

T = TypeVar("T")
BUSY = 429
RETRIED = (BUSY, 502, 503, 504)
RETRIES = 3
PATIENCE_S = 60.0
"""How long one request waits in all for a server that says when to come back."""
_FIRST_S, _LONGEST_S = 0.5, 8.0


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """type is what the answer's JSON is. once: it has an effect, and sent twice it has it once."""

    type: type[T]
    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    once: bool = False

    def options(self) -> dict[str, Any]:
        """For httpx."""
        given: dict[str, Any] = {"params": dict(self.params)}
        if self.body is not None:
            given["json"] = dict(self.body)
        if self.once:
            given["headers"] = {"Idempotency-Key": str(uuid.uuid4())}
        return given


def _given(**values: Any) -> dict[str, Any]:
    """Those that were said."""
    return {name: value for name, value in values.items() if value is not None}


def delay_s(failures: int, retry_after: float | None, spread: float) -> float:
    """How long to wait after so many failures. spread: 0 to 1, at random."""
    if retry_after is not None:
        return min(retry_after, PATIENCE_S) + spread / 2
    return min(_FIRST_S * 2.0 ** (failures - 1), _LONGEST_S) * (0.5 + spread / 2)


def retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None


def refusal(status: int, headers: Mapping[str, str], content: bytes) -> ApiError:
    try:
        problem = json.loads(content)
    except ValueError:
        problem = {}
    return ApiError(status, problem if isinstance(problem, dict) else {}, retry_after(headers))


def ask(
    question: str,
    *,
    collection: str | None = None,
    top_k: int | None = None,
    filter: types.Filter | None = None,
    acl: Sequence[str] | None = None,
    on_cold: types.OnCold | None = None,
    deadline_ms: int | None = None,
    generate: bool | None = None,
    cache: str | None = None,
    mode: types.Mode | None = None,
    per_document: int | None = None,
    earlier: Sequence[str] | None = None,
) -> Call[types.QueryAnswer]:
    """An answer whose every citation stands in a document. Waited for when a model takes its time.

    earlier: what the same person asked before, oldest first.
    """
    body = _given(
        question=question,
        collection=collection,
        top_k=top_k,
        filter=filter,
        acl=None if acl is None else list(acl),
        on_cold=on_cold,
        deadline_ms=deadline_ms,
        generate=generate,
        cache=cache,
        mode=mode,
        per_document=per_document,
        earlier=None if earlier is None else list(earlier),
    )
    return Call(types.QueryAnswer, "POST", "/v1/query", body=body)


def search(
    question: str,
    *,
    collection: str | None = None,
    top_k: int | None = None,
    filter: types.Filter | None = None,
    acl: Sequence[str] | None = None,
    mode: types.Mode | None = None,
    per_document: int | None = None,
) -> Call[types.SearchAnswer]:
    """The passages that speak to a question, best first."""
    body = _given(
        question=question,
        collection=collection,
        top_k=top_k,
        filter=filter,
        acl=None if acl is None else list(acl),
        mode=mode,
        per_document=per_document,
    )
    return Call(types.SearchAnswer, "POST", "/v1/search", body=body)


def documents(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    status: types.Status | None = None,
    collection: str | None = None,
) -> Call[types.DocumentPage]:
    """A page of documents, newest first."""
    given = _given(limit=limit, cursor=cursor, status=status, collection=collection)
    return Call(types.DocumentPage, "GET", "/v1/documents", given)


def document(id: str) -> Call[types.DocumentView]:
    return Call(types.DocumentView, "GET", f"/v1/documents/{id}")


def chunks(id: str, *, limit: int | None = None, cursor: str | None = None) -> Call[types.ChunkPage]:
    """A page of a document's text, in reading order."""
    return Call(types.ChunkPage, "GET", f"/v1/documents/{id}/chunks", _given(limit=limit, cursor=cursor))


def source(id: str) -> Call[types.SourceLink]:
    """A link to the file that a document is made from."""
    return Call(types.SourceLink, "GET", f"/v1/documents/{id}/source")


def describe(id: str, metadata: Mapping[str, types.Scalar | None]) -> Call[types.DocumentChanged]:
    """Other metadata; None takes a name away."""
    body = {"metadata": dict(metadata)}
    return Call(types.DocumentChanged, "PATCH", f"/v1/documents/{id}", body=body)


def delete(id: str) -> Call[types.Deletion]:
    return Call(types.Deletion, "DELETE", f"/v1/documents/{id}")


def deletion(id: str) -> Call[types.DeletionReceipt]:
    """What was removed of a deleted document, from where, and when."""
    return Call(types.DeletionReceipt, "GET", f"/v1/documents/{id}/deletion")


def delete_matching(
    filter: types.Filter, *, collection: str | None = None, dry_run: bool = False
) -> Call[types.DeleteReport]:
    """Deletes the documents that meet a filter, or says which those are."""
    body = _given(filter=filter, collection=collection, dry_run=dry_run)
    return Call(types.DeleteReport, "POST", "/v1/deletions", body=body, once=True)


def job(id: str) -> Call[types.JobView]:
    return Call(types.JobView, "GET", f"/v1/jobs/{id}")


def resume(id: str) -> Call[types.JobView]:
    """Goes on with a delete that was more than one call could do."""
    return Call(types.JobView, "POST", f"/v1/jobs/{id}/resume")


def begin_uploads(
    files: Sequence[Mapping[str, Any]], *, collection: str | None = None, job_id: str | None = None
) -> Call[types.UploadsBegun]:
    body = _given(files=list(files), collection=collection, job_id=job_id)
    return Call(types.UploadsBegun, "POST", "/v1/uploads", body=body, once=True)


def complete_upload(upload_id: str, etags: Sequence[str]) -> Call[dict[str, Any]]:
    body = _given(upload_id=upload_id, etags=list(etags))
    return Call(dict[str, Any], "POST", "/v1/uploads/complete", body=body, once=True)


def request(method: str, path: str, **options: Any) -> Call[dict[str, Any]]:
    """Any other route; options: params, json."""
    params, body = options.get("params") or {}, options.get("json")
    return Call(dict[str, Any], method, path, params, body, once=method == "POST")
