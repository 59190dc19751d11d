"""The part of a package that seldom changes, its distributions and its model: made once and kept by what went in."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.packaging import recipes
from scripts.packaging.archive import add_tree
from scripts.packaging.recipes import Architecture, Recipe
from scripts.packaging.toolchain import ROOT, compile_bytecode, install, interpreter
from shared.adapters.onnx_embedder import MANIFEST, MODEL_FILES, TOKENIZER

_MODEL_PARTS = (MANIFEST, MODEL_FILES["fp32"], TOKENIZER)


def layer(recipe: Recipe, arch: Architecture, python: str, model: Path, cache: Path) -> Path:
    """A zip of what the function's own code stands on."""
    cache.mkdir(parents=True, exist_ok=True)
    pins = wanted(recipe)
    parts = [model / name for name in _MODEL_PARTS] if recipe.model else []
    kept = cache / f"{recipe.folder}-{_key(recipe, arch, python, pins, parts)}.zip"
    with _alone(kept):
        if not kept.exists():
            _make(kept, recipe, arch, python, pins, parts)
    return kept


def wanted(recipe: Recipe) -> str:
    """The function's pins, with their hashes, less those it does without."""
    lines = (ROOT / "functions" / recipe.folder / "requirements.txt").read_text()
    pins = [pin for pin in re.split(r"(?m)^(?=\w)", lines) if not pin.startswith("#")]
    return "".join(pin for pin in pins if re.split("[^a-z0-9-]", pin)[0] not in recipe.without)


def _key(recipe: Recipe, arch: Architecture, python: str, pins: str, parts: Iterable[Path]) -> str:
    """Of everything that decides what is in the layer, the code that makes it included."""
    compiler = subprocess.run([interpreter(python), "-VV"], capture_output=True, check=True).stdout
    seen = hashlib.sha256(f"{arch} {recipe.aws} {pins}".encode() + compiler)
    for path in (*sorted(Path(__file__).parent.glob("*.py")), *parts):
        with path.open("rb") as file:
            seen.update(hashlib.file_digest(file, "sha256").digest())
    return seen.hexdigest()[:16]


def _make(
    kept: Path, recipe: Recipe, arch: Architecture, python: str, pins: str, parts: Iterable[Path]
) -> None:
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix="making-") as scratch:
        requirements, tree, made = (Path(scratch) / name for name in ("requirements.txt", "tree", "made.zip"))
        requirements.write_text(pins)
        install(requirements, tree, arch, python)
        prune(tree, recipe.aws)
        compile_bytecode(tree, python)
        (tree / "model").mkdir()
        for part in parts:
            shutil.copyfile(part, tree / "model" / part.name)
        add_tree(made, tree, "w")
        made.rename(kept)


def prune(tree: Path, services: Iterable[str]) -> None:
    """Takes out what no function needs, and the descriptions of AWS's services but those named."""
    for pattern in recipes.UNUSED:
        _remove(tree.glob(pattern))
    _remove(path for path in tree.rglob("*") if _unused(path))
    _remove(
        path for path in (tree / "botocore" / "data").iterdir() if path.is_dir() and path.name not in services
    )
    described = {path for pattern in recipes.DESCRIBED for path in tree.glob(pattern)}
    _remove(set(tree.glob("*.dist-info")) - described)
    for folder in described:
        _remove(path for path in folder.iterdir() if path.name not in recipes.DESCRIPTIONS)


def _unused(path: Path) -> bool:
    return path.name in recipes.UNUSED_FOLDERS if path.is_dir() else path.suffix in recipes.UNUSED_SUFFIXES


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _alone(kept: Path) -> Iterator[None]:
    """Others who want the same layer wait until it is there."""
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
