"""One task, for schedulers that start programs instead of calling functions: python -m functions.reindex sweep"""

from __future__ import annotations

import argparse
import json
import time
import uuid

from functions.reindex.handler import handler


class _Context:
    def __init__(self, seconds: float) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self._ends = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._ends - time.monotonic()) * 1000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", help="what the function is asked for")
    parser.add_argument("--seconds", type=float, default=900, help="it may take (default: %(default)g)")
    given = parser.parse_args()
    print(json.dumps(handler({"task": given.task}, _Context(given.seconds)), default=str))  # noqa: T201


if __name__ == "__main__":
    main()
