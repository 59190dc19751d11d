"""How the things outside are set up, and how they are doing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class QueueState:
    """How many messages wait and are being worked on (both approximate), and how the queue is set up.

    dead_letters_to is the ARN of the queue that messages go to after max_receives.
    """

    arn: str
    waiting: int
    in_flight: int
    visibility_seconds: int
    dead_letters_to: str | None
    max_receives: int | None


@dataclass(frozen=True, slots=True)
class BucketSetup:
    """events by the ARN of the queue they go to; expiring: rules end the life of current objects; at: its clock."""

    events: dict[str, list[str]]
    versioned: bool
    expiring: bool
    at: datetime
