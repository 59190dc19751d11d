"""Where query meets its settings and the adapters they choose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from functions.query import rendering
from functions.query.answering import AnswerService, Models
from functions.query.desk import AnswerDesk
from functions.query.documents import DocumentService
from functions.query.prompting import Budget, CountTokens, estimated_tokens
from functions.query.service import QueryService
from shared import telemetry
from shared.adapters.generator import Generator
from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.adapters.postgres.answers import AnswerStore
from shared.adapters.postgres.catalog import Catalog
from shared.adapters.postgres.connection import AsyncDatabase, Database
from shared.adapters.postgres.documents import DocumentStore
from shared.adapters.postgres.search import Searcher, SearchOptions
from shared.adapters.s3 import Bucket
from shared.core.completion import Prices
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
    desk: AnswerDesk
    documents: DocumentService
    bucket: str
    pepper: str
    close: Callable[[], Awaitable[None]]


async def wire(settings: QuerySettings, embedder: OnnxEmbedder | None = None) -> Graph:
    """embedder is loaded from the settings' folder unless one is given.

    Raises ConfigurationError naming the setting when a model's address, key or name is wrong.
    """
    telemetry.configure(settings.log_level)
    url = settings.database_url.get_secret_value()
    models, generators = await _models(settings)
    database = AsyncDatabase(url, max_connections=settings.max_connections)
    catalog = Catalog(database)
    space = await catalog.space()
    writes = Database(url, connect_timeout=5)
    bucket = Bucket(settings.bucket, endpoint_url=settings.aws_endpoint_url, region=settings.aws_region)
    searcher = Searcher(database, space, SearchOptions(exact_below=settings.exact_below))
    questions = QueryService(searcher, _embedder(settings, space, embedder))
    answers = AnswerStore(database)
    desk = AnswerDesk(
        AnswerService(questions, models, answers),
        answers,
        rendering.answer,
        settings.generator_patience_seconds,
    )

    async def close() -> None:
        await desk.close()
        for generator in generators:
            await generator.aclose()
        await database.close()
        writes.close()

    documents = DocumentService(catalog, DocumentStore(writes), bucket, settings.default_tenant)
    pepper = settings.pepper.get_secret_value()
    return Graph(database, catalog, questions, desk, documents, settings.bucket, pepper, close)


async def _models(settings: QuerySettings) -> tuple[Models, list[Generator]]:
    main = _generator(settings, "generator", _proxy_token(settings))
    fallback = _generator(settings, "fallback", {})
    generators = [generator for generator in (main, fallback) if generator is not None]
    try:
        for generator in generators:
            await generator.check()
    except BaseException:
        for generator in generators:
            await generator.aclose()
        raise
    budget = Budget(settings.generator_context, settings.generator_max_tokens)
    return Models(main, fallback, budget, _counter(settings)), generators


def _generator(settings: QuerySettings, prefix: str, headers: Mapping[str, str]) -> Generator | None:
    url, key = getattr(settings, f"{prefix}_url"), getattr(settings, f"{prefix}_api_key")
    if url is None:
        return None
    return Generator(
        url,
        key.get_secret_value() if key else None,
        getattr(settings, f"{prefix}_model"),
        headers=headers,
        prices=Prices(settings.price_prompt, settings.price_completion, settings.price_gpu_second),
        setting=f"RAGZERO_{prefix.upper()}",
    )


def _proxy_token(settings: QuerySettings) -> dict[str, str]:
    key, secret = settings.generator_proxy_key, settings.generator_proxy_secret
    if key is None or secret is None:
        return {}
    return {"Modal-Key": key.get_secret_value(), "Modal-Secret": secret.get_secret_value()}


def _counter(settings: QuerySettings) -> CountTokens:
    if settings.generator_tokenizer is None:
        return estimated_tokens
    from tokenizers import Tokenizer  # heavy: loaded when first used

    tokenizer = Tokenizer.from_file(str(settings.generator_tokenizer))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


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
