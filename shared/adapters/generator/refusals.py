"""What a status that is not a success means for the caller."""

from __future__ import annotations

import json
from typing import Any

from shared.core.completion import describe_error
from shared.core.errors import (
    BadUpstream,
    Busy,
    ConfigurationError,
    InvalidInput,
    PromptTooLong,
    RagzeroError,
)


def refusal(status: int, body: bytes, setting: str) -> RagzeroError:
    """The error to raise; setting is the prefix of the variables that decide URL, API key and model."""
    message, about = _complaint(body)
    return (
        _wrong_setting(status, message, about, setting)
        or _wrong_prompt(status, message, about)
        or _other(status, message)
    )


def _wrong_setting(status: int, message: str, about: str, setting: str) -> RagzeroError | None:
    if status in (401, 403):
        return ConfigurationError(f"{setting}_API_KEY", f"refused by the generator with status {status}")
    if status == 404 and (about == "model" or "model" in message.lower()):
        return ConfigurationError(f"{setting}_MODEL", message)
    if status == 404 or 300 <= status < 400:
        return ConfigurationError(f"{setting}_URL", f"answers with status {status}: {message}")
    if "chat template" in message.lower():
        return ConfigurationError(f"{setting}_MODEL", f"has no chat template: {message}")
    return None


def _wrong_prompt(status: int, message: str, about: str) -> RagzeroError | None:
    if status == 413 or "maximum context length" in message or about == "context_length_exceeded":
        return PromptTooLong(f"The prompt is longer than the model takes: {message}", field="messages")
    if status == 400 and about == "max_tokens":
        return InvalidInput(f"max_tokens is more than the model gives: {message}", field="max_tokens")
    return None


def _other(status: int, message: str) -> RagzeroError:
    if status == 429:
        return Busy("generator", f"generator takes no more requests now: {message}")
    return BadUpstream("generator", f"generator answered with status {status}: {message}")


def _complaint(body: bytes) -> tuple[str, str]:
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return " ".join(body.decode(errors="replace").split())[:200] or "nothing said", ""
    return describe_error(answer)
