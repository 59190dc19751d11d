"""Redis's protocol over one shared connection: requests are pipelined as they come, replies are parsed in C.

Replies come in the order of the requests, so one that nobody waits for any more is still taken off the line.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from hiredis import ProtocolError, Reader, pack_command

from shared.adapters.cache.wire import Command, Reply, ReplyError
from shared.core.errors import BadUpstream, Busy, DeadlineExceeded, Unavailable

_REDIS = "redis"
_MOST_WAITING = 10_000
_STALE_S = 2.0
"""A reply that is late by this much will not come: the connection is given up."""
_OPENING_S = 2.0
_IDLE_S = 30.0
"""Whoever forwards our packets may have forgotten a connection that was quiet for longer."""
_HELD_UP_S = 0.05
_NOTHING = object()

_Future = asyncio.Future[list[Reply]]


class Parser(Protocol):
    def feed(self, data: bytes, /) -> None: ...
    def gets(self) -> Any:
        """The next reply, or NOTHING while it is not whole."""


MakeParser = Callable[[object], Parser]


def hiredis_parser(nothing: object) -> Parser:
    return Reader(replyError=ReplyError, notEnoughData=nothing)


class _Connection(asyncio.Protocol):
    def __init__(self, parser: Parser, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = parser
        self._timeout_s = timeout_s
        self._waiting: deque[tuple[_Future, int, float]] = deque()
        self._replies: list[Reply] = []
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._excused = False
        self._transport: asyncio.Transport | None = None
        self._heard_at = time.time()

    @property
    def usable(self) -> bool:
        """By the wall clock: others stop while we are frozen."""
        if self._transport is None or self._transport.is_closing():
            return False
        return bool(self._waiting) or abs(time.time() - self._heard_at) < _IDLE_S

    def request(self, commands: Sequence[Command]) -> _Future:
        if self._transport is None:
            raise Unavailable(_REDIS, "connection lost: closed by redis")
        if len(self._waiting) >= _MOST_WAITING:
            raise Busy(_REDIS, f"{_MOST_WAITING} requests wait for redis already")
        # its stub says: a tuple of one
        payload = b"".join([pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]
        future: _Future = self._loop.create_future()
        due = self._loop.time() + self._timeout_s
        self._waiting.append((future, len(commands), due))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._expire)
        if not self._unsent:
            # Everything asked for in this turn of the loop leaves in one write.
            self._loop.call_soon(self._flush)
        self._unsent.append(payload)
        return future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard_at, self._excused = time.time(), False
        try:
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not _NOTHING:
                self._take(reply)
        except (ProtocolError, IndexError) as error:
            self._give_up(BadUpstream, f"redis answered with something else than replies: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up(Unavailable, f"connection lost: {exc or 'closed by redis'}")

    def _take(self, reply: Reply) -> None:
        future, expected, _ = self._waiting[0]
        self._replies.append(reply)
        if len(self._replies) == expected:
            self._waiting.popleft()
            if not future.done():
                future.set_result(self._replies)
            self._replies = []

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _expire(self) -> None:
        """One timer for all: requests come due in the order they were made."""
        now, timer = self._loop.time(), self._timer
        if timer is not None and now - timer.when() > _HELD_UP_S and not self._excused:
            # It was this process that was held up: the replies may have come and not been read yet. Again, if some were.
            self._excused, self._timer = True, self._loop.call_at(now + _HELD_UP_S, self._expire)
            return
        self._excused, self._timer = False, None
        if self._waiting and now - self._waiting[0][2] > _STALE_S:
            self._give_up(DeadlineExceeded, "redis stopped answering")
        for future, _, due in self._waiting:
            if due > now:
                self._timer = self._loop.call_at(due, self._expire)
                return
            if not future.done():
                message = f"redis did not answer within {self._timeout_s * 1000:.0f} ms"
                future.set_exception(DeadlineExceeded(_REDIS, message))
        if self._waiting:
            self._timer = self._loop.call_at(now + self._timeout_s, self._expire)

    def _give_up(self, kind: type[Unavailable], message: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._transport = None
        for future, _, _ in self._waiting:
            if not future.done():
                future.set_exception(kind(_REDIS, message))
        self._waiting.clear()
        self._unsent.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class RespClient:
    """Commands over one connection, opened when needed and again after it broke.

    url is redis://[user:password@]host[:port][/db], the same with rediss:// (TLS), or unix://[user:password@]/path[?db=].
    The connection belongs to the event loop it is first used in.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 0.25,
        connect_timeout_s: float = 0.15,
        parser: MakeParser = hiredis_parser,
    ) -> None:
        self._url = urlsplit(url)
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._parser = parser
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[_Connection] | None = None

    async def send(self, commands: Sequence[Command]) -> list[Reply]:
        """Nobody else's commands run between these on this connection."""
        connection = self._connection
        if connection is None or not connection.usable:
            connection = await self._opened()
        return await connection.request(commands)

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        if self._connection is not None:
            self._connection.close()

    async def _opened(self) -> _Connection:
        """Opening goes on when this caller has no more time, so that the next one finds it done."""
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(_notice)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                return await asyncio.shield(self._opening)
        except TimeoutError as error:
            message = f"cannot connect to {_shown(self._url)} within {self._connect_timeout_s * 1000:.0f} ms"
            raise DeadlineExceeded(_REDIS, message) from error

    async def _open(self) -> _Connection:
        if self._connection is not None:
            self._connection.close()
        try:
            async with asyncio.timeout(max(_OPENING_S, self._connect_timeout_s)):
                _, made = await self._dial()
        except (OSError, TimeoutError) as error:
            raise Unavailable(_REDIS, f"cannot connect to {_shown(self._url)}: {error}") from error
        try:
            await self._greet(made)
        except BaseException:
            made.close()
            raise
        self._connection = made
        return made

    def _dial(self) -> Coroutine[Any, Any, tuple[asyncio.Transport, _Connection]]:
        loop, url = asyncio.get_running_loop(), self._url

        def made() -> _Connection:
            return _Connection(self._parser(_NOTHING), self._timeout_s)

        if url.scheme == "unix":
            return loop.create_unix_connection(made, url.path)
        where = (url.hostname or "127.0.0.1", url.port or 6379)
        return loop.create_connection(made, *where, ssl=True if url.scheme == "rediss" else None)

    async def _greet(self, connection: _Connection) -> None:
        greeting = _greeting(self._url)
        for reply in await connection.request(greeting) if greeting else ():
            if isinstance(reply, ReplyError):
                raise BadUpstream(_REDIS, f"{_shown(self._url)} refused us: {reply}") from reply


def _greeting(url: SplitResult) -> list[Command]:
    """What is said first: who we are and which database we mean."""
    commands: list[Command] = []
    if url.password:
        user = [unquote(url.username)] if url.username else []
        commands.append(["AUTH", *user, unquote(url.password)])
    database = parse_qs(url.query).get("db", [""])[0] if url.scheme == "unix" else url.path.strip("/")
    if database:
        commands.append(["SELECT", database])
    return commands


def _shown(url: SplitResult) -> str:
    """Without the password."""
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


def _notice(opening: asyncio.Task[Any]) -> None:
    """An attempt that nobody waits for any more has failed, and that is all."""
    if not opening.cancelled():
        opening.exception()
