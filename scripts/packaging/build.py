"""A package: its layer, and behind it the code."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scripts.packaging.archive import add_tree
from scripts.packaging.layers import Target, layer
from scripts.packaging.recipes import DIRECT_MB, MB, RECIPES, Recipe
from scripts.packaging.toolchain import ROOT, compile_bytecode

BUILDS = ROOT / ".local" / "build"
_NOT_CODE = ("__pycache__", "*.pyc", "Dockerfile*", "requirements.txt", "*.sh", ".*")


@dataclass(frozen=True)
class Package:
    """zipped and unzipped in bytes."""

    name: str
    path: Path
    zipped: int
    unzipped: int
    sha256: str

    @property
    def budget(self) -> int:
        return RECIPES[self.name].budget_mb * MB

    @property
    def through_bucket(self) -> bool:
        """Too large to be handed to Lambda directly."""
        return self.zipped > DIRECT_MB * MB


def build(name: str, target: Target, out: Path, *, cache: Path = BUILDS / "layers") -> Package:
    """out/<name>.zip. Takes seconds once the function's layer is in the cache."""
    base = layer(name, target, cache)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix="making-") as scratch:
        tree, made = Path(scratch) / "tree", Path(scratch) / "made.zip"
        _copy_code(RECIPES[name], tree)
        compile_bytecode(tree, target.python)
        shutil.copyfile(base, made)
        add_tree(made, tree, "a")
        made.rename(out / f"{name}.zip")
    return measure(out / f"{name}.zip")


def build_all(names: Iterable[str], target: Target, out: Path) -> list[Package]:
    """Several at once: most of the time goes into compressing, which a thread does on a core of its own."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda name: build(name, target, out), names))


def measure(path: Path) -> Package:
    with zipfile.ZipFile(path) as archive:
        unzipped = sum(entry.file_size for entry in archive.infolist())
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Package(path.stem, path, path.stat().st_size, unzipped, sha256)


def table(packages: Sequence[Package]) -> str:
    lines = [f"{'':14}{'zip':>9}{'unzipped':>11}{'budget':>9}  upload    sha256"]
    for each in packages:
        sizes = f"{each.zipped / MB:6.1f} MB{each.unzipped / MB:8.1f} MB{each.budget / MB:6.0f} MB"
        way = "S3" if each.through_bucket else "direct"
        lines.append(f"{each.name:14}{sizes}  {way:8}  {each.sha256}")
    return "\n".join(lines)


def _copy_code(recipe: Recipe, tree: Path) -> None:
    ignore = shutil.ignore_patterns(*_NOT_CODE)
    function = Path("functions") / recipe.folder
    for folder in (function, Path("shared")):
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignore)
    shutil.rmtree(tree / "shared" / "client")  # a distribution of its own, which no function needs
    shutil.copyfile(ROOT / "functions" / "__init__.py", tree / "functions" / "__init__.py")
    if recipe.start is not None:
        shutil.copy(ROOT / function / recipe.start, tree / recipe.start)
