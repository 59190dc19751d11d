"""The part of a package that seldom changes, its distributions and its model: made once and kept by what went in."""

from __future__ import annotations

import fcntl
import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from scripts.packaging import recipes
from scripts.packaging.archive import add_tree
from scripts.packaging.recipes import PYTHON, RECIPES, Architecture, Recipe
from scripts.packaging.toolchain import ROOT, compile_bytecode, install, interpreter
from shared.adapters.onnx_embedder import MANIFEST, MODEL_FILES, TOKENIZER
from shared.core.errors import ConfigurationError

MODEL = ROOT / ".local" / "models" / "all-MiniLM-L6-v2"
_MODEL_PARTS = (MANIFEST, MODEL_FILES["fp32"], TOKENIZER)


@dataclass(frozen=True)
class Target:
    """What a package is made for, and the folder of the model that goes into it."""

    arch: Architecture
    python: str = PYTHON
    model: Path = MODEL


def here(model: Path = MODEL) -> Target:
    """What this machine can run: its processor, and Lambda's Python, or our own where that is not installed."""
    arch = cast(Architecture, {"aarch64": "arm64"}.get(platform.machine(), platform.machine()))
    try:
        interpreter(PYTHON)
    except ConfigurationError:
        return Target(arch, f"{sys.version_info.major}.{sys.version_info.minor}", model)
    return Target(arch, PYTHON, model)


def layer(name: str, target: Target, cache: Path) -> Path:
    """A zip of what the function's own code stands on. Replaces one that is out of date."""
    recipe = RECIPES[name]
    cache.mkdir(parents=True, exist_ok=True)
    pins = wanted(recipe)
    parts = _model_parts(target.model) if recipe.model else []
    place = f"{name}-{target.arch}-{target.python}"
    with _alone(cache / f"{place}.lock"):
        kept = cache / f"{place}-{_key(recipe, target, pins, parts)}.zip"
        if not kept.exists():
            _remove(cache.glob(f"{place}-*.zip"))
            _make(kept, recipe, target, pins, parts)
    return kept


def wanted(recipe: Recipe) -> str:
    """The function's pins, with their hashes, less those it does without."""
    lines = (ROOT / "functions" / recipe.folder / "requirements.txt").read_text()
    pins = [pin for pin in re.split(r"(?m)^(?=\w)", lines) if not pin.startswith("#")]
    return "".join(pin for pin in pins if re.split("[^a-z0-9-]", pin)[0] not in recipe.without)


def _model_parts(folder: Path) -> list[Path]:
    parts = [folder / name for name in _MODEL_PARTS]
    for part in parts:
        if not part.exists():
            raise ConfigurationError("--model", f"{part} is missing; scripts/build-model makes it")
    return parts


def _key(recipe: Recipe, target: Target, pins: str, parts: Iterable[Path]) -> str:
    """Of everything that decides what is in the layer, the code that makes it included."""
    compiler = subprocess.run([interpreter(target.python), "-VV"], capture_output=True, check=True).stdout
    seen = hashlib.sha256(f"{recipe.aws} {pins}".encode() + compiler)
    for path in (*sorted(Path(__file__).parent.glob("*.py")), *parts):
        with path.open("rb") as file:
            seen.update(hashlib.file_digest(file, "sha256").digest())
    return seen.hexdigest()[:16]


def _make(kept: Path, recipe: Recipe, target: Target, pins: str, parts: Iterable[Path]) -> None:
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix="making-") as scratch:
        requirements, tree, made = (Path(scratch) / name for name in ("requirements.txt", "tree", "made.zip"))
        requirements.write_text(pins)
        install(requirements, tree, target.arch, target.python)
        prune(tree, recipe.aws)
        compile_bytecode(tree, target.python)
        for part in parts:
            (tree / "model").mkdir(exist_ok=True)
            shutil.copyfile(part, tree / "model" / part.name)
        add_tree(made, tree, "w")
        made.rename(kept)


def prune(tree: Path, services: Iterable[str]) -> None:
    """Takes out what no function needs, and the descriptions of AWS's services but those named."""
    for pattern in recipes.UNUSED:
        _remove(tree.glob(pattern))
    _remove(path for path in tree.rglob("*") if _unused(path))
    described = (path for path in (tree / "botocore" / "data").iterdir() if path.is_dir())
    _remove(path for path in described if path.name not in services)
    asked_for = {path for pattern in recipes.DESCRIBED for path in tree.glob(pattern)}
    _remove(set(tree.glob("*.dist-info")) - asked_for)
    _remove(
        path for folder in asked_for for path in folder.iterdir() if path.name not in recipes.DESCRIPTIONS
    )


def _unused(path: Path) -> bool:
    if path.is_dir():
        return path.name in recipes.UNUSED_FOLDERS or path.name.startswith(".")
    return path.suffix in recipes.UNUSED_SUFFIXES or path.name.startswith(".")


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Others who want the same layer wait until it is there."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
