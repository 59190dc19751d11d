"""The application as a Lambda function: events of API Gateway (HTTP and REST) and of function URLs, through Mangum."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from mangum import Mangum

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]
# Everything else leaves in base64, which a REST API only undoes where it is told to.
_TEXT = ["text/", "application/json", "application/problem+json", "application/javascript", "image/svg+xml"]


def adapted(app: FastAPI, base_path: str = "/") -> Handler:
    """A handler with one event loop for the life of the process: pools and clients belong to it and are kept."""
    logging.getLogger("mangum").setLevel(logging.WARNING)  # its lines carry whole paths
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    mangum = Mangum(app, lifespan="off", api_gateway_base_path=base_path, text_mime_types=_TEXT)

    def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
        asyncio.set_event_loop(loop)  # Mangum runs each call on the thread's current one
        return mangum(event, context)

    return handle
