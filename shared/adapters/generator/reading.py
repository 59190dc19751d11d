"""The body of an answer: its chunks, or what an error says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

import httpx

from shared.adapters.generator.watch import Watch
from shared.core.completion import Chunk, parse_chunk
from shared.core.errors import BadUpstream
from shared.core.sse import EventDecoder

_ERROR_BYTES = 64 * 1024


async def chunks(response: httpx.Response, watch: Watch) -> AsyncIterator[Chunk]:
    """BadUpstream for garbage, and unless [DONE] ends the stream."""
    decoder, received = EventDecoder(), response.aiter_bytes()
    while (piece := await watch.within(partial(anext, received, b""))) != b"":
        watch.heard()
        try:
            for data in decoder.feed(piece):
                if data == "[DONE]":
                    await _drain(received)
                    return
                yield parse_chunk(data)
        except ValueError as error:
            raise BadUpstream("generator", f"generator {error}") from error
    raise BadUpstream("generator", "generator ended its stream without [DONE]")


async def _drain(received: AsyncIterator[bytes]) -> None:
    """Reads what ends the stream, so that the connection can be used again."""
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(0.05):
            async for _ in received:
                pass


async def some(response: httpx.Response) -> bytes:
    """The body of an error, but not without end."""
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > _ERROR_BYTES:
            break
    return body[:_ERROR_BYTES]
