"""What a schedule asks for: {"task": "sweep"}, or canary, audit or expire. Other tasks are refused by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from functions.reindex.wiring import Services, services
from shared.core.errors import InvalidInput
from shared.telemetry import begin, metrics

_MARGIN_S = 10.0


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    begin(context.aws_request_id)
    try:
        return handle(event, context, services)
    finally:
        metrics.flush()


def handle(event: Mapping[str, Any], context: Any, made: Callable[[], Services]) -> dict[str, Any]:
    """What was done. Raises InvalidInput for a task that does not exist, before anything is connected to."""
    name = event.get("task") if isinstance(event, Mapping) else None
    task = TASKS.get(name) if isinstance(name, str) else None
    if task is None:
        raise InvalidInput(
            f"the task {str(name)[:80]!r} is unknown; there are: {', '.join(TASKS)}", field="task"
        )
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - _MARGIN_S
    return task(made(), deadline)


def _sweep(services: Services, deadline: float) -> dict[str, Any]:
    upkeep = services.upkeep.run()
    return {**services.sweep.run(deadline), "upkeep": upkeep}


def _canary(services: Services, deadline: float) -> dict[str, Any]:
    return services.canary.run(deadline)


def _audit(services: Services, deadline: float) -> dict[str, Any]:
    return services.audit.run(deadline)


def _expire(services: Services, deadline: float) -> dict[str, Any]:
    return services.audit.expire(deadline)


TASKS: dict[str, Callable[[Services, float], dict[str, Any]]] = {
    "sweep": _sweep,
    "canary": _canary,
    "audit": _audit,
    "expire": _expire,
}
