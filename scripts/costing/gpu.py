"""What infra/modal says of itself: what is kept warm, and how long something that was woken goes on costing."""

from __future__ import annotations

import ast
import os
import runpy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.costing.prices import ROOT, SECONDS, usd
from scripts.costing.resources import Charge

_CORES, _GIB = 0.125, 0.25
"""The least that Modal gives, and takes money for, a container that asks for nothing."""
_PRICED = ("gpu", "min_containers", "max_containers", "scaledown_window")
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
    with _environment({**_UNNAMED, **os.environ, "MODAL_ENVIRONMENT": environment}):
        names = runpy.run_path(str(file), run_name=f"priced_{file.stem}")
    for asked in _registered(ast.parse(file.read_text())):
        told = {word.arg: word.value for word in asked.keywords}
        scaling = {name: _value(told[name], names, file) for name in _PRICED if name in told}
        gpu = scaling.get("gpu")
        yield Container(
            f"{file.stem}, on {gpu or 'a CPU'}",
            gpu,
            scaling.get("min_containers", 0),
            scaling["max_containers"],
            scaling["scaledown_window"],
        )


def _registered(definition: ast.Module) -> Iterator[ast.Call]:
    """What stands as app.cls(...) or app.function(...) over its classes and functions."""
    for node in definition.body:
        for decorator in getattr(node, "decorator_list", ()):
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in ("app.cls", "app.function"):
                yield decorator


def _value(expression: ast.expr, names: Mapping[str, Any], file: Path) -> Any:
    """Of an expression of the definition, with what the definition itself calls things."""
    code = compile(ast.Expression(expression), file, "eval")
    return eval(code, dict(names))  # noqa: S307 - the file is ours, and was run just before


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
