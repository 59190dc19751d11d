"""What the app says of itself: the rest gateway takes its routes from it."""

from __future__ import annotations

import json
from pathlib import Path

_REST_OF_PATH = ":path}"


def write_openapi(path: Path) -> Path:
    """A parameter that takes the rest of the path, slashes too, is {name+} in there, as API Gateway writes it."""
    from functions.query.app import create_app  # heavy: loaded when first used
    from shared.settings import QuerySettings

    nobody = {"database_url": "postgresql://nobody", "bucket": "none", "pepper": "x" * 16, "model_dir": "."}
    told, greedy = create_app(QuerySettings.load(**nobody)).openapi(), _greedy()
    told["paths"] = {greedy.get(name, name): item for name, item in told["paths"].items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told))
    return path


def _greedy() -> dict[str, str]:
    """By how OpenAPI writes it, which knows no such parameters."""
    from fastapi.routing import APIRoute  # heavy: loaded when first used

    from functions.query.routers import others

    routes = [route for router in others(most_upload=1) for route in router.routes]
    return {
        route.path_format: route.path.replace(_REST_OF_PATH, "+}")
        for route in routes
        if isinstance(route, APIRoute) and _REST_OF_PATH in route.path
    }
