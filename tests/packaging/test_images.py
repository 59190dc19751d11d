"""The images and the compose file, as far as they can be tried where no container engine is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from scripts.local.aws import LocalAws
from scripts.local.postgres import Postgres
from scripts.local.process import HOST, Server, free_port
from scripts.local.redis_server import RedisServer
from shared import settings
from tests.packaging.images import ROOT, Image
from tests.support.installation import PASSWORD, PEPPER
from tests.support.servers import running

FUNCTIONS = ("ingest", "query", "reindex")
COMPOSE = ROOT / "infra" / "compose" / "compose.yaml"


def image(function: str) -> Image:
    return Image(ROOT / "functions" / function / "Dockerfile")


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return found


# ---- The Dockerfiles.


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_image_is_pinned_small_and_nobodys_root(function: str) -> None:
    made = image(function)
    base = dict(made.stages[0])["ARG"].removeprefix("BASE=")
    assert re.fullmatch(r"python:3\.12\.\d+-slim-\w+", base)
    assert [stage[0][1].partition(" ")[0] for stage in made.stages[1:]] == ["${BASE}", "${BASE}"]
    installing = next(rest for name, rest in made.stages[1] if name == "RUN")
    assert "--require-hashes" in installing
    assert f"functions/{function}/requirements.txt" in dict(made.stages[1])["COPY"]
    order = [name for name, _ in made.stages[-1]]
    assert order.index("USER") < order.index("CMD")
    assert made.values("USER") == ["10001"]
    assert made.values("HEALTHCHECK")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_context_holds_what_is_copied_and_no_more(function: str) -> None:
    """A context without this list would hold .local, with every secret of local mode."""
    made = image(function)
    lines = Path(f"{made.path}.dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert "*" in lines
    for source in [source for source, _ in made.copied] + [f"functions/{function}/requirements.txt"]:
        assert any(source == each or source.startswith(f"{each}/") for each in allowed), source
    assert not {".local", ".local/models", "tests", ".env"} & set(allowed)


# ---- The compose file.


def test_every_setting_is_one_that_its_function_reads() -> None:
    known = {
        "query": settings.QuerySettings,
        "ingest": settings.IngestSettings,
        "reindex": settings.ReindexSettings,
    }
    own_words = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "RAGZERO_QUEUE_URL"}
    for name, model in known.items():
        aliases = {str(field.validation_alias) for field in model.model_fields.values()}
        told = set(compose()["services"][name]["environment"])
        assert told - aliases - own_words == set(), name
        needed = {str(each.validation_alias) for each in model.model_fields.values() if each.is_required()}
        assert needed - told - set(image(name).environment) == set(), name


def test_every_file_and_variable_it_names_is_there() -> None:
    text, services = COMPOSE.read_text(), compose()["services"]
    for name, service in services.items():
        if "dockerfile" in (service.get("build") or {}):
            assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).exists(), (
                name
            )
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose()["volumes"] or (COMPOSE.parent / source).exists(), volume
    asked = set(re.findall(r"\$\{(\w+):\?\}", text))
    assert asked == set(re.findall(r"(?m)^(\w+)=$", (COMPOSE.parent / "env.example").read_text()))
    assert "$" not in re.sub(r"\$\{\w+:\?\}", "", text), "a variable that may be empty"


def test_only_the_api_is_reachable_and_only_from_this_machine() -> None:
    ports = {name: service.get("ports") for name, service in compose()["services"].items()}
    assert {name: each for name, each in ports.items() if each} == {"query": ["127.0.0.1:8080:8080"]}
    for name in FUNCTIONS:
        service = compose()["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


# ---- Both together: the commands of the images on the files of the images, told what the compose file tells them.


class Container(Server):
    """A service of the compose file as a process of this machine, with the Python and the packages of the tests."""

    def __init__(self, service: str, folder: Path, variables: Mapping[str, str], ready: str | None) -> None:
        self.name = service
        super().__init__(folder / service, port=free_port(), tethered=True)
        self._made, self._variables, self._ready = image(service), variables, ready
        self.work = self._made.lay_out(self.folder / "root")

    def command(self) -> Sequence[str]:
        return ["env", f"--chdir={self.work}", *self._made.command]

    def environment(self) -> Mapping[str, str]:
        return {**self._variables, "PORT": str(self.port)}

    def probe(self) -> bool:
        try:
            url = f"http://{HOST}:{self.port}{self._ready}"
            return self._ready is None or httpx.get(url, timeout=20).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def told(
    postgres: Postgres, redis_server: RedisServer, aws: LocalAws, model_dir: Path
) -> Iterator[Mapping[str, Mapping[str, str]]]:
    """Each service's environment, with this machine's addresses in it."""
    database, bucket = f"compose_{uuid.uuid4().hex[:8]}", f"compose-{uuid.uuid4().hex[:8]}"
    values = {"RAGZERO_DEFAULT_TENANT": str(uuid.uuid4()), "RAGZERO_KEY_PEPPER": PEPPER, "REDIS_PASSWORD": ""}
    values["POSTGRES_PASSWORD"] = postgres.password
    here = {
        "redis://:@redis:6379": f"redis://{HOST}:{redis_server.port}",
        "@postgres:5432/ragzero": f"@{HOST}:{postgres.port}/{database}",
        "http://aws:4566/000000000000/ragzero": f"{aws.url}/000000000000/{bucket}",
        "http://aws:4566": aws.url,
    }

    def filled(value: str) -> str:
        value = re.sub(r"\$\{(\w+):\?\}", lambda match: values.get(match[1], PASSWORD), value)
        for there, replacement in here.items():
            value = value.replace(there, replacement)
        return value

    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAGZERO_MODEL_DIR": str(model_dir),
        "PYTHONUNBUFFERED": "1",
    }
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"create database {database}".encode())
    services = {name: each for name, each in compose()["services"].items() if name in (*FUNCTIONS, "setup")}
    yield {
        name: {key: filled(value) for key, value in each["environment"].items()}
        | own
        | {"RAGZERO_BUCKET": bucket}
        for name, each in services.items()
    }
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"drop database {database} with (force)".encode())


def set_up(told: Mapping[str, str], work: Path) -> str:
    """The service setup, once: its mounted files beside those of the ingest image; the key it prints."""
    (work / "setup.py").write_bytes((COMPOSE.parent / "setup.py").read_bytes())
    (work / "scripts" / "migrate.py").write_bytes((ROOT / "scripts" / "migrate.py").read_bytes())
    done = subprocess.run(
        ["python", "setup.py"], cwd=work, env=told, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].removeprefix("API key: ")


def test_the_services_answer_from_an_uploaded_file(
    told: Mapping[str, Mapping[str, str]], tmp_path: Path
) -> None:
    ingest = Container("ingest", tmp_path, told["ingest"], None)
    query = Container("query", tmp_path, told["query"], "/readyz")
    key = set_up(told["setup"], ingest.work)
    assert set_up(told["setup"], ingest.work) == key
    reached = {"base_url": f"http://{HOST}:{query.port}", "headers": {"Authorization": f"Bearer {key}"}}
    with running(ingest), running(query), httpx.Client(**reached, timeout=30) as api:
        sent = api.post("/v1/documents", files={"file": ("pier.md", b"# Pier\n\nThe pier opens at nine.")})
        assert sent.status_code == 202, sent.text
        wait_until_searchable(api, sent.json()["id"])
        answer = api.post("/v1/query", json={"question": "When does the pier open?"}).json()
        assert "nine" in answer["answer"]
    swept = Container("reindex", tmp_path, told["reindex"], None)
    done = subprocess.run(swept.command(), env=told["reindex"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"status": "done"' in done.stdout


def wait_until_searchable(api: httpx.Client, document: str) -> None:
    ends = time.monotonic() + 60
    while (seen := api.get(f"/v1/documents/{document}").json())["status"] != "searchable":
        assert time.monotonic() < ends, seen
        time.sleep(0.1)
