"""What a schedule does with a function: calls it with the same event again and again, one call at a time."""

from __future__ import annotations

import argparse
import json
import signal
import threading
import time
from collections.abc import Sequence

from scripts.local.lambda_runtime import Event, LambdaContext, dying_at_deadline, load
from shared.telemetry import configure, get_logger

logger = get_logger(__name__)


class Schedule:
    """The first call comes after delay seconds, each later one every seconds after the one before had begun."""

    def __init__(
        self, handler: str, events: Sequence[Event], *, every: float, delay: float, timeout: float
    ) -> None:
        self._handler = handler
        self._events = events
        self._every = every
        self._delay = delay
        self._timeout = timeout
        self._stopping = threading.Event()

    def run(self) -> None:
        """Until stop; a call in hand is finished first."""
        wait = self._delay
        while not self._stopping.wait(wait):
            started = time.monotonic()
            for event in self._events:
                self._call(event)
            wait = max(0.0, started + self._every - time.monotonic())

    def stop(self) -> None:
        self._stopping.set()

    def _call(self, event: Event) -> None:
        context = LambdaContext(self._handler, time.monotonic() + self._timeout)
        try:
            # loaded at the first call: what local mode starts with is needed sooner
            dying_at_deadline(load(self._handler))(event, context)
        except Exception as error:
            logger.warning("scheduled_call_failed", error=type(error).__name__, reason=str(error))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--handler", required=True, help="package.module:function")
    parser.add_argument(
        "--event", type=json.loads, required=True, help="JSON; or a list of them, called in turn"
    )
    parser.add_argument("--every", type=float, required=True, help="seconds")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before the first call")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds a call may take")
    given = parser.parse_args(argv)
    configure()
    events = given.event if isinstance(given.event, list) else [given.event]
    schedule = Schedule(given.handler, events, every=given.every, delay=given.delay, timeout=given.timeout)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: schedule.stop())
    schedule.run()


if __name__ == "__main__":
    main()
