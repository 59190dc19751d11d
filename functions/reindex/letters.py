"""The keys that dead letters speak of: a message that was given up on may be the last to know a file's name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from shared.core.errors import InvalidInput
from shared.core.hints import hints

_HOLD_S = 60
_SECONDS = 20.0
_EMPTY_ANSWERS = 2  # a queue on many servers may have messages and yet show none


class DeadQueue(Protocol):
    def receive(self, visibility_seconds: int) -> Sequence[Any]: ...
    def release(self, letters: Sequence[Any]) -> None: ...


def keys_in(queue: DeadQueue) -> list[str]:
    """One entry per letter and key. Each letter is put back."""
    held: list[Any] = []
    empty, ends = 0, time.monotonic() + _SECONDS
    try:
        while empty < _EMPTY_ANSWERS and time.monotonic() < ends:
            some = queue.receive(_HOLD_S)
            held += some
            empty = 0 if some else empty + 1
    finally:
        queue.release(held)
    return [key for letter in held for key in keys_of(letter.body)]


def keys_of(body: str) -> Iterator[str]:
    try:
        yield from (hint.key for hint in hints(body))
    except InvalidInput:
        return
