"""Functions as Lambda runs them: their own zip and settings, one call at a time each, frozen between calls, killed when late."""

from __future__ import annotations

import io
import json
import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from scripts.local.aws import LocalAws
from scripts.local.lambda_host import LambdaHost
from scripts.local.process import free_port
from scripts.packaging.layers import here
from tests.support.servers import running
from tests.support.waiting import until

_PATIENCE_S = 60  # an environment that starts on a busy machine takes part of it
Call = Callable[..., Any]
HANDLER = """
import importlib.util, os, time
STARTED = time.time()
def handler(event, context):
    if event.get("raise"):
        raise ValueError(event["raise"])
    if event.get("allocate_mb"):
        bytearray(event["allocate_mb"] * 2**20)
    if event.get("meet"):
        open(os.path.join(event["meet"], str(os.getpid())), "w").close()
    while event.get("meet") and len(os.listdir(event["meet"])) < 2:
        time.sleep(0.01)
    time.sleep(event.get("sleep", 0))
    return {
        "pid": os.getpid(),
        "started": STARTED,
        "left_ms": context.get_remaining_time_in_millis(),
        "name": context.function_name,
        "there": os.path.exists(os.environ["DATA"]),
        "foreign": [name for name in ("boto3", "pydantic", "scripts") if importlib.util.find_spec(name)],
    }
"""


@pytest.fixture(scope="module")
def servers(state_folder: Path) -> Iterator[tuple[LocalAws, LambdaHost]]:
    port = free_port()
    aws = LocalAws(
        state_folder / "aws-with-functions",
        port=free_port(),
        tethered=True,
        durable=False,
        services=("iam", "lambda", "logs"),
        hosts={"fn": f"http://127.0.0.1:{port}/fn"},
    )
    host = LambdaHost(state_folder / "lambda", aws, here().python, port=port, tethered=True)
    with running(aws), running(host):
        zipped = io.BytesIO()
        with zipfile.ZipFile(zipped, "w") as archive:
            archive.writestr("app.py", HANDLER)
            archive.writestr("data/words.txt", "")
        functions = aws.client("lambda")
        functions.create_function(
            FunctionName="fn",
            Runtime="python3.12",
            Role="arn:aws:iam::000000000000:role/fn",
            Handler="app.handler",
            MemorySize=256,
            Timeout=_PATIENCE_S,
            Code={"ZipFile": zipped.getvalue()},
            Environment={"Variables": {"DATA": "/var/task/data/words.txt"}},
        )
        functions.put_function_concurrency(FunctionName="fn", ReservedConcurrentExecutions=2)
        yield aws, host


@pytest.fixture
def host(servers: tuple[LocalAws, LambdaHost]) -> LambdaHost:
    return servers[1]


@pytest.fixture
def call(servers: tuple[LocalAws, LambdaHost]) -> Call:
    """call(sleep=1): the handler's answer, or the error as Lambda tells it."""

    def invoke(**event: Any) -> Any:
        answer = servers[0].client("lambda").invoke(FunctionName="fn", Payload=json.dumps(event))
        return json.loads(answer["Payload"].read())

    return invoke


def state(pid: int) -> str:
    return str(psutil.Process(pid).status())


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or state(pid) == psutil.STATUS_ZOMBIE


def test_the_zip_runs_where_nothing_else_is_installed(call: Call) -> None:
    answer = call()
    assert answer["name"] == "fn"
    assert answer["there"]
    assert answer["foreign"] == []
    assert 0 < answer["left_ms"] <= 1000 * _PATIENCE_S


def test_one_environment_serves_call_after_call_and_is_frozen_between_them(
    call: Call, host: LambdaHost
) -> None:
    first, second = call(), call()
    assert (first["pid"], first["started"]) == (second["pid"], second["started"])
    assert state(first["pid"]) == psutil.STATUS_STOPPED
    known = host.environments()["fn"]
    assert first["pid"] in [each["pid"] for each in known]
    assert not any(each["busy"] for each in known)


def test_calls_at_once_have_environments_of_their_own_up_to_what_is_reserved(
    call: Call, host: LambdaHost, tmp_path: Path
) -> None:
    """The first two wait for each other."""
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: call(meet=str(tmp_path), sleep=0.5), range(4)))
    ran = {answer["pid"] for answer in answers if "pid" in answer}
    assert len(ran) == len(host.environments()["fn"]) == 2


@pytest.fixture
def allow(servers: tuple[LocalAws, LambdaHost]) -> Iterator[Call]:
    """allow(2): the seconds that a call of the function may take, in this test."""

    def change(seconds: int) -> None:
        functions = servers[0].client("lambda")
        functions.update_function_configuration(FunctionName="fn", Timeout=seconds)

    yield change
    change(_PATIENCE_S)


def test_what_is_too_late_is_killed_and_what_comes_next_starts_anew(
    call: Call, host: LambdaHost, allow: Call
) -> None:
    call()
    before = {each["pid"] for each in host.environments()["fn"]}
    allow(2)
    assert "errorMessage" in call(sleep=600)
    allow(_PATIENCE_S)
    assert "pid" in call()
    after = {each["pid"] for each in host.environments()["fn"]}
    assert len(before - after) == 1


def test_an_error_is_told_and_the_environment_lives_on(call: Call, host: LambdaHost) -> None:
    call()
    before = {each["pid"]: each["calls"] for each in host.environments()["fn"]}
    assert "errorMessage" in call(**{"raise": "no"})
    after = {each["pid"]: each["calls"] for each in host.environments()["fn"]}
    assert after.keys() == before.keys()
    assert sum(after.values()) == sum(before.values()) + 1


def test_more_memory_than_the_function_has_is_not_there(call: Call) -> None:
    assert "errorMessage" in call(allocate_mb=400)
    assert "pid" in call(allocate_mb=50)


def test_an_environment_killed_between_calls_is_replaced(call: Call) -> None:
    before = call()
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: ended(before["pid"]))
    assert call()["pid"] != before["pid"]


def test_environments_end_with_their_host_frozen_or_not(call: Call, host: LambdaHost) -> None:
    pid = call()["pid"]
    host.kill()
    until(lambda: ended(pid))
    host.start()
    host.wait_ready()
    assert call()["pid"] != pid
