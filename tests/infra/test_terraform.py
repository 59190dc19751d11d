"""What the Terraform says, without applying it: form, refusals, plans of every stack and environment."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hcl2
import pytest

from functions.reindex.handler import TASKS
from scripts.costing import gpu
from scripts.costing.__main__ import at_table
from scripts.costing.load import Demand, simulate
from scripts.costing.plans import Planned, held, managed, written
from scripts.costing.shape import shape
from scripts.deployment.openapi import write_openapi
from scripts.deployment.stack import ROOT, SOURCE, WRAPPER, Stack, resources
from scripts.local.process import free_port
from tests.support.moto_server import Moto
from tests.support.servers import running
from tests.support.terraform import check_that_it_sleeps, state_of

pytestmark = pytest.mark.timeout(600)  # on a machine with other work; two minutes on one without

_PLANNED = ("staging", "prod")  # dev is applied in test_terraform_apply.py
_TESTED = ("app", "database-aurora", "state")
_SCHEMAS = Path(__file__).parent / "schemas"
Plans = Mapping[tuple[str, str], dict[str, Any]]


def test_the_form_is_terraforms_own() -> None:
    subprocess.run([WRAPPER, "fmt", "-check", "-recursive", str(SOURCE)], check=True)


@pytest.mark.parametrize("name", _TESTED)
def test_names_arrows_and_every_refusal(name: str, tmp_path: Path) -> None:
    """`terraform test`, with AWS mocked. It validates too."""
    printed = Stack.copied(name, tmp_path).init().run("test", "-no-color")
    assert re.search(r"Success! [1-9]\d* passed, 0 failed", printed)


@pytest.fixture(scope="module")
def moto(state_folder: Path) -> Iterator[Moto]:
    with running(Moto(state_folder / "moto", port=free_port(), tethered=True)) as server:
        yield server


@pytest.fixture(scope="module")
def plans(moto: Moto, tmp_path_factory: pytest.TempPathFactory) -> Plans:
    """Of the AWS stacks, by (stack, environment)."""
    scratch = tmp_path_factory.mktemp("plans")
    contract = {"connections": 500, "always_on": [], "network": None}
    for environment in _PLANNED:
        moto.client("ssm").put_parameter(
            Name=f"/ragzero/{environment}/database", Type="String", Value=json.dumps(contract)
        )
    app = [
        f"-var=package_dir={SOURCE}/stacks/app/tests/packages",
        f"-var=openapi_file={write_openapi(scratch / 'openapi.json')}",
        f"-var=endpoint_url={moto.url}",
    ]
    aurora = ["-var=emulated=true"]
    stacks = [
        Stack.copied(name, scratch, moto.variables, options)
        for name, options in (("app", app), ("database-aurora", aurora))
    ]

    def planned(stack: Stack) -> list[tuple[tuple[str, str], dict[str, Any]]]:
        stack.init()
        return [((stack.name, each), stack.plan(*stack.files(each))) for each in _PLANNED]

    with ThreadPoolExecutor(2) as pool:
        return dict(entry for entries in pool.map(planned, stacks) for entry in entries)


def test_every_environment_plans(plans: Plans) -> None:
    assert len(plans) == 2 * len(_PLANNED)
    for plan in plans.values():
        assert {tuple(each["change"]["actions"]) for each in plan["resource_changes"]} <= {
            ("create",),
            ("read",),
        }


def _planned(plans: Plans, environment: str, type_: str) -> list[dict[str, Any]]:
    return [each["values"] for each in managed(plans["app", environment]) if each["type"] == type_]


@pytest.mark.parametrize("environment", _PLANNED)
def test_every_task_has_its_schedule_and_what_it_finds_its_alarm(plans: Plans, environment: str) -> None:
    """The alarms hear of it by the very words that reindex logs."""
    schedules = _planned(plans, environment, "aws_scheduler_schedule")
    assert {json.loads(each["target"][0]["input"])["task"] for each in schedules} == set(TASKS)
    patterns = {
        each["name"]: each["pattern"]
        for each in _planned(plans, environment, "aws_cloudwatch_log_metric_filter")
    }
    alarms = {each["metric_name"] for each in _planned(plans, environment, "aws_cloudwatch_metric_alarm")}
    source = "".join(path.read_text() for path in (ROOT / "functions" / "reindex").glob("*.py"))
    for name in ("deleted-data", "index-recall"):
        (event,) = re.findall(r'\$\.event = "(\w+)"', patterns[name])
        assert f'"{event}"' in source
        assert name in alarms


_NAMES = (
    "name",
    "bucket",
    "function_name",
    "cluster_identifier",
    "identifier",
    "alarm_name",
    "dashboard_name",
)
# What lies inside something that carries the environment.
_INSIDE = {
    "aws_apigatewayv2_stage",
    "aws_cloudwatch_log_metric_filter",
    "aws_iam_role_policy",
    "aws_scheduler_schedule",
    "aws_lambda_permission",
}


def _names(plan: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {
        (each["type"], str(each["values"][name]))
        for each in resources(plan["planned_values"]["root_module"])
        for name in _NAMES
        if each["mode"] == "managed" and each["type"] not in _INSIDE and each.get("values", {}).get(name)
    }


def test_two_environments_in_one_account_do_not_meet(plans: Plans) -> None:
    named = {
        environment: set().union(*(_names(plans[stack, environment]) for stack in ("app", "database-aurora")))
        for environment in _PLANNED
    }
    for environment, names in named.items():
        assert len(names) > 30
        assert not [name for name in names if environment not in name[1]]
    assert not named["prod"] & named["staging"]


@pytest.mark.parametrize("environment", _PLANNED)
@pytest.mark.parametrize("database", ["database-neon", "database-aurora"])
def test_asleep_an_environment_costs_its_storage_and_what_wakes_it(
    plans: Plans, environment: str, database: str
) -> None:
    """All of them promise it. Everything in the plans has a price; nothing is on while nobody asks."""
    stored = plans.get((database, environment))
    found = [
        *managed(plans["app", environment]),
        *(managed(stored) if stored else written(database, environment)),
    ]
    check_that_it_sleeps(found, environment)


@pytest.mark.parametrize("environment", _PLANNED)
def test_what_an_environment_can_carry_is_read_from_its_plan(plans: Plans, environment: str) -> None:
    """And makes a bill: its sizes, its database's connections, its GPUs; the prices say of when and where they are."""
    app = plans["app", environment]
    found = Planned([*managed(app), *written("database-neon", environment)], 100, True, held(app))
    able = shape(found, gpu.containers(environment))
    assert (able.query_connections, able.ingest_connections, able.gateway) == (3, 1, "rest")
    assert able.query_copies == {"staging": 10, "prod": 40}[environment]
    assert able.database_unit_hour > 0
    assert able.database_cores == {"staging": 2, "prod": 8}[environment]
    demand = Demand(questions=1000, documents=100, users=10)
    table = at_table(demand, able, simulate(demand, able))
    assert re.search(r"list prices of 20\d\d-\d\d to 20\d\d-\d\d in eu-central-1 or us-east-1", table)


