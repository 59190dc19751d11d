"""Messages to other people's servers, in the form of Standard Webhooks (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import math
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit
from uuid import UUID

from shared.core.errors import InvalidInput

MAX_ATTEMPTS = 8
BACKOFF_S = (5, 30, 120, 600, 3_600, 10_800, 43_200, 43_200)
"""After which time the next attempt follows, or up to a quarter later; a day in all."""
MAX_DELAY_S = 900
"""As long as a queue holds a message back."""
SECRET_BYTES = 32
_MAX_URL = 2_048
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 inside IPv6, behind NAT64


class WebhookEvent(StrEnum):
    SEARCHABLE = "document.searchable"
    FAILED = "document.failed"


@dataclass(frozen=True, slots=True)
class Webhook:
    """waiting: messages that are still to be delivered; given_up: those that were tried too often."""

    id: UUID
    url: str
    events: list[str]
    delivered_at: datetime | None
    failed_at: datetime | None
    error: str | None
    created_at: datetime
    waiting: int
    given_up: int


@dataclass(frozen=True, slots=True)
class Message:
    """One attempt at a message. body: what is sent, byte for byte."""

    id: UUID
    webhook: UUID
    url: str
    secret: bytes
    body: bytes
    attempts: int


def shown(secret: bytes) -> str:
    return "whsec_" + base64.b64encode(secret).decode()


def signed(message: Message, now: int) -> dict[str, str]:
    """The headers that prove who sent it, and when (Unix seconds): a replay is told by its age."""
    content = f"msg_{message.id.hex}.{now}.".encode() + message.body
    signature = base64.b64encode(hmac.digest(message.secret, content, hashlib.sha256)).decode()
    return {
        "webhook-id": f"msg_{message.id.hex}",
        "webhook-timestamp": str(now),
        "webhook-signature": f"v1,{signature}",
        "webhook-attempt": str(message.attempts),
    }


def reminder(moment: int) -> str:
    """A queue message: from that moment on (Unix seconds) there is something to deliver."""
    return json.dumps({"Reminder": "webhooks", "at": moment}, separators=(",", ":"))


def reminded(body: str) -> int | None:
    """The moment of a reminder; None for any other message."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("Reminder") != "webhooks":
        return None
    moment = message.get("at")
    return moment if isinstance(moment, int) else 0


def delay_s(moment: int, now: float) -> int:
    """How long a queue is to hold back a message for that moment, as far as it can."""
    return max(0, min(MAX_DELAY_S, math.ceil(moment - now)))


def checked_url(url: str, *, private: bool) -> str:
    """private: http, and addresses that only exist in our own network, are fine, too."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"the url is none: {error}", field="url") from error
    schemes = ("https", "http") if private else ("https",)
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise InvalidInput(f"expected a url that begins with {' or '.join(schemes)}", field="url")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidInput("the url contains a user name or a fragment", field="url")
    if len(url) > _MAX_URL or not url.isascii() or any(character <= " " for character in url):
        raise InvalidInput(f"a url has up to {_MAX_URL} visible ASCII characters", field="url")
    if not private and is_literal(parts.hostname) and not is_public(parts.hostname):
        raise InvalidInput(f"{parts.hostname} is not a public address", field="url")
    return url


def is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether it is somebody's on the internet, and cannot be a way into our own network."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and (found.sixtofour or found.teredo or found in _TRANSLATED):
        return False
    return found.is_global and not found.is_multicast
