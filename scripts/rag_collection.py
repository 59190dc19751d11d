"""Collections: made, listed, and removed with all that is in them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.table import Table

from scripts.rag import Failure, call, connect, console
from scripts.rag_admin import everything
from shared.client import Ragzero


def make(api: Ragzero, given: argparse.Namespace) -> int:
    settings = {"language": given.language, "chunk_tokens": given.chunk_tokens}
    settings |= {"overlap_tokens": given.overlap_tokens}
    body = {"name": given.name} | {name: value for name, value in settings.items() if value is not None}
    made = call(api, "POST", "/v1/collections", json=body)
    console.print(f"made {made['name']}", highlight=False, markup=False)
    return 0


def change(api: Ragzero, given: argparse.Namespace) -> int:
    settings = {name: getattr(given, name) for name in ("language", "chunk_tokens", "overlap_tokens")}
    body = {name: value for name, value in settings.items() if value is not None} | {"reread": given.reread}
    changed = call(api, "PATCH", f"/v1/collections/{given.name}", json=body)
    console.print(f"changed {changed['name']}", highlight=False, markup=False)
    if given.reread and changed["documents"]:
        console.print(f"next: scripts/rag index reread --collection {given.name}", highlight=False)
    return 0


def ls(api: Ragzero, _given: argparse.Namespace) -> int:
    table = Table("name", "documents", "chunks", "language", "chunk + overlap", box=None)
    for one in everything(api, "/v1/collections"):
        sizes = (
            "as usual" if one["chunk_tokens"] is None else f"{one['chunk_tokens']} + {one['overlap_tokens']}"
        )
        table.add_row(one["name"], str(one["documents"]), str(one["chunks"]), one["language"], sizes)
    console.print(table)
    return 0


def rm(api: Ragzero, given: argparse.Namespace) -> int:
    """Call after call, until nothing is left."""
    removed = 0
    while True:
        answer = call(api, "DELETE", f"/v1/collections/{given.name}")
        removed += answer["documents"]
        if answer["status"] != "deleting":
            break
        console.print(f"{removed} documents removed, {answer['remaining']} left", highlight=False)
    console.print(f"{answer['status']} {given.name}, {removed} documents", highlight=False, markup=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/rag collection", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="create | change | ls | rm")
    one = commands.add_parser(
        "create", help="documents get there by --collection, or the metadata `collection`"
    )
    one.add_argument("name")
    one.add_argument("--language", help="of its full-text search; english unless said")
    one.add_argument("--chunk-tokens", type=int)
    one.add_argument("--overlap-tokens", type=int)
    one.set_defaults(run=make)
    one = commands.add_parser("change", help="other settings; what is not named stays")
    one.add_argument("name")
    one.add_argument("--language")
    one.add_argument("--chunk-tokens", type=int)
    one.add_argument("--overlap-tokens", type=int)
    one.add_argument("--reread", action="store_true", help="though there are documents in it")
    one.set_defaults(run=change)
    commands.add_parser("ls", help="all collections").set_defaults(run=ls)
    one = commands.add_parser("rm", help="with its documents, in the bucket, too; the default one is emptied")
    one.add_argument("name")
    one.set_defaults(run=rm)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    try:
        with connect() as api:
            return int(given.run(api, given))
    except Failure as failure:
        print(f"rag collection: {failure}", file=sys.stderr)
        return 1
