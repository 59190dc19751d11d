"""Where the routes about the index meet their settings and adapters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from functions.query.diagnosis import DiagnosisService
from functions.query.doctor import (
    DatabaseChecks,
    Doctor,
    Expected,
    OutsideChecks,
    SettingsChecks,
    SweepChecks,
)
from functions.query.index_schemas import Confirmed
from functions.query.letters import LetterService
from shared.adapters.cache.client import Cache
from shared.adapters.postgres import migrate
from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.diagnosis import Diagnoses, pooling
from shared.adapters.s3 import Bucket
from shared.adapters.sqs import Queue
from shared.core.errors import NotFound
from shared.core.models import Space
from shared.settings import QuerySettings


@dataclass(frozen=True, slots=True)
class IndexTools:
    """dead_letters is None where the settings do not name both queues."""

    store: Diagnoses
    diagnosis: DiagnosisService
    doctor: Doctor
    settings: QuerySettings
    dead_letters: LetterService | None

    def letters(self) -> LetterService:
        if self.dead_letters is None:
            raise NotFound(
                "RAGZERO_QUEUE_URL and RAGZERO_DEAD_LETTER_URL are not both set: no dead letters to see"
            )
        return self.dead_letters

    async def confirm(self, sweep: int, who: str) -> Confirmed:
        row = await self.store.confirm(sweep, who)
        if row is None:
            raise NotFound(f"sweep {sweep} does not exist, or holds no deletes back")
        return Confirmed(id=row["id"], held=row["counts"]["held"], confirmed_by=row["confirmed_by"])


def index_tools(
    settings: QuerySettings,
    database: AsyncDatabase,
    bucket: Bucket,
    space: Space,
    cache: Cache | None,
    *,
    encoder: bool,
) -> IndexTools:
    """encoder: whether there is one, and it is that of the space."""
    store = Diagnoses(database, settings.bucket)
    queue, dead = (queue_of(settings, url) for url in (settings.queue_url, settings.dead_letter_url))
    expected = Expected(migrate.ROLES, migrate.shipped(), space.name, encoder, settings.default_tenant)
    reached = partial(pooling, settings.database_url.get_secret_value())
    doctor = Doctor(
        DatabaseChecks(store, expected, reached),
        OutsideChecks(store, bucket, queue, dead, cache),
        SweepChecks(store),
        SettingsChecks(settings.drift),
    )
    letters = (
        LetterService(dead, queue, store, settings.bucket, settings.default_tenant)
        if queue and dead
        else None
    )
    diagnosis = DiagnosisService(store, bucket, queue, settings.default_tenant)
    return IndexTools(store, diagnosis, doctor, settings, letters)


def queue_of(settings: QuerySettings, url: str | None) -> Queue | None:
    return Queue(url, endpoint_url=settings.aws_endpoint_url, region=settings.aws_region) if url else None
