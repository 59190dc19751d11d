"""A bench that is told to stop, or killed, leaves no server behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from scripts.deployment.stack import ROOT

BENCH = """
import sys, time
from pathlib import Path
from scripts.benchmarks.__main__ import end_in_order
from scripts.local.redis_server import RedisServer
end_in_order()
with RedisServer(Path(sys.argv[1])) as server:
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_its_servers_end_with_it(number: signal.Signals, state_folder: Path) -> None:
    """With the exit status of who was ended by that signal."""
    folder = state_folder / f"bench-{number.name}"
    command = [sys.executable, "-c", BENCH, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        assert bench.stdout.readline() == "ready\n"
        servers = psutil.Process(bench.pid).children(recursive=True)
        assert servers
        bench.send_signal(number)
        assert bench.wait(60) == 128 + number
    _, alive = psutil.wait_procs(servers, timeout=60)
    assert alive == []


KILLED = """
import time
from scripts.benchmarks.throwaway import stack
with stack():
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_whole_stack_ends_with_one_that_is_killed(state_folder: Path) -> None:
    command = [sys.executable, "-c", KILLED]
    variables = {**os.environ, "TMPDIR": str(state_folder)}
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        assert bench.stdout.readline() == "ready\n"
        servers = psutil.Process(bench.pid).children(recursive=True)
        assert len(servers) >= 7
        bench.kill()
    _, alive = psutil.wait_procs(servers, timeout=60)
    assert alive == []
