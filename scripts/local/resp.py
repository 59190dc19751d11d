"""Redis's protocol (RESP2) over one shared connection: requests are pipelined as they come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from typing import cast
from urllib.parse import urlsplit

from scripts.local.process import HOST
from shared.core.errors import Unavailable


class Status(bytes):
    """A simple string such as OK or QUEUED, as opposed to data."""


class ReplyError(Exception):
    """An error reply. It is a value here: one failing command must not lose its neighbours' replies."""


Reply = int | bytes | ReplyError | list["Reply"] | None


class _Missing:
    pass


_MISSING = _Missing()


def encode(commands: Sequence[Sequence[bytes]]) -> bytes:
    parts: list[bytes] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            parts += (b"$%d\r\n" % len(argument), argument, b"\r\n")
    return b"".join(parts)


class Parser:
    """Bytes in, whole replies out; nested arrays are kept on a stack, so nothing is parsed twice."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._open: list[tuple[int, list[Reply]]] = []

    def feed(self, data: bytes) -> Iterator[Reply]:
        self._buffer += data
        while not isinstance(item := self._next(), _Missing):
            done = self._close_into(item)
            if not isinstance(done, _Missing):
                yield done
        del self._buffer[: self._at]
        self._at = 0

    def _close_into(self, item: Reply) -> Reply | _Missing:
        while self._open:
            size, items = self._open[-1]
            items.append(item)
            if len(items) < size:
                return _MISSING
            item = self._open.pop()[1]
        return item

    def _next(self) -> Reply | _Missing:
        while (end := self._buffer.find(b"\r\n", self._at)) >= 0:
            kind, line = self._buffer[self._at], bytes(self._buffer[self._at + 1 : end])
            if kind == 0x24:  # $
                return self._bulk(int(line), end + 2)
            self._at = end + 2
            if kind == 0x2A and int(line) > 0:  # *
                self._open.append((int(line), []))
                continue
            return _atom(kind, line)
        return _MISSING

    def _bulk(self, size: int, start: int) -> Reply | _Missing:
        if size < 0:
            self._at = start
            return None
        if len(self._buffer) < start + size + 2:
            return _MISSING
        self._at = start + size + 2
        return bytes(self._buffer[start : start + size])


def _atom(kind: int, line: bytes) -> Reply:
    match kind:
        case 0x2B:  # +
            return Status(line)
        case 0x2D:  # -
            return ReplyError(line.decode(errors="replace"))
        case 0x3A:  # :
            return int(line)
        case _:  # an empty or a nil array
            return [] if line == b"0" else None


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = Parser()
        self._waiting: deque[tuple[asyncio.Future[list[Reply]], int, list[Reply]]] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for reply in self._parser.feed(data):
            future, expected, replies = self._waiting[0]
            replies.append(reply)
            if len(replies) == expected:
                self._waiting.popleft()
                if not future.done():
                    future.set_result(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for future, _, _ in self._waiting:
            if not future.done():
                future.set_exception(Unavailable("redis", f"connection lost: {exc or 'closed by redis'}"))
        self._waiting.clear()

    def request(self, payload: bytes, replies: int) -> asyncio.Future[list[Reply]]:
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        self._waiting.append((future, replies, []))
        if not self._unsent:
            # Everything asked for in this turn of the loop leaves in one write.
            self._loop.call_soon(self._flush)
        self._unsent.append(payload)
        return future

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class RespClient:
    """Commands over one connection, opened when needed and again after it broke.

    url is redis://HOST:PORT or unix:///PATH. Raises Unavailable when Redis cannot be reached or the connection
    breaks before the replies came; whether the commands ran is then unknown.
    """

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()

    async def call(self, commands: Sequence[Sequence[bytes]]) -> list[Reply]:
        """One reply per command, in order. Nobody else's commands run between these on this connection."""
        connection = self._connection
        if connection is None or not connection.open:
            connection = await self._open()
        return await connection.request(encode(commands), len(commands))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def _open(self) -> _Connection:
        async with self._opening:
            if self._connection is None or not self._connection.open:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            if self._url.scheme == "unix":
                _, made = await loop.create_unix_connection(_Connection, self._url.path)
            else:
                _, made = await loop.create_connection(
                    _Connection, self._url.hostname or HOST, self._url.port or 6379
                )
        except OSError as error:
            raise Unavailable("redis", f"cannot connect to {self._url.geturl()}: {error}") from error
        return made
