"""The API's reference as a page. Its scripts come from where FastAPI takes them, and from nowhere else."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache

from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_swagger_ui_html

_CDN = "https://cdn.jsdelivr.net"


@cache
def router(title: str) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    page = get_swagger_ui_html(openapi_url="openapi.json", title=title).body
    headers = {"Content-Security-Policy": _policy(bytes(page).decode())}

    @routes.get("/docs")
    async def reference() -> Response:
        return Response(page, media_type="text/html", headers=headers)

    return routes


def _policy(page: str) -> str:
    inline = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in inline]
    scripts = " ".join([_CDN, *(f"'sha256-{digest}'" for digest in hashes)])
    return (
        f"default-src 'none'; script-src {scripts}; style-src {_CDN} 'unsafe-inline'; "
        "img-src data: https://fastapi.tiangolo.com; connect-src 'self'; frame-ancestors 'none'"
    )
