"""What the packages load on a Python that has nothing else: all that is wanted is there, and it does not take long."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.local.packaged import Runtime
from scripts.packaging.recipes import RECIPES
from tests.packaging.conftest import Unpack
from tests.packaging.imports import foreign_imports
from tests.support import lambda_events

pytestmark = pytest.mark.timeout(600)  # making the packages takes a while the first time
PROBE = """
import importlib, json, sys
def fails(name):
    try:
        importlib.import_module(name)
    except ImportError as error:
        return f"{name}: {error}"
sys.path.insert(0, sys.argv[1])
print(json.dumps([problem for problem in map(fails, sys.argv[2:]) if problem]))
"""
# What shared/ imports for other functions only, and which of the two ways to be called a query package knows.
NOT_ASKED = {
    "ingest": {"hiredis", "opentelemetry", "prometheus_client"},
    "query": {"uvicorn"},
    "query-stream": {"mangum"},
    "reindex": {"hiredis", "opentelemetry", "prometheus_client"},
}
ENVIRONMENT = {
    "AWS_LAMBDA_FUNCTION_NAME": "query",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nowhere",
    "RAGZERO_BUCKET": "documents",
    "RAGZERO_MODEL_DIR": "/nowhere",
    "RAGZERO_KEY_PEPPER": "a pepper for tests only",
}
HEALTH = json.dumps(lambda_events.function_url(httpx.Request("GET", "https://api.example/healthz")))
# Processor time, because others may be at work on this machine.
WHOLE = """
import time
began = time.process_time()
import json, sys
from functions.query.handler import handler
assert handler(json.loads(sys.argv[1]), None)["statusCode"] == 200
took = time.process_time() - began
file = lambda module: getattr(module, "__file__", None) or ""
others = [name for name, module in sys.modules.items() if file(module).startswith(sys.argv[2])]
others = [name for name in others if name.partition(".")[0] not in ("functions", "shared")]
print(json.dumps([took, others]))
"""
THEIRS = """
import time
began = time.process_time()
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(time.process_time() - began)
"""


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_all_it_may_ever_import_is_there(unpack: Unpack, runtime: Runtime, name: str) -> None:
    """What is imported late too, on a Python that has nothing else."""
    wanted = foreign_imports(RECIPES[name].folder)
    asked = {module for module in wanted if module.partition(".")[0] not in NOT_ASKED[name]}
    assert {"boto3", "psycopg"} <= asked, "the search finds nothing"
    told = subprocess.run(
        [runtime.python, "-I", "-c", PROBE, unpack(name), *sorted(asked)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout) == []


def test_our_own_part_of_a_cold_start(
    unpack: Unpack, runtime: Runtime, record_property: Callable[[str, object], None]
) -> None:
    package = unpack("query")
    runs = [measure(package, runtime) for _ in range(5)]
    whole, theirs = min(own for own, _ in runs), min(other for _, other in runs)
    record_property("cold_start_ratio", round(whole / theirs, 2))
    print(f"whole {whole * 1000:.0f} ms, others' {theirs * 1000:.0f} ms, ratio {whole / theirs:.2f}")
    assert whole / theirs <= 1.2


def measure(package: Path, runtime: Runtime) -> tuple[float, float]:
    """Seconds of processor time: import and first request; and the import of all that is not ours."""
    took, others = run(package, runtime, WHOLE, HEALTH, str(package))
    return took, run(package, runtime, THEIRS, json.dumps(others))


def run(package: Path, runtime: Runtime, code: str, *arguments: str) -> Any:
    env = ENVIRONMENT | {"PYTHONPATH": str(package), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [runtime.python, "-c", code, *arguments],
        cwd=package,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
