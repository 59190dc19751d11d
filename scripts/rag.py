"""ragzero from a terminal: what it does is plain HTTP, so it works against any ragzero.

Finds its address and key in RAGZERO_API_URL and RAGZERO_API_KEY, or in what scripts/up wrote to .local/env.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared.client import ApiError, Ragzero, RagzeroError, Unreachable
from shared.client import Progress as Uploaded
from shared.client.types import DocumentView, JobView, Status

ROOT = Path(__file__).resolve().parents[1]
_PATIENCE_S = 600
_MODULES = {
    "collection": "collections: made, listed, and removed with all that is in them",
    "admin": "tenants and keys",
    "index": "why a document is not searchable, dead letters, checks, changes of the model",
    "eval": "what answers to a file of questions are worth",
}
# a terminal breaks lines; a file, or the next command, gets them whole
console = Console(width=None if sys.stdout.isatty() else 10_000)


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
        sending = bar.add_task("uploading ", total=None, visible=False)
        waiting = bar.add_task("searchable", total=None, visible=False)

        def show(known: Uploaded) -> None:
            bar.update(sending, completed=known.uploaded, total=known.files, visible=True)
            bar.update(waiting, completed=known.settled, total=known.files, visible=True)

        job = _upload(api, arguments, show)
    for document in job["failed"]:
        console.print(f"[red]failed[/] {document['uri']}: {document['reason']}", highlight=False)
    if job["status"] != "done":
        raise Failure("some documents are still being worked on; scripts/rag status shows them")
    return 1 if job["counts"]["failed"] else 0


def _upload(api: Ragzero, arguments: argparse.Namespace, show: Callable[[Uploaded], None]) -> JobView:
    try:
        return api.upload(
            arguments.file,
            collection=arguments.collection,
            metadata=dict(arguments.meta or []),
            on_progress=show,
            timeout=_PATIENCE_S,
        )
    except OSError as error:
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
    return {name: getattr(arguments, name) for name in ("top_k", "collection", "filter", "mode")}


def documents(api: Ragzero, status: Status | None = None) -> Iterator[DocumentView]:
    with failing(api):
        yield from api.everything(status=status)


def ls(api: Ragzero, arguments: argparse.Namespace) -> int:
    table = Table(box=None)
    for name in ("id", "status", "chunks", "uri, or why not"):
        table.add_column(name, overflow="fold", no_wrap=name == "id")
    for one in documents(api, arguments.status):
        said = one["uri"] + (f": {one['reason']}" if one["reason"] else "")
        table.add_row(one["id"], one["status"], str(one["chunks"]), escape(said))
    console.print(table)
    return 0


def rm(api: Ragzero, arguments: argparse.Namespace) -> int:
    for name, id in _found(api, arguments.document).items():
        with failing(api):
            gone = api.delete(id)
        older = "" if gone["coherent"] else f"; until {gone['until']} an older answer may still speak of it"
        console.print(f"deleted {name}{older}", highlight=False, markup=False)
    return 0


def _found(api: Ragzero, names: Sequence[str]) -> dict[str, str]:
    """The id of each, before any is deleted."""
    if all(_is_id(name) for name in names):
        return {name: name for name in names}
    known: dict[str, str] = {}
    for one in documents(api):
        known |= dict.fromkeys((one["id"], one["uri"], one["uri"].split("/", 3)[3]), one["id"])
    if unknown := [name for name in names if name not in known]:
        raise Failure(f"there is no document {', '.join(unknown)}; scripts/rag ls shows what there is")
    return {name: known[name] for name in names}


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def status(api: Ragzero, _arguments: argparse.Namespace) -> int:
    counts: dict[str, int] = {}
    for one in documents(api):
        counts[one["status"]] = counts.get(one["status"], 0) + 1
    console.print(f"{api.url}: {call(api, 'GET', '/readyz')['status']}", highlight=False)
    for name, count in sorted(counts.items()):
        console.print(f"{count:8} {name}", highlight=False)
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, not {text!r}")
    return name, value


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object, not {text}")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/rag", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("add", help="upload files or folders and wait until they are searchable")
    one.add_argument("file", nargs="+", type=Path)
    one.add_argument("--collection")
    one.add_argument(
        "--meta", action="append", type=_pair, metavar="NAME=VALUE", help="metadata to filter by; repeatable"
    )
    one.set_defaults(run=add)
    for name, run in (("ask", ask), ("search", search)):
        one = commands.add_parser(name, help={"ask": "a cited answer", "search": "the passages alone"}[name])
        one.add_argument("question")
        one.add_argument("--collection")
        one.add_argument("--top-k", type=int, default=5)
        one.add_argument(
            "--filter", type=_object, metavar="JSON", help="""by metadata, as '{"year": {"$gte": 2020}}'"""
        )
        one.add_argument(
            "--mode",
            choices=["fast", "balanced", "thorough"],
            help="by meaning alone; by meaning and words; or a longer look, re-ranked where a re-ranker is set up",
        )
        one.set_defaults(run=run)
    one = commands.add_parser("ls", help="the documents")
    one.add_argument("--status", choices=["pending", "processing", "searchable", "failed", "deleted"])
    one.set_defaults(run=ls)
    one = commands.add_parser("rm", help="delete documents")
    one.add_argument("document", nargs="+", help="its id, its s3:// uri, or its name in the bucket")
    one.set_defaults(run=rm)
    commands.add_parser(
        "status", help="whether it is up, and how many documents are in which state"
    ).set_defaults(run=status)
    for name, what in _MODULES.items():
        commands.add_parser(name, help=what)
    return parser


def main() -> int:
    try:
        if (module := sys.argv[1] if len(sys.argv) > 1 else "") in _MODULES:
            return int(import_module(f"scripts.rag_{module}").main(sys.argv[2:]))
        arguments = _parser().parse_args()
        with connect() as api:
            return int(arguments.run(api, arguments))
    except Failure as failure:
        print(f"rag: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
