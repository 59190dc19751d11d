"""The client that waits."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from . import calls, types
from .calls import RETRIED, RETRIES, Call, delay_s, refusal, retry_after
from .errors import StreamBroken, Unreachable, UploadFailed
from .events import Events
from .uploading import AT_ONCE, POLL_S, Progress, Upload, batches, found, of_job

P = ParamSpec("P")
T = TypeVar("T")


def _calling(build: Callable[P, Call[T]]) -> Callable[Concatenate[Ragzero, P], T]:
    @wraps(build)
    def method(self: Ragzero, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.call(build(*args, **kwargs))

    return method


class Ragzero:
    """key: an API key. timeout: seconds a step of a request may take; wait: for an answer that is being written."""

    def __init__(self, url: str, key: str, *, timeout: float = 60, wait: float = 600) -> None:
        self.url = url
        self._wait = wait
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout)
        self._bucket = httpx.Client(timeout=timeout)  # which must never see the key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()
        self._bucket.close()

    search = _calling(calls.search)
    documents = _calling(calls.documents)
    document = _calling(calls.document)
    chunks = _calling(calls.chunks)
    source = _calling(calls.source)
    describe = _calling(calls.describe)
    delete = _calling(calls.delete)
    deletion = _calling(calls.deletion)
    delete_matching = _calling(calls.delete_matching)
    job = _calling(calls.job)
    resume = _calling(calls.resume)
    begin_uploads = _calling(calls.begin_uploads)
    complete_upload = _calling(calls.complete_upload)
    request = _calling(calls.request)
    ask = _calling(calls.ask)

    def call(self, call: Call[T]) -> T:
        """Raises ApiError, or Unreachable after some attempts."""
        options = call.options()
        answer = self._sent(lambda: self._http.request(call.method, call.path, **options))
        until = time.monotonic() + self._wait
        while answer.status_code == 202 and call.path == "/v1/query" and time.monotonic() < until:
            time.sleep(retry_after(answer.headers) or 1.0)
            place = answer.headers["location"]
            answer = self._sent(lambda place=place: self._http.get(place))  # type: ignore[misc]
        if answer.is_error:
            raise refusal(answer.status_code, answer.headers, answer.content)
        value: T = answer.json()
        return value

    def stream(self, question: str, **more: Any) -> Iterator[types.StreamEvent]:
        """status, sources, token..., citations, done, as they come; more: as for ask. Closing it ends the answer."""
        body = {"stream": True, **(calls.ask(question, **more).body or {})}
        events = Events()
        try:
            with self._http.stream("POST", "/v1/query", json=body) as answer:
                if answer.is_error:
                    raise refusal(answer.status_code, answer.headers, answer.read())
                for received in answer.iter_bytes():
                    yield from map(events.check, events.feed(received))
        except httpx.TransportError as error:
            raise StreamBroken(f"the stream broke ({error})") from error
        if not events.over:
            raise StreamBroken

    def everything(self, **more: Any) -> Iterator[types.DocumentView]:
        """All documents, page by page; more: as for documents."""
        cursor: str | None = None
        while True:
            page = self.documents(**{"limit": 200, **more, "cursor": cursor})
            yield from page["items"]
            if (cursor := page["next_cursor"]) is None:
                return

    def upload(
        self,
        files: Iterable[Path | Upload],
        *,
        collection: str | None = None,
        metadata: Mapping[str, types.Scalar] | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
        timeout: float = 600,
    ) -> types.JobView:
        """Uploads files, and all that is in folders, and waits until each is searchable or failed, or for so long.

        Raises UploadFailed for the first file that the bucket did not take.
        """
        listed = found(files, metadata or {})
        if not listed:
            raise FileNotFoundError("there is no file to upload")
        job, uploaded = None, 0
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for some in batches(listed):
                begun = self.begin_uploads(
                    [one.described() for one in some], collection=collection, job_id=job
                )
                job = begun["job_id"]
                tickets = zip(some, begun["uploads"], strict=True)
                for done in as_completed([threads.submit(self._put, *one) for one in tickets]):
                    done.result()
                    uploaded += 1
                    on_progress(Progress(len(listed), uploaded))
        return self._settled(str(job), len(listed), on_progress, time.monotonic() + timeout)

    def _settled(
        self, job: str, files: int, on_progress: Callable[[Progress], None], until: float
    ) -> types.JobView:
        while True:
            known = self.job(job)
            on_progress(of_job(files, known))
            if known["status"] == "done" or time.monotonic() > until:
                return known
            time.sleep(POLL_S)

    def _put(self, upload: Upload, ticket: types.UploadTicket) -> None:
        if ticket["parts"] is not None:
            self._put_parts(upload, ticket["parts"], ticket["upload_id"] or "")
            return

        def sent() -> httpx.Response:
            with upload.path.open("rb") as file:
                return self._bucket.post(
                    ticket["url"] or "", data=ticket["fields"], files={"file": (upload.path.name, file)}
                )

        self._taken(upload, self._sent(sent))

    def _put_parts(self, upload: Upload, parts: list[types.PartView], id: str) -> None:
        etags, start = [], 0
        for part in parts:
            answer = self._sent(
                lambda part=part, start=start: self._bucket.put(  # type: ignore[misc]
                    part["url"],
                    content=upload.piece(start, part["size"]),
                    headers={"Content-Length": str(part["size"])},
                )
            )
            etags.append(self._taken(upload, answer).headers["etag"])
            start += part["size"]
        self.complete_upload(id, etags)

    def _taken(self, upload: Upload, answer: httpx.Response) -> httpx.Response:
        if answer.is_error:
            raise UploadFailed(upload.name, f"the bucket answered with {answer.status_code}")
        return answer

    def _sent(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        for attempt in range(RETRIES + 1):
            pause = None
            try:
                answer = send()
                if answer.status_code not in RETRIED or attempt == RETRIES:
                    return answer
                pause = retry_after(answer.headers)
            except httpx.TransportError as error:
                if attempt == RETRIES:
                    raise Unreachable(f"{self.url} does not answer ({error})") from error
            time.sleep(delay_s(attempt, pause, random.random()))  # noqa: S311 - spreads load, hides nothing
        raise Unreachable
