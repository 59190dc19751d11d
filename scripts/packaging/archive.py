"""Zips whose bytes depend on nothing but what is in them."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

_LEVEL = 6
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


def add_tree(archive: Path, folder: Path, mode: Literal["w", "a"]) -> None:
    """The folder's files, in the order of their names, into a new zip or behind what a zip holds already."""
    with zipfile.ZipFile(archive, mode, zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as opened:
        for path in _files(folder):
            opened.writestr(_entry(path, path.relative_to(folder).as_posix()), path.read_bytes())


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _entry(path: Path, name: str) -> zipfile.ZipInfo:
    """Readable for everybody, as Lambda's own user is somebody else; executable where the file is."""
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = _UNIX
    entry.compress_type = zipfile.ZIP_DEFLATED
    runs = path.stat().st_mode & stat.S_IXUSR and path.suffix == ".sh"
    entry.external_attr = (stat.S_IFREG | (0o755 if runs else 0o644)) << 16
    return entry
