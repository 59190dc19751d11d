"""The one connection that writes, and the thread it belongs to: transactions on it take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")


class Writer:
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")

    async def run(self, write: Callable[[], _Result]) -> _Result:
        """What write returns, or raises; after those that came before it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, write)
