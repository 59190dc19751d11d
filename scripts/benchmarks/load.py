"""Requests over loopback, many at a time: as fast as they are answered (wrk), or at the pace of patient users."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_WRK = """
wrk.method = "POST"
wrk.body = %s
%s
done = function(summary, latency, requests)
  io.write(string.format('RESULT {"rps": %%.1f, "p50": %%.3f, "p95": %%.3f, "p99": %%.3f, "errors": %%d}\\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000, latency:percentile(95) / 1000,
    latency:percentile(99) / 1000, summary.errors.connect + summary.errors.read + summary.errors.write
      + summary.errors.status + summary.errors.timeout))
end
"""


@dataclass(frozen=True)
class Post:
    url: str
    body: bytes
    headers: Mapping[str, str]


def saturating(post: Post, connections: int, seconds: int) -> dict[str, float]:
    """Requests per second and latencies in ms with so many connections that each wait for their answer."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; apt-get install wrk")
    headers = "\n".join(f"wrk.headers[{json.dumps(n)}] = {json.dumps(v)}" for n, v in post.headers.items())
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(_WRK % (json.dumps(post.body.decode()), headers))
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "10s",
            "-s",
            str(script),
            post.url,
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in ran.stdout.splitlines() if line.startswith("RESULT "))
    found: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return found


@dataclass
class _User(asyncio.Protocol):
    """One connection that sends a request a second."""

    request: bytes
    latencies: list[float]
    errors: list[str]
    transport: asyncio.Transport | None = None
    sent_at: float = 0.0
    waiting: bool = False
    buffer: bytes = field(default=b"")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self) -> None:
        if self.waiting or self.transport is None or self.transport.is_closing():
            self.errors.append("still waiting" if self.waiting else "closed")
            return
        self.sent_at, self.waiting, self.buffer = time.perf_counter(), True, b""
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self.waiting = False
        self.latencies.append((time.perf_counter() - self.sent_at) * 1000)
        if not head.startswith(b"HTTP/1.1 200"):
            self.errors.append(head[:20].decode())


def _itself(user: _User) -> _User:
    return user


async def patient(posts: Sequence[Post], users: int, seconds: int) -> dict[str, float]:
    """users who ask one question a second each, spread over the second; posts are asked in turn."""
    target = urlsplit(posts[0].url)
    latencies: list[float] = []
    errors: list[str] = []
    loop = asyncio.get_running_loop()
    made: list[_User] = []
    for number in range(users):
        user = _User(_raw(posts[number % len(posts)]), latencies, errors)
        await loop.create_connection(
            functools.partial(_itself, user), str(target.hostname), target.port or 80
        )
        made.append(user)
    begin = loop.time() + 0.5
    for second in range(seconds):
        for number, user in enumerate(made):
            loop.call_at(begin + second + number / users, user.send)
    await asyncio.sleep(seconds + 2)
    for user in made:
        if user.transport:
            user.transport.close()
    ordered = sorted(latencies)
    quantile = {
        name: round(ordered[int(share * (len(ordered) - 1))], 2) for name, share in _QUANTILES.items()
    }
    return {"requests": len(ordered), "errors": len(errors), **quantile}


_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def _raw(post: Post) -> bytes:
    target = urlsplit(post.url)
    headers = {"Host": target.netloc, "Content-Length": str(len(post.body)), **post.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {target.path} HTTP/1.1\r\n{lines}\r\n".encode() + post.body
