"""The client: wakes the server, waits for it, reads its stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import httpx

from shared.adapters.generator.reading import chunks, some
from shared.adapters.generator.refusals import refusal
from shared.adapters.generator.waiting import close, pauses, retry_after, waking_until
from shared.adapters.generator.watch import Watch
from shared.core.breaker import Breaker
from shared.core.completion import Finish, GenerationEvent, Prices, Token, Usage
from shared.core.errors import BadUpstream, ConfigurationError, DeadlineExceeded, InvalidInput, Unavailable
from shared.telemetry import metrics, tracing

_CONNECT_S = 5.0
_CHECK_S = 10.0
_KNOCK_S = 5.0
_REDIRECTS = 30
_COLD_S = 1.0  # a server that takes a request later than this was asleep
# A server that is awake sends at least the head of its answer in this time.
_SILENT_S = 1.0
# One that spoke this lately is still awake: no scaledown_window in infra/modal is shorter.
_AWAKE_S = 60.0
# Modal holds a request for 150 s while a container starts, then redirects it: longer silence is no waking.
_HELD_S = 160.0
_PLAIN = {"Accept-Encoding": "identity"}  # to compress a stream is to hold it back


class Generator:
    """One model behind one URL. Belongs to one event loop."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        model: str,
        *,
        headers: Mapping[str, str] | None = None,
        prices: Prices | None = None,
        breaker: Breaker | None = None,
        setting: str = "RAGZERO_GENERATOR",
    ) -> None:
        """base_url may end in /v1 or not; headers go with every request, e.g. Modal-Key and Modal-Secret.

        setting is the prefix of the variables that errors name: _URL, _API_KEY, _MODEL. Raises
        ConfigurationError for what is no URL, and for a key that no header can carry.
        """
        self._setting = setting
        self._api = _api_url(base_url, f"{setting}_URL")
        self._prices = prices
        self._breaker = breaker or Breaker()
        self._heard_at = float("-inf")
        self._knocking: asyncio.Task[None] | None = None
        self.model = model
        self._client = httpx.AsyncClient(
            headers={**_PLAIN, **self._bearer(api_key), **(headers or {})},
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            limits=httpx.Limits(keepalive_expiry=60),
        )

    async def aclose(self) -> None:
        if self._knocking is not None:
            self._knocking.cancel()
        await self._client.aclose()

    async def stream(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        deadline: float,
    ) -> AsyncGenerator[GenerationEvent, None]:
        """Waking* Token* Usage? Finish; deadline is on time.monotonic's clock.

        Raises DeadlineExceeded, BadUpstream, Busy, Unavailable (breaker open), PromptTooLong, InvalidInput,
        ConfigurationError. An attempt is repeated only while nothing has been handed on.
        """
        self._refuse_while_open()
        metrics.count("generator_calls", outcome="begun")
        request, watch = self._request(messages, max_tokens, temperature), Watch(deadline)
        try:
            async with aclosing(self._complete(request, watch)) as events:
                async for event in events:
                    _count(event)
                    yield event
        except BadUpstream:
            self._breaker.failed(time.monotonic())
            raise
        except DeadlineExceeded:
            if self._went_silent(watch):
                self._breaker.failed(time.monotonic())
            raise
        except InvalidInput:  # a server that judges prompts is in good health
            self._breaker.succeeded()
            raise
        self._heard_at = time.monotonic()
        self._breaker.succeeded()

    def status(self) -> dict[str, Any]:
        """For monitoring; asks nobody."""
        breaker = "open" if self._breaker.is_open else "closed"
        return {"breaker": breaker, "failures": self._breaker.failures}

    async def knock(self) -> None:
        """Wakes the server without waiting for it; never fails. One heard of lately is awake."""
        if time.monotonic() - self._heard_at < _AWAKE_S:
            return
        if self._knocking is None or self._knocking.done():
            self._knocking = asyncio.create_task(self._get_health())

    async def check(self) -> None:
        """Raises ConfigurationError naming the setting when the URL, the key or the model is wrong.

        A server that sleeps cannot say which models it has: that is no error.
        """
        try:
            answer = await self._client.get(f"{self._api}/models", timeout=_CHECK_S)
        except httpx.ReadTimeout:
            return
        except httpx.TransportError as error:
            raise self._misconfigured("URL", f"{self._api} cannot be reached ({_said(error)})") from error
        if answer.status_code in (303, 503):
            return
        if not answer.is_success:
            raise refusal(answer.status_code, answer.content, self._setting)
        self._check_model(answer)

    def _check_model(self, answer: httpx.Response) -> None:
        try:
            served = [model["id"] for model in answer.json()["data"]]
        except (ValueError, TypeError, KeyError) as error:
            raise self._misconfigured("URL", f"{self._api} is no OpenAI-compatible API") from error
        if self.model not in served:
            raise self._misconfigured("MODEL", f"{self.model!r} is not served there, only {served[:10]}")

    def _bearer(self, api_key: str | None) -> dict[str, str]:
        if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise self._misconfigured("API_KEY", "contains a space, a line break or a letter beyond ASCII")
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def _misconfigured(self, which: str, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self._setting}_{which}", problem)

    async def _get_health(self) -> None:
        with suppress(httpx.HTTPError):
            answer = await self._client.get(f"{self._api.removesuffix('/v1')}/health", timeout=_KNOCK_S)
            if answer.is_success:
                self._heard_at = time.monotonic()

    def _went_silent(self, watch: Watch) -> bool:
        """Whether the server's silence until the deadline is more than that of one that wakes."""
        silent = watch.silent_s()
        awake = watch.answering or time.monotonic() - silent - self._heard_at < _AWAKE_S
        return silent >= (_SILENT_S if awake else _HELD_S)

    def _refuse_while_open(self) -> None:
        wait = self._breaker.wait_s(time.monotonic())
        if wait > 0:
            message = f"generator failed {self._breaker.failures} times in a row; next try in {wait:.0f} s"
            raise Unavailable("generator", message, retry_after=wait)

    def _request(
        self, messages: Sequence[Mapping[str, str]], max_tokens: int, temperature: float
    ) -> httpx.Request:
        body = {
            "model": self.model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        url = f"{self._api}/chat/completions"
        return self._client.build_request("POST", url, json=body, headers=tracing.headers())

    async def _complete(self, request: httpx.Request, watch: Watch) -> AsyncGenerator[GenerationEvent, None]:
        opening = asyncio.ensure_future(self._open(request, watch))
        try:
            async for waking in waking_until(opening, watch):
                yield waking
            response = opening.result()
            watch.taken()
            await self._accept(response, watch)
            async for event in self._read(response, watch):
                yield event
        except httpx.HTTPError as error:
            raise BadUpstream("generator", f"generator broke off ({_said(error)})") from error
        finally:
            await close(opening)

    async def _open(self, request: httpx.Request, watch: Watch) -> httpx.Response:
        """Tries until the server takes the request; the response's body is unread."""
        waits, drops, redirects = pauses(), 0, 0
        while True:
            try:
                response = await watch.within(partial(self._client.send, request, stream=True))
            except httpx.RemoteProtocolError:
                drops += 1  # once may be a kept connection gone stale, twice is a server gone wrong
                if drops > 1:
                    raise
            except (httpx.NetworkError, httpx.TimeoutException) as error:
                await watch.pause(next(waits), _said(error))
            else:
                if response.status_code not in (303, 503):
                    return response
                await response.aclose()
                if response.status_code == 303:
                    redirects += 1
                    request, watch.problem = self._follow(response, redirects), "status 303"
                else:
                    await watch.pause(retry_after(response) or next(waits), "status 503")

    def _follow(self, response: httpx.Response, redirects: int) -> httpx.Request:
        """Modal answers 303 to a request that waited for long; our key goes to no other origin."""
        target = response.url.join(response.headers.get("location", ""))
        if redirects > _REDIRECTS or _origin(target) != _origin(response.url):
            raise BadUpstream("generator", f"generator redirected {redirects} times, last to {target.host!r}")
        return self._client.build_request("GET", target)

    async def _accept(self, response: httpx.Response, watch: Watch) -> None:
        if response.status_code != 200:
            body = await watch.within(partial(some, response))
            raise refusal(response.status_code, body, self._setting)
        kind = response.headers.get("content-type", "nothing")
        if not kind.startswith("text/event-stream"):
            raise BadUpstream("generator", f"generator sent {kind[:80]!r} instead of an event stream")

    async def _read(self, response: httpx.Response, watch: Watch) -> AsyncGenerator[GenerationEvent, None]:
        reason, usage = "unknown", None
        async for chunk in chunks(response, watch):
            reason, usage = chunk.reason or reason, chunk.usage or usage
            if chunk.text:
                watch.token()
                yield Token(chunk.text)
        if usage is not None:
            yield usage
        yield watch.finish(reason, usage, self._prices)


def _count(event: GenerationEvent) -> None:
    match event:
        case Usage(prompt, completion):
            metrics.count("generator_tokens", prompt, kind="prompt")
            metrics.count("generator_tokens", completion, kind="completion")
        case Finish():
            metrics.count("generator_calls", outcome="finished")
            if event.waited_s > _COLD_S:
                metrics.count("generator_cold_starts")


def _api_url(base_url: str, setting: str) -> str:
    try:
        url = httpx.URL(base_url.strip().rstrip("/"))
    except httpx.InvalidURL as error:
        raise ConfigurationError(setting, f"{base_url!r} is not a URL") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(setting, f"expected http(s)://host..., got {base_url!r}")
    return str(url) if url.path not in ("", "/") else f"{str(url).rstrip('/')}/v1"


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
