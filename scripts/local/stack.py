"""The servers and functions of local mode, in the order they need each other."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from scripts.local.aws import Intake, LocalAws
from scripts.local.founding import DATABASE, Secrets, prepare
from scripts.local.postgres import Postgres
from scripts.local.process import HOST, Server, free_port, secret_file
from scripts.local.redis_server import RedisServer
from scripts.local.rest_shim import RestShim
from scripts.model_build import DEFAULT_MODEL, find_model
from shared.adapters.onnx_embedder import Manifest

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "ragzero-local"
QUEUE = "ragzero-local-ingest"
_FUNCTION_TIMEOUT_S = 120
_MOST_WORKERS = 4
_READY_S = 60
_GENERATOR_PATIENCE_S = 600
_GENERATOR_CONTEXT = 4096
VLLM_PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
_VISIBILITY_S = 6 * _FUNCTION_TIMEOUT_S
_SWEEP_EVERY_S, _SWEEP_DELAY_S = 60, 20


class Function(Server):
    """A ragzero function as a child process of local mode."""

    def __init__(
        self,
        name: str,
        folder: Path,
        command: Callable[[int], Sequence[str]],
        variables: Mapping[str, str],
        *,
        port: int | None = None,
        tethered: bool = False,
    ) -> None:
        self.name = name
        super().__init__(folder, port=port, tethered=tethered)
        self._command = command
        self.variables = variables

    def command(self) -> Sequence[str]:
        return [sys.executable, *self._command(self.port)]

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **self.variables}

    def probe(self) -> bool:
        return True


class Api(Function):
    preferred_port = 8000
    grace = 15.0

    def environment(self) -> dict[str, str]:
        drain_s = str(self.grace - 5)
        return super().environment() | {"PORT": str(self.port), "RAGZERO_DRAIN_SECONDS": drain_s}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def probe(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False


class EmbedWorker(Function):
    """Ready for a knock well before it has loaded its model, so nobody waits for it."""

    grace = 30.0

    @classmethod
    def of(
        cls,
        folder: Path,
        model_dir: Path,
        variables: Mapping[str, str],
        *,
        port: int | None = None,
        tethered: bool = False,
    ) -> list[EmbedWorker]:
        """None for a model made from a folder: nobody knows where that lies now, and the CPU lane does it all."""
        source = _torch_model(Manifest.read(model_dir))
        if source is None:
            return []

        def command(port: int) -> list[str]:
            return ["-m", "scripts.local.embed_worker", "--port", str(port)]

        key = {"RAGZERO_EMBED_KEY": secret_file(folder / "embed.key")}
        own = {**variables, "RAGZERO_MODEL_DIR": str(model_dir), **source, **key}
        return [cls("embed", folder, command, own, port=port, tethered=tethered)]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/wake"

    @property
    def wanted(self) -> dict[str, str]:
        """What those who hand work to it need to know of it."""
        return {"RAGZERO_EMBED_URL": self.url, "RAGZERO_EMBED_KEY": self.variables["RAGZERO_EMBED_KEY"]}


class Generator(Function):
    """vLLM in its own environment; the API is started after it, and only then knows that the address is right."""

    grace = 40.0

    def command(self) -> Sequence[str]:
        return [str(VLLM_PYTHON), *self._command(self.port)]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"RAGZERO_GENERATE_PORT": str(self.port)}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def probe(self) -> bool:
        key = self.variables["RAGZERO_GENERATE_API_KEY"]
        try:
            answer = httpx.get(f"{self.url}/health", headers={"Authorization": f"Bearer {key}"}, timeout=2)
        except httpx.TransportError:
            return False
        return answer.status_code == 200


class Stack:
    """Everything local mode runs. say is told what happens; generate is a model for vLLM: a folder, or org/name@commit.

    rest: the functions reach Redis as they would Upstash. variables: for the functions, besides those it gives them.
    tethered: it all ends when this process does, however it does.
    """

    def __init__(
        self,
        folder: Path,
        model_dir: Path,
        say: Callable[[str], None],
        generate: str | None = None,
        *,
        rest: bool = False,
        tethered: bool = False,
    ) -> None:
        self.folder = folder
        self._rest = rest
        self._tethered = tethered
        self.variables: dict[str, str] = {}
        self._generate = generate
        self._model_dir = model_dir
        self._say = say
        folder.mkdir(parents=True, exist_ok=True)
        self.secrets = Secrets.kept_in(folder / "secrets.json")
        self.postgres = Postgres(folder / "postgres", tethered=tethered)
        self.redis = RedisServer(folder / "redis", tethered=tethered)
        self.shim = RestShim(folder / "redis", self.redis, tethered=tethered)
        self.aws = LocalAws(folder / "aws", tethered=tethered)
        self.functions: list[Function] = []

    @property
    def servers(self) -> list[Server]:
        return [self.postgres, self.redis, self.aws, self.shim, *self.functions]

    def start(self) -> None:
        self._say("starting PostgreSQL, Redis, S3 and SQS")
        outside = (self.aws, self.redis, self.postgres)
        for server in outside:
            server.start()
        for server in outside:
            server.wait_ready(_READY_S)
        _started(self.shim)
        intake = self.aws.ensure(BUCKET, QUEUE, visibility=_VISIBILITY_S)
        self._say("bringing the database to the current schema")
        prepare(self.postgres, self.secrets, self._model_dir)
        self._say("starting the API, the ingest worker and the embedding worker")
        generator = self._generator()
        embed = EmbedWorker.of(
            self.folder, self._model_dir, self._variables("embed"), tethered=self._tethered
        )
        for worker in embed:
            worker.start()
        self.functions = [*generator, self._api(generator, intake), self._ingest(intake, embed), *embed]
        self.functions.append(self._reindex(intake, embed))
        for function in self.functions:
            _started(function)
        if self.api.port != Api.preferred_port:
            self._say(f"port {Api.preferred_port} is taken: the API listens on {self.api.port}")
        self._write_env()

    def stop(self) -> None:
        for server in reversed(self.servers):
            server.stop()

    def restart_dead(self) -> list[str]:
        """The names of the servers that had ended and were started again."""
        dead = [server for server in self.servers if not server.running()]
        for server in dead:
            _started(server)
        return [server.name for server in dead]

    @property
    def api(self) -> Api:
        return next(function for function in self.functions if isinstance(function, Api))

    def _database_url(self, role: str) -> str:
        return self.postgres.dsn(f"ragzero_{role}", self.secrets.passwords[role], DATABASE)

    def _variables(self, role: str) -> dict[str, str]:
        return {
            **self.aws.variables,
            "DATABASE_URL": self._database_url(role),
            "RAGZERO_BUCKET": BUCKET,
            "RAGZERO_DEFAULT_TENANT": self.secrets.tenant,
            "RAGZERO_MODEL_DIR": str(self._model_dir),
            "RAGZERO_WEBHOOKS_PRIVATE": "1",  # whoever tries them out listens on this machine
            **self._redis(),
            **self.variables,
        }

    def _redis(self) -> dict[str, str]:
        """The very client that talks to Upstash goes through the shim; Redis's own protocol is faster, and the default."""
        if self._rest:
            return {"UPSTASH_REDIS_REST_URL": self.shim.url, "UPSTASH_REDIS_REST_TOKEN": self.shim.token}
        return {"REDIS_URL": self.redis.url}

    def _generator(self) -> list[Generator]:
        """The model's server, ready; none without a model."""
        if self._generate is None:
            return []
        self._say(f"starting vLLM with {self._generate} (a minute or more on a CPU)")
        model, _, revision = self._generate.partition("@")
        variables = {
            "RAGZERO_GENERATE_MODEL": model,
            **({"RAGZERO_GENERATE_REVISION": revision} if revision else {}),
            "RAGZERO_GENERATE_SERVED_NAME": Path(model).name,
            "RAGZERO_GENERATE_MAX_MODEL_LEN": str(_GENERATOR_CONTEXT),
            "RAGZERO_GENERATE_API_KEY": secret_file(self.folder / "generate.key"),
            "RAGZERO_GENERATE_ENGINE_PORT": str(free_port()),
            "RAGZERO_GENERATE_DTYPE": "float32",
            "RAGZERO_GENERATE_ENFORCE_EAGER": "1",
            "RAGZERO_GENERATE_CPU_KV_CACHE_GB": "1",
        }

        generator = Generator(
            "generate",
            self.folder,
            lambda _port: ["-m", "functions.generate"],
            variables,
            tethered=self._tethered,
        )
        generator.start()
        generator.wait_ready(_GENERATOR_PATIENCE_S)
        return [generator]

    def _api(self, generator: Sequence[Generator], intake: Intake) -> Api:
        return Api(
            "api",
            self.folder,
            lambda _port: ["-m", "functions.query.serving"],
            {
                **self._variables("query"),
                "RAGZERO_KEY_PEPPER": self.secrets.pepper,
                "RAGZERO_QUEUE_URL": intake.queue_url,
                "RAGZERO_DEAD_LETTER_URL": intake.dead_letter_url,
                **_reached(generator),
            },
            tethered=self._tethered,
        )

    def _ingest(self, intake: Intake, embed: Sequence[EmbedWorker]) -> Function:
        # one encoder thread each, and one more than cores: while one talks to the bucket and the database, the others encode
        cores = os.cpu_count() or 1
        workers = min(cores + 1, _MOST_WORKERS)
        options = {
            "--handler": "functions.ingest.handler:handler",
            "--queue-url": intake.queue_url,
            "--timeout": str(_FUNCTION_TIMEOUT_S),
            "--batch-size": "10",
            "--retry-delay": "1",
            "--maximum-concurrency": str(workers),
        }
        command = ["-m", "scripts.local.event_source", *(part for pair in options.items() for part in pair)]
        variables = {
            **self._variables("ingest"),
            "RAGZERO_QUEUE_URL": intake.queue_url,
            "RAGZERO_ENCODER_THREADS": str(max(1, cores // workers)),
        }
        every = variables | _knocked_for(embed)
        return Function("ingest", self.folder, lambda _port: command, every, tethered=self._tethered)

    def _reindex(self, intake: Intake, embed: Sequence[EmbedWorker]) -> Function:
        options = {
            "--handler": "functions.reindex.handler:handler",
            "--event": json.dumps([{"task": "sweep"}, {"task": "expire"}]),
            "--every": str(_SWEEP_EVERY_S),
            "--delay": str(_SWEEP_DELAY_S),
        }
        command = ["-m", "scripts.local.scheduler", *(part for pair in options.items() for part in pair)]
        variables = {
            "RAGZERO_QUEUE_URL": intake.queue_url,
            "RAGZERO_DEAD_LETTER_URL": intake.dead_letter_url,
            "RAGZERO_SWEEP_GRACE_SECONDS": "30",
            "RAGZERO_SWEEP_PATIENCE_SECONDS": str(_VISIBILITY_S),
        }
        every = self._variables("reindex") | variables | _knocked_for(embed)
        return Function("reindex", self.folder, lambda _port: command, every, tethered=self._tethered)

    def _write_env(self) -> None:
        values = {
            "RAGZERO_API_URL": self.api.url,
            "RAGZERO_API_KEY": self.secrets.api_key,
            "RAGZERO_ADMIN_KEY": self.secrets.admin_key,
            "RAGZERO_TENANT": self.secrets.tenant,
            "DATABASE_ADMIN_URL": self.postgres.dsn(dbname=DATABASE),
            **self._variables("owner"),
            "UPSTASH_REDIS_REST_URL": self.shim.url,
            "UPSTASH_REDIS_REST_TOKEN": self.shim.token,
        }
        values.pop("REDIS_URL", None)  # one Redis, one way to it
        path = self.folder / "env"
        path.touch(mode=0o600)
        path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))


