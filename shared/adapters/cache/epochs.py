"""The publisher's word to Redis: this tenant's epoch is about to be a higher one.

It is given while the publisher holds the tenant's row in Postgres, so it may not take long: a quarter of a second at
most, name look-ups included, and nothing at all while Redis is known to be away.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from uuid import UUID

from shared.adapters.cache.client import COOLDOWN_S, FAILURES, CacheSettings, timeouts_s
from shared.adapters.cache.wire import script
from shared.core.breaker import Breaker
from shared.core.errors import Unavailable
from shared.telemetry import get_logger

_log = get_logger(__name__)
DEFAULT_LEASE_S = 900
TICKET_S = 10
"""How long a reader may take from being given a ticket (visit.lua) to using it."""
_SCANNED = 1_000  # names that Redis looks at for one reply


class Evaluate(Protocol):
    def __call__(self, script: str, keys: list[str], args: list[str], /) -> Any: ...
    def scan(self, cursor: int, pattern: str, /) -> tuple[int, list[str]]:
        """Where to go on, 0 at the end; and some names."""

    def close(self) -> None: ...


def names_of(tenant: UUID) -> list[str]:
    """Of the epoch and of the ticket to restore it."""
    return [f"rz:e:{tenant}", f"rz:t:{tenant}"]


class Epochs:
    """evaluate runs a Lua script; None where no Redis is set up.

    lease_s: how long readers believe an epoch. timeout_s: how long it may hold a publisher up, all steps together.
    One instance is for one thread at a time.
    """

    def __init__(
        self, evaluate: Evaluate | None = None, *, lease_s: int = DEFAULT_LEASE_S, timeout_s: float = 0.25
    ) -> None:
        self.lease_s = lease_s
        self._timeout_s = timeout_s
        self._evaluate = evaluate
        self._breaker = Breaker(threshold=FAILURES, cooldown_s=COOLDOWN_S)
        # a thread, because neither client bounds the sum of its steps
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="epochs")

    @property
    def configured(self) -> bool:
        return self._evaluate is not None

    def raised(self, tenant: UUID, epoch: int) -> bool:
        """Whether Redis has confirmed that nobody is answered from an older epoch any more. Never raises."""
        if self._evaluate is None or self._breaker.wait_s(time.monotonic()) > 0:
            return False
        asked = self._worker.submit(
            self._evaluate, script("raise_epoch").text, names_of(tenant), [str(epoch)]
        )
        try:
            confirmed = bool(asked.result(self._timeout_s) == 1)
        except Exception as error:
            asked.cancel()
            self._breaker.failed(time.monotonic())
            _log.warning("epoch_not_raised", tenant=str(tenant), reason=str(error) or type(error).__name__)
            return False
        self._breaker.succeeded()
        return confirmed

    def drop_stale(self, tenant: UUID, epoch: int) -> int | None:
        """How many answers of older epochs were removed; None where there is no cache. Nobody would be given them, but
        there they are. Raises Unavailable."""
        return self._over_answers("drop_stale", tenant, epoch)

    def count_stale(self, tenant: UUID, epoch: int) -> int | None:
        """How many answers of older epochs there are; None where there is no cache. Raises Unavailable."""
        return self._over_answers("count_stale", tenant, epoch)

    def _over_answers(self, name: str, tenant: UUID, epoch: int) -> int | None:
        if self._evaluate is None:
            return None
        cursor, total, pattern = 0, 0, f"rz:a:{tenant}:*"
        try:
            while True:
                cursor, names = self._evaluate.scan(cursor, pattern)
                if names:
                    total += int(self._evaluate(script(name).text, names, [str(epoch)]))
                if not cursor:
                    return total
        except Exception as error:
            raise Unavailable("redis", f"stale answers could not be looked through ({error})") from error

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)
        if self._evaluate is not None:
            self._evaluate.close()


def connect(settings: CacheSettings) -> Epochs:
    """Nothing is sent yet."""
    total, _ = timeouts_s(settings)
    return Epochs(_evaluate(settings), lease_s=settings.epoch_lease_seconds, timeout_s=total)


def _evaluate(settings: CacheSettings) -> Evaluate | None:
    total, connecting = timeouts_s(settings)
    if settings.redis_url is not None:
        return _OverResp(settings.redis_url.get_secret_value(), total, connecting)
    if settings.redis_rest_url is not None and settings.redis_rest_token is not None:
        token = settings.redis_rest_token.get_secret_value()
        return _OverRest(settings.redis_rest_url, token, total, connecting)
    return None


class _OverResp:
    def __init__(self, url: str, total_s: float, connect_s: float) -> None:
        from redis import Redis  # heavy: loaded when first used
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._client = Redis.from_url(
            url,
            socket_connect_timeout=connect_s,
            socket_timeout=total_s,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,
            protocol=2,
        )

    def __call__(self, script: str, keys: list[str], args: list[str], /) -> Any:
        return self._client.eval(script, len(keys), *keys, *args)

    def scan(self, cursor: int, pattern: str, /) -> tuple[int, list[str]]:
        following, names = self._client.scan(cursor, pattern, _SCANNED)
        return int(following), [name.decode() if isinstance(name, bytes) else name for name in names]

    def close(self) -> None:
        self._client.close()


class _OverRest:
    def __init__(self, url: str, token: str, total_s: float, connect_s: float) -> None:
        import httpx  # heavy: loaded when first used
        from upstash_redis import Redis

        self._client: Any = Redis(url, token, rest_retries=0, allow_telemetry=False)
        self._client._http._client.timeout = httpx.Timeout(total_s, connect=connect_s)

    def __call__(self, script: str, keys: list[str], args: list[str], /) -> Any:
        return self._client.eval(script, keys, args)

    def scan(self, cursor: int, pattern: str, /) -> tuple[int, list[str]]:
        following, names = self._client.scan(cursor, pattern, _SCANNED)
        return int(following), list(names)

    def close(self) -> None:
        self._client.close()
