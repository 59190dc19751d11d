"""The engine as a child process: started, proven by a real completion, watched, stopped."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

import httpx

from shared.core.completion import describe_error
from shared.core.errors import ConfigurationError, DeadlineExceeded, Unavailable

_POLL_S = 0.25
_ANSWER_S = 5.0
_BROKEN = 4
_SILENCE_S = 60.0
_PR_SET_PDEATHSIG = 1


class Death:
    """Whether the engine is dead, and of what; can be waited for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.cause: str | None = None

    def report(self, cause: str) -> None:
        if self.cause is None:
            self.cause = cause
            self._event.set()

    async def wait(self) -> str:
        await self._event.wait()
        return self.cause or ""


class Engine:
    """command must serve OpenAI's API and /health at url."""

    def __init__(self, command: Sequence[str], url: str, model: str) -> None:
        self.url = url
        self.death = Death()
        self._command = command
        self._model = model
        self._client = httpx.AsyncClient(base_url=url, timeout=_ANSWER_S, trust_env=False)
        self._process: asyncio.subprocess.Process | None = None
        self._watches: list[asyncio.Task[None]] = []

    async def start(self, within_s: float) -> None:
        """Returns after a first real completion.

        Raises Unavailable when the engine dies on the way, DeadlineExceeded, and ConfigurationError for a
        model that cannot chat.
        """
        # output goes to stderr: stdout is for our own events
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=2, start_new_session=True, preexec_fn=_die_with_parent
        )
        self._watches.append(asyncio.create_task(self._watch_process(self._process)))
        try:
            async with asyncio.timeout(within_s):
                await self._until_healthy()
                await self._complete_something()
        except TimeoutError as error:
            raise DeadlineExceeded("engine", f"the engine was not ready within {within_s:.0f} s") from error
        self._watches.append(asyncio.create_task(self._watch_health()))

    async def stop(self, within_s: float) -> None:
        """Asks, then kills; nothing that the engine started survives."""
        for watch in self._watches:
            watch.cancel()
        if self._process is not None:
            await _end(self._process, within_s)
        await self._client.aclose()

    async def _until_healthy(self) -> None:
        while self.death.cause is None:
            with suppress(httpx.TransportError):
                if (await self._client.get("/health")).status_code == 200:
                    return
            await asyncio.sleep(_POLL_S)
        raise Unavailable("engine", f"the engine died while starting: {self.death.cause}")

    async def _complete_something(self) -> None:
        question = {"role": "user", "content": "Hello"}
        body = {"model": self._model, "messages": [question], "max_tokens": 1}
        try:
            answer = await self._client.post("/v1/chat/completions", json=body, timeout=None)
        except httpx.TransportError as error:
            raise Unavailable("engine", "the engine died at its first completion") from error
        if answer.status_code == 400:
            raise ConfigurationError("RAGZERO_GENERATE_MODEL", f"cannot chat: {_message(answer)}")
        if not answer.is_success:
            raise Unavailable("engine", f"the engine's first completion failed: {_message(answer)}")

    async def _watch_process(self, process: asyncio.subprocess.Process) -> None:
        self.death.report(f"exited with code {await process.wait()}")

    async def _watch_health(self) -> None:
        """The core is a grandchild: only the server in between knows, and tells, that it died.

        A broken connection proves nothing (a kept one is closed just so when the server is busy); several in
        a row do.
        """
        silent_s, broken = 0.0, 0
        while silent_s < _SILENCE_S and broken < _BROKEN:
            await asyncio.sleep(_POLL_S)
            try:
                status = (await self._client.get("/health")).status_code
            except httpx.TimeoutException:
                silent_s += _ANSWER_S
            except httpx.TransportError:
                broken += 1
            else:
                silent_s, broken = 0.0, 0
                if status != 200:
                    return self.death.report(f"its /health answers {status}")
        return self.death.report("refuses connections" if broken else f"silent for {_SILENCE_S:.0f} s")


def _die_with_parent() -> None:
    """In the child, before exec: a killed server must not leave an engine that holds the GPU."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _end(process: asyncio.subprocess.Process, within_s: float) -> None:
    with suppress(ProcessLookupError, TimeoutError):
        process.terminate()
        async with asyncio.timeout(within_s):
            await process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _message(answer: httpx.Response) -> str:
    try:
        return describe_error(answer.json())[0]
    except ValueError:
        return f"status {answer.status_code}"
