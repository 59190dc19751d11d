"""Where ingest meets its settings and the adapters they choose."""

from __future__ import annotations

from functools import cache

from functions.ingest.editions import EditionMaker
from functions.ingest.following import Follower
from functions.ingest.parsing import PARSER_VERSION, ParserPool
from functions.ingest.service import IngestService, Limits
from shared import telemetry
from shared.adapters.alarm import Alarm
from shared.adapters.cache import epochs
from shared.adapters.courier import Courier
from shared.adapters.knock import Knock
from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.documents import DocumentStore
from shared.adapters.postgres.editions import EditionStore
from shared.adapters.postgres.filling import FillStore
from shared.adapters.postgres.webhooks import Outbox
from shared.adapters.s3 import Bucket
from shared.adapters.sqs import Queue
from shared.core.backlog import Pace
from shared.settings import IngestSettings
from shared.telemetry import metrics


@cache
def service() -> IngestService:
    """The service of this process, built at the first event and kept."""
    settings = _settings()
    return build(settings, OnnxEmbedder.load(settings.model_dir, threads=settings.encoder_threads))


@cache
def alarm() -> Alarm | None:
    """Without the service, which asks the database when it is built."""
    return _alarm(_settings())


@cache
def _settings() -> IngestSettings:
    settings = IngestSettings.load()
    telemetry.configure(settings.log_level)
    metrics.configure(settings.metrics_form, "ingest")
    return settings


def build(settings: IngestSettings, embedder: OnnxEmbedder) -> IngestService:
    """Raises SpaceMismatch when neither embedder nor the model to follow it is of the active space."""
    database = Database(settings.database_url.get_secret_value())
    embedders = {embedder.fingerprint: embedder}
    if settings.next_model_dir is not None:
        following = OnnxEmbedder.load(settings.next_model_dir, threads=settings.encoder_threads)
        embedders[following.fingerprint] = following
    store = DocumentStore(database, epochs.connect(settings))
    bucket = Bucket(settings.bucket, endpoint_url=settings.aws_endpoint_url, region=settings.aws_region)
    parsers, embedding_job = ParserPool(), _embedding_job(settings)
    return IngestService(
        store=store,
        bucket=bucket,
        parsers=parsers,
        parser_version=PARSER_VERSION,
        embedders=embedders,
        editions=EditionMaker(
            EditionStore(database, store),
            bucket,
            parsers,
            PARSER_VERSION,
            settings.lease_seconds,
            settings.cpu_lane_chunks if embedding_job else None,
        ),
        follower=Follower(store.other_spaces, lambda space: FillStore(database, space.id), embedders),
        default_tenant=settings.default_tenant,
        embedding_job=embedding_job,
        courier=Courier(Outbox(database), private=settings.webhooks_private, alarm=_alarm(settings)),
        limits=Limits(
            lease_seconds=settings.lease_seconds,
            max_object_bytes=settings.max_object_bytes,
            cpu_lane_chunks=settings.cpu_lane_chunks,
        ),
    )


def _alarm(settings: IngestSettings) -> Alarm | None:
    if settings.queue_url is None:
        return None
    return Alarm(
        Queue(settings.queue_url, endpoint_url=settings.aws_endpoint_url, region=settings.aws_region)
    )


def _embedding_job(settings: IngestSettings) -> Knock | None:
    if settings.embed_url is None or settings.embed_key is None:
        return None
    pace = Pace(settings.embed_chunks_per_second, settings.embed_goal_seconds, settings.embed_max_containers)
    proxy = (settings.modal_key, settings.modal_secret)
    return Knock(
        settings.embed_url,
        settings.embed_key.get_secret_value(),
        pace,
        proxy_token=tuple(part.get_secret_value() if part else "" for part in proxy),
    )
