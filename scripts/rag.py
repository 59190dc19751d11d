"""ragzero from a terminal: what it does is plain HTTP, so it works against any ragzero.

Finds its address and key in RAGZERO_API_URL and RAGZERO_API_KEY, or in what scripts/up wrote to .local/env.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared.client import ApiError, Ragzero, RagzeroError, Unreachable
from shared.client import Progress as Uploaded
from shared.client.types import DocumentView, JobView, Status

ROOT = Path(__file__).resolve().parents[1]
_PATIENCE_S = 600
_MODULES = {
    "collection": "scripts.rag_collection",
    "admin": "scripts.rag_admin",
    "index": "scripts.rag_index",
    "eval": "scripts.rag_eval",
}
console = Console()


class Failure(Exception):
    """What a person is told before the exit status 1."""


def connect(key: str = "RAGZERO_API_KEY") -> Ragzero:
    """key: the variable that holds it."""
    found = environment()
    try:
        return Ragzero(found["RAGZERO_API_URL"], found[key])
    except KeyError as missing:
        raise Failure(
            f"{missing.args[0]} is not set and {ROOT / '.local/env'} does not have it; run scripts/up"
        ) from None


def environment() -> dict[str, str]:
    """Of this process, before what scripts/up wrote."""
    path = Path(os.environ.get("RAGZERO_LOCAL_DIR", ROOT / ".local")) / "env"
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line) | dict(os.environ)


def call(api: Ragzero, method: str, path: str, **options: Any) -> dict[str, Any]:
    with failing(api):
        return api.request(method, path, **options)


@contextmanager
def failing(api: Ragzero) -> Iterator[None]:
    """What goes wrong in here a person is told."""
    try:
        yield
    except Unreachable as error:
        raise Failure(f"{error}; is it up? scripts/up starts it") from error
    except ApiError as error:
        raise Failure(str(error) if error.detail else f"{error.status} from {api.url}") from error
    except RagzeroError as error:
        raise Failure(str(error)) from error


def add(api: Ragzero, arguments: argparse.Namespace) -> int:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with bar, failing(api):
        sending = bar.add_task("uploading ", total=None)
        waiting = bar.add_task("searchable", total=None)

        def show(known: Uploaded) -> None:
            bar.update(sending, completed=known.uploaded, total=known.files)
            bar.update(waiting, completed=known.settled, total=known.files)

        job = _upload(api, arguments, show)
    for document in job["failed"]:
        console.print(f"[red]failed[/] {document['uri']}: {document['reason']}", highlight=False)
    if job["status"] != "done":
        raise Failure("some documents are still being worked on; scripts/rag status shows them")
    return 1 if job["counts"]["failed"] else 0


def _upload(api: Ragzero, arguments: argparse.Namespace, show: Callable[[Uploaded], None]) -> JobView:
    metadata = dict(pair.split("=", 1) for pair in arguments.meta or [])
    try:
        return api.upload(
            arguments.file,
            collection=arguments.collection,
            metadata=metadata,
            on_progress=show,
            timeout=_PATIENCE_S,
        )
    except FileNotFoundError as error:
        raise Failure(str(error)) from error


def ask(api: Ragzero, arguments: argparse.Namespace) -> int:
    with failing(api):
        answer = api.ask(arguments.question, **_narrowed(arguments))
    console.print(answer["answer"], highlight=False, markup=False)
    sources = {c["marker"]: (c["uri"], c["page"]) for c in answer["citations"]}
    for marker, (uri, page) in sorted(sources.items()):
        console.print(
            f"[{marker}] {uri}" + (f", page {page}" if page else ""),
            style="dim",
            highlight=False,
            markup=False,
        )
    return 0 if answer["supported"] else 2


def search(api: Ragzero, arguments: argparse.Namespace) -> int:
    with failing(api):
        found = api.search(arguments.question, **_narrowed(arguments))
    for number, one in enumerate(found["results"], 1):
        place = f"{one['uri']}" + (f", page {one['page']}" if one["page"] else "")
        console.print(f"{number}. {place}  {one['score']:.3f}", style="bold", highlight=False, markup=False)
        console.print(one["text"] + "\n", highlight=False, markup=False)
    return 0


def _narrowed(arguments: argparse.Namespace) -> dict[str, Any]:
    filter = json.loads(arguments.filter) if arguments.filter else None
    return {"top_k": arguments.top_k, "collection": arguments.collection, "filter": filter}


def documents(api: Ragzero, status: Status | None = None) -> Iterator[DocumentView]:
    with failing(api):
        yield from api.everything(status=status)


def ls(api: Ragzero, arguments: argparse.Namespace) -> int:
    table = Table(box=None)
    for name in ("id", "status", "chunks", "uri", "reason"):
        table.add_column(name, overflow="fold", no_wrap=name == "id")
    for one in documents(api, arguments.status):
        table.add_row(one["id"], one["status"], str(one["chunks"]), one["uri"], one["reason"] or "")
    console.print(table)
    return 0


def rm(api: Ragzero, arguments: argparse.Namespace) -> int:
    known = (
        {one["uri"]: one["id"] for one in documents(api)}
        if any("/" in name for name in arguments.document)
        else {}
    )
    for name in arguments.document:
        with failing(api):
            api.delete(known.get(name, name))
        console.print(f"deleted {name}", highlight=False)
    return 0


def status(api: Ragzero, _arguments: argparse.Namespace) -> int:
    counts: dict[str, int] = {}
    for one in documents(api):
        counts[one["status"]] = counts.get(one["status"], 0) + 1
    console.print(f"{api.url}: {call(api, 'GET', '/readyz')['status']}", highlight=False)
    for name, count in sorted(counts.items()):
        console.print(f"{count:8} {name}", highlight=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/rag", description=__doc__)
    commands = parser.add_subparsers(
        required=True, metavar="add | ask | search | ls | rm | status | collection | admin | index | eval"
    )
    one = commands.add_parser("add", help="upload files or folders and wait until they are searchable")
    one.add_argument("file", nargs="+", type=Path)
    one.add_argument("--collection")
    one.add_argument("--meta", action="append", metavar="NAME=VALUE", help="metadata to filter by")
    one.set_defaults(run=add)
    for name, run in (("ask", ask), ("search", search)):
        one = commands.add_parser(name, help={"ask": "a cited answer", "search": "the passages alone"}[name])
        one.add_argument("question")
        one.add_argument("--collection")
        one.add_argument("--top-k", type=int, default=5)
        one.add_argument("--filter", metavar="JSON")
        one.set_defaults(run=run)
    one = commands.add_parser("ls", help="the documents")
    one.add_argument("--status", choices=["pending", "processing", "searchable", "failed", "deleted"])
    one.set_defaults(run=ls)
    one = commands.add_parser("rm", help="delete documents, by id or s3:// uri")
    one.add_argument("document", nargs="+")
    one.set_defaults(run=rm)
    commands.add_parser(
        "status", help="whether it is up, and how many documents are in which state"
    ).set_defaults(run=status)
    return parser


def main() -> int:
    if module := _MODULES.get(sys.argv[1] if len(sys.argv) > 1 else ""):
        return int(import_module(module).main(sys.argv[2:]))
    arguments = _parser().parse_args()
    try:
        with connect() as api:
            return int(arguments.run(api, arguments))
    except Failure as failure:
        print(f"rag: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
