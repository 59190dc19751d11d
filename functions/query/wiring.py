"""Where query meets its settings and the adapters they choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from functions.query.documents import DocumentService
from functions.query.service import QueryService
from shared import telemetry
from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.adapters.postgres.catalog import Catalog
from shared.adapters.postgres.connection import AsyncDatabase, Database
from shared.adapters.postgres.documents import DocumentStore
from shared.adapters.postgres.search import Searcher, SearchOptions
from shared.adapters.s3 import Bucket
from shared.core.errors import SpaceMismatch
from shared.core.models import Space
from shared.settings import QuerySettings

_log = telemetry.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Graph:
    """What the routes work with."""

    database: AsyncDatabase
    catalog: Catalog
    questions: QueryService
    documents: DocumentService
    bucket: str
    pepper: str
    close: Callable[[], None]


async def wire(settings: QuerySettings, embedder: OnnxEmbedder | None = None) -> Graph:
    """embedder is loaded from the settings' folder unless one is given."""
    telemetry.configure(settings.log_level)
    url = settings.database_url.get_secret_value()
    database = AsyncDatabase(url, max_connections=settings.max_connections)
    catalog = Catalog(database)
    space = await catalog.space()
    writes = Database(url, connect_timeout=5)
    bucket = Bucket(settings.bucket, endpoint_url=settings.aws_endpoint_url, region=settings.aws_region)
    searcher = Searcher(database, space, SearchOptions(exact_below=settings.exact_below))
    return Graph(
        database=database,
        catalog=catalog,
        questions=QueryService(searcher, _embedder(settings, space, embedder)),
        documents=DocumentService(catalog, DocumentStore(writes), bucket, settings.default_tenant),
        bucket=settings.bucket,
        pepper=settings.pepper.get_secret_value(),
        close=writes.close,
    )


def _embedder(settings: QuerySettings, space: Space, given: OnnxEmbedder | None) -> OnnxEmbedder | None:
    """None when the model at hand would search with the wrong vectors."""
    try:
        embedder = given or OnnxEmbedder.load(settings.model_dir, threads=settings.encoder_threads)
    except SpaceMismatch as error:
        _log.error("encoder_refused", reason=str(error))
        return None
    if embedder.fingerprint != space.fingerprint:
        _log.error("encoder_refused", reason=f"the active space is {space.name!r}")
        return None
    return embedder
