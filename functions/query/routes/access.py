"""Who asks: the key of a request as a principal with the scope a route needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from functions.query.idempotency import IDENTIFIED
from shared.core.credentials import Principal, present
from shared.core.errors import Unauthorized

_bearer = HTTPBearer(auto_error=False, description="The API key.")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The API key.")


# Coroutines all of them, though they hardly wait: FastAPI hands a plain function to a thread.


async def graph(request: Request) -> Any:
    """Made by the first request that needs it, unless it was at the start."""
    state = request.app.state
    state.graph = await state.wired()
    return state.graph


if TYPE_CHECKING:
    from functions.query.wiring import Graph

    Wired = Annotated[Graph, Depends(graph)]
else:  # nobody asks for it at run time, and it brings all adapters along
    Wired = Annotated[Any, Depends(graph)]


async def api_key(
    wired: Wired,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    header: Annotated[str | None, Depends(_header)],
) -> str:
    """The text of a key that is ours by its form; for routes that ask the gate themselves."""
    text = bearer.credentials if bearer else header
    if not text:
        raise Unauthorized
    present(text, wired.pepper)
    return text


ApiKey = Annotated[str, Depends(api_key)]


async def principal(wired: Wired, key: ApiKey, request: Request) -> Principal:
    known = request.scope.get(IDENTIFIED)
    return known if isinstance(known, Principal) else (await wired.gate.admit(key)).who


async def _reader(who: Annotated[Principal, Depends(principal)]) -> Principal:
    return who.require("query")


async def _writer(who: Annotated[Principal, Depends(principal)]) -> Principal:
    return who.require("ingest")


async def _operator(who: Annotated[Principal, Depends(principal)]) -> Principal:
    return who.require("admin")


Reader = Annotated[Principal, Depends(_reader)]
Writer = Annotated[Principal, Depends(_writer)]
Operator = Annotated[Principal, Depends(_operator)]
