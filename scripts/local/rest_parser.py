"""Redis's replies with statuses kept apart from data, which hiredis does not do: REST leaves the status OK unencoded."""

from __future__ import annotations

from shared.adapters.cache.wire import Reply, ReplyError


class Status(bytes):
    """A simple string such as OK or QUEUED, as opposed to data."""


class Parser:
    """Bytes in, whole replies out; nested arrays are kept on a stack, so nothing is parsed twice."""

    def __init__(self, nothing: object) -> None:
        self._nothing = nothing
        self._buffer = bytearray()
        self._at = 0
        self._open: list[tuple[int, list[Reply]]] = []

    def feed(self, data: bytes, /) -> None:
        del self._buffer[: self._at]
        self._at = 0
        self._buffer += data

    def gets(self) -> Reply:
        """The next reply; nothing while it is not whole."""
        while (item := self._next()) is not self._nothing:
            whole = self._close_into(item)
            if whole is not self._nothing:
                return whole
        return self._nothing

    def _close_into(self, item: Reply) -> Reply:
        while self._open:
            size, items = self._open[-1]
            items.append(item)
            if len(items) < size:
                return self._nothing
            item = self._open.pop()[1]
        return item

    def _next(self) -> Reply:
        while (end := self._buffer.find(b"\r\n", self._at)) >= 0:
            kind, line = self._buffer[self._at], bytes(self._buffer[self._at + 1 : end])
            if kind == 0x24:  # $
                return self._bulk(int(line), end + 2)
            self._at = end + 2
            if kind == 0x2A and int(line) > 0:  # *
                self._open.append((int(line), []))
                continue
            return _atom(kind, line)
        return self._nothing

    def _bulk(self, size: int, start: int) -> Reply:
        if size < 0:
            self._at = start
            return None
        if len(self._buffer) < start + size + 2:
            return self._nothing
        self._at = start + size + 2
        return bytes(self._buffer[start : start + size])


def _atom(kind: int, line: bytes) -> Reply:
    match kind:
        case 0x2B:  # +
            return Status(line)
        case 0x2D:  # -
            return ReplyError(line.decode(errors="replace"))
        case 0x3A:  # :
            return int(line)
        case _:  # an empty or a nil array
            return [] if line == b"0" else None
