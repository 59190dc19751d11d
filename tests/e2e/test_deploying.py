"""scripts/env up, an accident in between, and down: the whole way from the source to an answer, on an AWS of this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import psycopg
import pytest

from scripts.deployment.stack import ROOT
from scripts.deployment.target import STATE
from scripts.local.founding import DATABASE
from scripts.local.postgres import Postgres
from scripts.local.process import free_port
from scripts.packaging.layers import here
from tests.support.account import Account, account

# two minutes on a machine without other work: queues take their time to settle
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NAME = "pr-7"
WITHOUT = ("--without", "cache-upstash")
STEPS = ("build", "migrate", "modal", "app", "smoke")


@pytest.fixture(scope="module")
def ground(state_folder: Path) -> Iterator[Account]:
    folder = state_folder / "deploying"
    folder.mkdir(mode=0o711)
    postgres = Postgres(folder / "postgres", port=free_port(), tethered=True, durable=False)
    with account(folder, postgres, NAME, here()) as made:
        made.store_parameters()
        yield made


def scripts(ground: Account, *arguments: str) -> subprocess.Popen[str]:
    """What scripts/env runs, told of the emulator as any AWS client is."""
    command = [sys.executable, "-m", "scripts.deployment", "env", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.Popen(
        [*command, *WITHOUT, "--terraform", str(ground.terraform)],
        cwd=ROOT,
        env={**environment, **ground.aws.variables, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def printed(ground: Account, *arguments: str, code: int = 0) -> list[str]:
    with scripts(ground, *arguments) as running:
        assert running.stdout is not None
        lines = running.stdout.read().splitlines()
    assert running.returncode == code, "\n".join(lines)
    return lines


def killed_at(ground: Account, line: str, *arguments: str) -> None:
    """With everything it started, as soon as it says so."""
    with scripts(ground, *arguments) as running:
        assert running.stdout is not None
        said = []
        for each in running.stdout:
            said.append(each)
            if each.startswith(line):
                os.killpg(running.pid, signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL, "".join(said)


def buckets(ground: Account) -> Sequence[str]:
    return [each["Name"] for each in ground.aws.client("s3").list_buckets()["Buckets"]]


def tables(ground: Account) -> int:
    query = "select count(*) from information_schema.tables where table_schema = 'public'"
    with psycopg.connect(ground.postgres.dsn(dbname=DATABASE)) as connection:
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
    secrets = [made.pepper, made.api_key, made.admin_key, *made.passwords.values(), ground.shim.token]
    return [number for number, secret in enumerate(secrets) if any(secret in text for text in texts)]


def test_an_environment_comes_up_answers_and_goes_without_a_trace(ground: Account) -> None:
    """What it would do changes nothing; killed at its migrations it goes on; what only we stored is ours to remove."""
    up = ("up", NAME, "--ttl", "24h")
    plan = printed(ground, *up, "--plan")
    (foreseen,) = [line for line in plan if line.startswith("Plan: ")]
    assert foreseen.endswith("to add, 0 to change, 0 to destroy.")
    steps = [name for line in plan if (name := line.partition(":")[0]) in STEPS]
    assert steps == list(STEPS)
    assert (len(buckets(ground)), tables(ground)) == (1, 0)

    killed_at(ground, "migrate ...", *up)
    assert len(buckets(ground)) == 1
    lines = printed(ground, *up, "--from", "migrate")
    assert [line for line in lines if line.endswith(" ...")] == [f"{step} ..." for step in STEPS[1:]]
    url, key = lines[-2:]
    headers = {"Authorization": f"Bearer {key}"}
    asked = httpx.get(f"{url}/v1/key", headers=headers, timeout=60)
    assert asked.json()["scopes"] == ["query", "ingest", "admin"]

    assert secrets_in(ground, [*plan, *lines, *states(ground)]) == []
    assert over(ground, days=0) == []
    assert over(ground, days=2) == [NAME]
    shutil.rmtree(STATE / NAME)  # whoever takes it down need not be who brought it up
    stored = ground.parameters()
    left = printed(ground, "down", NAME, code=1)
    assert [line for line in left if line.startswith("left behind: ")] == [
        f"left behind: SSM parameter {name}" for name in sorted(stored)
    ]
    ground.forget_parameters()
    assert printed(ground, "down", NAME)[-1] == f"nothing is left of {NAME}"
    assert len(buckets(ground)) == 1
