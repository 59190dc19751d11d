"""The index under the hood: why a document is not searchable, dead letters, sweeps, checks, changes of the model,
and of how collections are cut.

`why`, `requeue` and `reread` take RAGZERO_API_KEY, the rest RAGZERO_ADMIN_KEY; `apply` and `reclaim` DATABASE_ADMIN_URL, too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.table import Table

from scripts import rag_outputs, rag_space
from scripts.rag import Failure, call, connect, console
from shared.client import Ragzero

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_STATES = ("open", "superseded", "unreadable")


def why(api: Ragzero, given: argparse.Namespace) -> int:
    asked = _named(given.document) | ({"labels": given.labels.split(",")} if given.labels else {})
    found = call(api, "GET", "/v1/index/why", params=asked)
    _say(
        f"{found['code']}: {found['explanation']}", style="green" if found["code"] == "searchable" else "bold"
    )
    for name in ("failure", "embedding", "lease", "event", "generation", "object", "labels", "sweep"):
        if found[name]:
            _say(f"  {name}: {_facts(found[name])}", style="dim")
    if found["remedy"]:
        _say(
            f"what helps: {_REMEDIES[found['remedy']].format(document=given.document, sweep=found['sweep'])}"
        )
    return 0 if found["code"] == "searchable" else 2


_REMEDIES = {
    "wait": "wait",
    "requeue": "scripts/rag index requeue {document}",
    "replace": "put a file that can be read, or put it again",
    "confirm_deletes": "put it back, or scripts/rag index confirm-deletes {sweep}",
    "other_key": "ask with a key that has one of these labels",
}


def requeue(api: Ragzero, given: argparse.Namespace) -> int:
    done = call(api, "POST", "/v1/index/requeue", json=_named(given.document))
    _say(f"{done['key']} will be looked at again")
    return 0


def reread(api: Ragzero, given: argparse.Namespace) -> int:
    """Oldest last; each keeps what was made of it until it is published anew, with the vectors of unchanged texts."""
    asked, told = {"limit": 100} | ({"collection": given.collection} if given.collection else {}), 0
    cursor = given.resume
    try:
        while True:
            page = call(api, "GET", "/v1/documents", params=asked | ({"cursor": cursor} if cursor else {}))
            for one in page["items"]:
                started = time.monotonic()
                call(api, "POST", "/v1/index/requeue", json={"document_id": one["id"]})
                time.sleep(max(0.0, 1 / given.rate - (time.monotonic() - started)))
            told, cursor = told + len(page["items"]), page["next_cursor"]
            if cursor is None:
                break
    except KeyboardInterrupt:
        _say(f"stopped; go on with --resume {cursor}" if cursor else "stopped at the first page")
        return 1
    _say(f"{told} documents will be read again")
    return 0


def dead_letters(api: Ragzero, given: argparse.Namespace) -> int:
    asked = {"id": given.id, "prefix": given.prefix, "state": given.state, "limit": given.limit}
    page = call(
        api, "GET", "/v1/index/dead-letters", params={name: value for name, value in asked.items() if value}
    )
    table = Table("id", "sent", "state", "keys", "problem", box=None)
    for one in page["items"]:
        table.add_row(one["id"], one["sent_at"], one["state"], "\n".join(one["keys"]), one["problem"] or "")
    console.print(table)
    for one in page["items"]:
        if one["body"]:
            _say(one["body"])
    if page["more"]:
        _say("there are more", style="dim")
    return 0


def redrive(api: Ragzero, given: argparse.Namespace) -> int:
    return _moved(
        "given to ingest again", lambda: call(api, "POST", _LETTERS + "/redrive", json=_wanted(given))
    )


def discard(api: Ragzero, given: argparse.Namespace) -> int:
    wanted = _wanted(given) | {"reason": given.reason}
    return _moved("discarded", lambda: call(api, "POST", _LETTERS + "/discard", json=wanted))


_LETTERS = "/v1/index/dead-letters"


def _moved(what: str, ask: Callable[[], dict[str, Any]]) -> int:
    """Again and again, until no call ran out of time."""
    total, done = 0, False
    while not done:
        answer = ask()
        total, done = total + answer["moved"], answer["done"]
    _say(f"{total} letters {what}, {answer['kept']} left")
    return 0


def sweeps(api: Ragzero, given: argparse.Namespace) -> int:
    table = Table("sweep", "began", "ended", "counts", "trouble", box=None)
    for one in _listed(api, "/v1/index/sweeps", limit=given.limit):
        ended = one["finished_at"] or ("at it" if one["working"] else "to be continued")
        table.add_row(str(one["id"]), one["started_at"], ended, _facts(one["counts"]), one["error"] or "")
    console.print(table)
    return 0


def confirm_deletes(api: Ragzero, given: argparse.Namespace) -> int:
    done = call(api, "POST", f"/v1/index/sweeps/{given.sweep}/confirm-deletes")
    _say(f"the next sweep has {done['held']} documents deleted, but for those that are there again")
    return 0


def doctor(api: Ragzero, given: argparse.Namespace) -> int:
    health = call(api, "GET", "/v1/index/doctor")
    drifted = rag_outputs.drift(api, given.outputs) if given.outputs else []
    for check in [*health["checks"], *drifted]:
        colour = _COLOURS[check["status"]]
        console.print(f"[{colour}]{check['status']:5}[/]", end="")
        _say(f"{check['name']}: {check['detail']}")
        if check["remedy"]:
            _say(f"       what helps: {check['remedy']}", style="dim")
    return int(health["status"] == "fail" or any(check["status"] == "fail" for check in drifted))


def _named(document: str) -> dict[str, Any]:
    """By id, by s3:// uri or by key."""
    try:
        return {"document_id": str(UUID(document))}
    except ValueError:
        return {"key": document.partition("://")[2].partition("/")[2] if "://" in document else document}


