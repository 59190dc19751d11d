"""Files on their way into the bucket: what is uploaded in which order, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from .errors import UploadFailed
from .types import JobView, Scalar

AT_ONCE = 8
POLL_S = 0.5
BATCH = 100
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """A file and the name it is to have."""

    path: Path
    name: str
    metadata: Mapping[str, Scalar] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        return {"name": self.name, "size": self.path.stat().st_size, "metadata": dict(self.metadata)}

    def piece(self, start: int, size: int) -> Callable[[], Iterator[bytes]]:
        """Reads so many bytes from there on, a little at a time."""

        def read() -> Iterator[bytes]:
            left = size
            with self.path.open("rb") as file:
                file.seek(start)
                while left > 0:
                    if not (data := file.read(min(_PIECE, left))):
                        raise UploadFailed(self.name, "the file became shorter while it was uploaded")
                    left -= len(data)
                    yield data

        return read


@dataclass(frozen=True, slots=True)
class Progress:
    """settled: documents that are searchable or failed by now; only known while the job is waited for."""

    files: int
    uploaded: int
    settled: int = 0
    failed: int = 0


def found(given: Iterable[Path | Upload], metadata: Mapping[str, Scalar]) -> list[Upload]:
    """The files, those in folders under the folder's name. Raises FileNotFoundError."""
    files: list[Upload] = []
    for one in given:
        if isinstance(one, Upload):
            files.append(one)
        elif one.is_dir():
            inside = sorted(path for path in one.rglob("*") if path.is_file())
            files += [Upload(path, path.relative_to(one.parent).as_posix(), metadata) for path in inside]
        elif one.is_file():
            files.append(Upload(one, one.name, metadata))
        else:
            raise FileNotFoundError(f"{one}: no such file")
    return files


def batches(files: Iterable[Upload]) -> Iterator[list[Upload]]:
    left = iter(files)
    while some := list(islice(left, BATCH)):
        yield some


def of_job(files: int, job: JobView) -> Progress:
    counts = job["counts"]
    going = counts["pending"] + counts["processing"]
    return Progress(files, files, files - going, counts["failed"])
