"""The local schedule calls a function again and again, one call at a time, and survives its failures."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

from scripts.local.founding import Secrets
from tests.support.lambda_process import ROOT


def schedule(handler: str, event: object, every: str = "0.05") -> subprocess.Popen[bytes]:
    options = ["--handler", handler, "--event", json.dumps(event), "--every", every]
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.local.scheduler", *options], cwd=ROOT, stderr=subprocess.PIPE
    )


def test_calls_come_one_after_the_other_until_it_is_told_to_stop(tmp_path: Path) -> None:
    file = tmp_path / "calls"
    process = schedule("tests.support.handlers:steps", {"file": str(file)}, every="0")
    deadline = time.monotonic() + 60
    while not file.exists() or file.read_text().count("after") < 6:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    lines = file.read_text().split()
    assert lines == ["before", "after"] * (len(lines) // 2), "the call in hand is finished"


def test_several_events_are_called_in_turn(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one", "other")]
    process = schedule("tests.support.handlers:steps", [{"file": str(file)} for file in files], every="3600")
    deadline = time.monotonic() + 60
    while not (files[1].exists() and files[1].read_text().count("after") == 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert [file.read_text().split() for file in files] == [["before", "after"] * 2] * 2


def test_a_call_that_fails_is_logged_and_the_next_one_made() -> None:
    process = schedule("tests.support.handlers:fail", {})
    assert process.stderr is not None
    for _ in range(2):
        assert b"no such luck" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_secrets_of_an_earlier_release_get_the_passwords_they_lack(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    made = Secrets.kept_in(path)
    old = json.loads(path.read_text())
    del old["passwords"]["reindex"]
    path.write_text(json.dumps(old))
    completed = Secrets.kept_in(path)
    assert completed.passwords.pop("reindex") != made.passwords.pop("reindex")
    assert completed == made
    assert Secrets.kept_in(path).passwords.keys() >= {"owner", "reindex"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
