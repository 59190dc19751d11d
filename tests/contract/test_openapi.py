"""The API's description: changed on purpose only, complete, true of its own examples, and true of the API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from functions.query import problems
from functions.query.app import create_app
from scripts.openapi import SNAPSHOT, document, text
from tests.support.access import bearer
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.produced import operations

# for each operation, besides those of the coverage phase, which are as many as there are limits to try
CONFIG = """
[checks]
enabled = true

[generation]
max-examples = {examples}

[phases.stateful.generation]
max-examples = {walks}
"""
FEW, MANY = CONFIG.format(examples=1, walks=10), CONFIG.format(examples=3, walks=20)
HOOKS = Path(__file__).parents[1] / "support" / "fuzzing.py"
ONCE = ("/v1/search", "/v1/evaluations")


def test_a_change_of_the_api_is_announced() -> None:
    """Meant? Then scripts/openapi --write, and the difference is read with the rest of the change."""
    assert text() == SNAPSHOT.read_text(), "the API's description changed; scripts/openapi --write keeps it"


def test_every_operation_says_how_it_refuses() -> None:
    for method, path, operation in operations():
        refusals = {status for status in operation["responses"] if status >= "400"}
        if path.startswith("/v1/"):
            assert {"401", "429", "503"} <= refusals, (method, path)
        if "{" in path:
            assert "404" in refusals, (method, path)
        if method == "post":
            assert "409" in refusals, (method, path)
        for status in refusals:
            (form,) = operation["responses"][status]["content"]
            assert form in ("application/problem+json", "application/json"), (method, path, status)


def test_every_type_of_problem_is_named() -> None:
    named = document()["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert set(named) == set(problems.types())
    for error in problems._STATUS:
        assert problems._BASE + problems._STATUS[error][1] in named


def test_every_example_is_what_it_is_an_example_of() -> None:
    whole, seen = document(), 0
    for method, path, operation in operations():
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in contents:
            for shape in content.get("content", {}).values():
                if "example" in shape:
                    schema = {"components": whole["components"], **shape["schema"]}
                    errors = [
                        str(one)
                        for one in jsonschema_rs.Draft202012Validator(schema).iter_errors(shape["example"])
                    ]
                    assert not errors, (method, path, errors)
                    seen += 1
    assert seen >= 14


def tried(whole: dict[str, Any]) -> dict[str, Any]:
    """The description with Idempotency-Key on a few routes only. It is seen to before any route is, so that on all of
    them it would be the same requests again and again, refused before they get there; test_statuses.py sends it to each.
    """
    for path, methods in whole["paths"].items():
        if "post" in methods and path not in ONCE:
            known = methods["post"]["parameters"]
            methods["post"]["parameters"] = [one for one in known if one["name"] != "Idempotency-Key"]
    return whole


@pytest.mark.timeout(900)
def test_the_api_is_as_described(
    installation: Installation, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Whatever schemathesis can think of, with all its checks; its stateful links, too. What is meant otherwise, and why,
    is in tests/support/fuzzing.py. A few requests for each operation; all that the limits take with --all-seeds.
    """
    installation.put("crane.txt", "The harbour crane lifts forty tonnes.")
    installation.deliver()
    limits = {"key_rate": 10_000, "key_burst": 10_000, "tenant_rate": 10_000, "tenant_burst": 10_000}
    queues = {
        "queue_url": installation.intake.queue_url,
        "dead_letter_url": installation.intake.dead_letter_url,
    }
    app = create_app(installation.query_settings(**limits | queues), installation.embedder)
    few = not pytestconfig.getoption("all_seeds")
    (tmp_path / "openapi.json").write_text(json.dumps(tried(document())))
    (tmp_path / "schemathesis.toml").write_text(FEW if few else MANY)
    with serving(app) as url:
        run = subprocess.run(
            [
                str(Path(sys.executable).parent / "schemathesis"),
                "--config-file=schemathesis.toml",
                "run",
                "openapi.json",
                f"--url={url}",
                "--phases=examples,coverage,fuzzing,stateful",
                "--seed=1",
                "--generation-with-security-parameters=false",
                "--warnings=off",
                "--continue-on-failure",
                f"--header=Authorization: {bearer(installation.admin_key)['Authorization']}",
            ],
            capture_output=True,
            text=True,
            timeout=880,
            check=False,
            cwd=tmp_path,  # where it keeps what it found
            env=os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS), "FUZZ_EVERY": "8" if few else "1"},
        )
    assert run.returncode == 0, run.stdout[-60_000:] + run.stderr[-2_000:]