def _knocked_for(embed: Sequence[EmbedWorker]) -> dict[str, str]:
    return embed[0].wanted if embed else {}


def _torch_model(manifest: Manifest) -> dict[str, str] | None:
    """Where the embedding worker finds the original of the ONNX model."""
    if manifest.model == DEFAULT_MODEL:
        return {"RAGZERO_EMBED_MODEL": str(find_model(DEFAULT_MODEL)), "HF_HUB_OFFLINE": "1"}
    if "/" in manifest.model and re.fullmatch("[0-9a-f]{40}", manifest.revision):
        return {"RAGZERO_EMBED_MODEL": manifest.model, "RAGZERO_EMBED_REVISION": manifest.revision}
    return None


def _reached(generators: Sequence[Generator]) -> dict[str, str]:
    """What the API needs to know of the model's server."""
    return {
        name: value
        for generator in generators
        for name, value in {
            "RAGZERO_GENERATOR_URL": generator.url,
            "RAGZERO_GENERATOR_API_KEY": generator.variables["RAGZERO_GENERATE_API_KEY"],
            "RAGZERO_GENERATOR_MODEL": generator.variables["RAGZERO_GENERATE_SERVED_NAME"],
            "RAGZERO_GENERATOR_CONTEXT_TOKENS": str(_GENERATOR_CONTEXT),
            "RAGZERO_GENERATOR_TOKENIZER": _tokenizer(generator.variables["RAGZERO_GENERATE_MODEL"]),
        }.items()
        if value
    }


def _tokenizer(model: str) -> str | None:
    """Of a model in a folder; for others, tokens are estimated."""
    path = Path(model) / "tokenizer.json"
    return str(path) if path.exists() else None


def _started(server: Server) -> None:
    server.start()
    server.wait_ready(_READY_S)
