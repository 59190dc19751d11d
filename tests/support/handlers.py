"""Small Lambda handlers that the tests of the Lambda-like parents run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from shared.telemetry import checkpoint

beating = False


def _beat(path: str) -> None:
    while True:
        with Path(path).open("a") as file:
            file.write(".")
        time.sleep(0.001)


def pulse(event: dict[str, str], _context: Any) -> None:
    """A background thread writes to event["file"] from the first call on."""
    global beating
    if not beating:
        beating = True
        threading.Thread(target=_beat, args=(event["file"],), daemon=True).start()


def steps(event: dict[str, str], _context: Any) -> dict[str, Any]:
    """Writes a line to event["file"] before and after the checkpoint `half_way`, twice."""
    with Path(event["file"]).open("a") as file:
        for _ in range(2):
            print("before", file=file, flush=True)
            checkpoint("half_way")
            print("after", file=file, flush=True)
    return {"pid": os.getpid()}


def context_shown(_event: Any, context: Any) -> dict[str, Any]:
    return {
        "left": context.get_remaining_time_in_millis(),
        "request": context.aws_request_id,
        "arn": context.invoked_function_arn,
        # its own, and what a process that it starts would get
        "environments": [
            dict(os.environ),
            json.loads(
                subprocess.check_output(
                    [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
                )
            ),
        ],
    }


def fail(_event: Any, _context: Any) -> None:
    raise ValueError("no such luck")


def sleep(event: dict[str, float], _context: Any) -> None:
    time.sleep(event["seconds"])


def collect(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Appends each body and this process's pid to $COLLECT_FILE; `slow` takes half a second, `hang` an hour, and `meet`
    until two have begun."""
    seen = Path(os.environ["COLLECT_FILE"])
    with seen.open("a") as file:
        for record in event["Records"]:
            print(f"start {os.getpid()} {record['body']}", file=file, flush=True)
            time.sleep({"slow": 0.5, "hang": 3600}.get(record["body"], 0))
            while record["body"] == "meet" and seen.read_text().count("start") < 2:
                time.sleep(0.01)
            print(f"end {os.getpid()} {record['body']}", file=file, flush=True)
    return {"batchItemFailures": []}
