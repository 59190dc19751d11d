"""Forked worker processes that are replaced when they die."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType

from shared.telemetry import get_logger

ENDING = (signal.SIGTERM, signal.SIGINT)
logger = get_logger(__name__)


class Workers:
    """Runs work in count processes until SIGTERM or SIGINT, which it passes on, then waits for them to finish.

    Nothing may run in threads before run is called: they would not exist in the forked workers.
    """

    def __init__(self, work: Callable[[], None], count: int) -> None:
        self._work = work
        self._count = count
        self._pids: set[int] = set()
        self._stopping = False

    def run(self) -> None:
        for number in ENDING:
            signal.signal(number, self._stop)
        while not self._stopping or self._pids:
            while not self._stopping and len(self._pids) < self._count:
                self._fork()
            self._wait()

    def _fork(self) -> None:
        # A signal between fork and bookkeeping would miss the child, or run the parent's handler in it.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        pid = os.fork()
        if pid == 0:
            self._be_worker()
        self._pids.add(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def _be_worker(self) -> None:
        code = 1
        try:
            for number in ENDING:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            self._work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _wait(self) -> None:
        pid, status = os.wait()
        self._pids.discard(pid)
        if not self._stopping:
            logger.warning("worker_ended", worker=pid, code=os.waitstatus_to_exitcode(status))
            # A worker that cannot start must not be forked in a busy loop.
            time.sleep(0.5)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        for pid in self._pids:
            os.kill(pid, signal.SIGTERM)
