"""A circuit breaker: after enough failures in a row, ask no more for a while, then let one try through."""

from __future__ import annotations


class Breaker:
    """Times are seconds on any one clock that never goes back; the caller passes them in.

    Closed until `threshold` failures in a row; then open for `cooldown_s`; then half-open: one probe at a
    time may pass. Its success closes the breaker, its failure opens it again, and a probe that never reports
    is forgotten after another `cooldown_s`.
    """

    def __init__(self, *, threshold: int = 5, cooldown_s: float = 10.0) -> None:
        self._threshold = threshold
        self._cooldown_s = cooldown_s
        self._failures = 0
        self._next_probe_at: float | None = None

    @property
    def failures(self) -> int:
        """Failures in a row so far."""
        return self._failures

    @property
    def is_open(self) -> bool:
        """Whether calls are held back, but for one probe at a time."""
        return self._next_probe_at is not None

    def wait_s(self, now: float) -> float:
        """Seconds until a call may pass; 0 lets this caller through (as the probe, when half-open)."""
        if self._next_probe_at is None:
            return 0.0
        if now < self._next_probe_at:
            return self._next_probe_at - now
        self._next_probe_at = now + self._cooldown_s
        return 0.0

    def succeeded(self) -> None:
        self._failures = 0
        self._next_probe_at = None

    def failed(self, now: float) -> None:
        self._failures += 1
        if self._failures >= self._threshold:
            self._next_probe_at = now + self._cooldown_s
