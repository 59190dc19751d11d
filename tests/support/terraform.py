"""What tests read from states and plans that scripts.deployment.stack made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.costing.__main__ import charges
from scripts.costing.plans import Planned, given, written
from scripts.deployment.stack import Stack


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


def state_of(stack: Stack) -> State:
    return State((stack.folder / "terraform.tfstate").read_text())


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


def check_that_it_sleeps(found: Sequence[Mapping[str, Any]], environment: str) -> None:
    """found: the resources of its app and its database. Pennies of storage, and what a schedule wakes; nothing is on."""
    assert given("app", environment)["zero_idle"] is True
    everything = [*found, *written("cache-upstash", environment)]
    bill = charges(Planned(everything, connections=100, zero_idle=True), environment)
    assert [each for each in bill if each.kind == "always on"] == []
    assert 0 < sum(each.usd for each in bill if each.kind == "storage") < 1
    assert 0 < sum(each.usd for each in bill if each.kind == "woken") < 1
