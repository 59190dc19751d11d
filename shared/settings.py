"""The only reader of the environment. One model per function; a wrong or missing variable is named in the error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
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
    embed_key: SecretStr | None = Field(None, validation_alias="RAGZERO_EMBED_KEY", min_length=16)
    modal_key: SecretStr | None = Field(None, validation_alias="RAGZERO_MODAL_KEY")
    modal_secret: SecretStr | None = Field(None, validation_alias="RAGZERO_MODAL_SECRET")
    """The proxy token that Modal asks for besides our key."""
    embed_chunks_per_second: float = Field(500, gt=0, validation_alias="RAGZERO_EMBED_CHUNKS_PER_SECOND")
    """What one container does; scripts/bench embed measures it."""
    embed_goal_seconds: float = Field(120, gt=0, validation_alias="RAGZERO_EMBED_GOAL_SECONDS")
    """As many containers are woken as clear the backlog in this time, up to the next setting."""
    embed_max_containers: int = Field(4, ge=1, le=100, validation_alias="RAGZERO_EMBED_MAX_CONTAINERS")

    @model_validator(mode="after")
    def _url_needs_key(self) -> Self:
        if self.embed_url is not None:
            if not self.embed_url.startswith(("https://", "http://")):
                raise ConfigurationError("RAGZERO_EMBED_URL", "expected an address that begins with https://")
            if self.embed_key is None:
                raise ConfigurationError("RAGZERO_EMBED_KEY", "is missing; RAGZERO_EMBED_URL needs it")
        return self


class QuerySettings(_Bucket, _Index):
    pepper: SecretStr = Field(validation_alias="RAGZERO_KEY_PEPPER", min_length=16)
    max_connections: int = Field(8, ge=1, le=100, validation_alias="RAGZERO_DATABASE_CONNECTIONS")
    exact_below: int = Field(10_000, ge=0, validation_alias="RAGZERO_EXACT_BELOW")
    """Up to this many chunks in scope are scanned exactly; above, the HNSW index is used."""
    max_upload_bytes: int = Field(100 * 2**20, ge=1, validation_alias="RAGZERO_MAX_UPLOAD_BYTES")
    generator_url: str | None = Field(None, validation_alias="RAGZERO_GENERATOR_URL")
    """An OpenAI-compatible server; without one, answers are quotes."""
    generator_api_key: SecretStr | None = Field(None, validation_alias="RAGZERO_GENERATOR_API_KEY")
    generator_model: str | None = Field(None, validation_alias="RAGZERO_GENERATOR_MODEL")
    generator_proxy_key: SecretStr | None = Field(None, validation_alias="RAGZERO_GENERATOR_PROXY_KEY")
    generator_proxy_secret: SecretStr | None = Field(None, validation_alias="RAGZERO_GENERATOR_PROXY_SECRET")
    """The proxy token that Modal asks for besides our key."""
    generator_tokenizer: Path | None = Field(None, validation_alias="RAGZERO_GENERATOR_TOKENIZER")
    """The model's tokenizer.json; without it three bytes are taken for a token."""
    generator_context: int = Field(8_192, ge=256, validation_alias="RAGZERO_GENERATOR_CONTEXT_TOKENS")
    generator_max_tokens: int = Field(512, ge=16, validation_alias="RAGZERO_GENERATOR_MAX_TOKENS")
    generator_patience_seconds: float = Field(
        600, gt=0, validation_alias="RAGZERO_GENERATOR_PATIENCE_SECONDS"
    )
    """How long a sleeping model is waited for while its caller asks again later."""
    price_prompt: float = Field(0, ge=0, validation_alias="RAGZERO_PRICE_PROMPT")
    price_completion: float = Field(0, ge=0, validation_alias="RAGZERO_PRICE_COMPLETION")
    """USD per million tokens."""
    price_gpu_second: float = Field(0, ge=0, validation_alias="RAGZERO_PRICE_GPU_SECOND")
    fallback_url: str | None = Field(None, validation_alias="RAGZERO_FALLBACK_URL")
    fallback_api_key: SecretStr | None = Field(None, validation_alias="RAGZERO_FALLBACK_API_KEY")
    fallback_model: str | None = Field(None, validation_alias="RAGZERO_FALLBACK_MODEL")

    @model_validator(mode="after")
    def _urls_need_models(self) -> Self:
        for prefix in ("generator", "fallback"):
            if getattr(self, f"{prefix}_url") and not getattr(self, f"{prefix}_model"):
                variable = f"RAGZERO_{prefix.upper()}"
                raise ConfigurationError(f"{variable}_MODEL", f"is missing; {variable}_URL needs it")
        return self


