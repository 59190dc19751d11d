"""The client that lets others go on meanwhile. Name by name what sync.py has."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
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
        options = call.options()
        answer = await self._sent(lambda: self._http.request(call.method, call.path, **options))
        until = time.monotonic() + self._wait
        while answer.status_code == 202 and call.path == "/v1/query" and time.monotonic() < until:
            await asyncio.sleep(retry_after(answer.headers) or 1.0)
            place = answer.headers["location"]
            answer = await self._sent(lambda place=place: self._http.get(place))  # type: ignore[misc]
        if answer.is_error:
            raise refusal(answer.status_code, answer.headers, answer.content)
        value: T = answer.json()
        return value

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
        return await self._settled(str(job), len(listed), on_progress, time.monotonic() + timeout)

    async def _settled(
        self, job: str, files: int, on_progress: Callable[[Progress], None], until: float
    ) -> types.JobView:
        while True:
            known = await self.job(job)
            on_progress(of_job(files, known))
            if known["status"] == "done" or time.monotonic() > until:
                return known
            await asyncio.sleep(POLL_S)

    async def _put(self, few: asyncio.Semaphore, upload: Upload, ticket: types.UploadTicket) -> None:
        async with few:
            if ticket["parts"] is not None:
                await self._put_parts(upload, ticket["parts"], ticket["upload_id"] or "")
                return
            with upload.path.open("rb") as file:

                def sent() -> Awaitable[httpx.Response]:
                    file.seek(0)
                    return self._bucket.post(
                        ticket["url"] or "", data=ticket["fields"], files={"file": (upload.path.name, file)}
                    )

                self._taken(upload, await self._sent(sent))

    async def _put_parts(self, upload: Upload, parts: list[types.PartView], id: str) -> None:
        etags, start = [], 0
        for part in parts:
            answer = await self._sent(
                lambda part=part, start=start: self._bucket.put(  # type: ignore[misc]
                    part["url"],
                    content=_piece(upload, start, part["size"]),
                    headers={"Content-Length": str(part["size"])},
                )
            )
            etags.append(self._taken(upload, answer).headers["etag"])
            start += part["size"]
        await self.complete_upload(id, etags)

    def _taken(self, upload: Upload, answer: httpx.Response) -> httpx.Response:
        if answer.is_error:
            raise UploadFailed(upload.name, f"the bucket answered with {answer.status_code}")
        return answer

    async def _sent(self, send: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        for attempt in range(RETRIES + 1):
            pause = None
            try:
                answer = await send()
                if answer.status_code not in RETRIED or attempt == RETRIES:
                    return answer
                pause = retry_after(answer.headers)
            except httpx.TransportError as error:
                if attempt == RETRIES:
                    raise Unreachable(f"{self.url} does not answer ({error})") from error
            await asyncio.sleep(delay_s(attempt, pause, random.random()))  # noqa: S311 - spreads load, hides nothing
        raise Unreachable


async def _piece(upload: Upload, start: int, size: int) -> AsyncIterator[bytes]:
    for data in upload.piece(start, size):
        yield data
