"""The only reader of the environment. One model per function; a wrong or missing variable is named in the error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.core.errors import ConfigurationError

Port = Annotated[int, Field(ge=0, le=65535)]


class _Base(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True
    )

    log_level: str = Field("INFO", validation_alias="RAGZERO_LOG_LEVEL")

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Argument > environment > default. Raises ConfigurationError naming the variable."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(_variable(first["loc"]), first["msg"]) from error


def _variable(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "settings"


class _Bucket(_Base):
    bucket: str = Field(validation_alias="RAGZERO_BUCKET", min_length=3)
    aws_endpoint_url: str | None = Field(None, validation_alias="AWS_ENDPOINT_URL")
    aws_region: str = Field("us-east-1", validation_alias="AWS_REGION")
    default_tenant: UUID | None = Field(None, validation_alias="RAGZERO_DEFAULT_TENANT")
    """Owns the keys that do not begin with tenants/<id>/; without it such keys are refused."""


class _Index(_Base):
    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    model_dir: Path = Field(validation_alias="RAGZERO_MODEL_DIR")
    encoder_threads: int | None = Field(None, ge=1, le=64, validation_alias="RAGZERO_ENCODER_THREADS")


class IngestSettings(_Bucket, _Index):
    max_object_bytes: int = Field(100 * 2**20, ge=1, validation_alias="RAGZERO_MAX_OBJECT_BYTES")
    lease_seconds: int = Field(120, ge=5, le=3600, validation_alias="RAGZERO_LEASE_SECONDS")
    cpu_lane_chunks: int = Field(64, ge=0, validation_alias="RAGZERO_CPU_LANE_CHUNKS")
    """Documents that lack more vectors than this wait for the embedding job."""
    embed_url: str | None = Field(None, validation_alias="RAGZERO_EMBED_URL")
    """Where the embedding job is woken; without one the CPU lane takes documents of any size."""
    embed_key: SecretStr | None = Field(None, validation_alias="RAGZERO_EMBED_KEY")


class QuerySettings(_Bucket, _Index):
    pepper: SecretStr = Field(validation_alias="RAGZERO_KEY_PEPPER", min_length=16)
    max_connections: int = Field(8, ge=1, le=100, validation_alias="RAGZERO_DATABASE_CONNECTIONS")
    exact_below: int = Field(10_000, ge=0, validation_alias="RAGZERO_EXACT_BELOW")
    """Up to this many chunks in scope are scanned exactly; above, the HNSW index is used."""
    max_upload_bytes: int = Field(100 * 2**20, ge=1, validation_alias="RAGZERO_MAX_UPLOAD_BYTES")


class MigrateSettings(_Base):
    admin_url: SecretStr = Field(validation_alias="DATABASE_ADMIN_URL")
    """A role that may create roles and extensions; used by migrations only."""
    owner_password: SecretStr = Field(validation_alias="RAGZERO_OWNER_PASSWORD")
    ingest_password: SecretStr = Field(validation_alias="RAGZERO_INGEST_PASSWORD")
    query_password: SecretStr = Field(validation_alias="RAGZERO_QUERY_PASSWORD")
    embed_password: SecretStr = Field(validation_alias="RAGZERO_EMBED_PASSWORD")
