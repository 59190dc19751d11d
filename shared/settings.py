"""The only reader of the environment. One model per function; a wrong or missing variable is named in the error."""

# Annotations are no texts here: pydantic would read those anew for every class that inherits them, in every cold start.
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from uuid import UUID

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from shared.adapters import aws
from shared.core.backlog import Pace
from shared.core.errors import ConfigurationError, Unavailable
from shared.core.keys import bucket_origin

_PREFIX = "RAGZERO_SSM_PREFIX"
_ORIGIN = r"\*|https?://[^/\s]+"
Port = Annotated[int, Field(ge=0, le=65535)]


class _ParameterSource(EnvSettingsSource):
    """What the environment leaves out, from the SSM parameters <RAGZERO_SSM_PREFIX>/<variable>."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in _parameters(_prefix()).items()}


def _prefix() -> str:
    """Empty where no parameters are to be read."""
    return os.environ.get(_PREFIX, "").rstrip("/")


@cache
def _parameters(prefix: str) -> Mapping[str, str]:
    """Read once per process: a function that is to see a changed one is started anew."""
    return _stored(prefix)


def _stored(prefix: str) -> Mapping[str, str]:
    """Decrypted, by variable."""
    from botocore.config import Config  # heavy: loaded when first used
    from botocore.exceptions import BotoCoreError, ClientError

    patience = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "max_attempts": 3})
    try:
        pages = aws.client("ssm", config=patience).get_paginator("get_parameters_by_path")
        found = [
            one for page in pages.paginate(Path=prefix, WithDecryption=True) for one in page["Parameters"]
        ]
    except ClientError as error:
        raise ConfigurationError(_PREFIX, f"the parameters under {prefix} are refused: {error}") from error
    except BotoCoreError as error:
        raise Unavailable("ssm", f"the parameters under {prefix} could not be read: {error}") from error
    return {one["Name"].removeprefix(f"{prefix}/"): one["Value"] for one in found}


class InForce(NamedTuple):
    """A setting that a process goes by, and where it has it from. value: None for a secret."""

    variable: str
    source: str
    value: str | None


class _Base(BaseSettings):
    model_config = SettingsConfigDict(
        defer_build=True,  # each function reads one or two of these classes
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        populate_by_name=True,
    )

    log_level: str = Field("INFO", validation_alias="RAGZERO_LOG_LEVEL")
    metrics: Literal["prometheus", "emf", "off"] | None = Field(None, validation_alias="RAGZERO_METRICS")
    """EMF lines (CloudWatch) on Lambda and Prometheus text elsewhere, unless said."""
    otlp_endpoint: str | None = Field(
        None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT", pattern="^https?://"
    )
    """Where spans are sent (OTLP/HTTP); without one there are none."""
    lambda_function: str | None = Field(None, validation_alias="AWS_LAMBDA_FUNCTION_NAME")
    """Set by Lambda itself."""

    @property
    def metrics_form(self) -> Literal["prometheus", "emf", "off"]:
        return self.metrics or ("emf" if self.lambda_function else "prometheus")

    def in_force(self) -> list[InForce]:
        """Of each variable."""
        prefix = _prefix()
        known = _parameters(prefix) if prefix else {}
        given = self.model_fields_set
        return [
            InForce(variable, _source(variable, name in given, prefix, known), self._shown(name))
            for variable, name in _variables(type(self)).items()
        ]

    def drift(self) -> list[str]:
        """Parameters that say something this process does not go by, each with who else says what; never a value."""
        prefix = _prefix()
        if not prefix:
            return []
        known, stored, variables = _parameters(prefix), _stored(prefix), _variables(type(self))
        drifts = {
            variable: _drift(variable, known.get(variable), stored.get(variable))
            if variable in variables
            else "is no setting of this function"
            for variable in sorted({*known, *stored})
        }
        return [f"the parameter {prefix}/{variable} {drift}" for variable, drift in drifts.items() if drift]

    def _shown(self, name: str) -> str | None:
        value = getattr(self, name)
        secret = value is None or "SecretStr" in str(type(self).model_fields[name].annotation)
        return None if secret else re.sub("//[^/@]*@", "//***@", str(value))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        stored = (_ParameterSource(settings_cls),) if _prefix() else ()
        return (init_settings, env_settings, *stored, dotenv_settings, file_secret_settings)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Argument > environment > SSM parameter > default. Raises ConfigurationError naming the variable."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(_variable(first["loc"]), first["msg"]) from error


def _variables(settings: type[BaseSettings]) -> dict[str, str]:
    """The fields by their variables; by each of them, where one has several."""
    found: dict[str, str] = {}
    for name, field in settings.model_fields.items():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [alias]
        found |= {str(one): name for one in names}
    return found


def _drift(variable: str, known: str | None, stored: str | None) -> str | None:
    if own := os.environ.get(variable):
        return None if stored in (None, own) else "is not what the environment says, which counts"
    return None if stored == known else "is not what it was when this process began, which goes by that"


def _source(variable: str, given: bool, prefix: str, known: Mapping[str, str]) -> str:
    if not given:
        return "default"
    if os.environ.get(variable):
        return "environment"
    return f"parameter {prefix}/{variable}" if variable in known else "argument"


def _variable(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "settings"


class _Bucket(_Base):
    bucket: str = Field(validation_alias="RAGZERO_BUCKET", min_length=3)
    aws_endpoint_url: str | None = Field(None, validation_alias="AWS_ENDPOINT_URL")
    aws_region: str = Field("us-east-1", validation_alias="AWS_REGION")
    default_tenant: UUID | None = Field(None, validation_alias="RAGZERO_DEFAULT_TENANT")
    """Owns the keys that do not begin with tenants/<id>/; without it such keys are refused."""


class _Webhooks(_Base):
    webhooks_private: bool = Field(False, validation_alias="RAGZERO_WEBHOOKS_PRIVATE")
    """Whether webhooks may be in our own network, and without TLS: for trying things out on one machine."""


class _Index(_Base):
    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    model_dir: Path = Field(validation_alias="RAGZERO_MODEL_DIR")
    next_model_dir: Path | None = Field(None, validation_alias="RAGZERO_NEXT_MODEL_DIR")
    """The model of the space that is to become the active one: used from the moment it is."""
    encoder_threads: int | None = Field(None, ge=1, le=64, validation_alias="RAGZERO_ENCODER_THREADS")


class _Cache(_Base):
    """Redis, over its own protocol or over REST; without it nothing is cached."""

    redis_url: SecretStr | None = Field(None, validation_alias="REDIS_URL")
    redis_rest_url: str | None = Field(None, validation_alias="UPSTASH_REDIS_REST_URL")
    redis_rest_token: SecretStr | None = Field(None, validation_alias="UPSTASH_REDIS_REST_TOKEN")
    epoch_lease_seconds: int = Field(900, ge=1, le=86_400, validation_alias="RAGZERO_EPOCH_LEASE_SECONDS")
    """How long caches believe what they know of a tenant, should nobody be able to tell them; alike in all functions."""
    redis_timeout_ms: int = Field(250, ge=50, le=60_000, validation_alias="RAGZERO_REDIS_TIMEOUT_MS")
    """What a Redis that does not answer may cost a request; connecting to it, three fifths of that."""

    @model_validator(mode="after")
    def _one_redis(self) -> Self:
        if self.redis_url is not None:
            if self.redis_rest_url is not None:
                raise ConfigurationError(
                    "REDIS_URL", "expected either this or UPSTASH_REDIS_REST_URL, not both"
                )
            if not self.redis_url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
                raise ConfigurationError("REDIS_URL", "expected redis://, rediss:// or unix://")
        if self.redis_rest_url is not None:
            if not self.redis_rest_url.startswith(("https://", "http://")):
                problem = "expected an address that begins with https://"
                raise ConfigurationError("UPSTASH_REDIS_REST_URL", problem)
            if self.redis_rest_token is None:
                problem = "is missing; UPSTASH_REDIS_REST_URL needs it"
                raise ConfigurationError("UPSTASH_REDIS_REST_TOKEN", problem)
        return self


class _Knock(_Base):
    embed_url: str | None = Field(None, validation_alias="RAGZERO_EMBED_URL")
    """Where the embedding job is woken; without one the CPU lane takes documents of any size."""
    embed_key: SecretStr | None = Field(None, validation_alias="RAGZERO_EMBED_KEY", min_length=16)
    modal_key: SecretStr | None = Field(None, validation_alias="RAGZERO_MODAL_KEY")
    modal_secret: SecretStr | None = Field(None, validation_alias="RAGZERO_MODAL_SECRET")
    """The proxy token that Modal asks for besides our key."""
    embed_chunks_per_second: float = Field(500, gt=0, validation_alias="RAGZERO_EMBED_CHUNKS_PER_SECOND")
    """What one container does. The default is an assumption until scripts/bench embed has measured your GPU."""
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

    @property
    def pace(self) -> Pace:
        return Pace(self.embed_chunks_per_second, self.embed_goal_seconds, self.embed_max_containers)

    @property
    def proxy_token(self) -> tuple[str, ...]:
        """(key, secret), each empty where there is none."""
        return tuple(part.get_secret_value() if part else "" for part in (self.modal_key, self.modal_secret))


class IngestSettings(_Bucket, _Index, _Cache, _Knock, _Webhooks):
    max_object_bytes: int = Field(100 * 2**20, ge=1, validation_alias="RAGZERO_MAX_OBJECT_BYTES")
    lease_seconds: int = Field(120, ge=5, le=3600, validation_alias="RAGZERO_LEASE_SECONDS")
    cpu_lane_chunks: int = Field(64, ge=0, validation_alias="RAGZERO_CPU_LANE_CHUNKS")
    """Documents that lack more vectors than this wait for the embedding job."""
    queue_url: str | None = Field(None, validation_alias="RAGZERO_QUEUE_URL")
    """The queue it is fed from, for reminders of webhooks to be told again; without it they wait for the sweep."""


class ReindexSettings(_Bucket, _Cache, _Knock, _Webhooks):
    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    queue_url: str = Field(validation_alias="RAGZERO_QUEUE_URL", min_length=1)
    """The queue that ingest is fed from."""
    dead_letter_url: str | None = Field(None, validation_alias="RAGZERO_DEAD_LETTER_URL")
    """Looked through by the audit."""
    lease_seconds: int = Field(60, ge=5, le=3600, validation_alias="RAGZERO_SWEEP_LEASE_SECONDS")
    grace_seconds: int = Field(120, ge=0, validation_alias="RAGZERO_SWEEP_GRACE_SECONDS")
    """What changed less long ago may have its event on the way, and is left to the next sweep."""
    patience_seconds: int = Field(3600, ge=0, validation_alias="RAGZERO_SWEEP_PATIENCE_SECONDS")
    """After this time a hint that changed nothing is sent again."""
    knock_seconds: int = Field(60, ge=0, validation_alias="RAGZERO_SWEEP_KNOCK_SECONDS")
    """Work that waits longer than this while nobody is at it wakes the embedding job."""
    erase_after_seconds: int = Field(1200, ge=0, validation_alias="RAGZERO_ERASE_AFTER_SECONDS")
    """So long after a delete its last traces are looked for: later than the longest stream that began before it ends."""
    closed_tenant_days: int = Field(30, ge=0, validation_alias="RAGZERO_CLOSED_TENANT_DAYS")
    """So long after a tenant was closed its documents are removed, from the bucket, too."""
    max_deletes: int = Field(50, ge=0, validation_alias="RAGZERO_SWEEP_MAX_DELETES")
    max_delete_share: float = Field(0.2, ge=0, le=1, validation_alias="RAGZERO_SWEEP_MAX_DELETE_SHARE")
    """A sweep that misses more documents of a tenant than both of these asks before it deletes any."""
    max_queued: int = Field(10_000, ge=1, validation_alias="RAGZERO_SWEEP_MAX_QUEUED")
    """While more messages than this wait for ingest, the sweep waits with them."""
    exact_below: int = Field(10_000, ge=0, validation_alias="RAGZERO_EXACT_BELOW")
    """As the query function has it: smaller collections are not searched by the index, so the canary leaves them alone."""
    canary_recall: float = Field(0.9, gt=0, le=1, validation_alias="RAGZERO_CANARY_RECALL")
    """A collection whose index finds less than this share of the ten nearest is searched wider, or exactly."""
    audit_grace_seconds: int = Field(86_400, ge=0, validation_alias="RAGZERO_AUDIT_GRACE_SECONDS")
    """What was deleted less long ago may be on its way out."""
    canary_samples: int = Field(20, ge=1, le=1000, validation_alias="RAGZERO_CANARY_SAMPLES")


class QuerySettings(_Bucket, _Index, _Cache, _Webhooks):
    pepper: SecretStr = Field(validation_alias="RAGZERO_KEY_PEPPER", min_length=16)
    environment: str = Field("local", validation_alias="RAGZERO_ENVIRONMENT", pattern="^[a-z0-9-]{1,20}$")
    """Stands in the keys made here: rz_<environment>_..."""
    max_connections: int = Field(8, ge=1, le=100, validation_alias="RAGZERO_DATABASE_CONNECTIONS")
    exact_below: int = Field(10_000, ge=0, validation_alias="RAGZERO_EXACT_BELOW")
    """Up to this many chunks in scope are scanned exactly; above, the HNSW index is used."""
    max_upload_bytes: int = Field(100 * 2**20, ge=1, validation_alias="RAGZERO_MAX_UPLOAD_BYTES")
    page_uploads: Literal["bucket", "api"] = Field("bucket", validation_alias="RAGZERO_PAGE_UPLOADS")
    """Where the page sends files: straight into the bucket, or through the API where browsers cannot reach the bucket."""
    link_seconds: int = Field(3600, ge=60, le=43_200, validation_alias="RAGZERO_LINK_SECONDS")
    """How long an address holds that a file is uploaded to, or fetched from. Never longer than the credentials do."""
    queue_url: str | None = Field(None, validation_alias="RAGZERO_QUEUE_URL")
    dead_letter_url: str | None = Field(None, validation_alias="RAGZERO_DEAD_LETTER_URL")
    """The queues that ingest is fed from and gives up to; without them nothing can be requeued from here."""
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
    rerank_url: str | None = Field(None, validation_alias="RAGZERO_RERANK_URL", pattern="^https?://")
    """Where a cross-encoder answers to /rerank; the mode thorough uses it."""
    rerank_api_key: SecretStr | None = Field(None, validation_alias="RAGZERO_RERANK_API_KEY")
    rerank_model: str | None = Field(None, validation_alias="RAGZERO_RERANK_MODEL")
    rerank_dir: Path | None = Field(None, validation_alias="RAGZERO_RERANK_DIR")
    """A cross-encoder made by scripts/build-model --cross-encoder, run here on the CPU instead."""
    cache_seconds: int = Field(86_400, ge=1, le=30 * 86_400, validation_alias="RAGZERO_CACHE_SECONDS")
    """How long an answer may be given again while no document of its tenant changes."""
    semantic_similarity: float | None = Field(
        None, ge=0.5, le=1.01, validation_alias="RAGZERO_SEMANTIC_SIMILARITY"
    )
    """The cosine from which on a question may be taken for one that was answered; above 1: never. Unless said, what was
    measured for the space's model (scripts/bench likeness), and never for a model nobody measured."""
    key_rate: float = Field(100, gt=0, validation_alias="RAGZERO_KEY_RATE")
    key_burst: int = Field(200, ge=1, validation_alias="RAGZERO_KEY_BURST")
    tenant_rate: float = Field(500, gt=0, validation_alias="RAGZERO_TENANT_RATE")
    tenant_burst: int = Field(1_000, ge=1, validation_alias="RAGZERO_TENANT_BURST")
    """Requests per second, and how many at once on top of that, of keys and tenants without limits of their own."""
    tenant_streams: int = Field(100, ge=1, validation_alias="RAGZERO_TENANT_STREAMS")
    """Answers that may be streamed to a tenant at a time."""
    spend_grace_seconds: float = Field(60, ge=0, validation_alias="RAGZERO_SPEND_GRACE_SECONDS")
    """For so long after Redis went away a tenant with a budget still has its answers written by a model."""
    price_question: float = Field(0.00001, ge=0, validation_alias="RAGZERO_PRICE_QUESTION")
    """USD; what a question takes besides a model, as far as budgets go."""
    request_seconds: float = Field(28, gt=0, validation_alias="RAGZERO_REQUEST_SECONDS")
    """What a request may take, streams excepted: we answer before a gateway gives up, which it does after 29 or 30 s."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field((), validation_alias="RAGZERO_CORS_ORIGINS")
    """Web origins, separated by commas, whose pages may use the API with a key of their own."""
    base_path: str = Field("/", validation_alias="RAGZERO_BASE_PATH", pattern="^/")
    """What API Gateway puts before our paths: /<stage> of an HTTP API, or the base path of a custom domain."""

    @property
    def upload_origin(self) -> str | None:
        """The bucket's, where the page uploads to it."""
        if self.page_uploads == "api":
            return None
        return bucket_origin(self.bucket, self.aws_region, self.aws_endpoint_url)

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        origins = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if isinstance(origins, list | tuple) and not all(re.fullmatch(_ORIGIN, str(one)) for one in origins):
            raise ValueError(f"expected origins such as https://app.example.org, got {value!r}")
        return origins

    @model_validator(mode="after")
    def _urls_need_models(self) -> Self:
        for prefix in ("generator", "fallback", "rerank"):
            if getattr(self, f"{prefix}_url") and not getattr(self, f"{prefix}_model"):
                variable = f"RAGZERO_{prefix.upper()}"
                raise ConfigurationError(f"{variable}_MODEL", f"is missing; {variable}_URL needs it")
        if self.rerank_url and self.rerank_dir:
            raise ConfigurationError(
                "RAGZERO_RERANK_DIR", "expected either this or RAGZERO_RERANK_URL, not both"
            )
        return self


