"""What the app says of itself: the rest gateway takes its routes from it."""

from __future__ import annotations

import json
from pathlib import Path


def write_openapi(path: Path) -> Path:
    from functions.query.app import create_app  # heavy: loaded when first used
    from shared.settings import QuerySettings

    nobody = {"database_url": "postgresql://nobody", "bucket": "none", "pepper": "x" * 16, "model_dir": "."}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(create_app(QuerySettings.load(**nobody)).openapi()))
    return path
