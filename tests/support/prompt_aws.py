"""The emulator, but an event waits in its queue before the request that caused it is answered.

The emulator tells of a change from a thread, some time after its answer, as S3 does. A test that looks into the queue
right after it put an object would find it or not, as it happens; those that want lateness, repetition or another order
make them themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from scripts.local.aws import LocalAws


class PromptAws(LocalAws):
    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.support.prompt_aws"]


def _prompt() -> None:
    from ministack.services import s3

    def tell(bucket: str, key: str, event: str, *values: Any, **more: Any) -> None:
        s3._fire_s3_event(bucket, key, event, *values, **more, sequencer=s3._next_event_sequencer(event))

    assert s3._fire_s3_event_async
    s3._fire_s3_event_async = tell


if __name__ == "__main__":
    from ministack.app import main

    _prompt()
    main()
