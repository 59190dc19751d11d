"""The client that lets others go on meanwhile. Name by name what sync.py has; what both do is in flows.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
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


def _calling(
    build: Callable[P, Call[T]],
) -> Callable[Concatenate[AsyncRagzero, P], Coroutine[Any, Any, T]]:
    @wraps(build)
    async def method(self: AsyncRagzero, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.call(build(*args, **kwargs))

    return method


class AsyncRagzero:
    """key: an API key. timeout: seconds a step of a request may take; wait: for an answer that is being written."""

    def __init__(self, url: str, key: str, *, timeout: float = 60, wait: float = 600) -> None:
        self.url = url
        self._wait = wait
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout
        )
        self._bucket = httpx.AsyncClient(timeout=timeout)  # which must never see the key

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()
        await self._bucket.aclose()

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

    async def call(self, call: Call[T]) -> T:
        """Raises ApiError, or Unreachable after some attempts."""
        return await self._run(flows.called(call, self.url, self._wait))

    async def stream(self, question: str, **more: Any) -> AsyncIterator[types.StreamEvent]:
        """status, sources, token..., citations, done, as they come; more: as for ask. Closing it ends the answer."""
        body = {"stream": True, **(calls.ask(question, **more).body or {})}
        events = Events()
        try:
            async with self._http.stream("POST", "/v1/query", json=body) as answer:
                if answer.is_error:
                    raise refusal(answer.status_code, answer.headers, await answer.aread())
                async for received in answer.aiter_bytes():
                    for event in events.feed(received):
                        yield events.check(event)
        except httpx.TransportError as error:
            raise StreamBroken(f"the stream broke ({error})") from error
        if not events.over:
            raise StreamBroken

    async def everything(self, **more: Any) -> AsyncIterator[types.DocumentView]:
        """All documents, page by page; more: as for documents."""
        cursor: str | None = None
        while True:
            page = await self.documents(**{"limit": 200, **more, "cursor": cursor})
            for one in page["items"]:
                yield one
            if (cursor := page["next_cursor"]) is None:
                return

    async def upload(
        self,
        files: Iterable[Path | Upload],
        *,
        collection: str | None = None,
        metadata: Mapping[str, types.Scalar] | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
        timeout: float = 600,  # noqa: ASYNC109 - what is there by then is returned, nothing is cancelled
    ) -> types.JobView:
        """Uploads files, and all that is in folders, and waits until each is searchable or failed, or for so long.

        Raises UploadFailed for the first file that the bucket did not take.
        """
        listed = found(files, metadata or {})
        if not listed:
            raise FileNotFoundError("there is no file to upload")
        job, uploaded, few = None, 0, asyncio.Semaphore(AT_ONCE)
        for some in batches(listed):
            begun = await self.begin_uploads(
                [one.described() for one in some], collection=collection, job_id=job
            )
            job = begun["job_id"]
            tickets = zip(some, begun["uploads"], strict=True)
            for done in asyncio.as_completed([self._put(few, *one) for one in tickets]):
                await done
                uploaded += 1
                on_progress(Progress(len(listed), uploaded))
        until = time.monotonic() + timeout
        return await self._run(flows.settled(str(job), len(listed), on_progress, until, self.url))

    async def _put(self, few: asyncio.Semaphore, upload: Upload, ticket: types.UploadTicket) -> None:
        async with few:
            await self._run(flows.stored(upload, ticket, self.url))

    async def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                try:
                    answer = await self._done(step)
                except httpx.TransportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value

    async def _done(self, step: Send | Pause) -> httpx.Response | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        http = self._http if step.key else self._bucket
        with step.options() as options:
            if step.piece is not None:
                options["content"] = _slowly(step.piece())
            return await http.request(step.method, step.url, **options)


async def _slowly(data: Iterator[bytes]) -> AsyncIterator[bytes]:
    for one in data:
        yield one
