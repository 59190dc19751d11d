"""The request at hand, known to everything that runs on its behalf: its ids stand in each of its log lines."""

from __future__ import annotations

from contextvars import ContextVar


class Request:
    """ids: request_id, and tenant and key once they are known. stages: milliseconds per stage, in the order they ended.

    One object for the request's tasks and threads: what any of them finds out, all of them know.
    """

    __slots__ = ("ids", "stages")

    def __init__(self, id: str) -> None:
        self.ids: dict[str, str] = {"request_id": id}
        self.stages: dict[str, float] = {}


_current: ContextVar[Request | None] = ContextVar("request", default=None)


def begin(id: str) -> Request:
    request = Request(id)
    _current.set(request)
    return request


def current() -> Request | None:
    return _current.get()


def bind(**ids: object) -> None:
    """Ids that the request's log lines carry from now on; nothing happens outside of a request."""
    request = _current.get()
    if request is not None:
        request.ids |= {name: str(id) for name, id in ids.items()}
