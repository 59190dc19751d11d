"""Work that goes on in threads while something else happens."""

from __future__ import annotations

import threading
from collections.abc import Callable

_PATIENCE = 6000
_TICK_S = 0.01
_JOIN_S = 120.0


class Load:
    """Each work again and again, in a thread of its own, until the block ends or one raises; trouble: what was raised."""

    def __init__(self, *works: Callable[[], object]) -> None:
        self._over = threading.Event()
        self._rounds = [0 for _ in works]
        self._threads = [
            threading.Thread(target=self._run, args=(place, work)) for place, work in enumerate(works)
        ]
        self.trouble: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(_JOIN_S)

    def goes_on(self) -> None:
        """Until each work was begun after this moment, and done."""
        wanted = [rounds + 2 for rounds in self._rounds]
        for _ in range(_PATIENCE):
            if self.trouble or all(now >= then for now, then in zip(self._rounds, wanted, strict=True)):
                return
            self._over.wait(_TICK_S)
        raise AssertionError("the load does not go on")

    def _run(self, place: int, work: Callable[[], object]) -> None:
        try:
            while not self._over.is_set():
                work()
                self._rounds[place] += 1
        except Exception as error:
            self.trouble.append(repr(error))
