"""Starts the twin, shows it a few documents and asks it a question: python -m scripts.local.twin_up [--down]."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from scripts.local.demo import show
from scripts.local.twin import Twin
from scripts.local.up import DEFAULT_MODEL
from scripts.local.up import FOLDER as LOCAL
from shared.core.errors import RagzeroError

FOLDER = LOCAL / "twin"
_GENERATOR = ("RAGZERO_GENERATOR_URL", "RAGZERO_GENERATOR_API_KEY", "RAGZERO_GENERATOR_MODEL")


def up(model_dir: Path) -> None:
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"  {time.monotonic() - began:4.0f} s  {line}", flush=True)

    generator = {name: os.environ[name] for name in _GENERATOR if name in os.environ}
    twin = Twin(FOLDER, model_dir, say, parameters=generator)
    twin.start()
    say("ready; a first upload, and a first question")
    show(twin.environment, put_samples=True)
    print(f"""
The twin answers at {twin.url}

  set -a; . {FOLDER}/env; set +a     its address, keys and bucket, for scripts/rag, aws and curl
  scripts/test tests/e2e/test_conformance.py    after that: the same questions that a deployment is asked
  scripts/twin                       again: builds and deploys what changed
  scripts/twin --down                stops it; nothing in it is kept

The functions' logs are {FOLDER}/lambda/*.log.""")


def down(model_dir: Path) -> None:
    Twin(FOLDER, model_dir, print).stop()
    print("the twin is stopped")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/twin", description=__doc__)
    parser.add_argument("--down", action="store_true", help="stop it")
    parser.add_argument("--embedding-model", type=Path, default=DEFAULT_MODEL)
    given = parser.parse_args()
    try:
        (down if given.down else up)(given.embedding_model)
    except RagzeroError as error:
        print(f"twin: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
