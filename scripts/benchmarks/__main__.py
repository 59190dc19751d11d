"""Runs one bench: python -m scripts.benchmarks NAME [OPTION...]. However it is ended, the servers it started end too."""

from __future__ import annotations

import runpy
import signal
import sys
from types import FrameType

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_in_order() -> None:
    """Signals that would end this process end it by an exception, so that what is to be done finally is done."""
    for number in _ENDS:
        signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    for each in _ENDS:  # who is impatient does not interrupt the tidying up
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> None:
    name, *options = sys.argv[1:]
    sys.argv = [f"scripts/bench {name}", *options]
    end_in_order()
    runpy.run_module(f"scripts.benchmarks.{name.replace('-', '_')}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
