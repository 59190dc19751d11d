"""An answer's events as server-sent events, with a heartbeat while nothing else is to be said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

from anyio import CancelScope
from fastapi.responses import StreamingResponse

from functions.query import problems, rendering
from functions.query.answering import Done, Sources, Status, Text
from functions.query.flights import Event
from functions.query.kept import Kept
from functions.query.service import Found

_HEARTBEAT_S = 9.0  # a second early: ten are promised
_SHOWN_FIRST = ("id", "sources", "retrieval")
_SENT_BEFORE = ("sources", "retrieval", "citations")


def event_stream(lines: AsyncGenerator[str, None]) -> StreamingResponse:
    """lines as an answer, closed when the reader goes away."""

    async def sent() -> AsyncGenerator[str, None]:
        async with aclosing(lines):
            async for line in lines:
                yield line

    return StreamingResponse(sent(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def begun(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event | None, None]:
    """events with heartbeats, once there is something to say; raises what went wrong before that."""
    beating, first = _with_heartbeat(events), list[Event | None]()
    try:
        async for event in beating:
            first.append(event)
            if not isinstance(event, Status):
                break
    except BaseException:
        await beating.aclose()
        raise
    return _continued(first, beating)


async def _continued(
    first: list[Event | None], rest: AsyncGenerator[Event | None, None]
) -> AsyncGenerator[Event | None, None]:
    async with aclosing(rest):
        for event in first:
            yield event
        async for event in rest:
            yield event


async def server_sent(
    id: UUID, events: AsyncGenerator[Event, None], condensed: str | None = None
) -> AsyncGenerator[str, None]:
    """status*, sources, token*, citations, done; or error as the last one. A comment at least every 10 s.

    condensed: what is asked instead of the question, said first.
    """
    found: Found | None = None
    first = [_line("status", {"state": "condensed", "question": condensed})] if condensed is not None else []
    try:
        async with aclosing(_with_heartbeat(events)) as beating:
            async for event in beating:
                if isinstance(event, Sources):
                    found = event.found
                for line in (*first, *_lines(id, event, found)):
                    yield line
                first = []
    except Exception as error:
        yield _line("error", problems.told(error) | {"answer_url": f"/v1/answers/{id}"})


async def _with_heartbeat(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event | None, None]:
    """events, and None whenever nothing came for a while. Closes events, too when the reader went away."""
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
        # a reader who went away cancels whatever is awaited, again and again, but what is shielded
        with CancelScope(shield=True):
            pending.cancel()
            await asyncio.wait({pending})
            await events.aclose()


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
            return _ending(rendering.answer(id, _known(found), event), at_once=event.mode == "extractive")
        case Kept():
            answer = event.parsed()
            return [
                _line("sources", {name: answer[name] for name in _SHOWN_FIRST}),
                *_ending(answer, at_once=True),
            ]


def _sources(id: UUID, found: Found) -> dict[str, Any]:
    results = [rendering.result(passage).model_dump(mode="json") for passage in found.retrieved.passages]
    return {"id": str(id), "sources": results, "retrieval": found.retrieved.retrieval}


def _known(found: Found | None) -> Found:
    assert found is not None
    return found


def _ending(answer: dict[str, Any], *, at_once: bool) -> list[str]:
    """at_once: the text comes in one piece, as quotes and answers made before do; else it was sent already."""
    lines = [_line("token", {"text": answer["answer"]})] if at_once else []
    lines.append(_line("citations", {"citations": answer["citations"]}))
    return [
        *lines,
        _line("done", {name: value for name, value in answer.items() if name not in _SENT_BEFORE}),
    ]


def _line(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
