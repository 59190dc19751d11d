"""From one cut of a collection to another, with --collection: plan, apply, evaluate, promote; rollback; reclaim.

All of it is asked of the API with RAGZERO_ADMIN_KEY, for collections of that key's tenant. `apply` has ingest make what is
lacking, in its own time; questions are answered from the collection as it is until `promote`.
"""

from __future__ import annotations

import argparse
from time import monotonic, sleep
from typing import Any

from rich.table import Table

from scripts.rag import Failure, call, console
from shared.client import Ragzero

_CANDIDATES = "/v1/index/candidates"
_PAGE, _RATE = 100, 20.0  # documents, and so many a second
_LOOK_S, _AGAIN_S = 1.0, 120.0


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """What is asked for; what is not named stays."""
    wanted = {name: getattr(given, name) for name in ("chunk_tokens", "overlap_tokens", "language")}
    return {name: value for name, value in wanted.items() if value is not None}


def apply(api: Ragzero, given: argparse.Namespace) -> int:
    """Can be stopped at any time: the next call goes on."""
    made = call(api, "POST", _CANDIDATES, json={"collection": given.collection} | settings(given))
    _say(f"the candidate of {given.collection}: {_settings(made['settings'])}")
    try:
        while _left(found := _seen(api, given.collection)):
            _tell(api, given)
            _wait(api, given.collection, _left(found))
    except KeyboardInterrupt:
        _say("stopped; what is made stays")
        return 1
    _say(f"{found['documents']} documents, {found['chunks']} chunks; it was {found['live_chunks']}")
    if found["unreadable"]:
        _say(f"{found['unreadable']} documents cannot be read like that: it cannot be promoted")
        for one in found["refused"]:
            _say(f"  {one['document_id']}: {one['reason']}")
    _say(f"scripts/rag eval run FILE --candidate {given.collection}, then index promote")
    return 1 if found["unreadable"] else 0


def _tell(api: Ragzero, given: argparse.Namespace) -> None:
    """Page by page, so that ingest has time for what is uploaded, too."""
    rate = given.rate or _RATE
    after, more = None, True
    while more:
        started = monotonic()
        page = {"after": after, "limit": _PAGE}
        told = call(api, "POST", f"{_CANDIDATES}/{given.collection}/build", json=page)
        after, more = told["next"], told["next"] is not None
        if more:
            sleep(max(0.0, told["told"] / rate - (monotonic() - started)))


def _wait(api: Ragzero, name: str, left: int) -> None:
    """Until nothing is left, or nothing has come for so long that it had better be told again."""
    moved = monotonic()
    while left and monotonic() - moved < _AGAIN_S:
        sleep(_LOOK_S)
        now = _left(_seen(api, name))
        if now != left:
            moved, left = monotonic(), now
            console.print(f"{left} documents left ", end="\r", highlight=False)


def _left(found: dict[str, Any]) -> int:
    return int(found["lacking"] - found["unreadable"])


def _seen(api: Ragzero, name: str) -> dict[str, Any]:
    for one in _listed(api):
        if one["collection"] == name:
            return one
    raise Failure(f"the collection {name} has no candidate any more")


def ls(api: Ragzero, _given: argparse.Namespace) -> int:
    columns = ("collection", "state", "settings", "as it is", "documents", "chunks", "lacking", "unreadable")
    table = Table(*columns, box=None)
    for one in _listed(api):
        figures = (str(one[name]) for name in columns[4:])
        told = _settings(one["settings"]), _settings(one["live"])
        table.add_row(one["collection"], one["state"], *told, *figures)
    console.print(table)
    return 0


def promote(api: Ragzero, name: str, body: dict[str, Any]) -> int:
    return _changed(call(api, "POST", f"{_CANDIDATES}/{name}/promote", json=body))


def rollback(api: Ragzero, name: str, reason: str) -> int:
    return _changed(call(api, "POST", f"{_CANDIDATES}/{name}/rollback", json={"reason": reason}))


def reclaim(api: Ragzero, name: str) -> int:
    gone, over = 0, False
    while not over:
        done = call(api, "DELETE", f"{_CANDIDATES}/{name}")
        gone, over = gone + done["documents"], done["status"] == "reclaimed"
    _say(f"the candidate of {name} is gone for good, with the chunks of {gone} documents")
    return 0


def _listed(api: Ragzero) -> list[dict[str, Any]]:
    found: Any = call(api, "GET", _CANDIDATES)
    return list(found)


def _changed(done: dict[str, Any]) -> int:
    _say(f"{done['collection']} is {done['to_settings']} now, it was {done['from_settings']}")
    if done["forced_because"]:
        _say(f"because: {done['forced_because']}")
    return 0


def _settings(one: dict[str, Any]) -> str:
    sizes = f"{one['chunk_tokens']}+{one['overlap_tokens']}" if one["chunk_tokens"] else "usual"
    return f"{sizes}/{one['language']}"


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False)
