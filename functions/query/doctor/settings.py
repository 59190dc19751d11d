"""Checks of the settings: whether what is stored is what this process goes by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from functions.query.doctor.results import ok, warn
from functions.query.index_schemas import Check


class SettingsChecks:
    """drift tells what is stored and not gone by, without values; it asks the parameter store."""

    def __init__(self, drift: Callable[[], Sequence[str]]) -> None:
        self._drift = drift

    async def settings(self) -> Check:
        if found := await asyncio.to_thread(self._drift):
            return warn("; ".join(found), "scripts/deploy ENV, which starts the functions anew")
        return ok("nothing is stored that this process does not go by")
