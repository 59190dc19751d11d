"""Changes of one test's installation from one embedding model to another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from functions.embed.filling import Filled, Filler
from functions.ingest.wiring import build as build_ingest
from scripts.migrate import space_of
from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.filling import FillStore
from shared.adapters.postgres.space_tables import build_index, ensure_space, mark_built
from shared.core.models import Storage
from tests.support.installation import Installation
from tests.support.operating import client


def admin_url(installation: Installation) -> str:
    return installation.databases.postgres.dsn(dbname=installation.database)


def know_both(installation: Installation, following: Path) -> None:
    """Ingest has the model that is to follow at hand, too."""
    if "ingest" in installation.__dict__:
        installation.ingest.close()
    settings = installation.ingest_settings(next_model_dir=following)
    installation.__dict__["ingest"] = build_ingest(settings, installation.embedder)


def fill(
    installation: Installation, space: int, encode: Callable[[Sequence[str]], Any], at_once: int = 256
) -> Filled:
    with closing(FillStore(Database(installation.url("ragzero_embed")), space)) as store:
        return Filler(store, encode, at_once=at_once).run(time.monotonic() + 60)


def build(installation: Installation, embedder: OnnxEmbedder, storage: Storage = Storage.FLOAT16) -> int:
    """The space of that model, complete and with its index."""
    space = ensure_space(admin_url(installation), space_of(embedder.manifest, storage))
    assert fill(installation, space, embedder.encode).complete
    build_index(admin_url(installation), space)
    mark_built(admin_url(installation), space)
    return space


def promote(api: TestClient, space: int) -> None:
    answer = api.post(f"/v1/index/spaces/{space}/promote", json={"force_reason": "a test"})
    assert answer.status_code == 200, answer.text


def operator(installation: Installation, following: Path | None = None) -> TestClient:
    """The API with both models at hand; as every process but one that was not deployed anew."""
    return client(installation, next_model_dir=following)


def retrieval_space(installation: Installation) -> int:
    (row,) = installation.rows("select id from spaces where state = 'active'")
    return int(row["id"])
