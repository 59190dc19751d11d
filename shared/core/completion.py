"""A chat completion as it is written: its events, its price, its chunks in OpenAI's streaming format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Waking:
    """The server has not taken the request yet; waited_s counts from the start of the request."""

    waited_s: float


@dataclass(frozen=True, slots=True)
class Token:
    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """As counted by the server; missing when the server does not count."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The whole answer arrived. Seconds count from the start of the request.

    waited_s passed before the server took the request, first_token_s is None for an empty answer, and
    cost (USD) is None when no price, or a price by tokens and no count of them, is known.
    """

    reason: str
    waited_s: float
    first_token_s: float | None
    total_s: float
    cost: float | None


GenerationEvent = Waking | Token | Usage | Finish


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per million tokens, and per second of a GPU of one's own."""

    prompt: float = 0.0
    completion: float = 0.0
    gpu_second: float = 0.0

    def cost(self, usage: Usage | None, seconds: float) -> float | None:
        if usage is None and (self.prompt or self.completion):
            return None
        counted = usage or Usage(0, 0)
        tokens = counted.prompt_tokens * self.prompt + counted.completion_tokens * self.completion
        return tokens / 1e6 + seconds * self.gpu_second


@dataclass(frozen=True, slots=True)
class Chunk:
    text: str
    reason: str | None
    usage: Usage | None


def parse_chunk(data: str) -> Chunk:
    """Raises ValueError, saying what was wrong, for garbage and for an error that the server reports."""
    chunk = _loaded(data)
    if "error" in chunk:
        raise ValueError(f"broke off: {describe_error(chunk)[0]}")
    choice = _first_choice(chunk)
    reason = choice.get("finish_reason")
    return Chunk(_text(choice), reason if isinstance(reason, str) else None, _usage(chunk))


def describe_error(answer: Any) -> tuple[str, str]:
    """(message, the parameter or else the code it is about) of an error object in any of its usual shapes."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(error, dict):
        return str(error)[:300], ""
    about = error["param"] if error.get("param") in ("model", "max_tokens") else error.get("code")
    return str(error.get("message") or error.get("detail") or error)[:300], str(about or "")


def _loaded(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except ValueError:
        chunk = None
    if not isinstance(chunk, dict):
        raise ValueError(f"sent garbage: {data[:80]!r} is no JSON object")
    return chunk


def _first_choice(chunk: dict[str, Any]) -> dict[str, Any]:
    choices = chunk.get("choices") or [{}]
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise ValueError(f"sent garbage: choices is {str(choices)[:80]!r}")
    return choices[0]


def _text(choice: dict[str, Any]) -> str:
    delta = choice.get("delta")
    text = (delta.get("content") if isinstance(delta, dict) else None) or ""
    if not isinstance(text, str):
        raise ValueError(f"sent garbage: content is {str(text)[:80]!r}")
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be sent on


def _usage(chunk: dict[str, Any]) -> Usage | None:
    usage = chunk.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Usage(prompt, completion) if isinstance(prompt, int) and isinstance(completion, int) else None
