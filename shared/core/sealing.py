"""What is kept where others might write: a text under a message authentication code, bound to the name it lies under.

A value that was changed, moved to another name, written by somebody without the pepper, or by code with another layout
is no value at all. Sealed values are UTF-8, so that they pass through JSON unharmed.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode

_LAYOUT = b"1"
_MAC_CHARACTERS = 24  # 18 bytes, 144 bits


class Sealer:
    def __init__(self, pepper: str) -> None:
        self._key = hmac.digest(pepper.encode(), b"cache entries", hashlib.sha256)

    def seal(self, name: str, payload: bytes) -> bytes:
        """payload: UTF-8."""
        return _LAYOUT + self._mac(name, payload) + payload

    def open(self, name: str, sealed: bytes) -> bytes | None:
        """The payload, or None when this was not sealed under that name."""
        mac, payload = sealed[1 : 1 + _MAC_CHARACTERS], sealed[1 + _MAC_CHARACTERS :]
        if sealed[:1] != _LAYOUT or not hmac.compare_digest(mac, self._mac(name, payload)):
            return None
        return payload

    def _mac(self, name: str, payload: bytes) -> bytes:
        encoded = name.encode()
        bound = len(encoded).to_bytes(4, "big") + encoded + payload
        return urlsafe_b64encode(hmac.digest(self._key, bound, hashlib.sha256)[:18])
