"""What GitHub runs: our own scripts, by actions that cannot change under us, with no more rights than each job needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.deployment.stack import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
BY_NAME = {path.stem: yaml.safe_load(path.read_text()) for path in FILES}
TRIGGERS = True  # what YAML 1.1 makes of the key on
Job = tuple[str, dict[str, Any]]


def jobs() -> Iterator[Job]:
    for name, workflow in BY_NAME.items():
        yield from ((f"{name}.{job}", said) for job, said in workflow["jobs"].items())


JOBS = dict(jobs())


def test_there_is_one_for_every_occasion() -> None:
    assert {"check.lint", "check.test", "check.build", "check.plan", "deploy.prod", "nightly.e2e"} <= set(
        JOBS
    )
    assert set(BY_NAME["check"][TRIGGERS]) == {"pull_request", "push"}
    assert set(BY_NAME["deploy"][TRIGGERS]["push"]) == {"tags"}
    assert "schedule" in BY_NAME["nightly"][TRIGGERS]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_by_their_commit(path: Path) -> None:
    """And the version they have there stands behind it, for people."""
    used = re.findall(r"uses: (.+)", path.read_text())
    assert used
    for each in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each


def test_an_action_has_one_pin_everywhere() -> None:
    used = {pin for path in FILES for pin in re.findall(r"uses: (\S+@\S+)", path.read_text())}
    assert len(used) == len({pin.partition("@")[0] for pin in used})


@pytest.mark.parametrize("name", JOBS)
def test_a_job_has_only_the_rights_it_needs(name: str) -> None:
    """Nothing is granted to all; a token for AWS only where AWS is asked, and nothing may write to the repository."""
    assert BY_NAME[name.split(".")[0]]["permissions"] == {}
    said = JOBS[name]
    asks_aws = any("configure-aws-credentials" in step.get("uses", "") for step in said["steps"])
    assert said["permissions"] == {"contents": "read"} | ({"id-token": "write"} if asks_aws else {})
    assert said["timeout-minutes"] <= 60


@pytest.mark.parametrize("name", JOBS)
def test_no_keys_of_aws_and_no_text_of_strangers_in_a_shell(name: str) -> None:
    """Roles are assumed with OIDC; what others may write (titles, branches) reaches no command line."""
    text = yaml.safe_dump(JOBS[name])
    assert "AWS_SECRET_ACCESS_KEY" not in text
    commands = [step["run"] for step in JOBS[name]["steps"] if "run" in step]
    assert commands
    for command in commands:
        assert set(re.findall(r"\$\{\{ (.+?) \}\}", command)) <= {"matrix.arch", "matrix.environment"}
    assert all(
        step["with"]["persist-credentials"] is False
        for step in JOBS[name]["steps"]
        if step.get("uses", "").startswith("actions/checkout@")
    )


@pytest.mark.parametrize("name", JOBS)
def test_what_is_run_is_ours_and_there(name: str) -> None:
    for step in JOBS[name]["steps"]:
        if "run" in step:
            assert (ROOT / step["run"].split()[0]).stat().st_mode & 0o100, step["run"]


def test_a_pull_request_from_outside_gets_no_role() -> None:
    plan = JOBS["check.plan"]
    assert "head.repo.full_name == github.repository" in plan["if"]
    assert "pull_request_target" not in BY_NAME["check"][TRIGGERS]


def test_only_tags_deploy_and_prod_comes_after_staging() -> None:
    assert JOBS["deploy.prod"]["needs"] == "staging"
    assert JOBS["deploy.prod"]["environment"] == "prod"
    assert [name for name, said in JOBS.items() if "AWS_DEPLOY_ROLE" in yaml.safe_dump(said)] == [
        "deploy.staging",
        "deploy.prod",
    ]
