"""Where query meets its settings and the adapters they choose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from functions.query import model_wiring, rendering
from functions.query.administration import AdministrationService
from functions.query.answer_cache import AnswerCache
from functions.query.answering import ANSWER_VERSION, AnswerService, Models
from functions.query.asking import Asking
from functions.query.candidates import CandidateService
from functions.query.changing import SpaceService
from functions.query.collections import CollectionService
from functions.query.condensing import Condenser
from functions.query.desk import AnswerDesk, Caches
from functions.query.documents import DocumentService
from functions.query.embedding import EmbeddingService
from functions.query.evaluating import EvaluationService
from functions.query.explaining import ExplainService
from functions.query.fastlane import Bodies
from functions.query.gate import Gate
from functions.query.index_wiring import IndexTools, index_tools, queue_of
from functions.query.jobs import JobService
from functions.query.likeness import SemanticCache
from functions.query.monitoring import Watched
from functions.query.passages import PassageService
from functions.query.service import QueryService
from functions.query.spending import Spending
from functions.query.uploads import UploadService
from functions.query.writing import Writer
from shared import telemetry
from shared.adapters.cache import client as cache_client
from shared.adapters.cache.epochs import connect
from shared.adapters.cache.reader import EpochReader
from shared.adapters.cache.visits import Visits
from shared.adapters.generator import Generator
from shared.adapters.onnx_embedder import Manifest, OnnxEmbedder
from shared.adapters.postgres.answers import AnswerStore
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
from shared.adapters.postgres.semantic import SemanticStore
from shared.adapters.postgres.spaces import SpaceStore
from shared.adapters.postgres.tenants import TenantStore
from shared.adapters.postgres.usage import UsageStore
from shared.adapters.postgres.webhooks import WebhookStore
from shared.adapters.reranker import Reranker
from shared.adapters.s3 import Bucket
from shared.adapters.s3_links import Links
from shared.core.credentials import Limits
from shared.core.likeness import SAME_FROM
from shared.core.models import Space
from shared.core.recipes import Recipe
from shared.core.sealing import Sealer
from shared.settings import QuerySettings

if TYPE_CHECKING:
    from shared.adapters.onnx_reranker import OnnxReranker

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
    url = settings.database_url.get_secret_value()
    models, generators = await model_wiring.answering_models(settings)
    database = AsyncDatabase(url, max_connections=settings.max_connections)
    catalog = Catalog(database)
    space = await _active_space(catalog, database, generators)
    writer, writes, told = Writer(), Database(url, connect_timeout=5), connect(settings)
    epochs = EpochStore(writes, told, answers=True)
    bucket = Bucket(settings.bucket, endpoint_url=settings.aws_endpoint_url, region=settings.aws_region)
    searcher = Searcher(database, SearchOptions(exact_below=settings.exact_below))
    encoders = model_wiring.encoders(settings, embedder)
    if space.fingerprint not in encoders:
        _log.error("encoder_refused", reason=f"the active space is {space.name!r}")
    reranker = model_wiring.reranker(settings)
    questions = QueryService(searcher, catalog, encoders, space, reranker)
    answers = AnswerStore(database)
    pepper = settings.pepper.get_secret_value()
    cache = cache_client.connect(settings)
    visits = Visits(cache, Sealer(pepper)) if cache else None
    tenant_epochs = EpochReader(cache, database)
    gate = Gate(catalog, visits, tenant_epochs, pepper, _default_limits(settings))
    spending = Spending(
        UsageStore(database),
        visits,
        cache,
        grace_s=settings.spend_grace_seconds,
        price=settings.price_question,
    )
    exact = AnswerCache(lambda: _recipe(questions.active, models, reranker), visits, settings.cache_seconds)
    semantic = SemanticCache(
        SemanticStore(database, settings.cache_seconds), lambda: _similarity(settings, questions.active)
    )
    answering = AnswerService(questions, models, answers)
    desk = AnswerDesk(
        answering,
        answers,
        rendering.answer,
        settings.generator_patience_seconds,
        questions,
        Caches(exact, semantic),
        spending,
        tenant_epochs,
        gate,
    )

    watched: dict[str, Watched] = dict(zip(("generator", "fallback"), generators, strict=False))
    if cache is not None:
        watched["redis"] = cache
    if reranker is not None:
        watched["reranker"] = reranker

    async def close() -> None:
        await desk.close()
        await gate.close()
        if cache is not None:
            await cache.close()
        for generator in generators:
            await generator.aclose()
        if reranker is not None:
            await reranker.aclose()
        await database.close()
        store.close()

    store = DocumentStore(writes, told, answers=True)
    documents = DocumentService(catalog, store, bucket, settings.default_tenant, writer)
    jobs, links = JobStore(database), Links(bucket, settings.link_seconds)
    uploads = UploadService(
        store,
        jobs,
        links,
        writer,
        Sealer(pepper),
        settings.bucket,
        settings.default_tenant,
        settings.max_upload_bytes,
    )
    collections = CollectionService(
        catalog, CollectionStore(writes, epochs), documents, writer, lambda: _chunk_room(settings)
    )
    evaluations = EvaluationService(EvaluationStore(database), answering, catalog, spending)
    administration = AdministrationService(
        TenantStore(writes, epochs), KeyStore(writes, epochs), writer, pepper, settings.environment
    )
    return Graph(
        database,
        catalog,
        gate,
        Bodies(exact),
        exact,
        spending,
        IdempotencyStore(database),
        questions,
        desk,
        Asking(gate, exact, desk, Condenser(models.main, spending)),
        documents,
        PassageService(Passages(database)),
        Receipts(database),
        uploads,
        JobService(jobs, documents),
        collections,
        administration,
        index_tools(settings, database, bucket, space, cache, encoder=space.fingerprint in encoders),
        EmbeddingService(lambda: questions.active, encoders),
        ExplainService(questions, documents),
        FeedbackStore(database),
        links,
        WebhookStore(database),
        settings.webhooks_private,
        evaluations,
        SpaceService(SpaceStore(database), evaluations, settings.price_gpu_second),
        CandidateService(
            CandidateStore(writes, epochs),
            writer,
            evaluations,
            catalog,
            settings.bucket,
            queue_of(settings, settings.queue_url),
            collections.sizes,
        ),
        settings.bucket,
        pepper,
        watched,
        close,
    )


async def _active_space(catalog: Catalog, database: AsyncDatabase, generators: list[Generator]) -> Space:
    try:
        return await catalog.space()
    except BaseException:  # whoever wires again would leave these behind
        for generator in generators:
            await generator.aclose()
        await database.close()
        raise


def _default_limits(settings: QuerySettings) -> Limits:
    return Limits(
        settings.key_rate,
        settings.key_burst,
        settings.tenant_rate,
        settings.tenant_burst,
        settings.tenant_streams,
    )


def _recipe(space: Space, models: Models, reranker: Reranker | OnnxReranker | None) -> Recipe:
    """Whatever changes answers has to be in here."""
    model = models.main.model if models.main else ""
    budget, cross = models.budget, reranker.model if reranker else ""
    return Recipe((ANSWER_VERSION, model, budget.context, budget.answer, cross), space.fingerprint)


def _similarity(settings: QuerySettings, space: Space) -> float | None:
    if settings.semantic_similarity is not None:
        return settings.semantic_similarity
    return SAME_FROM.get(space.model.rpartition("/")[2])


def _chunk_room(settings: QuerySettings) -> int:
    """The most tokens of a chunk: what the encoder reads, less what a prefix and special tokens may take of it."""
    return Manifest.read(settings.model_dir).max_tokens - 16
