"""An answer that was made before, as it lies in a cache and as it goes out again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import orjson

_FREE = b'"usage":{"prompt_tokens":0,"completion_tokens":0,"gpu_seconds":0.0,"cost_usd":0.0}'


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was made before. body lacks what concerns one request alone."""

    body: bytes
    age_s: int
    epoch: int
    how: Literal["exact", "semantic"] = "exact"

    def parsed(self) -> dict[str, Any]:
        """With what concerns this request: it cost nothing."""
        found: dict[str, Any] = orjson.loads(self.response(time.perf_counter()))
        return found

    def response(self, started: float) -> bytes:
        """As JSON. started: on time.perf_counter's clock."""
        total = (time.perf_counter() - started) * 1000
        return b'%b,"cached":"%b","age_s":%d,%b,"timings_ms":{"total":%.2f}}' % (
            self.body[:-1],
            self.how.encode(),
            self.age_s,
            _FREE,
            total,
        )


def parsed(payload: bytes, epoch: int) -> Kept:
    """payload: as `AnswerCache.keep` writes it, the Unix time and the body."""
    at, _, body = payload.partition(b":")
    return Kept(body, max(0, int(time.time()) - int(at)), epoch)
