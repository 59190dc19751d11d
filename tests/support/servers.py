"""What the server fixtures need beside the servers themselves."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from scripts.local.aws import Intake, LocalAws
from scripts.local.process import Server
from tests.support.waiting import PATIENCE_S

S = TypeVar("S", bound=Server)
_MEMORY = Path("/dev/shm")
_ROOM = 4 * 2**30


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that goes away afterwards. pytest's own are closed to the user that Postgres runs as."""
    folder = Path(tempfile.mkdtemp(prefix="ragzero-", dir=_in_memory()))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_memory() -> Path | None:
    """A test's database is a thousand small files, which take a tenth of the time where no disk is behind them."""
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM else None


@contextmanager
def running(server: S) -> Iterator[S]:
    """server, started and ready, stopped afterwards."""
    server.start()
    try:
        server.wait_ready(PATIENCE_S)
        yield server
    finally:
        server.stop()


def revive(server: Server) -> None:
    """Bring back a server that a test froze, killed or stopped, on the same port."""
    server.thaw()
    server.start()
    server.wait_ready(PATIENCE_S)


def new_intake(aws: LocalAws, *, visibility: int = 30, max_receive_count: int = 5) -> Intake:
    """A bucket and queues that no other test knows."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    intake = aws.ensure(name, name, visibility=visibility, max_receive_count=max_receive_count)
    # S3 says once that it can reach the queue, a moment later: among a test's own events that would be one too many
    sqs = aws.client("sqs")
    for message in sqs.receive_message(QueueUrl=intake.queue_url, WaitTimeSeconds=10).get("Messages", []):
        sqs.delete_message(QueueUrl=intake.queue_url, ReceiptHandle=message["ReceiptHandle"])
    return intake
