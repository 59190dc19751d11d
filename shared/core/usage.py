"""What was used, and what that costs."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class Usage:
    """hits are questions answered from a cache."""

    questions: int = 0
    hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    gpu_seconds: float = 0.0
    cost_usd: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class DayUsage:
    day: date
    used: Usage
