"""The API's description, as programs are made from it: prints it, or with --write keeps it in tests/contract/openapi.json."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from functions.query.app import create_app
from shared.settings import QuerySettings

SNAPSHOT = Path(__file__).resolve().parents[1] / "tests" / "contract" / "openapi.json"


def document() -> dict[str, Any]:
    """Of an installation with nothing but defaults; nothing is connected to."""
    settings = QuerySettings.load(
        database_url="postgresql://nobody", bucket="none", pepper="x" * 16, model_dir=Path(".")
    )
    return create_app(settings, lazy=True).openapi()


def text() -> str:
    return json.dumps(document(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="a change of the API that is meant")
    if parser.parse_args().write:
        SNAPSHOT.write_text(text())
    else:
        print(text(), end="")


if __name__ == "__main__":
    main()