def _blocks(kind: str) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    for path in sorted(SOURCE.rglob("*.tf")):
        if ".terraform" not in path.parts:
            with path.open() as file:
                parsed = hcl2.load(file)
            for block in parsed.get(kind, []):
                for name, body in block.items():
                    yield path, name.strip('"'), body


def test_every_variable_says_what_it_is_and_refuses_what_it_is_not() -> None:
    """Booleans and what the functions are handed need no check of their own."""
    unchecked = []
    for path, name, body in _blocks("variable"):
        assert {"description", "type"} <= set(body), f"{path}: {name}"
        if "validation" not in body and body["type"] not in ("bool", "${bool}"):
            unchecked.append(name)
    assert set(unchecked) == {"passwords"}


@pytest.mark.parametrize("kind", ["variable", "output"])
def test_each_stacks_readme_tells_all_its_inputs_and_outputs_as_they_are(kind: str) -> None:
    """Each with its default and its description, in their order, and none besides."""
    said: dict[Path, list[str]] = {}
    for path, name, body in _blocks(kind):
        if path.parts[-3] == "stacks":
            default = [_default(body)] if kind == "variable" else []
            cells = [f"`{name}`", *default, _text(body["description"])]
            said.setdefault(path.parent, []).append(" | ".join(cells))
    assert said
    for folder, rows in said.items():
        assert _table((folder / "README.md").read_text(), kind) == rows, folder.name


def _table(readme: str, kind: str) -> list[str]:
    """Its rows; when the schedules run is said in words."""
    head = {"variable": "| input | default | |", "output": "| output | |"}[kind]
    rows = readme.partition(f"\n{head}\n")[2].partition("\n\n")[0].splitlines()[1:]
    return [re.sub("^(`schedules`) \\| [^|]+", r"\1 | in words ", row.strip("| ")) for row in rows]


def _default(variable: Mapping[str, Any]) -> str:
    if "default" not in variable:
        return "required"
    match variable["default"]:
        case None:
            return "none"
        case bool(value):
            return str(value).lower()
        case [first, *_] as several if " " in first:
            return ", ".join(f"`{_text(each)}`" for each in several)
        case dict(value) if value:
            return "in words"
        case list(value):
            return f"`{json.dumps([_text(each) for each in value])}`"
        case value:
            return f"`{_text(str(value))}`"


def _text(literal: str) -> str:
    """Of HCL's: without its quotes."""
    return literal.removeprefix('"').removesuffix('"').replace('\\"', '"')


def test_everything_is_pinned() -> None:
    for path in sorted((SOURCE / "stacks").glob("*/versions.tf")):
        with path.open() as file:
            providers = hcl2.load(file)["terraform"][0]["required_providers"][0]
        for name, provider in providers.items():
            if not name.startswith("__"):
                assert re.fullmatch(r'"\d+\.\d+\.\d+"', provider["version"]), f"{path}: {name}"
    locked = {path.parent.name for path in (SOURCE / "stacks").glob("*/.terraform.lock.hcl")}
    assert locked == set(_TESTED)


