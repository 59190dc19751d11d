"""Terraform on a copy of infra/terraform, so that tests neither meet each other nor what somebody has initialised."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "infra" / "terraform"
WRAPPER = ROOT / "scripts" / "terraform"
ENVIRONMENTS = ("dev", "staging", "prod")
_LOCAL_STATE = 'terraform {\n  backend "local" {}\n}\n'


@dataclass(frozen=True)
class State:
    """A state file, read without Terraform, which takes seconds for it."""

    text: str

    @property
    def outputs(self) -> dict[str, Any]:
        return {name: each["value"] for name, each in json.loads(self.text)["outputs"].items()}

    @property
    def instances(self) -> list[dict[str, Any]]:
        """{type, attributes} of every managed resource."""
        return [
            {"type": each["type"], "attributes": instance["attributes"]}
            for each in json.loads(self.text)["resources"]
            for instance in each["instances"]
            if each["mode"] == "managed"
        ]


@dataclass(frozen=True)
class Stack:
    """One stack in a copy; variables are its TF_VAR_ and AWS_ variables."""

    name: str
    root: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()

    @classmethod
    def copied(
        cls, name: str, scratch: Path, variables: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> Stack:
        root = scratch / f"terraform-{name}-{len(list(scratch.glob('terraform-*')))}"
        shutil.copytree(SOURCE, root, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
        stack = cls(name, root, variables or {}, options)
        if (stack.folder / "versions.tf").read_text().find('backend "s3"') > 0:
            (stack.folder / "backend_override.tf").write_text(_LOCAL_STATE)
        return stack

    @property
    def folder(self) -> Path:
        return self.root / "stacks" / self.name

    def run(self, *arguments: str, accept: Sequence[int] = (0,)) -> str:
        """What terraform printed. Fails with all of it when the exit status is not an accepted one."""
        done = subprocess.run(
            [WRAPPER, f"-chdir={self.folder}", *arguments],
            env={**_clean_environment(), **self.variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
        )
        printed = done.stdout + done.stderr
        assert done.returncode in accept, f"terraform {' '.join(arguments[:2])}: {printed[-6000:]}"
        return printed

    def init(self) -> Stack:
        self.run("init", "-input=false", "-no-color")
        return self

    def files(self, environment: str) -> list[str]:
        """The options that name the environment's files."""
        found = [f"{environment}.tfvars", f"{environment}.{self.name}.tfvars"]
        folder = self.root / "environments"
        return [f"-var-file={folder / name}" for name in found if (folder / name).exists()]

    def plan(self, *options: str) -> dict[str, Any]:
        """The plan as Terraform's JSON."""
        self.run("plan", "-input=false", "-no-color", "-out=plan.bin", *self.options, *options)
        loaded = json.loads(self.run("show", "-json", "plan.bin"))
        assert isinstance(loaded, dict)
        return loaded

    def apply(self) -> str:
        return self.run("apply", "-auto-approve", "-input=false", "-no-color", *self.options)

    def destroy(self) -> str:
        return self.run(
            "destroy", "-auto-approve", "-refresh=false", "-input=false", "-no-color", *self.options
        )

    def state(self) -> State:
        return State((self.folder / "terraform.tfstate").read_text())


def resources(module: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All resources below a module of a plan or a state, as {address, type, values...}."""
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from resources(child)


def changes(plan: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(resource type, attribute) for everything that a plan would change; JSON texts are compared by what they say."""
    found: set[tuple[str, str]] = set()
    for each in plan.get("resource_changes", []):
        if set(each["change"]["actions"]) & {"create", "delete", "update"}:
            before, after = each["change"]["before"] or {}, each["change"]["after"] or {}
            names = {name for name in {*before, *after} if _said(before.get(name)) != _said(after.get(name))}
            found |= {(each["type"], name) for name in names}
    return found


def _said(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _clean_environment() -> dict[str, str]:
    """Without anybody's AWS credentials and Terraform settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "TF_")) or name in ("TF_PLUGIN_DIR", "TF_CLI_CONFIG_FILE")
    }
    return {**kept, "CHECKPOINT_DISABLE": "1", "AWS_EC2_METADATA_DISABLED": "true", "TF_IN_AUTOMATION": "1"}