class EmbedModelSettings(_Base):
    """What the embedding job can load before it is told any secret."""

    model_dir: Path = Field(validation_alias="RAGZERO_MODEL_DIR")
    """Holds the manifest.json of the space; the ONNX files beside it are not needed."""
    model: str = Field(validation_alias="RAGZERO_EMBED_MODEL", min_length=1)
    """The sentence-transformers model: a folder, or a hub id, which needs the revision too."""
    revision: str | None = Field(None, validation_alias="RAGZERO_EMBED_REVISION", pattern="^[0-9a-f]{40}$")
    """A commit: branches and tags move."""
    device: Literal["cpu", "cuda"] | None = Field(None, validation_alias="RAGZERO_EMBED_DEVICE")
    """The GPU where there is one, otherwise the CPU."""

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.revision is None and not Path(self.model).is_dir():
            problem = f"expected the commit (40 hex digits) of {self.model!r} to use, which is no folder"
            raise ConfigurationError("RAGZERO_EMBED_REVISION", problem)
        return self


class EmbedSettings(_Base):
    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    claim_chunks: int = Field(4096, ge=1, le=65_536, validation_alias="RAGZERO_EMBED_CLAIM_CHUNKS")
    """The most that is taken, and held in memory, at a time; fewer where the encoder is slow."""
    lease_seconds: float = Field(120, gt=0, le=3600, validation_alias="RAGZERO_EMBED_LEASE_SECONDS")
    max_attempts: int = Field(5, ge=1, le=100, validation_alias="RAGZERO_EMBED_MAX_ATTEMPTS")
    patience_seconds: float = Field(10, ge=0, validation_alias="RAGZERO_EMBED_PATIENCE_SECONDS")
    """How long an idle job waits for what other jobs hold, should those have died."""


class WakeSettings(_Base):
    key: SecretStr = Field(validation_alias="RAGZERO_EMBED_KEY", min_length=16)


class WakeProbeSettings(WakeSettings):
    modal_key: SecretStr | None = Field(None, validation_alias="RAGZERO_MODAL_KEY")
    modal_secret: SecretStr | None = Field(None, validation_alias="RAGZERO_MODAL_SECRET")
    timeout_s: float = Field(60, gt=0, validation_alias="RAGZERO_PROBE_SECONDS")


class EmbedDeployment(_Base):
    """What `modal deploy` needs to know of the embedding job."""

    environment: Literal["dev", "staging", "prod"] = Field("dev", validation_alias="MODAL_ENVIRONMENT")
    model: str = Field(validation_alias="RAGZERO_EMBED_MODEL", min_length=1)
    revision: str = Field(validation_alias="RAGZERO_EMBED_REVISION", pattern="^[0-9a-f]{40}$")
    model_dir: Path = Field(validation_alias="RAGZERO_MODEL_DIR")
    gpu: str = Field("T4", validation_alias="RAGZERO_EMBED_GPU", min_length=1)


