"""scripts/env up and down, scripts/deploy and destroy, with accidents in between: the whole way from the source to an
answer, on an AWS of this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from scripts.deployment.stack import ROOT
from scripts.deployment.target import STATE
from scripts.local.postgres import Postgres
from scripts.local.process import free_port
from scripts.packaging.layers import here
from shared.adapters.postgres import migrate
from tests.fakes.modal_server import FakeModal
from tests.support.account import Account, account

# three minutes on a machine without other work: queues take their time to settle
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NAME, LASTING = "pr-7", "dev"
WITHOUT = ("--without", "cache-upstash")
STEPS = ("build", "migrate", "modal", "app", "smoke")
# What a step waits for, and during which one before it that is taken.
_HOLDS = {
    "migrate": ("build", f"select pg_advisory_lock({migrate._ANY_LOCK})"),
    "smoke": ("app", "lock table api_keys in access exclusive mode"),
}


@pytest.fixture(scope="module")
def ground(state_folder: Path) -> Iterator[Account]:
    folder = state_folder / "deploying"
    folder.mkdir(mode=0o711)
    postgres = Postgres(folder / "postgres", port=free_port(), tethered=True, durable=False)
    with account(folder, postgres, (NAME, LASTING), here()) as made:
        for name in (NAME, LASTING):
            made.store_parameters(name)
        yield made


@pytest.fixture(scope="module")
def modal() -> Iterator[FakeModal]:
    """Both models run there, and have left their weights."""
    with FakeModal(["ragzero-embed", "ragzero-generate"], ["ragzero-weights"]) as made:
        yield made


Told = Mapping[str, str] | None


def scripts(ground: Account, *arguments: str, told: Told = None) -> subprocess.Popen[str]:
    """What scripts/env, deploy and destroy run, told of the emulator as any AWS client is. Each environment has a copy of
    Terraform's folder, as two people have."""
    command = [sys.executable, "-m", "scripts.deployment", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    terraform = ground.terraform if arguments[0] == "env" else ground.another()
    return subprocess.Popen(
        [*command, *WITHOUT, "--terraform", str(terraform)],
        cwd=ROOT,
        env={**environment, **ground.aws.variables, "PYTHONUNBUFFERED": "1", **(told or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def printed(ground: Account, *arguments: str, code: int = 0, told: Told = None) -> list[str]:
    with scripts(ground, *arguments, told=told) as running:
        assert running.stdout is not None
        lines = running.stdout.read().splitlines()
    assert running.returncode == code, "\n".join(lines)
    return lines


def killed_at(ground: Account, name: str, step: str, *arguments: str) -> None:
    """With everything it started, as soon as it says that it begins; which does not end before, however late we hear it."""
    after, hold = _HOLDS[step]
    database = ground.postgres.dsn(dbname=ground.database(name))
    with psycopg.connect(database) as holder, scripts(ground, *arguments) as running:
        assert running.stdout is not None
        said = []
        for each in running.stdout:
            said.append(each)
            if each.startswith(f"{after} ..."):
                holder.execute(hold)
            if each.startswith(f"{step} ..."):
                os.killpg(running.pid, signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL, "".join(said)


def buckets(ground: Account) -> Sequence[str]:
    return [each["Name"] for each in ground.aws.client("s3").list_buckets()["Buckets"]]


def own(ground: Account, name: str) -> Sequence[str]:
    return [bucket for bucket in buckets(ground) if bucket.startswith(f"ragzero-{name}-")]


def tables(ground: Account, name: str) -> int:
    query = "select count(*) from information_schema.tables where table_schema = 'public'"
    with psycopg.connect(ground.postgres.dsn(dbname=ground.database(name))) as connection:
        (count,) = connection.execute(query).fetchone() or (0,)
    return int(count)


def over(ground: Account, days: int) -> list[str]:
    """What scripts/env expire would take down so many days from now."""
    ask = (
        "import json; from datetime import *; from pathlib import Path; from scripts.deployment.__main__ import expired;"
        f"print(json.dumps(expired(datetime.now(UTC) + timedelta(days={days}), Path({str(ground.terraform)!r}))))"
    )
    told = {**os.environ, **ground.aws.variables}
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=ROOT, env=told, capture_output=True, text=True, check=True
    )
    found: list[str] = json.loads(done.stdout)
    return found


def states(ground: Account) -> list[str]:
    """What Terraform keeps in the account's bucket."""
    s3, (bucket,) = ground.aws.client("s3"), [name for name in buckets(ground) if "-state-" in name]
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert f"{NAME}/app.tfstate" in keys
    return [s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys]


def secrets_in(ground: Account, texts: Sequence[str]) -> list[int]:
    """Which of them, by their numbers: a test that fails must not print them either."""
    made = ground.secrets
    peppers = [ground.pepper(name) for name in (NAME, LASTING)]
    secrets = [*peppers, made.api_key, made.admin_key, *made.passwords.values(), ground.shim.token]
    return [number for number, secret in enumerate(secrets) if any(secret in text for text in texts)]


def asked(url: str, key: str) -> Sequence[str]:
    """The scopes of the key, says the API."""
    answer = httpx.get(f"{url}/v1/key", headers={"Authorization": f"Bearer {key}"}, timeout=60)
    scopes: list[str] = answer.json()["scopes"]
    return scopes


def left_behind(lines: Sequence[str]) -> list[str]:
    return [line.removeprefix("left behind: ") for line in lines if line.startswith("left behind: ")]


def steps_in(lines: Sequence[str]) -> list[str]:
    return [name for line in lines if (name := line.partition(":")[0]) in STEPS]


def begun(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.endswith(" ...")]


def test_environments_come_up_answer_and_go_without_a_trace(ground: Account, modal: FakeModal) -> None:
    """What it would do changes nothing; killed at its migrations it goes on; what only we stored is ours to remove."""
    up = ("env", "up", NAME, "--ttl", "24h")
    plan = printed(ground, *up, "--plan")
    (foreseen,) = [line for line in plan if line.startswith("Plan: ")]
    assert foreseen.endswith("to add, 0 to change, 0 to destroy.")
    assert steps_in(plan) == list(STEPS)
    assert (len(buckets(ground)), tables(ground, NAME)) == (1, 0)

    killed_at(ground, NAME, "migrate", *up)
    assert len(buckets(ground)) == 1
    lines = printed(ground, *up, "--from", "migrate")
    assert begun(lines) == [f"{step} ..." for step in STEPS[1:]]
    assert asked(*lines[-2:]) == ["query", "ingest", "admin"]

    assert secrets_in(ground, [*plan, *lines, *states(ground)]) == []
    assert over(ground, days=0) == []
    assert over(ground, days=2) == [NAME]
    with ThreadPoolExecutor(1) as pool:  # one comes up beside it while it goes, and neither meets the other
        lasting = pool.submit(deployed_and_destroyed, ground, modal)
        taken_down(ground)
        lasting.result()
    assert len(buckets(ground)) == 1


def taken_down(ground: Account) -> None:
    shutil.rmtree(STATE / NAME)  # whoever takes it down need not be who brought it up
    stored = ground.parameters(NAME)
    left = printed(ground, "env", "down", NAME, code=1)
    assert left_behind(left) == [f"SSM parameter {name}" for name in sorted(stored)]
    ground.forget_parameters(NAME)
    assert printed(ground, "env", "down", NAME)[-1] == f"nothing is left of {NAME}"
    assert own(ground, NAME) == []


def deployed_and_destroyed(ground: Account, modal: FakeModal) -> None:
    """scripts/deploy and destroy; its models are stopped with it, and their weights named, which are worth keeping."""
    deploy = ("deploy", LASTING)
    plan = printed(ground, *deploy, "--plan")
    assert steps_in(plan) == list(STEPS)
    assert (own(ground, LASTING), tables(ground, LASTING)) == ([], 0)

    killed_at(ground, LASTING, "smoke", *deploy)
    lines = printed(ground, *deploy, "--from", "smoke")
    assert begun(lines) == ["smoke ..."]
    assert asked(*lines[-2:]) == ["query", "ingest", "admin"]
    assert secrets_in(ground, [*plan, *lines, *states(ground)]) == []

    stored = ground.parameters(LASTING)
    assert "--confirm" in printed(ground, "destroy", LASTING, code=2)[-1]
    assert asked(*lines[-2:])
    left = printed(ground, "destroy", LASTING, "--confirm", LASTING, code=1, told=modal.variables)
    assert sorted(modal.stopped) == ["ragzero-embed", "ragzero-generate"]
    weights = "Modal Volume ragzero-weights (modal volume delete ragzero-weights --env dev)"
    assert left_behind(left) == sorted([weights, *(f"SSM parameter {name}" for name in stored)])
    assert own(ground, LASTING) == []
