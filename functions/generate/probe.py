"""Asks a deployed generator whether it is well, as its callers would."""

from __future__ import annotations

import httpx

from shared.core.errors import Unavailable
from shared.settings import GenerateProbeSettings


def _headers(settings: GenerateProbeSettings) -> dict[str, str]:
    named = {"Modal-Key": settings.modal_key, "Modal-Secret": settings.modal_secret}
    given = {name: value.get_secret_value() for name, value in named.items() if value}
    return {"Authorization": f"Bearer {settings.api_key.get_secret_value()}", **given}


def probe(url: str) -> str:
    """One line of good news; Unavailable with the reason otherwise."""
    settings = GenerateProbeSettings.load()
    with httpx.Client(
        base_url=url, headers=_headers(settings), timeout=settings.timeout_s, follow_redirects=True
    ) as client:
        try:
            answer = client.get("/v1/models")
        except httpx.TransportError as error:
            raise Unavailable("generator", f"{url} did not answer ({type(error).__name__})") from error
    if not answer.is_success:
        raise Unavailable("generator", f"{url} answers with status {answer.status_code}: {answer.text[:200]}")
    models = ", ".join(model["id"] for model in answer.json()["data"])
    return f"{url} serves {models} (answered in {answer.elapsed.total_seconds():.1f} s)"
