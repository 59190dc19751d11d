"""What can go wrong, as one tree.

RagzeroError
├── ApiError        the API refused, and says why     (status, type, detail, problem, retry_after)
├── Unreachable     nobody answered, time after time
├── StreamBroken    an answer ended before its end
└── UploadFailed    the bucket did not take a file    (name)
"""

from __future__ import annotations

from typing import Any


class RagzeroError(Exception):
    """Something went wrong between here and ragzero."""


class ApiError(RagzeroError):
    """problem: the RFC 9457 document; type is the last part of its own, such as `not-found`."""

    def __init__(self, status: int, problem: dict[str, Any], retry_after: float | None = None) -> None:
        self.status = status
        self.problem = problem
        self.type = str(problem.get("type", "")).rpartition("/")[2]
        self.detail = str(problem.get("detail", ""))
        self.retry_after = retry_after
        super().__init__(f"{status}: {self.detail}" if self.detail else f"the API answered with {status}")


class Unreachable(RagzeroError):
    """The API cannot be reached."""


class StreamBroken(RagzeroError):
    """The stream ended before the answer did."""


class UploadFailed(RagzeroError):
    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"{name}: {reason}")
