"""The plans of an environment's stacks, made without an account: AWS is ministack on this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from scripts.deployment.openapi import write_openapi
from scripts.deployment.stack import SOURCE, Stack, TerraformFailed, resources, stacks_of
from scripts.local.aws import ACCESS_KEY, LocalAws
from scripts.local.process import free_port
from scripts.packaging.build import BUILDS

# Third parties are asked nothing while something new is planned, but their providers want to be told who asks.
_NOBODY = {"NEON_API_KEY": "nobody", "UPSTASH_EMAIL": "nobody@example.com", "UPSTASH_API_KEY": "nobody"}


@dataclass(frozen=True)
class Planned:
    """{address, type, values} of everything in all stacks; the connections that the database grants, and those that a
    copy of each function may hold."""

    resources: Sequence[Mapping[str, Any]]
    connections: int
    zero_idle: bool
    held: Mapping[str, int] = field(default_factory=dict)


def planned(environment: str) -> Planned:
    """Raises TerraformFailed, when a plan refuses too."""
    stacks = stacks_of(environment)
    said = given(stacks[0], environment)
    contract = {"connections": said["connection_budget"], "always_on": [], "network": None}
    with tempfile.TemporaryDirectory(prefix="ragzero-cost-") as folder, _aws(Path(folder)) as aws:
        _store(aws, said["region"], f"/ragzero/{environment}/database", json.dumps(contract))
        found = [_planned(name, environment, aws) for name in stacks]
    everything = [each for resources, _ in found for each in resources]
    connections = {name: count for _, each in found for name, count in each.items()}
    return Planned(everything, said["connection_budget"], said["zero_idle"], connections)


def _store(aws: LocalAws, region: str, name: str, value: str) -> None:
    ssm = boto3.client(
        "ssm",
        endpoint_url=aws.url,
        region_name=region,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=ACCESS_KEY,
    )
    ssm.put_parameter(Name=name, Type="String", Value=value)


def given(name: str, environment: str) -> dict[str, Any]:
    """The variables of a stack as the environment's files and the defaults have them."""
    variables = {
        key: body.get("default") for key, body in _blocks(_folder(name) / "variables.tf", "variable")
    }
    for file in (f"{environment}.tfvars", f"{environment}.{name}.tfvars"):
        path = SOURCE / "environments" / file
        variables |= _loaded(path) if path.exists() else {}
    return {key: _resolved(value, {}) for key, value in variables.items() if not key.startswith("__")}


def managed(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The resources of a plan that Terraform makes, and not only reads."""
    found = resources(plan["planned_values"]["root_module"])
    return [{"values": {}, **each} for each in found if each["mode"] == "managed"]


def _planned(name: str, environment: str, aws: LocalAws) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Its resources, and the connections of each copy of its functions."""
    scratch = aws.folder / name
    scratch.mkdir()
    stack = Stack.copied(name, scratch, {**_NOBODY, **aws.variables})
    try:
        stack.init()
    except TerraformFailed:
        if stack.locked:
            raise
        return written(name, environment), {}
    plan = stack.plan(*stack.files(environment), *_options(name, scratch, aws))
    found = [{**each, "address": f"{name}: {each['address']}"} for each in managed(plan)]
    return found, held(plan) if name == "app" else {}


def held(plan: Mapping[str, Any]) -> dict[str, int]:
    """By function: the database connections that a copy of it may hold, of a plan of the app."""
    found: dict[str, int] = plan["planned_values"]["outputs"]["connections"]["value"]["each"]
    return found


def _options(name: str, scratch: Path, aws: LocalAws) -> list[str]:
    if name != "app":
        return ["-var=emulated=true"] if name == "database-aurora" else []
    options = [f"-var=endpoint_url={aws.url}", f"-var=openapi_file={write_openapi(scratch / 'openapi.json')}"]
    built = BUILDS / "arm64"
    return [*options, f"-var=package_dir={built if built.exists() else SOURCE / 'stacks/app/tests/packages'}"]


@contextmanager
def _aws(folder: Path) -> Iterator[LocalAws]:
    server = LocalAws(
        folder / "aws", port=free_port(), tethered=True, durable=False, services=("ssm", "sts", "s3")
    )
    server.start()
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def written(name: str, environment: str) -> list[dict[str, Any]]:
    """The stack's own resources as its source and the environment's files have them: for a provider that is not here."""
    variables = given(name, environment)
    return [
        {"address": f"{name}: {type_}.{label}", "type": type_, "values": _resolved(body, variables)}
        for type_, found in _blocks(_folder(name) / "main.tf", "resource")
        for label, body in ((label.strip('"'), body) for label, body in found.items())
    ]


def _folder(name: str) -> Path:
    return SOURCE / "stacks" / name


def _loaded(path: Path) -> dict[str, Any]:
    import hcl2  # only where a provider is missing

    with path.open() as file:
        return dict(hcl2.load(file))


def _blocks(path: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for block in _loaded(path).get(kind, []):
        for label, body in block.items():
            yield label.strip('"'), body


def _resolved(body: Any, variables: Mapping[str, Any]) -> Any:
    """Plain references replaced by the variable's value; whatever is computed stays as it is written."""
    if isinstance(body, dict):
        return {key: _resolved(value, variables) for key, value in body.items() if not key.startswith("__")}
    if isinstance(body, list):
        return [_resolved(each, variables) for each in body]
    if isinstance(body, str) and body.startswith('"'):
        return json.loads(body)  # as it is written, with its quotes
    name = str(body).removeprefix("${var.").removesuffix("}")
    return variables[name] if body == f"${{var.{name}}}" and name in variables else body
