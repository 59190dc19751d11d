"""Settings that the environment leaves out come from SSM, on an emulator that speaks as SSM does."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.local.aws import LocalAws
from scripts.local.process import free_port
from shared.core.errors import ConfigurationError, Unavailable
from shared.settings import QuerySettings, ServeSettings
from tests.support.installation import Installation
from tests.support.operating import client
from tests.support.servers import running

PEPPER = "a pepper for tests only"
Store = Callable[..., str]


@pytest.fixture(scope="module")
def ssm(state_folder: Path) -> Iterator[LocalAws]:
    server = LocalAws(
        state_folder / "ssm", port=free_port(), tethered=True, durable=False, services=("ssm", "kms")
    )
    with running(server):
        yield server


@pytest.fixture
def store(ssm: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Store:
    """store(NAME=value): encrypted parameters under a prefix of their own, which the environment then names."""
    for name, value in ssm.variables.items():
        monkeypatch.setenv(name, value)

    def make(**values: str) -> str:
        prefix = f"/ragzero/{uuid.uuid4().hex[:8]}/query"
        for name, value in values.items():
            ssm.client("ssm").put_parameter(Name=f"{prefix}/{name}", Value=value, Type="SecureString")
        monkeypatch.setenv("RAGZERO_SSM_PREFIX", prefix)
        return prefix

    return make


def minimal(**changes: str) -> dict[str, str]:
    wanted = {
        "DATABASE_URL": "postgresql://stored",
        "RAGZERO_BUCKET": "stored-bucket",
        "RAGZERO_KEY_PEPPER": PEPPER,
        "RAGZERO_MODEL_DIR": "/var/task/model",
    }
    return wanted | changes


def test_what_the_environment_leaves_out_is_read_from_ssm(store: Store) -> None:
    store(**minimal(RAGZERO_CORS_ORIGINS="https://a.example,https://b.example"))
    settings = QuerySettings.load()
    assert settings.database_url.get_secret_value() == "postgresql://stored"
    assert settings.pepper.get_secret_value() == PEPPER
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.max_connections == 8, "a default is a default"


def test_argument_before_environment_before_parameter(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store(**minimal(RAGZERO_LOG_LEVEL="ERROR", PORT="1"))
    monkeypatch.setenv("RAGZERO_BUCKET", "from-the-environment")
    settings = QuerySettings.load(pepper="given as an argument")
    assert settings.bucket == "from-the-environment"
    assert settings.pepper.get_secret_value() == "given as an argument"
    assert settings.log_level == "ERROR"
    assert ServeSettings.load().port == 1, "one with several names too"


def test_more_parameters_than_ssm_gives_at_once(store: Store) -> None:
    """A page of SSM holds ten."""
    more = {f"RAGZERO_SOMETHING_{number}": "x" for number in range(12)}
    store(**more, **minimal(UPSTASH_REDIS_REST_URL="https://redis.example", UPSTASH_REDIS_REST_TOKEN="t"))
    assert QuerySettings.load().redis_rest_url == "https://redis.example"


def test_nothing_of_other_functions_or_deeper_folders_is_read(
    ssm: LocalAws, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = store(**minimal())
    for name in (f"{prefix}/deeper/RAGZERO_LOG_LEVEL", f"{prefix}-stream/RAGZERO_LOG_LEVEL"):
        ssm.client("ssm").put_parameter(Name=name, Value="ERROR", Type="String")
    monkeypatch.setenv("RAGZERO_SSM_PREFIX", f"{prefix}/")
    assert QuerySettings.load().log_level == "INFO"


def test_they_are_read_once_per_process(ssm: LocalAws, store: Store) -> None:
    prefix = store(**minimal())
    QuerySettings.load()
    ssm.client("ssm").delete_parameter(Name=f"{prefix}/DATABASE_URL")
    assert QuerySettings.load().database_url.get_secret_value() == "postgresql://stored"


def test_what_is_missing_there_is_named(store: Store) -> None:
    stored = minimal()
    del stored["DATABASE_URL"]
    store(**stored)
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        QuerySettings.load()


def test_a_refusal_names_the_variable(store: Store, aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a server that has no SSM at all."""
    store(**minimal())
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    with pytest.raises(ConfigurationError, match=r"RAGZERO_SSM_PREFIX: .* refused"):
        QuerySettings.load()


def test_ssm_that_does_not_answer_may_be_asked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = store(**minimal())
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(Unavailable, match=prefix):
            QuerySettings.load()
    assert QuerySettings.load().bucket == "stored-bucket"


def test_without_a_prefix_nobody_asks_ssm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in minimal().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAGZERO_SSM_PREFIX", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert QuerySettings.load().bucket == "stored-bucket"


def change(ssm: LocalAws, place: str, value: str) -> None:
    ssm.client("ssm").put_parameter(Name=place, Value=value, Type="SecureString", Overwrite=True)


def test_each_setting_says_where_it_comes_from_and_secrets_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = store(
        **minimal(RAGZERO_GENERATOR_URL="https://user:word@models.example/v1", RAGZERO_GENERATOR_MODEL="m")
    )
    monkeypatch.setenv("RAGZERO_BUCKET", "from-the-environment")
    found = {one.variable: one[1:] for one in QuerySettings.load().in_force()}
    assert found["RAGZERO_BUCKET"] == ("environment", "from-the-environment")
    assert found["RAGZERO_KEY_PEPPER"] == (f"parameter {prefix}/RAGZERO_KEY_PEPPER", None)
    assert found["RAGZERO_GENERATOR_URL"][1] == "https://***@models.example/v1"
    assert found["RAGZERO_EXACT_BELOW"] == ("default", "10000")
    assert found["RAGZERO_QUEUE_URL"] == ("default", None)


def test_the_doctor_tells_of_parameters_that_nobody_goes_by(
    ssm: LocalAws, installation: Installation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One changed since, one that the environment overrules, one that is misspelt; and not a word of what they say."""
    prefix = store(RAGZERO_KEY_PEPPER=PEPPER, RAGZERO_PRICE_PROMPT="1")
    monkeypatch.setenv("RAGZERO_PRICE_COMPLETION", "2")
    with client(installation) as api:

        def told() -> dict[str, str]:
            checks = api.get("/v1/index/doctor").json()["checks"]
            return next(one for one in checks if one["name"] == "settings")

        assert told()["status"] == "ok"
        change(ssm, f"{prefix}/RAGZERO_KEY_PEPPER", "hush, another pepper")
        change(ssm, f"{prefix}/RAGZERO_PRICE_COMPLETION", "3")
        change(ssm, f"{prefix}/RAGZERO_PRICE_PROMTP", "4")
        found = told()
        told_of = [said.split()[2].removeprefix(f"{prefix}/") for said in found["detail"].split("; ")]
        assert told_of == ["RAGZERO_KEY_PEPPER", "RAGZERO_PRICE_COMPLETION", "RAGZERO_PRICE_PROMTP"], found
        assert found["status"] == "warn"
        assert "hush" not in str(found)
        assert not {"2", "3", "4"} & set(found["detail"].split())
