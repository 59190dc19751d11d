"""Numbers for the people who run this; admin keys only."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from functions.query.exchanges import Load
from functions.query.monitoring import Performance, PoolStatus, performance, pool_status, set_gauges
from functions.query.routes.access import Operator, Wired
from shared.telemetry import metrics

router = APIRouter(tags=["operations"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def prometheus(_who: Operator, request: Request, wired: Wired) -> Response:
    """In the Prometheus text format; of this process alone."""
    set_gauges(wired.database, wired.watched, _load(request))
    content, media_type = metrics.text()
    return Response(content, media_type=media_type)


@router.get("/monitoring/pool-status")
async def pools(_who: Operator, request: Request, wired: Wired) -> PoolStatus:
    """Connections, breakers, and what is being answered now."""
    return pool_status(wired.database, wired.watched, _load(request))


@router.get("/monitoring/performance-metrics")
async def speed(_who: Operator) -> Performance:
    """How fast routes and stages were in the last minutes, and how often a cache or a warm model could answer."""
    return performance(metrics.recent())


def _load(request: Request) -> Load:
    load = request.app.state.load
    assert isinstance(load, Load)
    return load
