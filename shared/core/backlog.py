"""How many embedding jobs a backlog is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """What one container does, and in how many seconds of wall time a backlog should be gone."""

    chunks_per_second: float
    goal_seconds: float
    max_containers: int


def containers(backlog: int, pace: Pace) -> int:
    """At least one while anything waits, and never more than the cap."""
    wanted = math.ceil(backlog / (pace.chunks_per_second * pace.goal_seconds))
    return min(pace.max_containers, max(wanted, 1 if backlog > 0 else 0))
