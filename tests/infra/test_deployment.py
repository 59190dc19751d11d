"""scripts/deploy, destroy and env: the order of things, going on after a failure, what is left behind, the first key."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from functions.ingest.wiring import build
from scripts.deployment import models
from scripts.deployment.__main__ import expired, main
from scripts.deployment.leftovers import leftovers
from scripts.deployment.openapi import write_openapi
from scripts.deployment.smoke import smoke
from scripts.deployment.stack import ENVIRONMENTS, ROOT, stacks_of
from scripts.deployment.steps import Deployment, Stopped, first_key
from scripts.deployment.target import Target
from scripts.local.founding import Secrets
from scripts.local.process import free_port
from shared.core.errors import BadUpstream, ConfigurationError
from shared.settings import IngestSettings, QuerySettings, ReindexSettings
from tests.e2e.target import Target as Seen
from tests.e2e.target import Tenant
from tests.fakes.modal_server import DOOR, GENERATE, FakeModal
from tests.support.installation import PASSWORD, PEPPER, Installation
from tests.support.moto_server import Moto
from tests.support.servers import running
from tests.support.serving_process import ServingProcess

DEPLOYED = ["ragzero-embed", "ragzero-generate"]


@pytest.fixture(scope="module")
def moto_server(state_folder: Path) -> Iterator[Moto]:
    with running(Moto(state_folder / "moto-deployment", port=free_port(), tethered=True)) as server:
        yield server


@pytest.fixture
def moto(moto_server: Moto, monkeypatch: pytest.MonkeyPatch) -> Moto:
    for name, value in moto_server.variables.items():
        monkeypatch.setenv(name, value)
    return moto_server


@dataclass
class Rehearsal(Deployment):
    """Its steps are its own names, said; one of them may fail."""

    fails: str | None = None
    done: list[str] = field(default_factory=list)

    @property
    def steps(self) -> Mapping[str, Callable[[], None]]:
        return {name: lambda name=name: self._do(name) for name in super().steps}

    def check_states(self) -> None:
        """They are there."""

    def _do(self, name: str) -> None:
        if name == self.fails:
            raise ConfigurationError(name, "is not ready")
        self.done.append(name)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_database_comes_before_its_schema_and_that_before_the_app(environment: str, moto: Moto) -> None:
    steps = list(Deployment(Target.named(environment), print).steps)
    assert steps == ["build", *stacks_of(environment)[:-1], "migrate", "modal", "app", "smoke"]


def test_a_deployment_goes_on_where_it_stopped(moto: Moto) -> None:
    rehearsal = Rehearsal(Target.named("dev"), print, fails="migrate")
    with pytest.raises(Stopped, match=r"migrate failed: .*is not ready\n.*scripts/deploy dev --from migrate"):
        rehearsal.run()
    assert rehearsal.done == ["build", "database-neon", "cache-upstash"]
    rehearsal.fails = None
    rehearsal.run("migrate")
    assert rehearsal.done[3:] == ["migrate", "modal", "app", "smoke"]


def test_a_short_lived_one_is_told_its_own_command(moto: Moto) -> None:
    with pytest.raises(Stopped, match=r"scripts/env up pr-1 --from app"):
        Rehearsal(Target("pr-1", "dev"), print, fails="app").run()


def test_a_step_nobody_knows_is_refused_with_those_there_are(moto: Moto) -> None:
    with pytest.raises(ConfigurationError, match=r"expected one of build, .*, got tomorrow"):
        Rehearsal(Target.named("dev"), print).run("tomorrow")


def test_a_stack_can_be_left_out(moto: Moto) -> None:
    assert "cache-upstash" not in Deployment(Target.named("dev"), print, ["cache-upstash"]).steps


def test_an_account_without_states_is_told_what_to_do(moto: Moto) -> None:
    with pytest.raises(ConfigurationError, match=r"ragzero-state-\d{12}.*once per account"):
        Deployment(Target.named("dev"), print).run()


def test_a_short_lived_environment_takes_devs_files_under_its_own_name(moto: Moto) -> None:
    options = Target("pr-123", "dev", {"expires": "2026-11-22T10:00+00:00"}).stack("app").options
    assert [option.rpartition("/")[2] for option in options[:2]] == ["dev.tfvars", "dev.app.tfvars"]
    assert options[2:4] == ["-var=environment=pr-123", '-var=tags={expires="2026-11-22T10:00+00:00"}']


@pytest.mark.parametrize(
    "arguments", [["deploy", "pr-1"], ["env", "up", "dev"], ["env", "up", "pr-1", "--ttl", "soon"]]
)
def test_a_wrong_name_or_time_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)


def test_nothing_is_destroyed_without_saying_its_name_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["destroy", "prod"]) == 2
    assert "--confirm prod" in capsys.readouterr().out


class _Vendor(BaseHTTPRequestHandler):
    """Neon and Upstash, as far as they are asked."""

    def do_GET(self) -> None:
        asked_for_projects = self.path.startswith("/projects")
        told: object = (
            {"projects": [{"id": "p-1", "name": "ragzero-dev"}, {"id": "p-2", "name": "ragzero-staging"}]}
            if asked_for_projects
            else [{"database_id": "d-1", "database_name": "ragzero-dev"}]
        )
        body = json.dumps(told).encode()
        self.send_response(200 if self.headers["Authorization"] else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quietly."""