def _stand_in(name: str, described: Mapping[str, Any], folder: Path) -> None:
    """A module that takes and gives what the recorded resource does, so that Terraform itself compares the two."""
    folder.mkdir(parents=True)
    lines = []
    for attribute, is_ in described["attributes"].items():
        if is_.get("required") or is_.get("optional"):
            default = "" if is_.get("required") else "\n  default = null"
            lines.append(f'variable "{attribute}" {{\n  type = {is_["type"]}{default}\n}}')
        given = f"var.{attribute}" if is_.get("required") else json.dumps(attribute)
        sensitive = "\n  sensitive = true" if is_.get("sensitive") else ""
        lines.append(f'output "{attribute}" {{\n  value = {given}{sensitive}\n}}')
    for block, attributes in described["blocks"].items():
        for attribute, type_ in attributes.items():
            lines.append(f'variable "{block}__{attribute}" {{\n  type = {type_}\n  default = null\n}}')
    (folder / "main.tf").write_text("\n".join(lines) + "\n")


def _with_stand_ins(stack: Stack, provider: str) -> Stack:
    """The stack with its third-party resources replaced by modules made from the recorded schema."""
    schema = json.loads((_SCHEMAS / f"{provider}.json").read_text())
    versions = (stack.folder / "versions.tf").read_text()
    pinned = f'source  = "{schema["provider"]}"\n      version = "{schema["version"]}"'
    assert pinned in versions, f"the schema recorded is not that of the provider pinned in {stack.name}"
    versions = re.sub(rf"\n    {provider} = {{.*?\n    }}", "", versions, flags=re.DOTALL)
    versions = re.sub(rf'\nprovider "{provider}" {{.*?}}[^\n]*\n', "\n", versions, flags=re.DOTALL)
    (stack.folder / "versions.tf").write_text(versions)
    for name, described in schema["resources"].items():
        _stand_in(name, described, stack.root / "stand-ins" / name)
        for path in stack.folder.glob("*.tf"):
            path.write_text(_referring_to_stand_in(name, path.read_text()))
    return stack


def _referring_to_stand_in(name: str, text: str) -> str:
    def as_module(found: re.Match[str]) -> str:
        body = re.sub(r"(?ms)^  (\w+) {\n(.*?)^  }$", as_arguments, found[2])
        return f'module "{name}_{found[1]}" {{\n  source = "../../stand-ins/{name}"\n{body}\n}}\n'

    def as_arguments(block: re.Match[str]) -> str:
        return re.sub(r"(?m)^    (\w+)", rf"  {block[1]}__\1", block[2])

    text = re.sub(rf'resource "{name}" "(\w+)" {{\n(.*?)\n}}\n', as_module, text, flags=re.DOTALL)
    return re.sub(rf"\b{name}\.(\w+)\.", rf"module.{name}_\1.", text)


@pytest.mark.parametrize(
    ("name", "provider", "refused", "reason"),
    [
        ("database-neon", "neon", "suspend_after_s=-1", "keeps the database awake"),
        ("cache-upstash", "upstash", "upstash_region=eu-north-1", "Upstash is in us-east-1"),
    ],
)
def test_third_party_stacks_fit_their_recorded_schemas(
    name: str, provider: str, refused: str, reason: str, moto: Moto, tmp_path: Path
) -> None:
    """Applied, with stand-ins for what only the provider makes; every parameter of the contract is there afterwards."""
    options = [f"-var=environment={provider}", "-var=region=eu-central-1", "-var=zero_idle=true"]
    stack = _with_stand_ins(Stack.copied(name, tmp_path, moto.variables, options), provider).init()
    printed = stack.run("plan", "-no-color", "-compact-warnings", *options, f"-var={refused}", accept=(1,))
    assert reason in " ".join(printed.replace("│", " ").split())
    stack.apply()
    ssm = moto.client("ssm")
    found = {
        each["Name"]
        for page in ssm.get_paginator("get_parameters_by_path").paginate(
            Path=f"/ragzero/{provider}", Recursive=True
        )
        for each in page["Parameters"]
    }
    assert set(state_of(stack).outputs["parameters"]) == found


def test_an_attribute_the_provider_lacks_is_found(tmp_path: Path) -> None:
    """As an argument, as an argument of a block, and where it is read."""
    stack = _with_stand_ins(Stack.copied("database-neon", tmp_path), "neon").init()
    path = stack.folder / "main.tf"
    right = path.read_text()
    arguments = {"org_id ": "organisation ", "suspend_timeout_seconds": "suspend_after_seconds"}
    for renamed, problem in (
        (arguments, "Unsupported argument"),
        ({"database_host_pooler": "pooled_host"}, "Unsupported attribute"),
    ):
        wrong = right
        for known, unknown in renamed.items():
            assert known in wrong
            wrong = wrong.replace(known, unknown)
        path.write_text(wrong)
        printed = stack.run("validate", "-no-color", accept=(1,))
        assert problem in printed
        assert [unknown for unknown in renamed.values() if unknown.strip() not in printed] == []
