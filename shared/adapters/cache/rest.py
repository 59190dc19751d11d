"""The same over Upstash's REST interface, for functions that are frozen between calls and keep no connection.

JSON carries text, so bytes that are UTF-8 travel as what they spell, and those are what every transport to the same
Redis reads alike. Other bytes are written as base64 under a mark; only this transport reads those back.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared.adapters.cache.wire import Argument, Command, Reply, ReplyError
from shared.core.errors import BadUpstream, DeadlineExceeded, Unavailable

if TYPE_CHECKING:
    import httpx

_REDIS = "redis"
_MARK = b"\x00base64:"
_MOST_FLIGHTS = 8
_MOST_COMMANDS, _MOST_CHARACTERS = 256, 1_000_000
"""Of one HTTP request; Upstash's limit is 10 MB."""

_Commands = list[list[str]]
_Future = asyncio.Future[list[Reply]]


class RestClient:
    """What is asked for while requests are under way leaves together in the next one."""

    def __init__(
        self, url: str, token: str, *, timeout_s: float = 0.25, connect_timeout_s: float = 0.15
    ) -> None:
        from upstash_redis.asyncio import Redis  # heavy: loaded when first used

        redis: Any = Redis(url, token, rest_retries=0, allow_telemetry=False)
        redis._http = _Http(redis._http._client, redis._update_sync_token, timeout_s, connect_timeout_s)
        self._redis = redis
        self._timeout_s = timeout_s
        self._waiting: deque[tuple[_Commands, _Future]] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._boarding = False

    async def send(self, commands: Sequence[Command]) -> list[Reply]:
        """Others' commands may run between these."""
        future: _Future = asyncio.get_running_loop().create_future()
        self._waiting.append(([_written(command) for command in commands], future))
        if not self._boarding and len(self._flights) < _MOST_FLIGHTS:
            self._boarding = True
            flight = asyncio.create_task(self._fly())
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await future
        except TimeoutError as error:
            raise self._late() from error

    async def close(self) -> None:
        for flight in self._flights:
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)
        await self._redis.close()

    async def _fly(self) -> None:
        self._boarding = False
        while batch := self._boarded():
            try:
                replies = iter(await self._sent([command for commands, _ in batch for command in commands]))
            except Unavailable as error:
                _fail(batch, error)
                continue
            for commands, future in batch:
                own = [next(replies) for _ in commands]
                if not future.done():
                    future.set_result(own)

    def _boarded(self) -> list[tuple[_Commands, _Future]]:
        """Those who wait longest, as many as fit one request; at least one."""
        batch: list[tuple[_Commands, _Future]] = []
        count, size = 0, 0
        while self._waiting:
            commands, future = self._waiting[0]
            count += len(commands)
            size += sum(len(argument) for command in commands for argument in command)
            if batch and (count > _MOST_COMMANDS or size > _MOST_CHARACTERS):
                break
            self._waiting.popleft()
            if not future.done():
                batch.append((commands, future))
        return batch

    async def _sent(self, commands: _Commands) -> list[Reply]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._asked(commands)
        except Unavailable:
            raise
        except TimeoutError as error:
            raise self._late() from error
        except Exception as error:  # the library and the HTTP layer under it have no root of errors in common
            raise Unavailable(_REDIS, f"redis cannot be reached: {error or type(error).__name__}") from error

    async def _asked(self, commands: _Commands) -> list[Reply]:
        if len(commands) == 1:
            return [await self._redis.execute(commands[0])]
        pipeline = self._redis.pipeline()
        for command in commands:
            pipeline.execute(command)
        replies: list[Reply] = await pipeline.exec()
        return replies

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(_REDIS, f"redis did not answer within {self._timeout_s * 1000:.0f} ms")


class _Http:
    """Takes the place of the library's HTTP layer, on its session.

    That one has no time-outs, loses a whole pipeline with its first failing item, takes any JSON for a reply, whatever
    the status, and cannot read bytes that are not UTF-8.
    """

    def __init__(
        self,
        session: httpx.AsyncClient,
        synchronised: Callable[[str], None],
        timeout_s: float,
        connect_timeout_s: float,
    ) -> None:
        import httpx  # heavy: loaded when first used

        self._session = session
        self._session.timeout = httpx.Timeout(timeout_s, connect=connect_timeout_s)
        self._synchronised = synchronised

    async def execute(
        self, url: str, headers: Mapping[str, str], command: list[Any], from_pipeline: bool = False
    ) -> Reply:
        response = await self._session.post(url, headers=dict(headers), json=command)
        if token := response.headers.get("Upstash-Sync-Token"):
            self._synchronised(token)
        return _replies_of(response, len(command)) if from_pipeline else _reply_of(response)

    async def close(self) -> None:
        await self._session.aclose()


def _fail(batch: list[tuple[_Commands, _Future]], error: Unavailable) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(type(error)(_REDIS, str(error)))


def _written(command: Command) -> list[str]:
    """In small letters: the library turns replies to names in capitals into other types."""
    name, *arguments = command
    return [str(name).lower(), *map(_text, arguments)]


def _text(argument: Argument) -> str:
    if isinstance(argument, str):
        return argument
    if not isinstance(argument, bytes):
        return repr(argument)
    try:
        if not argument.startswith(_MARK):
            return argument.decode()
    except UnicodeDecodeError:
        pass
    return (_MARK + b64encode(argument)).decode()


def _bytes(value: bytes) -> bytes:
    return b64decode(value[len(_MARK) :]) if value.startswith(_MARK) else value


def _reply_of(response: httpx.Response) -> Reply:
    """Of one command; a refused command's answer has status 400."""
    return _reply(_json(response, (200, 400)))


def _replies_of(response: httpx.Response, expected: int) -> list[Reply]:
    items = _json(response, (200,))
    if not isinstance(items, list) or len(items) != expected:
        raise BadUpstream(_REDIS, f"redis answered {expected} commands with something else than replies")
    return [_reply(item) for item in items]


def _json(response: httpx.Response, accepted: Sequence[int]) -> Any:
    if response.status_code == 401:
        raise BadUpstream(_REDIS, "redis refused UPSTASH_REDIS_REST_TOKEN")
    if response.status_code not in accepted:
        raise BadUpstream(_REDIS, f"redis answered with status {response.status_code}")
    try:
        return response.json()
    except ValueError as error:
        raise BadUpstream(_REDIS, "redis answered with something else than JSON") from error


def _reply(item: Any) -> Reply:
    match item:
        case {"error": str(message)}:
            return ReplyError(message)
        case {"result": result}:
            return _decoded(result)
        case _:
            raise BadUpstream(_REDIS, "redis answered with something else than a reply")


def _decoded(result: Any) -> Reply:
    """Texts come as base64, but for the status OK, which is none."""
    if isinstance(result, str):
        return b"OK" if result == "OK" else _bytes(b64decode(result, validate=True))
    if isinstance(result, list):
        return [_decoded(each) for each in result]
    if result is None or isinstance(result, int):
        return result
    raise BadUpstream(_REDIS, f"redis answered with a {type(result).__name__}")
