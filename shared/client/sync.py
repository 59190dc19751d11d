"""The client that waits; what it does is in flows.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from . import calls, flows, types
from .calls import Call, refusal
from .errors import StreamBroken
from .events import Events
from .flows import Flow, Pause, Send
from .uploading import AT_ONCE, Progress, Upload, batches, found

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
        return self._run(flows.called(call, self.url, self._wait))

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
        until = time.monotonic() + timeout
        return self._run(flows.settled(str(job), len(listed), on_progress, until, self.url))

    def _put(self, upload: Upload, ticket: types.UploadTicket) -> None:
        self._run(flows.stored(upload, ticket, self.url))

    def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                try:
                    answer = self._done(step)
                except httpx.TransportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value

    def _done(self, step: Send | Pause) -> httpx.Response | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        http = self._http if step.key else self._bucket
        with step.options() as options:
            if step.piece is not None:
                options["content"] = step.piece()
            return http.request(step.method, step.url, **options)
