"""ragzero from a terminal: what it does is plain HTTP, so it works against any ragzero.

Finds its address and key in RAGZERO_API_URL and RAGZERO_API_KEY, or in what scripts/up wrote to .local/env.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
_SETTLED = ("searchable", "failed", "deleted")
_PATIENCE_S = 600
_MODULES = {
    "collection": "scripts.rag_collection",
    "admin": "scripts.rag_admin",
    "index": "scripts.rag_index",
}
console = Console()


class Failure(Exception):
    """What a person is told before the exit status 1."""


def connect(key: str = "RAGZERO_API_KEY") -> httpx.Client:
    """key: the variable that holds it."""
    found = _environment()
    try:
        url, secret = found["RAGZERO_API_URL"], found[key]
    except KeyError as missing:
        raise Failure(
            f"{missing.args[0]} is not set and {ROOT / '.local/env'} does not have it; run scripts/up"
        ) from None
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"}, timeout=60)


def _environment() -> dict[str, str]:
    path = Path(os.environ.get("RAGZERO_LOCAL_DIR", ROOT / ".local")) / "env"
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line) | dict(os.environ)


def call(api: httpx.Client, method: str, path: str, **options: Any) -> dict[str, Any]:
    try:
        answer = api.request(method, path, **options)
    except httpx.TransportError as error:
        raise Failure(f"{api.base_url} does not answer ({error}); is it up? scripts/up starts it") from error
    if answer.is_error:
        raise Failure(_problem(answer))
    body: dict[str, Any] = answer.json()
    return body


def _problem(answer: httpx.Response) -> str:
    try:
        return f"{answer.status_code}: {answer.json()['detail']}"
    except (ValueError, KeyError):
        return f"{answer.status_code} from {answer.url}"


def add(api: httpx.Client, arguments: argparse.Namespace) -> int:
    files = list(_files(arguments.file))
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        sending = bar.add_task("uploading ", total=len(files))
        waiting = bar.add_task("searchable", total=len(files))
        sent: dict[str, Path] = {}
        for path, name in files:
            sent[_upload(api, path, name, arguments)] = path
            bar.advance(sending)
        failed = [
            document
            for document in _settle(api, sent)
            if bar.advance(waiting) or document["status"] == "failed"
        ]
    for document in failed:
        console.print(f"[red]failed[/] {sent[document['id']]}: {document['reason']}", highlight=False)
    return 1 if failed else 0


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    for path in paths:
        if path.is_dir():
            yield from (
                (one, str(one.relative_to(path.parent))) for one in sorted(path.rglob("*")) if one.is_file()
            )
        elif path.is_file():
            yield path, path.name
        else:
            raise Failure(f"{path}: no such file")


def _upload(api: httpx.Client, path: Path, name: str, arguments: argparse.Namespace) -> str:
    fields = {"collection": arguments.collection} if arguments.collection else {}
    if arguments.meta:
        fields["metadata"] = json.dumps(dict(pair.split("=", 1) for pair in arguments.meta))
    with path.open("rb") as file:
        return str(call(api, "POST", "/v1/documents", files={"file": (name, file)}, data=fields)["id"])


def _settle(api: httpx.Client, ids: dict[str, Path]) -> Iterator[dict[str, Any]]:
    """The documents as they become searchable, or fail."""
    left, deadline = list(ids), time.monotonic() + _PATIENCE_S
    while left and time.monotonic() < deadline:
        document = call(api, "GET", f"/v1/documents/{left[0]}")
        if document["status"] in _SETTLED:
            left.pop(0)
            yield document
        else:
            left.append(left.pop(0))
            time.sleep(0.1)
    if left:
        raise Failure(f"{len(left)} documents are still being worked on; scripts/rag status shows them")


def ask(api: httpx.Client, arguments: argparse.Namespace) -> int:
    answer = call(api, "POST", "/v1/query", json=_question(arguments))
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


def search(api: httpx.Client, arguments: argparse.Namespace) -> int:
    for number, one in enumerate(call(api, "POST", "/v1/search", json=_question(arguments))["results"], 1):
        place = f"{one['uri']}" + (f", page {one['page']}" if one["page"] else "")
        console.print(f"{number}. {place}  {one['score']:.3f}", style="bold", highlight=False, markup=False)
        console.print(one["text"] + "\n", highlight=False, markup=False)
    return 0


def _question(arguments: argparse.Namespace) -> dict[str, Any]:
    body: dict[str, Any] = {"question": arguments.question, "top_k": arguments.top_k}
    if arguments.collection:
        body["collection"] = arguments.collection
    if arguments.filter:
        body["filter"] = json.loads(arguments.filter)
    return body


def documents(api: httpx.Client, status: str | None = None) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        given = {"limit": 200, "status": status, "cursor": cursor}
        page = call(
            api, "GET", "/v1/documents", params={name: value for name, value in given.items() if value}
        )
        yield from page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return


def ls(api: httpx.Client, arguments: argparse.Namespace) -> int:
    table = Table(box=None)
    for name in ("id", "status", "chunks", "uri", "reason"):
        table.add_column(name, overflow="fold", no_wrap=name == "id")
    for one in documents(api, arguments.status):
        table.add_row(one["id"], one["status"], str(one["chunks"]), one["uri"], one["reason"] or "")
    console.print(table)
    return 0


def rm(api: httpx.Client, arguments: argparse.Namespace) -> int:
    known = (
        {one["uri"]: one["id"] for one in documents(api)}
        if any("/" in name for name in arguments.document)
        else {}
    )
    for name in arguments.document:
        call(api, "DELETE", f"/v1/documents/{known.get(name, name)}")
        console.print(f"deleted {name}", highlight=False)
    return 0


def status(api: httpx.Client, _arguments: argparse.Namespace) -> int:
    counts: dict[str, int] = {}
    for one in documents(api):
        counts[one["status"]] = counts.get(one["status"], 0) + 1
    console.print(f"{api.base_url}: {call(api, 'GET', '/readyz')['status']}", highlight=False)
    for name, count in sorted(counts.items()):
        console.print(f"{count:8} {name}", highlight=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/rag", description=__doc__)
    commands = parser.add_subparsers(
        required=True, metavar="add | ask | search | ls | rm | status | collection | admin | index"
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
