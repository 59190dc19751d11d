"""The server as a process of its own, for a host whose start-up hook must return when it is ready."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

import httpx

from functions.generate.service import EXIT_ENGINE_DIED
from shared.core.errors import Unavailable
from shared.settings import GenerateSettings


class Container:
    """Configured by RAGZERO_GENERATE_*, as the process is.

    When the server ends unasked, so does the whole container: that is how the host learns to start another.
    """

    def __init__(self) -> None:
        self._settings = GenerateSettings.load()
        self._process: subprocess.Popen[str] | None = None
        self._stopping = False

    def start(self) -> None:
        """Returns when a real completion has succeeded; with sleep_mode the engine then sleeps until wake().

        Raises Unavailable.
        """
        command = [sys.executable, "-m", "functions.generate"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
        event = self._next_event()
        if event.get("event") != "ready":
            self.stop()
            raise Unavailable(
                "engine", f"the server did not start: {event.get('message', 'no reason given')}"
            )
        if self._settings.sleep_mode:
            self._tell_engine("/sleep?level=1")
        threading.Thread(target=self._leave_with_it, daemon=True).start()

    def wake(self) -> None:
        """After a snapshot was restored; nothing without sleep_mode."""
        if self._settings.sleep_mode:
            self._tell_engine("/wake_up")

    def stop(self) -> None:
        """Drains, then ends."""
        self._stopping = True
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _next_event(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline() or "{}"))

    def _tell_engine(self, path: str) -> None:
        url = f"http://127.0.0.1:{self._settings.engine_port}{path}"
        httpx.post(url, timeout=120, trust_env=False).raise_for_status()

    def _leave_with_it(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            sys.stderr.write(line)
        self._process.wait()
        self._process.stdout.close()
        if not self._stopping:
            os._exit(EXIT_ENGINE_DIED)
