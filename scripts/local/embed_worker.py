"""The embedding job of local mode: sleeps until it is knocked for, then works until nothing is left.

The model is loaded at the first work there is. What was left over when it last ended is looked for at the start.
"""

from __future__ import annotations

import argparse
import threading

import uvicorn

from functions.embed import handler
from functions.embed.wake import create_app
from scripts.local.process import HOST
from shared import telemetry
from shared.settings import WakeSettings

_RUN_S = 3600.0
_AFTER_TROUBLE_S = 10.0
_log = telemetry.get_logger(__name__)


class Worker:
    """One run at a time; a knock during a run makes it look at the backlog once more."""

    def __init__(self) -> None:
        self._knocked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="embedding")
        self._knocked.set()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._knocked.set()

    def stop(self) -> None:
        self._stopping.set()
        self._knocked.set()
        handler.stop()
        self._thread.join()

    def _work(self) -> None:
        while self._knocked.wait() and not self._stopping.is_set():
            self._knocked.clear()
            try:
                handler.run(_RUN_S)
            except Exception as error:
                _log.warning("embedding_unfinished", error=type(error).__name__, reason=str(error))
                self._knocked.set()
                self._stopping.wait(_AFTER_TROUBLE_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    settings = WakeSettings.load()
    telemetry.configure(settings.log_level)
    worker = Worker()
    worker.start()
    try:
        app = create_app(worker.wake, settings.key.get_secret_value(), max_containers=1)
        uvicorn.run(app, host=HOST, port=port, access_log=False, log_level="warning")
    finally:
        worker.stop()


if __name__ == "__main__":
    main()
