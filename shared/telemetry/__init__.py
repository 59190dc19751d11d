"""Logs, metrics, traces, stage timings and named checkpoints. Sits below everything but the core, so nobody imports
upward for a logger.

Log lines, labels and spans carry ids, counts and durations; never document text, questions or keys.
"""

from shared.telemetry.checkpoints import checkpoint, set_checkpoint_hook
from shared.telemetry.logs import configure, flush, get_logger, write
from shared.telemetry.requests import Request, begin, bind, current
from shared.telemetry.timings import Timings

__all__ = [
    "Request",
    "Timings",
    "begin",
    "bind",
    "checkpoint",
    "configure",
    "current",
    "flush",
    "get_logger",
    "set_checkpoint_hook",
    "write",
]
