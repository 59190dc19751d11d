"""An answer's events as server-sent events, with a heartbeat while nothing else is to be said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any
from uuid import UUID

from functions.query import problems, rendering
from functions.query.answering import Done, Event, Sources, Status, Text
from functions.query.service import Found
from shared.telemetry import get_logger

_log = get_logger(__name__)
_HEARTBEAT_S = 10.0


async def server_sent(id: UUID, events: AsyncGenerator[Event, None]) -> AsyncIterator[str]:
    """status*, sources, token*, citations, done; or error as the last one. A comment at least every 10 s."""
    found: Found | None = None
    try:
        async with aclosing(events):
            async for event in _with_heartbeat(events):
                if isinstance(event, Sources):
                    found = event.found
                for line in _lines(id, event, found):
                    yield line
    except Exception as error:
        yield _line("error", _described(error) | {"answer_url": f"/v1/answers/{id}"})


async def _with_heartbeat(events: AsyncGenerator[Event, None]) -> AsyncIterator[Event | None]:
    """events, and None whenever nothing came for a while."""
    pending = asyncio.ensure_future(anext(events))
    try:
        while True:
            done, _ = await asyncio.wait({pending}, timeout=_HEARTBEAT_S)
            if not done:
                yield None
                continue
            try:
                yield pending.result()
            except StopAsyncIteration:
                return
            pending = asyncio.ensure_future(anext(events))
    finally:
        if not pending.done():
            pending.cancel()
            await asyncio.wait({pending})


def _lines(id: UUID, event: Event | None, found: Found | None) -> list[str]:
    match event:
        case None:
            return [": still here\n\n"]
        case Status():
            known = {"state": event.state, "waited_s": event.waited_s, "eta_s": event.eta_s}
            return [_line("status", {name: value for name, value in known.items() if value is not None})]
        case Sources():
            return [_line("sources", _sources(id, event.found))]
        case Text():
            return [_line("token", {"text": event.text})]
        case Done():
            return _ending(id, event, found)


def _sources(id: UUID, found: Found) -> dict[str, Any]:
    results = [rendering.result(passage).model_dump(mode="json") for passage in found.retrieved.passages]
    return {"id": str(id), "sources": results, "retrieval": found.retrieved.retrieval}


def _ending(id: UUID, done: Done, found: Found | None) -> list[str]:
    """Quotes come in one piece, so they are one token; what a model wrote was sent already."""
    assert found is not None
    answer = rendering.answer(id, found, done)
    lines = [_line("token", {"text": done.answer})] if done.mode == "extractive" else []
    lines.append(_line("citations", {"citations": answer["citations"]}))
    kept = ("id", "supported", "mode", "usage", "timings_ms", "warnings", "dropped_citations", "answer")
    return [*lines, _line("done", {name: answer[name] for name in kept})]


def _described(error: Exception) -> dict[str, Any]:
    known = problems.described(error)
    if known is None:
        _log.error("stream_failed", error=type(error).__name__, exc_info=error)
        return problems.document(500, "internal-error", "Something went wrong on our side.")
    return known


def _line(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
