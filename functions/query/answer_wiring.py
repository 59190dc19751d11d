"""Where answers meet their settings and adapters: the gate before them, their caches, what they may spend, and the desk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from functions.query import rendering
from functions.query.answer_cache import AnswerCache
from functions.query.answering import ANSWER_VERSION, AnswerService, Models
from functions.query.desk import AnswerDesk, Caches
from functions.query.gate import Gate
from functions.query.likeness import SemanticCache
from functions.query.service import QueryService
from functions.query.spending import Spending
from shared.adapters.cache.client import Cache
from shared.adapters.cache.reader import EpochReader
from shared.adapters.cache.visits import Visits
from shared.adapters.postgres.answers import AnswerStore
from shared.adapters.postgres.catalog import Catalog
from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.semantic import SemanticStore
from shared.adapters.postgres.usage import UsageStore
from shared.adapters.reranker import Reranker
from shared.core.credentials import Limits
from shared.core.likeness import SAME_FROM
from shared.core.models import Space
from shared.core.recipes import Recipe
from shared.core.sealing import Sealer
from shared.settings import QuerySettings

if TYPE_CHECKING:
    from shared.adapters.onnx_reranker import OnnxReranker


@dataclass(frozen=True, slots=True)
class AnswerTools:
    gate: Gate
    exact: AnswerCache
    spending: Spending
    answering: AnswerService
    desk: AnswerDesk


def answer_tools(
    settings: QuerySettings,
    database: AsyncDatabase,
    catalog: Catalog,
    cache: Cache | None,
    models: Models,
    questions: QueryService,
    reranker: Reranker | OnnxReranker | None,
) -> AnswerTools:
    pepper = settings.pepper.get_secret_value()
    visits = Visits(cache, Sealer(pepper)) if cache else None
    epochs = EpochReader(cache, database)
    gate = Gate(catalog, visits, epochs, pepper, _default_limits(settings))
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
    answers = AnswerStore(database)
    answering = AnswerService(questions, models, answers)
    desk = AnswerDesk(
        answering,
        answers,
        rendering.answer,
        settings.generator_patience_seconds,
        questions,
        Caches(exact, semantic),
        spending,
        epochs,
        gate,
    )
    return AnswerTools(gate, exact, spending, answering, desk)


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
