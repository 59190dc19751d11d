"""What the packages load on a Python that has nothing else: all that is wanted is there."""

from __future__ import annotations

import json
import subprocess

import pytest

from scripts.local.packaged import Runtime
from scripts.packaging.recipes import RECIPES
from tests.packaging.conftest import Unpack
from tests.packaging.imports import foreign_imports

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
    "ingest": {"hiredis", "opentelemetry", "orjson", "prometheus_client"},
    "query": {"uvicorn"},
    "query-stream": {"mangum"},
    "reindex": {"hiredis", "opentelemetry", "orjson", "prometheus_client"},
}


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
