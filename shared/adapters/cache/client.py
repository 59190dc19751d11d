"""What the functions know of Redis: commands that are answered within a quarter of a second, or Unavailable.

After three failures in a row Redis is left alone for five seconds: calls fail at once and cost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shared.adapters.cache.wire import Argument, Command, Reply, ReplyError, Transport, script
from shared.core.breaker import Breaker
from shared.core.errors import BadUpstream, Busy, Unavailable
from shared.telemetry import get_logger

if TYPE_CHECKING:
    from pydantic import SecretStr

_log = get_logger(__name__)
_REDIS = "redis"
FAILURES, COOLDOWN_S = 3, 5.0


class CacheSettings(Protocol):
    """Where Redis is, if there is one; validated to be one of the two."""

    @property
    def redis_url(self) -> SecretStr | None: ...
    @property
    def redis_rest_url(self) -> str | None: ...
    @property
    def redis_rest_token(self) -> SecretStr | None: ...
    @property
    def epoch_lease_seconds(self) -> int: ...
    @property
    def redis_timeout_ms(self) -> int: ...


@dataclass(slots=True)
class Counters:
    """calls are round trips tried; failures those that came to nothing; skipped were not tried; refused are commands."""

    calls: int = 0
    failures: int = 0
    skipped: int = 0
    refused: int = 0


class Cache:
    """Raises nothing but Unavailable. lease_s: how long an epoch is believed after it was read from Postgres."""

    def __init__(self, transport: Transport, *, lease_s: int) -> None:
        self.lease_s = lease_s
        self._transport = transport
        self._breaker = Breaker(threshold=FAILURES, cooldown_s=COOLDOWN_S)
        self._counters = Counters()
        self._reached_at = time.monotonic()
        self._away = False

    @property
    def healthy(self) -> bool:
        """Whether the last call was answered."""
        return not self._away

    @property
    def away_s(self) -> float:
        """Seconds since Redis was last reached, 0 while it is healthy."""
        return time.monotonic() - self._reached_at if self._away else 0.0

    def status(self) -> dict[str, Any]:
        breaker = "open" if self._breaker.failures >= FAILURES else "closed"
        return {"breaker": breaker, **asdict(self._counters)}

    async def call(self, *command: Argument) -> Reply:
        return self._accepted((await self._send((command,)))[0])

    async def many(self, commands: Sequence[Command]) -> list[Reply]:
        """One reply per command, in one round trip; None also for a command that Redis refused: that is a miss."""
        replies = await self._send(commands)
        for place, reply in enumerate(replies):
            if isinstance(reply, ReplyError):
                self._refused(reply)
                replies[place] = None
        return replies

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Argument]) -> Reply:
        """The script name.lua of this folder."""
        kept = script(name)
        (reply,) = await self._send((("EVALSHA", kept.sha, len(keys), *keys, *args),))
        if isinstance(reply, ReplyError) and str(reply).startswith("NOSCRIPT"):
            (reply,) = await self._send((("EVAL", kept.text, len(keys), *keys, *args),))
        return self._accepted(reply)

    async def close(self) -> None:
        await self._transport.close()

    async def _send(self, commands: Sequence[Command]) -> list[Reply]:
        wait = self._breaker.wait_s(time.monotonic())
        if wait > 0:
            self._counters.skipped += 1
            raise Unavailable(_REDIS, "redis did not answer before and is left alone", retry_after=wait)
        self._counters.calls += 1
        try:
            replies = await self._transport.send(commands)
        except Busy:
            self._counters.failures += 1  # our own doing: says nothing about Redis
            raise
        except Unavailable as error:
            self._failed(error)
            raise
        self._breaker.succeeded()
        self._reached_at = time.monotonic()
        if self._away:
            self._away = False
            _log.info("redis_is_back")
        return replies

    def _failed(self, error: Unavailable) -> None:
        self._counters.failures += 1
        self._breaker.failed(time.monotonic())
        if not self._away:
            self._away = True
            _log.warning("redis_is_away", reason=str(error))

    def _accepted(self, reply: Reply) -> Reply:
        if isinstance(reply, ReplyError):
            self._refused(reply)
            raise BadUpstream(_REDIS, f"redis refused a command: {reply}") from reply
        return reply

    def _refused(self, reply: ReplyError) -> None:
        self._counters.refused += 1
        _log.warning("redis_refused", reason=str(reply))


def connect(settings: CacheSettings) -> Cache | None:
    """None where no Redis is set up. Nothing is sent yet."""
    transport = _transport(settings)
    return Cache(transport, lease_s=settings.epoch_lease_seconds) if transport else None


def _transport(settings: CacheSettings) -> Transport | None:
    total, connecting = timeouts_s(settings)
    if settings.redis_url is not None:
        from shared.adapters.cache.resp import RespClient  # heavy: loaded when first used

        url = settings.redis_url.get_secret_value()
        return RespClient(url, timeout_s=total, connect_timeout_s=connecting)
    if settings.redis_rest_url is not None and settings.redis_rest_token is not None:
        from shared.adapters.cache.rest import RestClient

        token = settings.redis_rest_token.get_secret_value()
        return RestClient(settings.redis_rest_url, token, timeout_s=total, connect_timeout_s=connecting)
    return None


def timeouts_s(settings: CacheSettings) -> tuple[float, float]:
    """For an answer, and for a connection."""
    total = settings.redis_timeout_ms / 1000
    return total, total * 0.6
