"""The Upstash-compatible REST server (see rest_app) as a process of its own, and the switch of its faults."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from scripts.local.process import HOST, Server, secret_file
from shared.core.errors import BadUpstream

if TYPE_CHECKING:
    from scripts.local.redis_server import RedisServer


class RestShim(Server):
    """The shim as a child process. Its tokens are made once and kept in the folder."""

    name = "rest_shim"
    preferred_port = 16380

    def __init__(
        self, folder: Path, redis: RedisServer, *, port: int | None = None, tethered: bool = False
    ) -> None:
        super().__init__(folder, port=port, tethered=tethered)
        self._redis = redis

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def token(self) -> str:
        return secret_file(self.folder / "rest.token")

    @property
    def read_only_token(self) -> str:
        return secret_file(self.folder / "rest.read_only.token")

    @property
    def control(self) -> ShimControl:
        return ShimControl(self.url, secret_file(self.folder / "rest.admin.token"))

    def command(self) -> Sequence[str]:
        return [
            sys.executable,
            "-m",
            "scripts.local.rest_shim",
            "--port",
            str(self.port),
            "--redis",
            self._redis.url,
        ]

    def environment(self) -> dict[str, str]:
        # Not on the command line, where every user of the machine could read them.
        return {
            **os.environ,
            "REST_SHIM_TOKEN": self.token,
            "REST_SHIM_READ_ONLY_TOKEN": self.read_only_token,
            "REST_SHIM_ADMIN_TOKEN": self.control.token,
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }


@dataclass(frozen=True)
class ShimControl:
    """Switches faults of a running shim and counts the requests it got."""

    url: str
    token: str

    def set(self, **faults: Any) -> None:
        """Replace the faults in force; the names are the fields of Faults."""
        self._ask("PUT", faults)

    def clear(self) -> None:
        self._ask("PUT", {})

    def requests(self) -> int:
        return int(self._ask("GET")["requests"])

    def _ask(self, method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.request(method, f"{self.url}/-/faults", json=body, headers=headers, timeout=5)
        if answer.status_code != 200:
            raise BadUpstream("rest_shim", f"the shim refused: {answer.text}")
        return dict(answer.json())


def _arguments() -> argparse.Namespace:
    def secret(name: str) -> dict[str, Any]:
        return {"default": os.environ.get(f"REST_SHIM_{name}", ""), "help": f"or ${{REST_SHIM_{name}}}"}

    parser = argparse.ArgumentParser(description="An Upstash-compatible REST server over a Redis.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", required=True, help="redis://HOST:PORT or unix:///PATH")
    parser.add_argument("--token", **secret("TOKEN"))
    parser.add_argument("--read-only-token", **secret("READ_ONLY_TOKEN"))
    parser.add_argument("--admin-token", **secret("ADMIN_TOKEN"))
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    import uvicorn

    from scripts.local.rest_app import Protocol, Shim, Tokens
    from scripts.local.rest_parser import Parser
    from shared.adapters.cache.resp import RespClient

    tokens = Tokens(arguments.token, arguments.read_only_token, arguments.admin_token)
    # patient: it is for the shim's clients to give up
    redis = RespClient(arguments.redis, timeout_s=30, connect_timeout_s=2, parser=Parser)
    config = uvicorn.Config(
        Shim(redis, tokens),
        host=HOST,
        port=arguments.port,
        http=Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,
    )
    await uvicorn.Server(config).serve()
    await redis.close()


def main() -> None:
    import uvloop

    uvloop.run(_run(_arguments()))


if __name__ == "__main__":
    main()
