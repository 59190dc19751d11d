"""From one embedding model, or one way to store its vectors, to another: plan, apply, evaluate, promote; rollback; reclaim.

`apply` and `reclaim` make and drop tables, so they need DATABASE_ADMIN_URL; the rest is asked of the API with
RAGZERO_ADMIN_KEY. While two models are in use, the functions need the new one's folder as RAGZERO_NEXT_MODEL_DIR: what
is uploaded goes to both spaces, and to the old one until it is reclaimed. With --collection: of one collection, to other
chunk sizes, another language or the parser as it is now (scripts/rag_candidate.py).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.table import Table

from functions.embed.filling import Encode, Filled, Filler
from scripts import rag_candidate
from scripts.migrate import space_of
from scripts.rag import Failure, call, console, environment
from shared.adapters.onnx_embedder import Manifest, OnnxEmbedder
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.filling import FillStore
from shared.adapters.postgres.partitions import partition
from shared.adapters.postgres.space_tables import (
    acting_as,
    build_index,
    ensure_space,
    mark_built,
    only_builder,
    reclaim_space,
)
from shared.client import Ragzero
from shared.core.errors import RagzeroError
from shared.core.models import Storage
from shared.core.planning import Change

_SPACES = "/v1/index/spaces"
_DAY_S = 86_400.0
_FOLLOW_S = 1.0


def plan(api: Ragzero, given: argparse.Namespace) -> int:
    asked: dict[str, Any] = {"change": given.change, "chunks_per_second": given.chunks_per_second}
    if given.model:
        manifest = Manifest.read(given.model)
        asked |= {"fingerprint": manifest.fingerprint, "dimension": manifest.dimension}
    if given.storage:
        asked["storage"] = given.storage
    if given.collection:
        asked |= {"collection": given.collection, "change": _cut(given)}
    found = call(api, "GET", "/v1/index/plan", params=asked)
    for name, value in found.items():
        shown = ("yes" if value else "no") if isinstance(value, bool) else f"{value:,}"
        console.print(f"{name.replace('_', ' '):20} {shown}", highlight=False)
    return 0


def _cut(given: argparse.Namespace) -> Change:
    """What changes of a collection; of several things that which takes most."""
    sizes = given.chunk_tokens is not None or given.overlap_tokens is not None
    if sizes or given.parser or given.language is None:
        return Change.CHUNKING if sizes else Change.PARSER
    return Change.LANGUAGE


def apply(given: argparse.Namespace) -> int:
    """Can be stopped at any time: what is stored stays, and the next call goes on."""
    admin, manifest = _admin_url(), Manifest.read(given.model)
    encode = _encoder(given)
    try:
        with only_builder(admin), closing(Database(acting_as(admin, "ragzero_embed"))) as database:
            following = space_of(manifest, Storage(given.storage))
            space = ensure_space(admin, following)
            _say(f"space {space} ({following.name}): making what it lacks")
            store = FillStore(database, space)
            _build(admin, space, Filler(store, encode, most_per_second=given.rate, told=_told), given)
            _say(f"space {space} is complete: scripts/rag eval run FILE --space {space}, then index promote")
            while given.follow:
                time.sleep(_FOLLOW_S)
                Filler(store, encode, most_per_second=given.rate).run(time.monotonic() + _DAY_S)
    except KeyboardInterrupt:
        _say("stopped; what is stored stays")
        return 1
    return 0


def _encoder(given: argparse.Namespace) -> Encode:
    """On the CPU by ONNX Runtime; with the original model, by torch on the GPU where there is one."""
    if given.torch is None:
        return OnnxEmbedder.load(given.model).encode
    from functions.embed.encoder import TorchEncoder  # heavy: loaded when first used

    encoder = TorchEncoder.load(Manifest.read(given.model), given.torch, given.revision)
    encoder.place(None)
    return encoder.encode


def _build(admin: str, space: int, filler: Filler, given: argparse.Namespace) -> None:
    filled = filler.run(time.monotonic() + _DAY_S)
    build_index(admin, space, memory=given.memory, workers=given.workers)
    since = filler.run(time.monotonic() + _DAY_S)
    mark_built(admin, space)
    made, reused = filled.embedded + since.embedded, filled.reused + since.reused
    _say(f"{made} texts embedded, {reused} vectors reused")


def spaces(api: Ragzero, _given: argparse.Namespace) -> int:
    table = Table("id", "name", "dimension", "storage", "state", "built", "lacking", box=None)
    found: Any = call(api, "GET", _SPACES)
    for one in found:
        built = (one["built_at"] or "not yet")[:16]
        cells = (
            *(one[name] for name in ("id", "name", "dimension", "storage", "state")),
            built,
            one["lacking"],
        )
        table.add_row(*map(str, cells))
    console.print(table)
    return 0


def promote(api: Ragzero, given: argparse.Namespace) -> int:
    _one(given)
    pairs = [dict(zip(("before", "after"), map(int, pair.split(":")), strict=True)) for pair in given.eval]
    body = {"evaluations": pairs, "margin": given.margin, "least_overlap": given.least_overlap}
    body |= {"force_reason": given.force} if given.force else {}
    if given.collection:
        return rag_candidate.promote(api, given.collection, body)
    return _changed(call(api, "POST", f"{_SPACES}/{given.space}/promote", json=body))


def rollback(api: Ragzero, given: argparse.Namespace) -> int:
    if given.collection:
        return rag_candidate.rollback(api, given.collection, given.reason)
    return _changed(call(api, "POST", f"{_SPACES}/rollback", json={"reason": given.reason}))


def reclaim(api: Ragzero, given: argparse.Namespace) -> int:
    _one(given)
    if given.collection:
        return rag_candidate.reclaim(api, given.collection)
    return without_api(_reclaim)(api, given)


def _one(given: argparse.Namespace) -> None:
    if (given.space is None) == (given.collection is None):
        raise Failure("say which: a space, or --collection")


def _reclaim(given: argparse.Namespace) -> int:
    _say(f"space {given.space} ({reclaim_space(_admin_url(), given.space)}) is gone for good")
    return 0


def partitions(given: argparse.Namespace) -> int:
    made, dropped = partition(_admin_url(), given.above, memory=given.memory, workers=given.workers)
    _say(f"{len(made)} collections were given a graph of their own, {len(dropped)} lost it")
    return 0


def add_commands(command: Callable[..., Any]) -> None:
    """To those of scripts/rag index. command(name, run, help) makes one."""
    one = command("plan", plan, "what a change of the index takes, before anything is spent")
    one.add_argument("--change", choices=[*Change], default=Change.MODEL)
    one.add_argument("--storage", choices=[*Storage], help="how vectors are to be kept")
    _of_collection(one)
    one.add_argument("--model", type=Path, help="folder made by scripts/build-model")
    one.add_argument(
        "--chunks-per-second", type=float, default=500, help="of the encoder (default: %(default)g)"
    )
    one = command("apply", _apply, "build a space, or a candidate, beside what is there; can be stopped")
    one.add_argument("--model", type=Path, help="folder made by scripts/build-model")
    _of_collection(one)
    one.add_argument(
        "--storage",
        choices=[*Storage],
        default=Storage.FLOAT16,
        help="how its vectors are kept (default: %(default)s); those of a space of this model are copied",
    )
    one.add_argument("--torch", metavar="MODEL", help="encode with the original: a folder, or a hub id")
    one.add_argument("--revision", help="the hub's commit of it")
    one.add_argument(
        "--rate",
        type=float,
        help="at most so many texts a second; of a collection, documents (20 unless said)",
    )
    _add_build_options(one)
    one.add_argument("--follow", action="store_true", help="go on with what is uploaded from now on")
    one = command(
        "partition",
        without_api(partitions),
        "give large collections a graph of their own, in the active space",
    )
    one.add_argument("--above", type=int, default=50_000, help="chunks (default: %(default)s)")
    _add_build_options(one)
    command("spaces", spaces, "the embedding spaces, and what each lacks")
    command("candidates", rag_candidate.ls, "candidates of collections, and what each lacks")
    one = command("promote", promote, "make a space the active one, or a candidate the collection")
    one.add_argument("space", type=int, nargs="?")
    one.add_argument("--collection", help="whose candidate is to take its place")
    one.add_argument(
        "--eval", action="append", default=[], metavar="BEFORE:AFTER", help="evaluations to compare"
    )
    one.add_argument(
        "--margin", type=float, default=0.02, help="recall and nDCG may fall by (default: %(default)g)"
    )
    one.add_argument("--least-overlap", type=float, default=0.0)
    one.add_argument("--force", metavar="REASON", help="without an evaluation, or against it")
    one = command("rollback", rollback, "go back to the space, or to the collection, before it")
    one.add_argument("--reason", required=True)
    one.add_argument("--collection", help="of this one")
    one = command("reclaim", reclaim, "drop a space, or a candidate, for good")
    one.add_argument("space", type=int, nargs="?")
    one.add_argument("--collection", help="whose candidate, or whose former self")


def _of_collection(one: argparse.ArgumentParser) -> None:
    one.add_argument("--collection", help="change how this one is cut, and nothing else")
    one.add_argument("--chunk-tokens", type=int)
    one.add_argument("--overlap-tokens", type=int)
    one.add_argument("--language", help="a text search configuration of PostgreSQL")
    one.add_argument("--parser", action="store_true", help="the same again, by the parser as it is now")


def _apply(api: Ragzero, given: argparse.Namespace) -> int:
    if (given.model is None) == (given.collection is None):
        raise Failure("say which: --model, or --collection")
    if given.collection is None:
        return without_api(apply)(api, given)
    if not (rag_candidate.settings(given) or given.parser):
        raise Failure("say what is to change: --chunk-tokens, --overlap-tokens, --language or --parser")
    return rag_candidate.apply(api, given)


def without_api(
    run: Callable[[argparse.Namespace], int],
) -> Callable[[Ragzero, argparse.Namespace], int]:
    def told(_api: Ragzero, given: argparse.Namespace) -> int:
        try:
            return run(given)
        except RagzeroError as error:
            raise Failure(str(error)) from error

    return told


def _changed(done: dict[str, Any]) -> int:
    _say(f"{done['to_name']} (space {done['to_space']}) answers now, {done['from_name']} did")
    if done["forced_because"]:
        _say(f"because: {done['forced_because']}")
    return 0


def _told(filled: Filled) -> None:
    console.print(f"{filled.embedded} texts", end="\r", highlight=False)


def _admin_url() -> str:
    found = environment().get("DATABASE_ADMIN_URL")
    if not found:
        raise Failure("DATABASE_ADMIN_URL is not set: a role that may make tables, on the server itself")
    return found


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False)


def _add_build_options(command: Any) -> None:
    command.add_argument("--memory", default="256MB", help="for building the index (default: %(default)s)")
    more = "cores that help to build the index; questions have these unless said (default: %(default)s)"
    command.add_argument("--workers", type=int, default=0, help=more)
