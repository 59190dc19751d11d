"""The ingest handler in a process whose clock a test sets wrong, call by call: {"skew": seconds}."""

from __future__ import annotations

import time
from typing import Any

from functions.ingest import handler as ingest

_right = time.time


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    skew = event.get("skew", 0)
    time.time = lambda: _right() + skew
    return ingest.handler(event, context)
