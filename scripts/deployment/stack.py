"""Terraform on one stack: where it lies, or on a copy that meets neither anybody's state nor what they initialised."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shared.core.errors import RagzeroError

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "infra" / "terraform"
WRAPPER = ROOT / "scripts" / "terraform"
ENVIRONMENTS = ("dev", "staging", "prod")
_LOCAL_STATE = 'terraform {\n  backend "local" {}\n}\n'
_PATIENCE_S = 3600  # an Aurora cluster takes a quarter of an hour


class TerraformFailed(RagzeroError):
    """Terraform refused, or what it asked did."""

    def __init__(self, stack: str, command: str, printed: str) -> None:
        problems = printed[max(printed.find("Error:"), 0) :]  # without the plan that came before
        super().__init__(f"terraform {command} of {stack}:\n{problems[-6000:]}")
        self.stack, self.command, self.printed = stack, command, printed


@dataclass(frozen=True)
class Stack:
    """variables: of its environment, TF_VAR_ and AWS_ among them. options: to every command that takes variables."""

    name: str
    root: Path = SOURCE
    variables: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()

    @classmethod
    def copied(
        cls, name: str, scratch: Path, variables: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> Stack:
        """With its state in the copy, and without the credentials and settings of whoever calls."""
        root = scratch / f"terraform-{name}-{len(list(scratch.glob('terraform-*')))}"
        shutil.copytree(SOURCE, root, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
        stack = cls(name, root, {**_clean_environment(), **(variables or {})}, options)
        if 'backend "s3"' in (stack.folder / "versions.tf").read_text():
            (stack.folder / "backend_override.tf").write_text(_LOCAL_STATE)
        return stack

    def with_options(self, *options: str) -> Stack:
        return replace(self, options=[*self.options, *options])

    @property
    def folder(self) -> Path:
        return self.root / "stacks" / self.name

    @property
    def locked(self) -> bool:
        """Whether its providers are known by their hashes, so that not getting them is a failure."""
        return (self.folder / ".terraform.lock.hcl").exists()

    def run(self, *arguments: str, accept: Sequence[int] = (0,)) -> str:
        """What terraform printed. Raises TerraformFailed when the exit status is not an accepted one."""
        done = subprocess.run(
            [WRAPPER, f"-chdir={self.folder}", *arguments],
            env={**(self.variables or os.environ), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )
        if done.returncode not in accept:
            raise TerraformFailed(self.name, " ".join(arguments[:2]), done.stdout + done.stderr)
        return done.stdout + done.stderr

    def init(self, *options: str) -> Stack:
        self.run("init", "-input=false", "-no-color", *options)
        return self

    def files(self, environment: str) -> list[str]:
        """The options that name the environment's files."""
        found = [f"{environment}.tfvars", f"{environment}.{self.name}.tfvars"]
        folder = self.root / "environments"
        return [f"-var-file={folder / name}" for name in found if (folder / name).exists()]

    def plan(self, *options: str) -> dict[str, Any]:
        """The plan as Terraform's JSON."""
        self.run("plan", "-input=false", "-no-color", "-out=plan.bin", *self.options, *options)
        loaded: dict[str, Any] = json.loads(self.run("show", "-json", "plan.bin"))
        return loaded

    def apply(self) -> str:
        return self.run("apply", "-auto-approve", "-input=false", "-no-color", *self.options)

    def destroy(self, *options: str) -> str:
        return self.run("destroy", "-auto-approve", "-input=false", "-no-color", *self.options, *options)

    def outputs(self) -> dict[str, Any]:
        return {name: each["value"] for name, each in json.loads(self.run("output", "-json")).items()}


def resources(module: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All resources below a module of a plan or a state, as {address, type, values...}."""
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from resources(child)


def said(environment: str, name: str, default: str, source: Path = SOURCE) -> str:
    """A text that the environment's files give a variable of the app stack, or of all."""
    for file in (f"{environment}.app.tfvars", f"{environment}.tfvars"):
        path = source / "environments" / file
        found = re.search(rf'(?m)^{name}\s*=\s*"([\w.-]+)"', path.read_text() if path.exists() else "")
        if found is not None:
            return found[1]
    return default


def stacks_of(environment: str, source: Path = SOURCE) -> tuple[str, ...]:
    """In the order in which they are applied. Which database it is stands in the app's file."""
    database = said(environment, "database", "neon", source)
    return (*(() if database == "url" else (f"database-{database}",)), "cache-upstash", "app")


def _clean_environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "TF_")) or name in ("TF_PLUGIN_DIR", "TF_CLI_CONFIG_FILE")
    }
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true"}
