"""Server-sent events out of a byte stream that may be cut anywhere (WHATWG HTML §9.2, `data` fields only)."""

from __future__ import annotations

from collections.abc import Iterator


class EventDecoder:
    """Feed it bytes, get the data of each complete event.

    Lines end at LF or CRLF and nowhere else: a model may well say U+2028, which str.splitlines would cut at.
    Raises ValueError for bytes that are not UTF-8 and for an event longer than `limit` bytes.
    """

    def __init__(self, *, limit: int = 1 << 20) -> None:
        self._limit = limit
        self._rest = b""
        self._data: list[str] = []
        self._size = 0

    def feed(self, received: bytes) -> Iterator[str]:
        *lines, self._rest = (self._rest + received).split(b"\n")
        self._check(len(self._rest))
        for line in lines:
            event = self._take(line.removesuffix(b"\r"))
            if event is not None:
                yield event

    def _take(self, line: bytes) -> str | None:
        if line:
            self._keep(line)
            return None
        event, self._data, self._size = "\n".join(self._data), [], 0
        return event or None

    def _keep(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._size += len(value)
            self._check(self._size)
            self._data.append(value.removeprefix(b" ").decode())

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ValueError(f"an event of more than {self._limit} bytes")