class GenerateSettings(_Base):
    model: str = Field(validation_alias="RAGZERO_GENERATE_MODEL", min_length=1)
    """A folder (absolute or ./relative), or a hub id, which needs the revision too."""
    revision: str | None = Field(None, validation_alias="RAGZERO_GENERATE_REVISION", pattern="^[0-9a-f]{40}$")
    """A commit: branches and tags move."""
    served_name: str | None = Field(None, validation_alias="RAGZERO_GENERATE_SERVED_NAME")
    """What requests call the model; the model's own name otherwise."""
    api_key: SecretStr = Field(validation_alias="RAGZERO_GENERATE_API_KEY")
    host: str = Field("127.0.0.1", validation_alias="RAGZERO_GENERATE_HOST")
    port: Port = Field(8000, validation_alias="RAGZERO_GENERATE_PORT")
    engine_port: Port = Field(8001, validation_alias="RAGZERO_GENERATE_ENGINE_PORT")
    """The engine's own, on loopback only."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", validation_alias="RAGZERO_GENERATE_DTYPE"
    )
    max_model_len: int | None = Field(None, ge=128, validation_alias="RAGZERO_GENERATE_MAX_MODEL_LEN")
    """Prompt and answer together, in tokens; what the model allows otherwise."""
    max_sequences: int = Field(32, ge=1, le=1024, validation_alias="RAGZERO_GENERATE_MAX_SEQUENCES")
    """More requests than this wait in the engine's queue."""
    prefix_caching: bool = Field(True, validation_alias="RAGZERO_GENERATE_PREFIX_CACHING")
    enforce_eager: bool = Field(False, validation_alias="RAGZERO_GENERATE_ENFORCE_EAGER")
    """Boots faster (no compilation, no graph capture), answers slower."""
    sleep_mode: bool = Field(False, validation_alias="RAGZERO_GENERATE_SLEEP_MODE")
    """Lets the weights leave the GPU, which a GPU memory snapshot needs."""
    cpu_kv_cache_gb: int | None = Field(None, ge=1, validation_alias="RAGZERO_GENERATE_CPU_KV_CACHE_GB")
    """On a CPU: memory for the attention cache."""
    startup_s: float = Field(600, gt=0, validation_alias="RAGZERO_GENERATE_STARTUP_SECONDS")
    drain_s: int = Field(30, ge=0, validation_alias="RAGZERO_GENERATE_DRAIN_SECONDS")
    """How long answers that are being written may go on after SIGTERM."""

    @field_validator("api_key")
    @classmethod
    def _long_enough(cls, key: SecretStr) -> SecretStr:
        if len(key.get_secret_value()) < 16:
            raise ValueError("expected at least 16 characters")
        return key

    @property
    def name(self) -> str:
        return self.served_name or self.model


class GenerateDeployment(_Base):
    """What `modal deploy` needs to know; inside the container, the model and its commit are there again."""

    environment: Literal["dev", "staging", "prod"] = Field("dev", validation_alias="MODAL_ENVIRONMENT")
    model: str = Field(validation_alias="RAGZERO_GENERATE_MODEL", min_length=1)
    revision: str = Field(validation_alias="RAGZERO_GENERATE_REVISION", pattern="^[0-9a-f]{40}$")
    gpu: str = Field("L4", validation_alias="RAGZERO_GENERATE_GPU", min_length=1)
    gpu_snapshot: bool = Field(False, validation_alias="RAGZERO_GENERATE_GPU_SNAPSHOT")
    """Alpha at Modal, so off unless asked for."""


class GenerateProbeSettings(_Base):
    api_key: SecretStr = Field(validation_alias="RAGZERO_GENERATE_API_KEY")
    modal_key: SecretStr | None = Field(None, validation_alias="RAGZERO_MODAL_KEY")
    modal_secret: SecretStr | None = Field(None, validation_alias="RAGZERO_MODAL_SECRET")
    timeout_s: float = Field(600, gt=0, validation_alias="RAGZERO_PROBE_SECONDS")
    """Waking a cold GPU included."""


class MigrateSettings(_Base):
    admin_url: SecretStr = Field(validation_alias="DATABASE_ADMIN_URL")
    """A role that may create roles and extensions; used by migrations only."""
    owner_password: SecretStr = Field(validation_alias="RAGZERO_OWNER_PASSWORD")
    ingest_password: SecretStr = Field(validation_alias="RAGZERO_INGEST_PASSWORD")
    query_password: SecretStr = Field(validation_alias="RAGZERO_QUERY_PASSWORD")
    embed_password: SecretStr = Field(validation_alias="RAGZERO_EMBED_PASSWORD")
