"""The query function as a server in a process of its own, as the Lambda Web Adapter starts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from scripts.local.process import HOST, Server, free_port

ROOT = Path(__file__).resolve().parents[2]


class ServingProcess(Server):
    name = "serving"

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        super().__init__(folder, port=free_port(), tethered=True)
        self._variables = variables

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "functions.query.serving"]

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        own = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PORT": str(self.port)}
        return {**kept, **own, **self._variables}

    def probe(self) -> bool:
        """As the adapter asks: any answer below 500 will do."""
        try:
            return httpx.get(f"{self.url}/healthz", timeout=20).status_code < 500
        except httpx.TransportError:
            return False
