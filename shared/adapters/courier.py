"""Delivers messages to webhooks: over HTTPS, to public addresses, without following anybody anywhere."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

from shared.core.errors import BadUpstream, InvalidInput, RagzeroError, Unavailable
from shared.core.webhooks import Message, checked_url, is_public, signed
from shared.telemetry import get_logger, metrics

_log = get_logger(__name__)
_DEPENDENCY = "webhook"
_STEP_S, _TOTAL_S = 5.0, 10.0
_AT_ONCE = 8
_SOON_S = 5.0
_LOOKS_S = (30, 120, 480, 1_800)


class Outbox(Protocol):
    def take(self, limit: int, *, fresh: bool) -> list[Message]: ...
    def delivered(self, ids: Sequence[UUID]) -> None: ...
    def failed(self, id: UUID, error: str) -> None: ...
    def following(self) -> float | None: ...
    def listened(self) -> bool: ...


class Alarm(Protocol):
    def ring(self, seconds: float) -> None: ...


class Courier:
    """private: receivers may be in our own network, and without TLS. alarm: without one, the sweep alone comes back."""

    def __init__(self, outbox: Outbox, *, private: bool = False, alarm: Alarm | None = None) -> None:
        self._outbox = outbox
        self._private = private
        self._alarm = alarm

    def deliver(self, seconds: float, *, fresh: bool = False) -> dict[str, int]:
        """How many messages were delivered, and how many not, in about so many seconds. fresh: first attempts only."""
        until, counts = time.monotonic() + seconds, Counter[str]()
        while not (over := time.monotonic() > until) and (
            messages := self._outbox.take(_AT_ONCE, fresh=fresh)
        ):
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                outcomes = list(threads.map(self._tried, messages))
            self._outbox.delivered(
                [one.id for one, error in zip(messages, outcomes, strict=True) if not error]
            )
            for message, error in zip(messages, outcomes, strict=True):
                counts["undelivered" if error else "delivered"] += 1
                if error:
                    self._outbox.failed(message.id, error)
                    _log.info("webhook_undelivered", webhook=str(message.webhook), attempt=message.attempts)
        for outcome, count in counts.items():
            metrics.count("webhook_messages", count, outcome=outcome)
        if (over or counts["undelivered"]) and (wait := self._outbox.following()) is not None:
            self._ring(max(wait, _SOON_S))
        return dict(counts)

    def expect(self) -> None:
        """Somebody who cannot deliver them will leave messages: they are looked for a few times."""
        if self._alarm is not None and self._outbox.listened():
            for seconds in _LOOKS_S:
                self._ring(seconds)

    def _ring(self, seconds: float) -> None:
        if self._alarm is None:
            return
        try:
            self._alarm.ring(seconds)
        except RagzeroError as error:
            _log.warning("webhooks_left_to_the_sweep", reason=str(error))

    def _tried(self, message: Message) -> str | None:
        """What went wrong, if anything did."""
        try:
            self._send(message)
        except RagzeroError as error:
            return str(error)
        return None

    def _send(self, message: Message) -> None:
        """Raises InvalidInput when it may not be sent there; Unavailable; BadUpstream unless it is accepted."""
        url = urlsplit(checked_url(message.url, private=self._private))
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        address = self._address(host, port)
        plain = _Plain if url.scheme == "http" else _Tls
        connection = plain(host, port, timeout=_STEP_S)
        connection.pinned = address
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = {"Content-Type": "application/json", "User-Agent": "ragzero-webhooks"}
        ending = threading.Timer(_TOTAL_S, connection.cut)  # each step may take its time, all of them may not
        ending.start()
        try:
            connection.request("POST", target, message.body, headers | signed(message, int(time.time())))
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(_DEPENDENCY, f"no answer: {error or type(error).__name__}") from error
        finally:
            ending.cancel()
            connection.close()
        if not 200 <= status < 300:
            raise BadUpstream(_DEPENDENCY, f"answered with status {status}")

    def _address(self, host: str, port: int) -> str:
        """Looked up once, and that is connected to: a name cannot mean something else a moment later."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unavailable(_DEPENDENCY, f"{host} is not found") from error
        addresses = [str(entry[4][0]) for entry in found]
        if not self._private and not all(is_public(address) for address in addresses):
            raise InvalidInput(f"{host} is not a public address")
        return addresses[0]


class _Plain(http.client.HTTPConnection):
    """To the address it is told, whatever the host's name means."""

    pinned = ""

    def connect(self) -> None:
        self.sock = socket.create_connection((self.pinned, self.port), self.timeout)

    def cut(self) -> None:
        with suppress(OSError):
            if self.sock is not None:
                socket.socket.shutdown(
                    self.sock, socket.SHUT_RDWR
                )  # what TLS adds to it is not for another thread


class _Tls(_Plain):
    default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        super().connect()
        self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
