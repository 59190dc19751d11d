"""Server-sent events out of bytes that may be cut anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .errors import ApiError, StreamBroken
from .types import StreamEvent

LAST = "done"
_MOST = 4 * 1024 * 1024


class Events:
    """Feed it bytes, get the events. Raises ApiError for the one that says what went wrong."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []
        self.over = False

    def feed(self, received: bytes) -> Iterator[StreamEvent]:
        *lines, self._rest = (self._rest + received).split(b"\n")
        if len(self._rest) > _MOST:
            raise StreamBroken(f"an event has more than {_MOST} bytes")
        for line in lines:
            if event := self._take(line.removesuffix(b"\r")):
                yield event

    def _take(self, line: bytes) -> StreamEvent | None:
        if line:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                self._name = value.decode()
            elif field == b"data":
                self._data.append(value)
            return None
        name, data, self._name, self._data = self._name, b"\n".join(self._data), "", []
        return _event(name, data) if data else None

    def check(self, event: StreamEvent) -> StreamEvent:
        """Raises ApiError for what went wrong on the way."""
        if event["event"] == "error":
            raise ApiError(int(event["data"].get("status", 500)), event["data"])
        self.over = self.over or event["event"] == LAST
        return event


def _event(name: str, data: bytes) -> StreamEvent:
    try:
        return {"event": name or "message", "data": json.loads(data)}
    except ValueError as error:
        raise StreamBroken("an event is not JSON") from error
