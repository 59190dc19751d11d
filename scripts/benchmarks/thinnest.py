"""The thinnest application that does the Redis part of an answer from the cache: what the API is measured against.

It sends the very command the API sends, with names and limits that never change, and passes on what comes back.
"""

from __future__ import annotations

import os
from uuid import UUID

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.adapters.cache.client import connect
from shared.adapters.cache.visits import command
from shared.core.credentials import Limits
from shared.core.visits import Asked, Names
from shared.settings import QuerySettings

_key, _tenant, _answer = os.environ["RAGZERO_BENCH"].split(" ")
_names = Names.of(_key, UUID(_tenant))
_limits = Limits(1e6, 1_000_000, 1e6, 1_000_000, 1_000)
_asked = Asked(_answer, "rz:-")
_cache = connect(QuerySettings.load())


async def query(request: Request) -> Response:
    assert _cache is not None
    await request.body()
    reply = await _cache.run("visit", *command(_names, _limits, _asked, None))
    return Response(reply[4], media_type="application/json")


app = Starlette(routes=[Route("/v1/query", query, methods=["POST"])])
