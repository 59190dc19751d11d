"""Asks a deployed embedding job's door whether it is open, as its callers would. Wakes no GPU."""

from __future__ import annotations

import urllib.error
import urllib.request

from shared.core.errors import Unavailable
from shared.settings import WakeProbeSettings

_UNDERSTOOD = 422  # our key was taken, and no container asked for


def probe(url: str) -> str:
    """One line of good news; Unavailable with the reason otherwise."""
    settings = WakeProbeSettings.load()
    token = {"Modal-Key": settings.modal_key, "Modal-Secret": settings.modal_secret}
    headers = {name: value.get_secret_value() for name, value in token.items() if value}
    headers["Authorization"] = f"Bearer {settings.key.get_secret_value()}"
    request = urllib.request.Request(f"{url}/wake", b"{}", headers, method="POST")  # noqa: S310 - our own URL
    status = _status(request, settings.timeout_s)
    if status != _UNDERSTOOD:
        raise Unavailable("embedding job", f"{url} answers a knock without a number with status {status}")
    return f"{url} is open and takes the key"


def _status(request: urllib.request.Request, timeout: float) -> int:
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - our own URL
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError as error:
        raise Unavailable("embedding job", f"{request.full_url} did not answer: {error}") from error
