"""ZIP containers read in memory: nothing is written to disk, nothing inflates past its budget."""

from __future__ import annotations

import io
import posixpath
import struct
import zipfile
import zlib
from collections import Counter

from shared.core.errors import UnreadableDocument

MAX_MEMBERS = 10_000
MAX_MEMBER_BYTES = 128 * 2**20
MAX_TOTAL_BYTES = 512 * 2**20
MAX_RATIO = 250
_SMALL = 8 * 2**20
_CHUNK = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1


class Archive:
    """The members of a ZIP file by name, inflated on demand within one budget for the whole file."""

    def __init__(self, data: bytes) -> None:
        _check_count(data.count(b"PK\x01\x02"))
        try:
            infos = zipfile.ZipFile(io.BytesIO(data)).infolist()
        except zipfile.BadZipFile as error:
            raise _unreadable(data) from error
        self._data = data
        self._infos = {info.filename: info for info in infos}
        self._repeated = {name for name, times in Counter(i.filename for i in infos).items() if times > 1}
        self._budget = MAX_TOTAL_BYTES
        _check_declared(infos, len(data))

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    @property
    def names(self) -> list[str]:
        return list(self._infos)

    def read(self, name: str) -> bytes:
        """The member's bytes; KeyError where there is none."""
        info = self._infos[name]
        if name in self._repeated:
            raise UnreadableDocument("damaged", f"The archive holds two members named {name!r}.")
        if info.flag_bits & _ENCRYPTED:
            raise UnreadableDocument("encrypted", "The file is protected with a password.")
        inflated = self._inflate(info)
        if zlib.crc32(inflated) != info.CRC:
            raise UnreadableDocument("damaged", f"The member {name!r} does not match its checksum.")
        return inflated

    def get(self, name: str) -> bytes | None:
        return self.read(name) if name in self else None

    def _inflate(self, info: zipfile.ZipInfo) -> bytes:
        raw = self._compressed(info)
        allowed = min(info.file_size, MAX_MEMBER_BYTES, self._budget)
        if info.compress_type == zipfile.ZIP_STORED:
            data, more = bytes(raw), len(raw) > allowed
        elif info.compress_type == zipfile.ZIP_DEFLATED:
            data, more = _inflate(raw, allowed)
        else:
            raise UnreadableDocument("damaged", f"The archive uses compression method {info.compress_type}.")
        if more:
            raise _bomb(f"the member {info.filename!r} inflates past the {allowed} bytes it may have")
        self._budget -= len(data)
        return data

    def _compressed(self, info: zipfile.ZipInfo) -> memoryview:
        start = info.header_offset
        if start < 0 or start + _LOCAL_HEADER.size > len(self._data):
            raise UnreadableDocument("truncated", "The archive ends before its last member.")
        signature, name_length, extra_length = _LOCAL_HEADER.unpack_from(self._data, start)
        if signature != b"PK\x03\x04":
            raise UnreadableDocument(
                "damaged", f"The member {info.filename!r} is not where the archive says."
            )
        start += _LOCAL_HEADER.size + name_length + extra_length
        return memoryview(self._data)[start : start + info.compress_size]


def resolve(base: str, target: str) -> str:
    """A member name from a link inside the member base; links that leave the archive name nothing."""
    path = target.split("#", 1)[0]
    joined = path.lstrip("/") if path.startswith("/") else posixpath.join(posixpath.dirname(base), path)
    return posixpath.normpath(joined)


def _inflate(raw: memoryview, allowed: int) -> tuple[bytes, bool]:
    """Up to allowed bytes, and whether there would have been more."""
    inflater = zlib.decompressobj(-15)
    parts: list[bytes] = []
    left, source = allowed + 1, bytes(raw)
    while left > 0 and not inflater.eof:
        part = inflater.decompress(source, min(left, _CHUNK))
        source = inflater.unconsumed_tail
        if not part and not source:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts), left <= 0


def _check_count(count: int) -> None:
    if count > MAX_MEMBERS:
        raise _bomb(f"it lists {count} members and at most {MAX_MEMBERS} are accepted")


def _check_declared(infos: list[zipfile.ZipInfo], compressed: int) -> None:
    total = sum(info.file_size for info in infos)
    if total > MAX_TOTAL_BYTES:
        raise _bomb(f"it would inflate to {total} bytes and at most {MAX_TOTAL_BYTES} are accepted")
    if total > _SMALL and total > MAX_RATIO * compressed:
        raise _bomb(f"it would inflate to {total // compressed} times its size; {MAX_RATIO} are accepted")


def _bomb(why: str) -> UnreadableDocument:
    return UnreadableDocument("zip_bomb", f"The archive was refused because {why}.")


def _unreadable(data: bytes) -> UnreadableDocument:
    if b"PK\x05\x06" not in data[-66_000:]:
        return UnreadableDocument("truncated", "The archive ends before its table of contents.")
    return UnreadableDocument("damaged", "The archive's table of contents cannot be read.")
