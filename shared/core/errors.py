"""What can go wrong, as one tree.

RagzeroError
├── InvalidInput             the caller sent something we refuse       (field, value, limit)
│   ├── PromptTooLong        the question does not fit the model
│   └── TooLarge             the request has too many bytes
├── NotFound                 no such thing, or not yours
├── Gone                     it was there, and is no longer true
├── Unauthorized             no key, or a wrong one
├── Forbidden                the key lacks the scope
├── Conflict                 the thing changed meanwhile
├── TooMany                  a limit was reached                       (retry_after)
├── UnreadableDocument       this file will never become text          (code, detail)
├── ConfigurationError       a setting is missing or wrong             (setting)
├── SpaceMismatch            an encoder is not the one the index uses
├── SpaceChanged             another space has become the active one   retryable
├── LeaseLost                another worker owns this now
├── OutcomeUnknown           the connection broke while committing     retryable
└── Unavailable              something outside did not answer          retryable (dependency, retry_after)
    ├── DeadlineExceeded     we ran out of the caller's time
    ├── Busy                 no capacity right now
    └── BadUpstream          it answered with something unusable
"""

from __future__ import annotations


class RagzeroError(Exception):
    """Something went wrong in ragzero."""

    retryable: bool = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class InvalidInput(RagzeroError):
    """The request contains a value that is not accepted."""

    def __init__(self, message: str | None = None, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class PromptTooLong(InvalidInput):
    """The prompt is longer than the model takes."""


class TooLarge(InvalidInput):
    """The request is larger than is accepted."""


class NotFound(RagzeroError):
    """There is no such thing."""


class Gone(RagzeroError):
    """It was there, and no longer holds."""


class Unauthorized(RagzeroError):
    """A valid API key is required."""


class Forbidden(RagzeroError):
    """This API key may not do that."""


class Conflict(RagzeroError):
    """The thing was changed by somebody else meanwhile."""


class TooMany(RagzeroError):
    """A limit was reached."""

    def __init__(self, message: str | None = None, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnreadableDocument(RagzeroError):
    """The file cannot be turned into text."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class ConfigurationError(RagzeroError):
    """A setting is missing or wrong."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


class SpaceMismatch(RagzeroError):
    """The encoder does not produce the vectors of the index's embedding space."""


class SpaceChanged(RagzeroError):
    """Another embedding space has become the active one; the work has to be done with its vectors."""

    retryable = True


class LeaseLost(RagzeroError):
    """Another worker owns this work now."""


class OutcomeUnknown(RagzeroError):
    """The connection broke while committing; the outcome has to be read back."""

    retryable = True


class Unavailable(RagzeroError):
    """A service ragzero depends on did not answer."""

    retryable = True

    def __init__(self, dependency: str, message: str | None = None, *, retry_after: float = 5.0) -> None:
        super().__init__(message or f"{dependency} did not answer")
        self.dependency = dependency
        self.retry_after = retry_after


class DeadlineExceeded(Unavailable):
    """There was not enough time left."""


class Busy(Unavailable):
    """There is no capacity right now."""


class BadUpstream(Unavailable):
    """A service ragzero depends on answered with something unusable."""
