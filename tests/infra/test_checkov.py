"""checkov on all the Terraform: nothing fails, and what is skipped says why on its line."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from scripts.deployment.stack import ROOT, SOURCE

pytestmark = pytest.mark.timeout(600)  # the first time, checkov is installed


@pytest.fixture(scope="module")
def findings() -> dict[str, Any]:
    program = subprocess.run(
        [ROOT / "scripts" / "checkov-env"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()[-1]
    options = ["--framework", "terraform", "--skip-download", "--output", "json"]
    done = subprocess.run(
        [program, "--directory", str(SOURCE), *options], cwd=ROOT, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict), done.stderr
    return found


def test_no_check_fails(findings: dict[str, Any]) -> None:
    assert findings["summary"]["parsing_errors"] == 0
    assert findings["summary"]["passed"] > 100
    failed = findings["results"]["failed_checks"]
    assert [f"{each['check_id']} {each['resource']}: {each['check_name']}" for each in failed] == []


def test_what_is_skipped_says_why(findings: dict[str, Any]) -> None:
    skipped = {
        (each["check_id"], each["file_path"]): each["check_result"]["suppress_comment"]
        for each in findings["results"]["skipped_checks"]
    }
    assert skipped
    assert not [where for where, reason in skipped.items() if len(reason.split()) < 4]
