"""A local ragzero of its own for one measurement, gone afterwards."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from scripts.local.stack import ROOT, Stack

MODEL = ROOT / ".local" / "models" / "all-MiniLM-L6-v2"


@contextlib.contextmanager
def stack(
    *, generate: str | None = None, rest: bool = False, variables: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """generate, rest: as for Stack. variables: for the functions, besides what local mode gives them."""
    with tempfile.TemporaryDirectory(prefix="ragzero-bench-") as folder:
        Path(folder).chmod(0o711)
        made = Stack(Path(folder), MODEL, _say, generate, rest=rest, tethered=True)
        made.variables |= variables or {}
        try:
            made.start()
            yield made
        finally:
            made.stop()


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def client(stack: Stack) -> httpx.Client:
    headers = {"Authorization": f"Bearer {stack.secrets.api_key}"}
    return httpx.Client(base_url=stack.api.url, headers=headers, timeout=60)


def wait_until_searchable(api: httpx.Client, count: int, patience_s: float) -> None:
    """Every answer costs the system under test something, too: usually it is asked for one number."""
    deadline = time.monotonic() + patience_s
    for asked in itertools.count():
        if _visible(api) >= count and not _any(api, "pending") and not _any(api, "processing"):
            return
        if asked % 16 == 0 and (failed := _any(api, "failed")):
            raise SystemExit(f"{failed[0]['uri']} failed: {failed[0]['reason']}")
        if time.monotonic() > deadline:
            break
        time.sleep(0.3 if count > 100 else 0.02)
    raise SystemExit(f"not all of {count} documents were searchable after {patience_s} s")


def _visible(api: httpx.Client) -> int:
    """Documents that are searchable, in whatever collection."""
    page = api.get("/v1/collections").raise_for_status().json()
    return sum(collection["documents"] for collection in page["items"])


def _any(api: httpx.Client, status: str) -> list[dict[str, Any]]:
    """One document in that state, if there is one: cheap enough to ask often."""
    page = api.get("/v1/documents", params={"limit": 1, "status": status}).raise_for_status().json()
    found: list[dict[str, Any]] = page["items"]
    return found


def documents(api: httpx.Client, status: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params: dict[str, str | int] = {"limit": 200, "status": status}
        page = api.get("/v1/documents", params=params | ({"cursor": cursor} if cursor else {}))
        body = page.raise_for_status().json()
        found += body["items"]
        cursor = body["next_cursor"]
        if cursor is None:
            return found


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


def report(**figures: Any) -> None:
    print(json.dumps(figures, indent=2))
