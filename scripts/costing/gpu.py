"""What infra/modal says of itself: what is kept warm, and how long something that was woken goes on costing."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from scripts.costing.prices import ROOT, SECONDS, usd
from scripts.costing.resources import Charge

_CORES, _GIB = 0.125, 0.25
"""The least that Modal gives, and takes money for, a container that asks for nothing."""
# What is deployed matters to no price, but the definitions ask for it.
_UNNAMED = {
    "RAGZERO_EMBED_MODEL": "any/model",
    "RAGZERO_EMBED_REVISION": "0" * 40,
    "RAGZERO_GENERATE_MODEL": "any/model",
    "RAGZERO_GENERATE_REVISION": "0" * 40,
    "RAGZERO_MODEL_DIR": str(ROOT),
}


@dataclass(frozen=True)
class Container:
    """One kind of container of a Modal app: gpu None is the CPU alone."""

    name: str
    gpu: str | None
    min_containers: int
    max_containers: int
    scaledown_window: float

    @property
    def usd_a_second(self) -> float:
        gpu = usd(f"modal_gpu_second_{self.gpu}") if self.gpu else 0.0
        return gpu + _CORES * usd("modal_cpu_core_second") + _GIB * usd("modal_memory_gib_second")

    @property
    def tail_usd(self) -> float:
        """What waking one costs beyond its work."""
        return self.usd_a_second * self.scaledown_window


def containers(environment: str) -> list[Container]:
    """Of all definitions, deployed to that environment."""
    return [
        each for file in sorted((ROOT / "infra" / "modal").glob("*.py")) for each in _read(file, environment)
    ]


def charges(found: list[Container]) -> list[Charge]:
    """What is kept warm, and the tail of each waking, which nobody pays who does not ask."""
    return [
        Charge(
            f"modal: {each.name}",
            "always on" if each.min_containers else "asleep",
            each.min_containers * each.usd_a_second * SECONDS,
            f"{each.min_containers} warm; stays {each.scaledown_window:g} s after its work, for {each.tail_usd:.4f} USD",
        )
        for each in found
    ]


def _read(file: Path, environment: str) -> Iterator[Container]:
    import modal  # heavy: loaded when first used

    told: list[Mapping[str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(
            patch.dict(os.environ, {**_UNNAMED, **os.environ, "MODAL_ENVIRONMENT": environment})
        )
        for kind in ("cls", "function"):
            stack.enter_context(patch.object(modal.App, kind, _recording(getattr(modal.App, kind), told)))
        spec = importlib.util.spec_from_file_location(f"priced_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    for scaling in told:
        gpu = scaling.get("gpu")
        yield Container(
            f"{file.stem}, on {gpu or 'a CPU'}",
            gpu,
            scaling.get("min_containers") or 0,
            scaling["max_containers"],
            scaling["scaledown_window"],
        )


def _recording(original: Callable[..., Any], told: list[Mapping[str, Any]]) -> Callable[..., Any]:
    def decorate(app: Any, **scaling: Any) -> Any:
        told.append(scaling)
        return original(app, **scaling)

    return decorate
