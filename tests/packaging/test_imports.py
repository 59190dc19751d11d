"""What a cold start loads: little beyond what it cannot do without, and nothing that most requests never use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from functions.query.routers import PROBE as PROBE_ROUTES
from functions.query.routers import PROBES, QUESTIONS, of_questions

ROOT = Path(__file__).resolve().parents[2]
HANDLER = "functions.query.handler"
LATER = (
    "boto3",
    "botocore",
    "numpy",
    "onnxruntime",
    "tokenizers",
    "opentelemetry.sdk",
    "opentelemetry.exporter",
    "google.protobuf",
    "prometheus_client",
    "redis",
    "upstash_redis",
    "uvicorn",
)
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(ROOT),
    "AWS_LAMBDA_FUNCTION_NAME": "query",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nowhere",
    "RAGZERO_BUCKET": "documents",
    "RAGZERO_MODEL_DIR": "/nowhere",
    "RAGZERO_KEY_PEPPER": "a pepper for tests only",
}
LOADED = "import json, sys; print(json.dumps(sorted(sys.modules)))"
PROBE = """
import json
from functions.query.handler import handler

class Context:
    def get_remaining_time_in_millis(self): return 30_000

event = json.load(open("tests/events/function_url.json"))
event["rawPath"] = event["requestContext"]["http"]["path"] = "/healthz"
assert handler(event, Context())["statusCode"] == 200
"""


def run(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        env=ENVIRONMENT,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize("code", [f"import {HANDLER}", PROBE], ids=["imported", "after a probe"])
def test_what_not_every_request_needs_is_loaded_when_it_is_used(code: str) -> None:
    loaded = set(json.loads(run(f"{code}\n{LOADED}").stdout.splitlines()[-1]))
    assert HANDLER in loaded
    assert [name for name in LATER if name in loaded] == []


def test_a_probe_meets_the_settings_and_what_is_around_every_request_and_no_more() -> None:
    """Our nouns, shapes and services take longer to load than all the rest of ours together."""
    loaded = json.loads(run(f"{PROBE}\n{LOADED}").stdout.splitlines()[-1])
    ours = {name for name in loaded if name.partition(".")[0] in ("functions", "shared")}
    assert not ours & {"functions.query.wiring", "functions.query.schemas", "functions.query.gate"}
    assert not ours & {"functions.query.routes.questions", "shared.core.models", "shared.core.credentials"}
    assert len(ours) <= 32, sorted(ours)


def test_each_part_has_the_routes_that_it_is_brought_for() -> None:
    assert paths(PROBE_ROUTES) == PROBES
    assert set().union(*map(paths, of_questions())) >= QUESTIONS


def paths(router: APIRouter) -> set[str]:
    return {route.path for route in router.routes if isinstance(route, APIRoute)}


def test_our_own_part_of_a_cold_start_is_at_most_half_of_the_rest() -> None:
    """The handler with everything in it against what it takes from others, standard library included."""
    runs = [_microseconds() for _ in range(5)]
    ours, others = min(own for own, _ in runs), min(other for _, other in runs)
    assert (ours + others) / others <= 1.5


def _microseconds() -> tuple[int, int]:
    """Time spent in modules of ours, and in all others."""
    ours = others = 0
    for line in run(f"import {HANDLER}", "-X", "importtime").stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if not own.strip().isdigit():
            continue  # the heading
        if name.strip().partition(".")[0] in ("functions", "shared"):
            ours += int(own)
        else:
            others += int(own)
    return ours, others
