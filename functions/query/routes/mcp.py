"""The tools that assistants call over the Model Context Protocol, with the same keys and limits as every other route."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, Field, ValidationError

from functions.query import mcp, problems
from functions.query.routes import documents, passages, questions
from functions.query.routes.access import ApiKey, Wired, principal
from functions.query.schemas import MAX_TOP_K, QueryRequest, SearchRequest, StrictRequest
from functions.query.wiring import Graph
from shared.core.conversation import MAX_QUESTION
from shared.core.errors import Busy, Forbidden, RagzeroError, TooMany, Unauthorized
from shared.core.models import Status

router = APIRouter(include_in_schema=False)
_OUTSIDE = (Unauthorized, Forbidden, TooMany)  # for the HTTP client, not for the model that calls a tool


class Asking(StrictRequest):
    question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION, description="In full sentences.")]
    collection: Annotated[str, Field(max_length=63, description="Of documents; `default` unless said.")] = (
        "default"
    )
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K, description="How many passages.")] = 5
    filter: Annotated[
        dict[str, Any] | None,
        Field(description='By metadata: {"year": {"$gte": 2020}}, {"$and": [...]}, ...'),
    ] = None


class Listing(StrictRequest):
    status: Annotated[Status | None, Field(strict=False)] = None
    collection: Annotated[str | None, Field(max_length=63)] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=200, description="next_cursor of the page before.")] = None


class Getting(StrictRequest):
    id: Annotated[
        UUID, Field(strict=False, description="document_id of a passage, or id of a listed document.")
    ]
    limit: Annotated[int, Field(ge=1, le=200, description="How many pieces of its text.")] = 20
    cursor: Annotated[str | None, Field(max_length=200, description="text.next_cursor, to read on.")] = None


@dataclass(frozen=True, slots=True)
class Call:
    """key: of the caller, who is asked for once per call."""

    wired: Graph
    key: str
    request: HttpRequest


@dataclass(frozen=True, slots=True)
class Tool:
    description: str
    arguments: type[BaseModel]
    run: Callable[[Call, Any], Awaitable[Any]]


async def _search(call: Call, given: Asking) -> Any:
    who = (await principal(call.wired, call.key, call.request)).require("query")
    return await questions.search(SearchRequest(**given.model_dump()), who, call.wired)


async def _ask(call: Call, given: Asking) -> Any:
    """While a model wakes, quotes: an assistant would not come back for the answer."""
    body = QueryRequest(**given.model_dump(), on_cold="extractive")
    answer = await questions.query(body, call.key, call.wired, call.request)
    if answer.status_code == 202:
        raise Busy("generator", "the answer is still being written; ask the same again in a few seconds")
    return json.loads(bytes(answer.body))


async def _list(call: Call, given: Listing) -> Any:
    who = (await principal(call.wired, call.key, call.request)).require("query")
    rows, following = await call.wired.documents.list(
        who, limit=given.limit, cursor=given.cursor, status=given.status, collection=given.collection
    )
    return {"items": [documents.view(row) for row in rows], "next_cursor": following}


async def _get(call: Call, given: Getting) -> Any:
    who = (await principal(call.wired, call.key, call.request)).require("query")
    document = documents.view(await call.wired.documents.get(who, given.id))
    text = await passages.chunks(given.id, who, call.wired, limit=given.limit, cursor=given.cursor)
    return {"document": document, "text": text}


_TOOLS = {
    "search": Tool("The passages of the documents that speak to a question, best first.", Asking, _search),
    "ask": Tool("An answer from the documents; each citation is a quote that stands in one.", Asking, _ask),
    "list_documents": Tool("The documents there are, newest first, and their status.", Listing, _list),
    "get_document": Tool("A document: what is known of it, and its text piece by piece.", Getting, _get),
}


@cache
def _listed() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "description": tool.description,
            "inputSchema": tool.arguments.model_json_schema(),
            "annotations": {"readOnlyHint": True, "openWorldHint": False},
        }
        for name, tool in _TOOLS.items()
    ]


@router.post("/mcp")
async def message(request: HttpRequest, key: ApiKey, wired: Wired) -> Response:
    """One message in, its answer out; nothing is remembered in between."""
    id: Any = None
    modern = False
    try:
        said = await _json(request)
        id = said.get("id") if isinstance(said, dict) else None
        asked = mcp.understood(said, dict(request.headers))
        modern = asked.modern
        if asked.id is None:
            await principal(wired, key, request)
            return Response(status_code=202)
        answer = mcp.result(asked, await _result(asked, Call(wired, key, request)))
    except mcp.Refused as error:
        answer = mcp.refusal(error, id, modern=modern)
    return Response(json.dumps(answer.body), answer.status, media_type="application/json")


async def _json(request: HttpRequest) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise mcp.Refused(mcp.PARSE_ERROR, "the message is not JSON") from error


async def _result(asked: mcp.Request, call: Call) -> dict[str, Any]:
    if asked.method == "tools/call":
        return await _called(asked, call)
    await principal(call.wired, call.key, call.request)
    if asked.method == "tools/list":
        return {"tools": _listed()}
    found = mcp.introduction(asked)
    if found is None:
        raise mcp.Refused(mcp.NO_METHOD, f"there is no method {asked.method[:80]!r} here")
    return found


async def _called(asked: mcp.Request, call: Call) -> dict[str, Any]:
    """What goes wrong is told to whoever chose the arguments."""
    tool = _TOOLS.get(str(asked.params.get("name")))
    if tool is None:
        raise mcp.Refused(mcp.INVALID_PARAMS, f"there are the tools {', '.join(_TOOLS)}")
    try:
        given = tool.arguments.model_validate(asked.params.get("arguments") or {})
        found = jsonable_encoder(await tool.run(call, given))
    except _OUTSIDE:
        raise
    except ValidationError as error:
        return _failed("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
    except RagzeroError as error:
        known = problems.described(error)
        if known is None:
            raise
        return _failed(known["detail"])
    return {
        "content": [_text(json.dumps(found, ensure_ascii=False))],
        "structuredContent": found,
        "isError": False,
    }


def _failed(reason: str) -> dict[str, Any]:
    return {"content": [_text(reason)], "isError": True}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
