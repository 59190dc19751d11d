"""The query function as a server: `python -m functions.query.serving`.

On Lambda the Web Adapter starts it, asks /healthz until it is there, and passes requests on, so that answers can be
streamed (AWS_LWA_INVOKE_MODE=response_stream). On SIGTERM new requests are turned away while the others finish.
"""

from __future__ import annotations

import gc
import signal
import socket
import time
from types import FrameType

import uvicorn

from functions.query.app import create_app
from functions.query.exchanges import Load
from shared.settings import QuerySettings, ServeSettings
from shared.telemetry import get_logger

_log = get_logger(__name__)
_LAST_S = 3
# What is there after the start stays: looking through it again and again for garbage took a fifth of the time of a
# busy server. Requests leave little behind that needs the collector.
_COLLECT_AFTER = (20_000, 20, 20)
_KEEP_ALIVE_S = 65  # longer than the adapter keeps a connection, so that it never meets one just closed


class DrainingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, load: Load, drain_s: float) -> None:
        super().__init__(config)
        self._load = load
        self._drain_s = drain_s
        self._leaves_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT_AFTER)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first SIGTERM lets requests finish; any other signal does not."""
        if sig != signal.SIGTERM or self._leaves_at is not None:
            super().handle_exit(sig, frame)
            return
        self._load.draining = True
        self._leaves_at = time.monotonic() + self._drain_s

    async def on_tick(self, counter: int) -> bool:
        if self._leaves_at is not None and (not self._load.in_flight or time.monotonic() > self._leaves_at):
            self.should_exit = True
        return await super().on_tick(counter)


def main() -> None:
    settings, serving = QuerySettings.load(), ServeSettings.load()
    on_lambda = settings.lambda_function is not None
    app = create_app(settings, lazy=on_lambda)
    if on_lambda and serving.invoke_mode != "response_stream":
        _log.warning("streams_are_held_back", setting="AWS_LWA_INVOKE_MODE", expected="response_stream")
    config = uvicorn.Config(
        app,
        host=serving.host,
        port=serving.port,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LAST_S,
    )
    DrainingServer(config, app.state.load, serving.drain_seconds).run()


if __name__ == "__main__":
    main()
