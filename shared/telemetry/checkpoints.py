"""Points in the work that have a name, so that the fault tests can stop and kill workers there."""

from __future__ import annotations

from collections.abc import Callable

_hook: Callable[[str], None] | None = None


def set_checkpoint_hook(hook: Callable[[str], None] | None) -> None:
    """Have hook called at every checkpoint."""
    global _hook
    _hook = hook


def checkpoint(name: str) -> None:
    if _hook is not None:
        _hook(name)