class ServeSettings(_Base):
    """How the query function listens: under the Lambda Web Adapter, or as a server of its own."""

    host: str = Field("127.0.0.1", validation_alias="RAGZERO_HOST")
    port: Port = Field(8080, validation_alias=AliasChoices("AWS_LWA_PORT", "PORT"))
    invoke_mode: str | None = Field(None, validation_alias="AWS_LWA_INVOKE_MODE")
    drain_seconds: float = Field(20, ge=0, validation_alias="RAGZERO_DRAIN_SECONDS")
    """How long requests may go on after SIGTERM."""


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


class EmbedSettings(_Cache):
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


class AdminSettings(_Base):
    admin_url: SecretStr = Field(validation_alias="DATABASE_ADMIN_URL")
    """A role that may create roles, tables and extensions, on the server itself; no function has it."""


class MigrateSettings(AdminSettings):
    owner_password: SecretStr = Field(validation_alias="RAGZERO_OWNER_PASSWORD")
    ingest_password: SecretStr = Field(validation_alias="RAGZERO_INGEST_PASSWORD")
    query_password: SecretStr = Field(validation_alias="RAGZERO_QUERY_PASSWORD")
    embed_password: SecretStr = Field(validation_alias="RAGZERO_EMBED_PASSWORD")
    reindex_password: SecretStr = Field(validation_alias="RAGZERO_REINDEX_PASSWORD")
