"""Whether the function could answer."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from functions.query import problems
from functions.query.monitoring import dependencies
from functions.query.routes.access import Wired
from shared.core.errors import Unavailable

router = APIRouter(tags=["health"])


class Ready(BaseModel):
    """degraded: answers come, but something that makes them fast or fluent is away."""

    status: Literal["ready", "degraded"]
    dependencies: dict[str, Literal["ok", "degraded"]]


@router.get("/readyz", response_model=Ready)
async def readyz(wired: Wired) -> Response:
    """Asks the database; 503 while it does not answer. What else there is only degrades answers."""
    others = dependencies(wired.watched)
    try:
        await wired.database.check()
    except Unavailable as error:
        states = {"database": "unavailable", **others}
        wait = {"Retry-After": f"{error.retry_after:.0f}"}
        return problems.problem(503, "unavailable", str(error), headers=wait, dependencies=states)
    status = "degraded" if "degraded" in others.values() else "ready"
    return JSONResponse({"status": status, "dependencies": {"database": "ok", **others}})
