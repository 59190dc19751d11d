"""What either client does between being called and returning: which requests, when again, when not. Nothing waits in here.

A flow yields what is to be sent or how long to pause, and is resumed with the answer, or with the httpx.TransportError
that came instead; whoever runs it does the sending and the waiting.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from . import calls
from .calls import BUSY, PATIENCE_S, RETRIED, RETRIES, Call, delay_s, refusal, retry_after
from .errors import Unreachable, UploadFailed
from .types import JobView, PartView, UploadTicket
from .uploading import POLL_S, Progress, Upload, of_job

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """One request, which can be made again. key: whether it goes to the API, and may have the key; else to the bucket.

    given: for httpx. form: a file that is the last field of a form. piece: makes the body anew.
    """

    method: str
    url: str
    key: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)
    form: Path | None = None
    piece: Callable[[], Iterator[bytes]] | None = None

    @contextmanager
    def options(self) -> Iterator[dict[str, Any]]:
        """For httpx, as long as the file is open."""
        if self.form is None:
            yield dict(self.given)
            return
        with self.form.open("rb") as file:
            yield {**self.given, "files": {"file": (self.form.name, file)}}


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


Flow = Generator[Send | Pause, Any, T]


def called(call: Call[T], base: str, patience_s: float) -> Flow[T]:
    """What the call's answer holds; waits for one that is still being written. Raises ApiError or Unreachable."""
    answer = yield from _sent(Send(call.method, call.path, True, call.options()), base)
    until = time.monotonic() + patience_s
    while answer.status_code == 202 and call.path == "/v1/query" and time.monotonic() < until:
        yield Pause(retry_after(answer.headers) or 1.0)
        answer = yield from _sent(Send("GET", answer.headers["location"], True), base)
    if answer.is_error:
        raise refusal(answer.status_code, answer.headers, answer.content)
    value: T = answer.json()
    return value


def stored(upload: Upload, ticket: UploadTicket, base: str) -> Flow[None]:
    """The file in the bucket. Raises UploadFailed."""
    if ticket["parts"] is not None:
        etags = yield from _parts(upload, ticket["parts"], base)
        yield from called(calls.complete_upload(ticket["upload_id"] or "", etags), base, 0)
        return
    form = {"data": ticket["fields"]}
    yield from _taken(upload, Send("POST", ticket["url"] or "", given=form, form=upload.path), base)


def settled(
    job: str, files: int, on_progress: Callable[[Progress], None], until: float, base: str
) -> Flow[JobView]:
    """The job when each of its documents is searchable or failed, or as it is then. until: on time.monotonic's clock."""
    while True:
        known = yield from called(calls.job(job), base, 0)
        on_progress(of_job(files, known))
        if known["status"] == "done" or time.monotonic() > until:
            return known
        yield Pause(POLL_S)


def _parts(upload: Upload, parts: list[PartView], base: str) -> Flow[list[str]]:
    etags: list[str] = []
    start = 0
    for part in parts:
        length = {"headers": {"Content-Length": str(part["size"])}}
        piece = upload.piece(start, part["size"])
        answer = yield from _taken(upload, Send("PUT", part["url"], given=length, piece=piece), base)
        etags.append(answer.headers["etag"])
        start += part["size"]
    return etags


def _taken(upload: Upload, send: Send, base: str) -> Flow[httpx.Response]:
    answer = yield from _sent(send, base)
    if answer.is_error:
        raise UploadFailed(upload.name, f"the bucket answered with {answer.status_code}")
    return answer


def _sent(send: Send, base: str) -> Flow[httpx.Response]:
    """The last answer, whatever it is; a server that is busy is asked again for as long as PATIENCE_S."""
    failures, waited_s = 0, 0.0
    while True:
        try:
            answer: httpx.Response = yield send
        except httpx.TransportError as error:
            failures, pause = failures + 1, None
            if failures > RETRIES:
                raise Unreachable(f"{base} does not answer ({error})") from error
        else:
            pause = retry_after(answer.headers)
            if answer.status_code == BUSY and pause is not None:
                waited_s += max(pause, 1.0)
                if waited_s > PATIENCE_S:
                    return answer
            elif answer.status_code in RETRIED and failures < RETRIES:
                failures += 1
            else:
                return answer
        yield Pause(delay_s(failures, pause, random.random()))  # noqa: S311 - spreads load, hides nothing
