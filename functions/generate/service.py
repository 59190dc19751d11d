"""The server's life: engine up and proven, fence open, both watched, drained on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from functions.generate.command import engine_command
from functions.generate.engine import Engine
from functions.generate.fence import Fence
from shared.core.errors import ConfigurationError
from shared.settings import GenerateSettings

EXIT_ENGINE_DIED = 70
_LAST_WORDS_S = 3.0
_GRACE_S = 10.0


def announce(event: str, **facts: object) -> None:
    """One JSON line on stdout."""
    print(json.dumps({"event": event, **facts}), flush=True)  # noqa: T201 - the reader is the parent process


async def serve(settings: GenerateSettings) -> int:
    """Until SIGTERM (0) or the engine's death (70: the platform starts another).

    Raises ConfigurationError, and what Engine.start raises.
    """
    started = time.monotonic()
    told_to_stop = _signals()
    address = _listener(settings)
    engine = Engine(engine_command(settings), f"http://127.0.0.1:{settings.engine_port}", settings.name)
    try:
        if not await _start(engine, settings, told_to_stop):
            return 0
        address.listen()  # so that whoever hears of it gets through, were the fence a moment late
        announce("ready", port=address.getsockname()[1], seconds=round(time.monotonic() - started, 1))
        return await _serve_until(told_to_stop, engine, settings, address)
    finally:
        await engine.stop(within_s=_GRACE_S if engine.death.cause is None else 0.0)
        address.close()


async def _start(engine: Engine, settings: GenerateSettings, told_to_stop: asyncio.Event) -> bool:
    """False when told to stop meanwhile."""
    starting = asyncio.create_task(engine.start(settings.startup_s))
    stopping = asyncio.create_task(told_to_stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        starting.result()
        return True
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return False


async def _serve_until(
    told_to_stop: asyncio.Event, engine: Engine, settings: GenerateSettings, address: socket.socket
) -> int:
    fence = Fence(engine.url, settings.api_key.get_secret_value(), engine.death)
    server = _Server(_uvicorn_config(fence, settings))
    serving = asyncio.create_task(server.serve([address]))
    dying = asyncio.create_task(engine.death.wait())
    stopping = asyncio.create_task(told_to_stop.wait())
    await asyncio.wait({serving, dying, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if dying.done():
        announce("engine_died", cause=dying.result())
        await asyncio.wait({stopping}, timeout=_LAST_WORDS_S)  # who asks now gets a 503, not a closed port
    else:
        announce("draining", seconds=settings.drain_s)
    server.should_exit = True
    await serving
    await fence.aclose()
    return EXIT_ENGINE_DIED if dying.done() else 0


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: uvicorn would raise them again before the engine is stopped."""
        yield


def _uvicorn_config(fence: Fence, settings: GenerateSettings) -> uvicorn.Config:
    return uvicorn.Config(
        fence,
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=75,  # longer than any client keeps a connection, so that it is the one to close
        timeout_graceful_shutdown=settings.drain_s,
    )


def _signals() -> asyncio.Event:
    told_to_stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    return told_to_stop


def _listener(settings: GenerateSettings) -> socket.socket:
    """Bound but closed to callers: a port that is taken is known before the engine has loaded anything."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        where = f"{settings.host}:{settings.port}"
        raise ConfigurationError("RAGZERO_GENERATE_PORT", f"cannot listen on {where}: {error}") from error
    return listener
