"""What is kept where others might write: bytes under a message authentication code, bound to the name they lie under.

A value that was changed, moved to another name, written by somebody without the pepper, or by code with another layout
is no value at all.
"""

from __future__ import annotations

import hashlib
import hmac

_LAYOUT = b"\x01"
_MAC_BYTES = 16


class Sealer:
    def __init__(self, pepper: str) -> None:
        self._key = hmac.digest(pepper.encode(), b"cache entries", hashlib.sha256)

    def seal(self, name: str, payload: bytes) -> bytes:
        return _LAYOUT + self._mac(name, payload) + payload

    def open(self, name: str, sealed: bytes) -> bytes | None:
        """The payload, or None when this was not sealed under that name."""
        mac, payload = sealed[1 : 1 + _MAC_BYTES], sealed[1 + _MAC_BYTES :]
        if sealed[:1] != _LAYOUT or not hmac.compare_digest(mac, self._mac(name, payload)):
            return None
        return payload

    def _mac(self, name: str, payload: bytes) -> bytes:
        return hmac.digest(self._key, len(name).to_bytes(4) + name.encode() + payload, hashlib.sha256)[
            :_MAC_BYTES
        ]
