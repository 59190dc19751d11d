"""The page in the browser: static files, compressed once, under an address that changes with what they hold."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

from fastapi import APIRouter, Request, Response

from shared.core.errors import NotFound

_FOLDER = Path(__file__).parents[1] / "page"
_START = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FRESH, _FOR_EVER = "no-cache", "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class File:
    plain: bytes
    packed: bytes
    type: str
    etag: str


@dataclass(frozen=True, slots=True)
class Site:
    """version stands in the addresses that the first file names, so that a browser keeps the others for good."""

    version: str
    files: dict[str, File]


@cache
def site(upload_origin: str | None) -> Site:
    found = {path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}
    version = hashlib.sha256(repr(found).encode()).hexdigest()[:16]
    frame = found[_START].replace(b"page/current/", f"page/{version}/".encode())
    found[_START] = frame.replace(b'data-bucket=""', f'data-bucket="{escape(upload_origin or "")}"'.encode())
    return Site(version, {name: _file(name, data) for name, data in found.items()})


def _file(name: str, data: bytes) -> File:
    etag = f'W/"{hashlib.sha256(data).hexdigest()[:24]}"'  # weak: compressed or not, it is the same
    return File(data, gzip.compress(data, mtime=0), _TYPES[Path(name).suffix], etag)


def _policy(upload_origin: str | None) -> str:
    connect = f"connect-src 'self' {upload_origin}" if upload_origin else "connect-src 'self'"
    return "; ".join(
        (
            "default-src 'none'",
            *(f"{kind}-src 'self'" for kind in ("script", "style", "img")),
            connect,
            *(f"{what} 'none'" for what in ("base-uri", "form-action", "frame-ancestors")),
            # what a document says can become text and nothing else: the browser refuses markup made from strings
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


@cache
def router(upload_origin: str | None) -> APIRouter:
    """upload_origin: where the page may send files besides here; the frame names it to the scripts."""
    router = APIRouter(include_in_schema=False)
    policy = _policy(upload_origin)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def start(request: Request) -> Response:
        return _answer(request, site(upload_origin).files[_START], _FRESH, policy)

    @router.api_route("/page/{version}/{name}", methods=["GET", "HEAD"])
    async def file(version: str, name: str, request: Request) -> Response:
        """Of an older or newer version, too, while servers are being replaced; then it is not kept."""
        known = site(upload_origin)
        found = known.files.get(name)
        if found is None or name == _START:
            raise NotFound(f"the page has no file {name[:80]!r}")
        return _answer(request, found, _FOR_EVER if version == known.version else _FRESH, policy)

    return router


def _answer(request: Request, file: File, caching: str, policy: str) -> Response:
    headers = {
        "ETag": file.etag,
        "Cache-Control": caching,
        "Vary": "Accept-Encoding",
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if file.etag in _listed(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    packed = _takes_gzip(request.headers.get("accept-encoding", ""))
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Response(file.packed if packed else file.plain, media_type=file.type, headers=headers)


def _listed(etags: str) -> set[str]:
    return {etag.strip() for etag in etags.split(",")}


def _takes_gzip(accepted: str) -> bool:
    for offer in accepted.lower().split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