def _wanted(given: argparse.Namespace) -> dict[str, Any]:
    wanted = {"ids": given.id, "prefix": given.prefix, "state": given.state}
    found = {name: value for name, value in wanted.items() if value}
    if not found and not given.all:
        raise Failure("say which: --all, --id, --prefix or --state")
    return found


def _listed(api: Ragzero, path: str, **params: Any) -> list[dict[str, Any]]:
    found: Any = call(api, "GET", path, params=params)
    return list(found)


def _facts(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items() if one not in (None, 0, False))
    return ", ".join(value)


def _say(text: str, style: str | None = None) -> None:
    console.print(text, style=style, highlight=False, markup=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/rag index", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Ragzero, argparse.Namespace], int], help: str) -> Any:
        made = commands.add_parser(name, help=help)
        made.set_defaults(run=run)
        return made

    rag_space.add_commands(command)
    one = command("why", why, "why a document is not searchable, and what helps")
    one.add_argument("document", help="key, s3:// uri or id")
    one.add_argument("--labels", help="of the key that does not see it, with commas")
    command("requeue", requeue, "have a document worked on again").add_argument("document")
    one = command("reread", reread, "have documents read again: another parser, chunk size or language")
    one.add_argument("--collection", help="these alone")
    one.add_argument("--rate", type=float, default=20, help="documents a second (default: %(default)g)")
    one.add_argument("--resume", metavar="CURSOR", help="what an interrupted one has printed")
    one = command("doctor", doctor, "checks of the whole installation")
    one.add_argument(
        "--outputs", type=Path, help="what `terraform output -json` of stacks/app printed, to compare"
    )
    command("sweeps", sweeps, "walks through the bucket").add_argument("--limit", type=int, default=10)
    one = command("confirm-deletes", confirm_deletes, "delete what a sweep has held back")
    one.add_argument("sweep", type=int)
    for name, run, help in (
        ("dead-letters", dead_letters, "messages that ingest has given up on"),
        ("redrive", redrive, "give dead letters to ingest once more"),
        ("discard", discard, "give dead letters up for good"),
    ):
        one = command(name, run, help)
        one.add_argument("--id", action="append", help="of a letter; shows its body, too")
        one.add_argument("--prefix", help="of the key")
        one.add_argument("--state", choices=_STATES)
        one.add_argument("--limit", type=int, default=50)
        one.add_argument("--all", action="store_true")
        if run is discard:
            one.add_argument("--reason", required=True)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    try:
        with connect(
            "RAGZERO_API_KEY" if given.run in (why, requeue, reread) else "RAGZERO_ADMIN_KEY"
        ) as api:
            return int(given.run(api, given))
    except Failure as failure:
        print(f"rag index: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
