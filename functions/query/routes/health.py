"""Whether the function runs, and whether it could answer."""

from __future__ import annotations

from fastapi import APIRouter

from functions.query.routes.access import Wired

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Touches nothing, so that a probe never wakes a sleeping database."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(wired: Wired) -> dict[str, str]:
    """Asks the database; 503 while it does not answer."""
    await wired.database.check()
    return {"status": "ready"}
