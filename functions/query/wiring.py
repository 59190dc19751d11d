"""Where query meets its settings and the adapters they choose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from functions.query import model_wiring
from functions.query.administration import AdministrationService
from functions.query.answer_cache import AnswerCache
from functions.query.answer_wiring import answer_tools
from functions.query.asking import Asking
from functions.query.candidates import CandidateService
from functions.query.changing import SpaceService
from functions.query.collections import CollectionService
from functions.query.condensing import Condenser
from functions.query.desk import AnswerDesk
from functions.query.documents import DocumentService
from functions.query.embedding import EmbeddingService
from functions.query.evaluating import EvaluationService
from functions.query.explaining import ExplainService
from functions.query.fastlane import Bodies
from functions.query.gate import Gate
from functions.query.index_wiring import IndexTools, index_tools, queue_of
from functions.query.jobs import JobService
from functions.query.monitoring import Watched
from functions.query.passages import PassageService
from functions.query.service import QueryService
from functions.query.spending import Spending
from functions.query.uploads import UploadService
from functions.query.writing import Writer
from shared import telemetry
from shared.adapters.cache import client as cache_client
from shared.adapters.cache.epochs import connect
from shared.adapters.generator import Generator
from shared.adapters.onnx_embedder import Manifest, OnnxEmbedder
from shared.adapters.postgres.candidates import CandidateStore
from shared.adapters.postgres.catalog import Catalog
from shared.adapters.postgres.coherence import EpochStore
from shared.adapters.postgres.collections import CollectionStore
from shared.adapters.postgres.connection import AsyncDatabase, Database
from shared.adapters.postgres.deletions import Receipts
from shared.adapters.postgres.documents import DocumentStore
from shared.adapters.postgres.evaluations import EvaluationStore
from shared.adapters.postgres.feedback import FeedbackStore
from shared.adapters.postgres.idempotency import IdempotencyStore
from shared.adapters.postgres.jobs import JobStore
from shared.adapters.postgres.keys import KeyStore
from shared.adapters.postgres.passages import Passages
from shared.adapters.postgres.search import Searcher, SearchOptions
from shared.adapters.postgres.spaces import SpaceStore
from shared.adapters.postgres.tenants import TenantStore
from shared.adapters.postgres.webhooks import WebhookStore
from shared.adapters.s3 import Bucket
from shared.adapters.s3_links import Links
from shared.core.models import Space
from shared.core.sealing import Sealer
from shared.settings import QuerySettings

_log = telemetry.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Graph:
    """What the routes work with."""

    database: AsyncDatabase
    catalog: Catalog
    gate: Gate
    bodies: Bodies
    answers: AnswerCache
    spending: Spending
    idempotency: IdempotencyStore
    questions: QueryService
    desk: AnswerDesk
    asking: Asking
    documents: DocumentService
    passages: PassageService
    receipts: Receipts
    uploads: UploadService
    jobs: JobService
    collections: CollectionService
    administration: AdministrationService
    index: IndexTools
    embedding: EmbeddingService
    explaining: ExplainService
    feedback: FeedbackStore
    links: Links
    webhooks: WebhookStore
    private_webhooks: bool
    evaluations: EvaluationService
    spaces: SpaceService
    candidates: CandidateService
    bucket: str
    pepper: str
    watched: Mapping[str, Watched]
    close: Callable[[], Awaitable[None]]


async def wire(settings: QuerySettings, embedder: OnnxEmbedder | None = None) -> Graph:
    """embedder is loaded from the settings' folder unless one is given.

    Raises ConfigurationError naming the setting when a model's address, key or name is wrong.
    """
    telemetry.configure(settings.log_level)
    url, pepper = settings.database_url.get_secret_value(), settings.pepper.get_secret_value()
    models, generators = await model_wiring.answering_models(settings)
    database = AsyncDatabase(url, max_connections=settings.max_connections)
    catalog = Catalog(database)
    space = await _active_space(catalog, database, generators)
    encoders = model_wiring.encoders(settings, embedder)
    if space.fingerprint not in encoders:
        _log.error("encoder_refused", reason=f"the active space is {space.name!r}")
    cache, reranker = cache_client.connect(settings), model_wiring.reranker(settings)
    questions = QueryService(
        Searcher(database, SearchOptions(exact_below=settings.exact_below)),
        catalog,
        encoders,
        space,
        reranker,
    )
    tools = answer_tools(settings, database, catalog, cache, models, questions, reranker)
    writer, writes, told = Writer(), Database(url, connect_timeout=5), connect(settings)
    epochs = EpochStore(writes, told, answers=True)
    bucket = Bucket(settings.bucket, endpoint_url=settings.aws_endpoint_url, region=settings.aws_region)
    store = DocumentStore(writes, told, answers=True)
    jobs, links = JobStore(database), Links(bucket, settings.link_seconds)
    documents = DocumentService(catalog, store, bucket, settings.default_tenant, writer)
    collections = CollectionService(
        catalog, CollectionStore(writes, epochs), documents, writer, lambda: _chunk_room(settings)
    )
    evaluations = EvaluationService(EvaluationStore(database), tools.answering, catalog, tools.spending)

    async def close() -> None:
        await tools.desk.close()
        await tools.gate.close()
        if cache is not None:
            await cache.close()
        for model in (*generators, *([reranker] if reranker else [])):
            await model.aclose()
        await database.close()
        store.close()

    return Graph(
        database=database,
        catalog=catalog,
        gate=tools.gate,
        bodies=Bodies(tools.exact),
        answers=tools.exact,
        spending=tools.spending,
        idempotency=IdempotencyStore(database),
        questions=questions,
        desk=tools.desk,
        asking=Asking(tools.gate, tools.exact, tools.desk, Condenser(models.main, tools.spending)),
        documents=documents,
        passages=PassageService(Passages(database)),
        receipts=Receipts(database),
        uploads=UploadService(
            store,
            jobs,
            links,
            writer,
            Sealer(pepper),
            settings.bucket,
            settings.default_tenant,
            settings.max_upload_bytes,
        ),
        jobs=JobService(jobs, documents),
        collections=collections,
        administration=AdministrationService(
            TenantStore(writes, epochs), KeyStore(writes, epochs), writer, pepper, settings.environment
        ),
        index=index_tools(settings, database, bucket, space, cache, encoder=space.fingerprint in encoders),
        embedding=EmbeddingService(lambda: questions.active, encoders),
        explaining=ExplainService(questions, documents),
        feedback=FeedbackStore(database),
        links=links,
        webhooks=WebhookStore(database),
        private_webhooks=settings.webhooks_private,
        evaluations=evaluations,
        spaces=SpaceService(SpaceStore(database), evaluations, settings.price_gpu_second),
        candidates=CandidateService(
            CandidateStore(writes, epochs),
            writer,
            evaluations,
            catalog,
            settings.bucket,
            queue_of(settings, settings.queue_url),
            collections.sizes,
        ),
        bucket=settings.bucket,
        pepper=pepper,
        watched=_watched(cache, generators, reranker),
        close=close,
    )


async def _active_space(catalog: Catalog, database: AsyncDatabase, generators: list[Generator]) -> Space:
    try:
        return await catalog.space()
    except BaseException:  # whoever wires again would leave these behind
        for generator in generators:
            await generator.aclose()
        await database.close()
        raise


def _chunk_room(settings: QuerySettings) -> int:
    """The most tokens of a chunk: what the encoder reads, less what a prefix and special tokens may take of it."""
    return Manifest.read(settings.model_dir).max_tokens - 16


def _watched(
    cache: Watched | None, generators: list[Generator], reranker: Watched | None
) -> dict[str, Watched]:
    watched: dict[str, Watched] = dict(zip(("generator", "fallback"), generators, strict=False))
    others = {"redis": cache, "reranker": reranker}
    return watched | {name: each for name, each in others.items() if each is not None}
