"""Reminders of messages that are to be delivered later, in the queue that ingest is fed from."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from shared.adapters.sqs import Queue
from shared.core.webhooks import delay_s, reminded, reminder


class Alarm:
    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def ring(self, seconds: float) -> None:
        """Has ingest look for what is due in so many seconds, at the earliest. Raises Unavailable."""
        now = time.time()
        self._set(math.ceil(now + seconds), now)

    def snoozed(self, bodies: Iterable[str]) -> set[str]:
        """Of these messages the reminders whose moment has not come, each sent once more. Asks no database."""
        now = time.time()
        early = {body: moment for body in bodies if (moment := reminded(body)) is not None and moment > now}
        for moment in early.values():
            self._set(moment, now)
        return set(early)

    def _set(self, moment: int, now: float) -> None:
        self._queue.send([reminder(moment)], delay_s=delay_s(moment, now))
