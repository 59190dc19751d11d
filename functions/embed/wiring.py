"""Where the embedding job meets its settings and the adapters they choose."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from functions.embed.encoder import TorchEncoder
from functions.embed.service import EmbedJob, Encoder, Limits
from shared import telemetry
from shared.adapters.cache import epochs
from shared.adapters.onnx_embedder import Manifest
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.embed_work import EmbedWorkStore
from shared.settings import EmbedModelSettings, EmbedSettings


@cache
def loaded() -> TorchEncoder:
    """The encoder in the CPU's memory."""
    settings = EmbedModelSettings.load()
    telemetry.configure(settings.log_level)
    return TorchEncoder.load(Manifest.read(settings.model_dir), settings.model, settings.revision)


@cache
def placed() -> TorchEncoder:
    """The encoder on the device it will work on, proved."""
    encoder = loaded()
    encoder.place(EmbedModelSettings.load().device)
    return encoder


def job() -> EmbedJob:
    settings = EmbedSettings.load()
    telemetry.configure(settings.log_level)
    return build(settings, placed)


def build(settings: EmbedSettings, encoder: Callable[[], Encoder]) -> EmbedJob:
    """The encoder is only made when there is work."""
    url = settings.database_url.get_secret_value()
    return EmbedJob(
        reading=EmbedWorkStore(Database(url)),
        writing=EmbedWorkStore(Database(url), epochs.connect(settings)),
        encoder=encoder,
        limits=Limits(
            lease_seconds=settings.lease_seconds,
            # read ahead, encoded, stored: three claims at a time have to fit a lease, with room to spare
            seconds_per_claim=min(Limits().seconds_per_claim, settings.lease_seconds / 8),
            claim_chunks=settings.claim_chunks,
            max_attempts=settings.max_attempts,
            patience_seconds=settings.patience_seconds,
        ),
    )
