"""What answers to a file of questions are worth: recall, MRR, nDCG, whether they hold the answer, whether they cite the
right documents, how long they take, what they cost. Needs RAGZERO_ADMIN_KEY.

The file has one JSON object per line: {"question": ..., "documents": [...], "answer": ...}. documents are those that
hold the answer, by key, s3:// uri or id; answer is a text, or several, of which a right answer contains one. Either may
be left out, and {"collection": ..., "filter": {...}} added. Blank lines, and lines that begin with #, do not count.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.progress import track
from rich.table import Table

from scripts.rag import Failure, call, connect, console
from shared.client import Ragzero

_RUNS = "/v1/evaluations"
_FIELDS = {"question", "documents", "answer", "collection", "filter"}
_PAGE = 1_000


def read(path: Path) -> list[dict[str, Any]]:
    """The questions, as the API takes them. Raises Failure that names the line."""
    return [
        {"number": number, **question}
        for number, question in enumerate(_questions(path.read_text(encoding="utf-8"), path))
    ]


def _questions(text: str, path: Path) -> Iterator[dict[str, Any]]:
    for place, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                yield _question(json.loads(line))
            except (ValueError, TypeError) as error:
                raise Failure(f"{path}, line {place}: {error}") from error


def _question(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or not isinstance(given.get("question"), str):
        raise ValueError('expected an object with a "question"')
    if unknown := sorted(given.keys() - _FIELDS):
        raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(_FIELDS))}")
    made = {name: given[name] for name in ("question", "collection", "filter") if name in given}
    return made | {name: _texts(given.get(field)) for name, field in _LISTS}


_LISTS = (("documents", "documents"), ("answers", "answer"))


def _texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"expected a text or a list of texts, got {value!r}")
    return texts


def digest(questions: Sequence[dict[str, Any]]) -> str:
    """Of what is asked and expected, whatever the file looks like."""
    return hashlib.sha256(json.dumps(questions, sort_keys=True).encode()).hexdigest()


def run(api: Ragzero, given: argparse.Namespace) -> int:
    questions = read(given.file)
    if not questions:
        raise Failure(f"{given.file} has no questions")
    wanted = {"name": given.name or given.file.name, "questions_digest": digest(questions), "k": given.k}
    wanted |= {"space": given.space, "generate": given.generate, "candidate": given.candidate}
    made = call(api, "POST", _RUNS, json=wanted)
    asked = track(questions, description=f"evaluation {made['id']}", console=console, transient=True)
    for question in asked:
        call(api, "POST", f"{_RUNS}/{made['id']}/questions", json=question)
    done = call(api, "POST", f"{_RUNS}/{made['id']}/finish")
    _show([done])
    if given.out:
        export(api, done["id"], given.out)
    return 0


def ls(api: Ragzero, given: argparse.Namespace) -> int:
    _show(_listed(api, _RUNS, limit=given.limit))
    return 0


def compare(api: Ragzero, given: argparse.Namespace) -> int:
    asked = {"margin": given.margin, "least_overlap": given.least_overlap}
    found = call(api, "GET", f"{_RUNS}/{given.before}/compare/{given.after}", params=asked)
    _show([found["before"], found["after"]])
    for name, change in found["changes"].items():
        console.print(f"{name:20} {change:+.4f}", highlight=False)
    console.print(f"{'documents shared':20} {found['overlap']:.4f}", highlight=False)
    if found["worse"]:
        console.print(f"worse by more than {given.margin:g}: {', '.join(found['worse'])}", highlight=False)
    return 0 if found["passed"] else 2


def save(api: Ragzero, given: argparse.Namespace) -> int:
    export(api, given.id, given.out)
    return 0


def export(api: Ragzero, id: int, out: Path) -> None:
    """A run with each of its questions, as JSON."""
    found, questions = call(api, "GET", f"{_RUNS}/{id}"), list[dict[str, Any]]()
    while True:
        after = questions[-1]["number"] if questions else -1
        page = _listed(api, f"{_RUNS}/{id}/questions", after=after, limit=_PAGE)
        questions += page
        if len(page) < _PAGE:
            break
    out.write_text(json.dumps(found | {"questions": questions}, indent=1, ensure_ascii=False) + "\n")


def recent(api: Ragzero, given: argparse.Namespace) -> int:
    """Questions to ask again in another space; nobody has said what is expected, so only overlap can be told."""
    for one in _listed(api, f"{_RUNS}/recent-questions", limit=given.limit):
        print(json.dumps(one, ensure_ascii=False))
    return 0


def golden(api: Ragzero, given: argparse.Namespace) -> int:
    """Adds to the file the questions of feedback that it does not have; what is there is not touched."""
    known = {_identity(one) for one in read(given.file)} if given.file.exists() else set()
    found = [
        _golden(one, given.collection)
        for one in _listed(api, f"{_RUNS}/feedback-questions", limit=given.limit)
    ]
    added = [one for one in found if _identity(one) not in known]
    with given.file.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in added)
    console.print(f"{len(added)} questions are new in {given.file}, {len(known)} were there", highlight=False)
    return 0


def _golden(said: dict[str, Any], collection: str) -> dict[str, Any]:
    """As a line of the file."""
    made = {"question": said["question"], "documents": said["documents"], "answer": said["answers"]}
    made |= {"collection": said["collection"] or collection, "filter": said["filter"]}
    return {name: value for name, value in made.items() if value}


def _identity(question: dict[str, Any]) -> tuple[str, str]:
    return question["question"], question.get("collection", "default")


def _show(runs: Sequence[dict[str, Any]]) -> None:
    measures = ("recall", "mrr", "ndcg", "answer_contained", "citation_precision", "refused")
    table = Table("id", "name", "space", "questions", *measures, "p50 ms", "p95 ms", "USD", box=None)
    for one in runs:
        found = one["summary"] or {}
        figures = [_figure(found.get(name)) for name in measures]
        times = [_figure(found.get(name)) for name in ("latency_p50_ms", "latency_p95_ms", "cost_usd")]
        space = f"{one['space_id']} {one['space_name']}"
        space += f", candidate of {one['candidate_of']}" if one["candidate_of"] else ""
        table.add_row(str(one["id"]), one["name"], space, str(found.get("questions", "")), *figures, *times)
    console.print(table)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _listed(api: Ragzero, path: str, **params: Any) -> list[dict[str, Any]]:
    found: Any = call(api, "GET", path, params=params)
    return list(found)


def _parser() -> argparse.ArgumentParser:
    formatted = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="scripts/rag eval", description=__doc__, formatter_class=formatted)
    commands = parser.add_subparsers(required=True, metavar="run | ls | compare | export | golden | recent")
    one = commands.add_parser("run", help="ask the questions of a file, and sum up")
    one.add_argument("file", type=Path)
    one.add_argument("--space", type=int, help="another space than the active one")
    one.add_argument(
        "--candidate", metavar="COLLECTION", help="its candidate, in place of the collection as it is"
    )
    one.add_argument("-k", type=int, default=10, help="passages looked at (default: %(default)s)")
    one.add_argument("--name", help="the file's, unless said")
    one.add_argument("--generate", action="store_true", help="have the model write the answers")
    one.add_argument("--out", type=Path, help="export as JSON, too")
    one.set_defaults(run=run)
    one = commands.add_parser("ls", help="the runs so far")
    one.add_argument("--limit", type=int, default=20)
    one.set_defaults(run=ls)
    one = commands.add_parser(
        "compare", help="two runs of the same questions; status 2 when the second is worse"
    )
    one.add_argument("before", type=int)
    one.add_argument("after", type=int)
    one.add_argument("--margin", type=float, default=0.02)
    one.add_argument("--least-overlap", type=float, default=0.0)
    one.set_defaults(run=compare)
    one = commands.add_parser("export", help="a run with each of its questions, as JSON")
    one.add_argument("id", type=int)
    one.add_argument("out", type=Path)
    one.set_defaults(run=save)
    one = commands.add_parser(
        "golden", help="add what feedback tells to a file for run, to be looked through"
    )
    one.add_argument("file", type=Path)
    one.add_argument(
        "--collection", default="default", help="of questions of which nobody told the collection"
    )
    one.add_argument("--limit", type=int, default=1000)
    one.set_defaults(run=golden)
    one = commands.add_parser(
        "recent", help="questions asked of a model within the last day, as a file for run"
    )
    one.add_argument("--limit", type=int, default=200)
    one.set_defaults(run=recent)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    try:
        with connect("RAGZERO_ADMIN_KEY") as api:
            return int(given.run(api, given))
    except Failure as failure:
        print(f"rag eval: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
