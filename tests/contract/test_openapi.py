"""The API's description: changed on purpose only, complete, true of its own examples, and true of the API."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
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

SECONDS = 45
CONFIG = """
[checks]
enabled = true

# what a filter, a cursor or a conversation may be is more than a JSON schema can say
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "409", "410", "413", "422"]

# a deleted document stays there to say that it is deleted, and what was removed with it
[[operations]]
include-path-regex = "^/v1/documents/"
checks.use_after_free.enabled = false
"""


def test_a_change_of_the_api_is_announced() -> None:
    """Meant? Then scripts/openapi --write, and the difference is read with the rest of the change."""
    assert text() == SNAPSHOT.read_text(), "the API's description changed; scripts/openapi --write keeps it"


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


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


@pytest.mark.timeout(170)
def test_the_api_is_as_described(installation: Installation, tmp_path: Path) -> None:
    """Whatever schemathesis can think of, with all its checks; its stateful links, too."""
    installation.put("crane.txt", "The harbour crane lifts forty tonnes.")
    installation.deliver()
    limits = {"key_rate": 10_000, "key_burst": 10_000, "tenant_rate": 10_000, "tenant_burst": 10_000}
    queues = {
        "queue_url": installation.intake.queue_url,
        "dead_letter_url": installation.intake.dead_letter_url,
    }
    app = create_app(installation.query_settings(**limits | queues), installation.embedder)
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    with serving(app) as url:
        run = subprocess.run(
            [
                str(Path(sys.executable).parent / "schemathesis"),
                "--config-file",
                str(config),
                "run",
                f"{url}/openapi.json",
                f"--max-time={SECONDS}",
                "--phases=examples,coverage,fuzzing,stateful",
                "--seed=1",
                "--warnings=off",
                "--continue-on-failure",
                f"--header=Authorization: {bearer(installation.admin_key)['Authorization']}",
                f"--report-json-path={tmp_path / 'report.json'}",
            ],
            capture_output=True,
            text=True,
            timeout=160,
            check=False,
            cwd=tmp_path,  # where it keeps what it found
        )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
