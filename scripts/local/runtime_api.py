"""The Lambda Runtime API: what AWS's runtime client asks for calls, and tells the answers."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from scripts.local.process import HOST


@dataclass(frozen=True)
class Call:
    """deadline is on the wall clock, in seconds, as the client is told it."""

    id: str
    body: bytes
    deadline: float
    function: str


class RuntimeApi(ThreadingHTTPServer):
    """GET invocation/next waits for a call; POST invocation/<id>/response or error, or init/error, ends it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.calls: queue.Queue[Call | None] = queue.Queue()
        self.answers: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.waiting = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.server_address[1]}"

    def close(self) -> None:
        self.calls.put(None)
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # the headers and the body are two writes: without it the second waits for the client to have seen the first
    disable_nagle_algorithm = True
    server: RuntimeApi

    def do_GET(self) -> None:
        self.server.waiting.set()
        call = self.server.calls.get()
        if call is None:
            return
        arn = f"arn:aws:lambda:us-east-1:000000000000:function:{call.function}"
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(call.body)),
            "Lambda-Runtime-Aws-Request-Id": call.id,
            "Lambda-Runtime-Deadline-Ms": str(int(call.deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": arn,
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
        }
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(call.body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.answers.put((self.path.rpartition("/")[2], body))

    def log_message(self, format: str, *args: Any) -> None:
        """Quietly."""
