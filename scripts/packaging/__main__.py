"""Makes the functions' zips for Lambda and says how large they are; fails when one is over its budget. `client`: its wheel."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.packaging.build import BUILDS, Package, build_all, table
from scripts.packaging.client import build_client
from scripts.packaging.layers import MODEL, Target
from scripts.packaging.recipes import ARCHITECTURES, PYTHON, RECIPES
from shared.core.errors import RagzeroError

CLIENT = "client"


def main(arguments: Sequence[str] | None = None) -> int:
    given = _arguments(arguments)
    try:
        return _client(given) if given.functions == [CLIENT] else _functions(given)
    except RagzeroError as error:
        print(f"build: {error}", file=sys.stderr)
        return 1


def _client(given: argparse.Namespace) -> int:
    print(build_client(given.out or BUILDS / CLIENT))
    return 0


def _functions(given: argparse.Namespace) -> int:
    out = given.out or BUILDS / given.arch
    packages = build_all(given.functions or RECIPES, Target(given.arch, given.python, given.model), out)
    print(f"for Python {given.python} on {given.arch}, in {out}\n{table(packages)}")
    return _refused([each for each in packages if each.unzipped > each.budget])


def _refused(packages: Sequence[Package]) -> int:
    for each in packages:
        print(f"build: {each.name} is over its budget", file=sys.stderr)
    return 1 if packages else 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/build", description=__doc__)
    parser.add_argument(
        "functions", metavar="FUNCTION", nargs="*", help=f"{', '.join(RECIPES)} (default: all); or {CLIENT}"
    )
    parser.add_argument(
        "--arch", choices=ARCHITECTURES, default="arm64", help="the processor (default: %(default)s)"
    )
    parser.add_argument("--python", default=PYTHON, help="the runtime's version (default: %(default)s)")
    parser.add_argument("--model", type=Path, default=MODEL, help="the embedding model's folder")
    parser.add_argument("--out", type=Path, help="where the zips go (default: .local/build/ARCH)")
    given = parser.parse_args(arguments)
    if (unknown := set(given.functions) - set(RECIPES)) and given.functions != [CLIENT]:
        parser.error(f"there is no function {', '.join(sorted(unknown))}; there are {', '.join(RECIPES)}")
    return given


if __name__ == "__main__":
    sys.exit(main())
