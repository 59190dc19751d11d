"""Where reindex meets its settings and the adapters they choose."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from functions.reindex.audit import Audit
from functions.reindex.canary import Canary
from functions.reindex.closing import Closing
from functions.reindex.service import SweepService
from functions.reindex.upkeep import Upkeep
from functions.reindex.walk import Limits, Means
from shared import telemetry
from shared.adapters.alarm import Alarm
from shared.adapters.cache import epochs
from shared.adapters.courier import Courier
from shared.adapters.knock import Knock
from shared.adapters.postgres.audits import AuditStore
from shared.adapters.postgres.canary import CanaryStore
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.deletions import Eraser
from shared.adapters.postgres.sweeps import SweepStore
from shared.adapters.postgres.webhooks import Outbox
from shared.adapters.s3 import Bucket
from shared.adapters.sqs import Queue
from shared.settings import ReindexSettings
from shared.telemetry import metrics


@dataclass(frozen=True, slots=True)
class Services:
    """What the tasks of the handler are done with."""

    sweep: SweepService
    upkeep: Upkeep
    canary: Canary
    audit: Audit

    def close(self) -> None:
        for service in (self.sweep, self.canary, self.audit):
            service.close()


@cache
def services() -> Services:
    """Those of this process, built at the first event and kept."""
    settings = ReindexSettings.load()
    telemetry.configure(settings.log_level)
    metrics.configure(settings.metrics_form, "reindex")
    return build(settings)


def build(settings: ReindexSettings) -> Services:
    database, told = Database(settings.database_url.get_secret_value()), epochs.connect(settings)
    bucket = Bucket(settings.bucket, endpoint_url=settings.aws_endpoint_url, region=settings.aws_region)
    store = SweepStore(
        database,
        settings.bucket,
        told,
        lease_seconds=settings.lease_seconds,
        grace_seconds=settings.grace_seconds,
        patience_seconds=settings.patience_seconds,
    )
    queue = _queue(settings, settings.queue_url)
    means = Means(
        store=store,
        bucket=bucket,
        ingest=queue,
        default_tenant=settings.default_tenant,
        limits=Limits(
            max_deletes=settings.max_deletes,
            max_delete_share=settings.max_delete_share,
            max_queued=settings.max_queued,
        ),
    )
    canary = Canary(
        CanaryStore(database),
        bar=settings.canary_recall,
        samples=settings.canary_samples,
        more_than=settings.exact_below,
    )
    upkeep = Upkeep(
        store,
        Eraser(database, told),
        Courier(Outbox(database), private=settings.webhooks_private, alarm=Alarm(queue)),
        Closing(store, bucket, queue, settings.closed_tenant_days),
        _embedding_job(settings),
        settings.knock_seconds,
        settings.erase_after_seconds,
    )
    audit = Audit(
        AuditStore(database, settings.bucket, settings.audit_grace_seconds, told),
        bucket,
        dead_letters=_queue(settings, settings.dead_letter_url) if settings.dead_letter_url else None,
    )
    return Services(SweepService(means), upkeep, canary, audit)


def _queue(settings: ReindexSettings, url: str) -> Queue:
    return Queue(url, endpoint_url=settings.aws_endpoint_url, region=settings.aws_region)


def _embedding_job(settings: ReindexSettings) -> Knock | None:
    if settings.embed_url is None or settings.embed_key is None:
        return None
    key = settings.embed_key.get_secret_value()
    return Knock(settings.embed_url, key, settings.pace, proxy_token=settings.proxy_token)