@pytest.fixture
def vendors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Vendor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("NEON_API_URL", "UPSTASH_API_URL"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_address[1]}")
    for name in ("NEON_API_KEY", "UPSTASH_EMAIL", "UPSTASH_API_KEY"):
        monkeypatch.setenv(name, "nobody")
    yield
    server.shutdown()
    server.server_close()


def test_what_was_left_behind_is_listed_with_who_could_not_be_asked(
    moto: Moto, vendors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = [{"Key": "project", "Value": "ragzero"}, {"Key": "environment", "Value": "dev"}]
    topic = moto.client("sns").create_topic(Name="ragzero-dev-alarms", Tags=tags)["TopicArn"]
    others = [{**tags[0]}, {"Key": "environment", "Value": "staging"}]
    moto.client("sns").create_topic(Name="ragzero-staging-alarms", Tags=others)
    moto.client("ssm").put_parameter(
        Name="/ragzero/dev/query/RAGZERO_GENERATOR_URL", Value="u", Type="String"
    )
    moto.client("ssm").put_parameter(Name="/ragzero/dev-2/database", Value="u", Type="String")
    moto.client("logs").create_log_group(logGroupName="/aws/lambda/ragzero-dev-ingest")
    monkeypatch.setenv("MODAL_TOKEN_ID", "")
    monkeypatch.setenv("MODAL_CONFIG_PATH", "/nowhere")
    left = leftovers(Target.named("dev"))
    assert [each for each in left if not each.startswith("unknown")] == [
        "Neon project p-1",
        "SSM parameter /ragzero/dev/query/RAGZERO_GENERATOR_URL",
        "Upstash database d-1",
        topic,
        "log group /aws/lambda/ragzero-dev-ingest",
    ]
    (unknown,) = [each for each in left if each.startswith("unknown")]
    assert unknown.startswith("unknown: Modal could not be asked (modal: does not answer: ")
    assert "modal token new" in unknown
    assert leftovers(Target.named("dev"), ["modal", "database-neon", "cache-upstash"]) == [
        each for each in left if not each.startswith(("unknown", "Neon", "Upstash"))
    ]
    assert leftovers(Target("pr-9", "dev")) == []


def test_who_cannot_be_asked_is_not_taken_for_nothing(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEON_API_KEY", raising=False)
    monkeypatch.setenv("UPSTASH_EMAIL", "nobody")
    monkeypatch.setenv("UPSTASH_API_KEY", "nobody")
    monkeypatch.setenv("UPSTASH_API_URL", f"http://127.0.0.1:{free_port()}")
    left = leftovers(Target("pr-10", "dev"))
    assert [each.split(" could")[0] for each in left] == ["unknown: Neon", "unknown: Upstash"]


@pytest.fixture
def on_modal(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeModal]:
    """Both models are deployed, and somebody else's."""
    with FakeModal([*DEPLOYED, "a-neighbours"], ["ragzero-weights", "a-neighbours"]) as made:
        for name, value in made.variables.items():
            monkeypatch.setenv(name, value)
        yield made


def addresses(environment: str) -> tuple[str, str]:
    """Asked by a process of its own: Modal's client keeps its connection until the process ends."""
    ask = f"import json; from scripts.deployment.models import addresses; print(json.dumps(addresses({environment!r})))"
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    door, generator = json.loads(done.stdout)
    return door, generator


def test_functions_are_told_where_the_models_are_until_these_are_stopped(
    moto: Moto, on_modal: FakeModal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SSM parameters that they read, by Modal's own client; what costs money is stopped, what holds weights is named."""
    given = {"RAGZERO_EMBED_KEY": "e", "RAGZERO_GENERATE_API_KEY": "g", "RAGZERO_GENERATE_MODEL": "org/model"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    staging = Target.named("staging")
    staging.store(models.parameters(*addresses("staging")))
    query, ingest = staging.stored("query"), staging.stored("ingest")
    assert query["RAGZERO_GENERATOR_URL"] == GENERATE
    assert (query["RAGZERO_GENERATOR_MODEL"], query["RAGZERO_GENERATOR_API_KEY"]) == ("org/model", "g")
    assert ingest == staging.stored("reindex") == {"RAGZERO_EMBED_URL": DOOR, "RAGZERO_EMBED_KEY": "e"}

    staging.store({"query": {"RAGZERO_KEY_PEPPER": PEPPER}})
    models.stop(staging, print)
    assert sorted(on_modal.stopped) == sorted(DEPLOYED)
    assert on_modal.apps == ["a-neighbours"]
    assert (set(staging.stored("query")), staging.stored("ingest")) == ({"RAGZERO_KEY_PEPPER"}, {})
    weights = "Modal Volume ragzero-weights (modal volume delete ragzero-weights --env staging)"
    assert list(models.left(staging)) == [weights]
    models.stop(staging, print)  # a second time finds nothing to stop


def test_an_app_that_runs_is_left_behind(moto: Moto, on_modal: FakeModal) -> None:
    left = leftovers(Target.named("staging"), ["database-neon", "cache-upstash"])
    assert [each for each in left if each.startswith("Modal app")] == [
        f"Modal app {name}" for name in DEPLOYED
    ]


def test_what_the_models_step_stores_is_what_functions_read() -> None:
    read = {"query": QuerySettings, "ingest": IngestSettings, "reindex": ReindexSettings}
    for reader, names in models.PARAMETERS.items():
        aliases = {str(field.validation_alias) for field in read[reader].model_fields.values()}
        assert set(names) <= aliases, reader


def test_a_short_lived_environment_borrows_the_generator_and_stops_nobodys(
    moto: Moto, on_modal: FakeModal
) -> None:
    """The embedding job works in one environment's database, so it is not shared."""
    dev, pr = Target.named("dev"), Target("pr-11", "dev")
    dev.store({"query": {"RAGZERO_GENERATOR_URL": "u"}, "ingest": {"RAGZERO_EMBED_URL": "v"}})
    models.deploy(pr, print)
    assert (pr.stored("query"), pr.stored("ingest")) == ({"RAGZERO_GENERATOR_URL": "u"}, {})
    models.stop(pr, print)
    assert pr.stored("query") == {}
    assert dev.stored("query")["RAGZERO_GENERATOR_URL"] == "u"
    assert on_modal.stopped == []


def test_what_has_outlived_its_time_is_found(moto: Moto) -> None:
    now = datetime.now(UTC)
    for name, hours in (("pr-1", -1), ("pr-2", 1), ("prod", -1)):
        tags = {
            "project": "ragzero",
            "environment": name,
            "expires": (now + timedelta(hours=hours)).isoformat(timespec="minutes"),
        }
        found = [{"Key": key, "Value": value} for key, value in tags.items()]
        moto.client("sns").create_topic(Name=f"ragzero-{name}", Tags=found)
    assert expired(now) == ["pr-1"]


def test_the_first_key_is_the_same_each_time_and_the_smoke_test_passes_with_it(
    installation: Installation, moto: Moto, state_folder: Path
) -> None:
    """An API of its own, told what Terraform would tell it; a question is answered from a document that then goes."""
    target = Target("smoke", "dev")
    put = moto.client("ssm").put_parameter
    admin = installation.databases.postgres.dsn(dbname=installation.database)
    stored = {
        "query/RAGZERO_KEY_PEPPER": PEPPER,
        "migrate/DATABASE_ADMIN_URL": admin,
        "migrate/RAGZERO_OWNER_PASSWORD": PASSWORD,
    }
    for name, value in stored.items():
        put(Name=f"/ragzero/smoke/{name}", Value=value, Type="SecureString")
    key = first_key(target)
    assert first_key(target) == key
    ingest = build(installation.ingest_settings(default_tenant=target.tenant), installation.embedder)
    installation.__dict__["ingest"] = ingest
    variables = installation.environment("ragzero_query") | {"RAGZERO_DEFAULT_TENANT": str(target.tenant)}
    with running(ServingProcess(state_folder / "smoke", variables)) as api:
        answer = smoke(api.url, key, pause=lambda _: installation.deliver() and None)
        assert "password of the smoke test is" in answer
        with pytest.raises(BadUpstream, match="the document is"):
            smoke(api.url, key, pause=lambda _: None, patience=0)


def test_the_gateway_is_told_which_parameter_takes_the_rest_of_the_path(tmp_path: Path) -> None:
    """A chat model's id is ragzero/<collection>; a parameter of one path segment would not see the collection."""
    paths = json.loads(write_openapi(tmp_path / "openapi.json").read_text())["paths"]
    assert {path for path in paths if path.startswith("/v1/models")} == {"/v1/models", "/v1/models/{model+}"}


def test_what_a_failing_test_prints_holds_no_keys(tmp_path: Path) -> None:
    secrets = Secrets.kept_in(tmp_path / "secrets.json")
    environment = {
        "RAGZERO_API_URL": "http://127.0.0.1:1",
        "RAGZERO_API_KEY": secrets.api_key,
        "RAGZERO_ADMIN_KEY": secrets.admin_key,
        "RAGZERO_BUCKET": "documents",
        "AWS_SECRET_ACCESS_KEY": secrets.pepper,
    }
    target = Seen.named_in(environment)
    printed = repr((secrets, target, Tenant(target, "t", secrets.api_key, "name")))
    hidden = [secrets.api_key, secrets.admin_key, secrets.pepper, *secrets.passwords.values()]
    assert [number for number, secret in enumerate(hidden) if secret in printed] == []


def test_a_database_nobody_made_is_named(moto: Moto) -> None:
    with pytest.raises(ConfigurationError, match="/ragzero/nowhere/query/RAGZERO_KEY_PEPPER: is not stored"):
        first_key(Target("nowhere", "dev"))
