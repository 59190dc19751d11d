"""What Terraform says it has made (`terraform output -json` of stacks/app), compared with what the query function goes by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.rag import Failure, call
from shared.client import Ragzero

_APPLY = "scripts/deploy ENV, or the outputs of the environment that this API is of"


def drift(api: Ragzero, outputs: Path) -> list[dict[str, Any]]:
    """A check for each setting that an output tells of, in the doctor's form. Raises Failure for a file of another form."""
    wanted, listed = _read(outputs)
    settings: Any = call(api, "GET", "/v1/index/settings")
    in_force = {one["variable"]: one for one in settings}
    compared = [_compared(in_force[name], output, value) for name, (output, value) in wanted.items()]
    return compared + list(unlisted(in_force, listed))


def _read(path: Path) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Variables with the output that tells their value, and that; the parameters that the query function may read."""
    try:
        found = {name: one["value"] for name, one in json.loads(path.read_text(encoding="utf-8")).items()}
        told = {
            "RAGZERO_BUCKET": ("bucket", found["bucket"]),
            "RAGZERO_QUEUE_URL": ("queue.url", found["queue"]["url"]),
            "RAGZERO_DEAD_LETTER_URL": ("queue.dead_letters_url", found["queue"]["dead_letters_url"]),
        }
        return told, list(found["parameters"]["query"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        problem = f"expected what `terraform output -json` of stacks/app prints, got {error!r}"
        raise Failure(f"{path}: {problem}") from error


def _compared(setting: Mapping[str, Any], output: str, value: str) -> dict[str, Any]:
    name = setting["variable"]
    if setting["value"] == value:
        return {"name": name, "status": "ok", "detail": f"as the output {output} says", "remedy": None}
    detail = f"{setting['value']} by {setting['source']}; the output {output} says {value}"
    return {"name": name, "status": "fail", "detail": detail, "remedy": _APPLY}


def unlisted(in_force: Mapping[str, Mapping[str, Any]], listed: list[str]) -> Iterator[dict[str, Any]]:
    """What is read from a parameter that the stack does not know: of another environment, or made by hand."""
    for name, setting in in_force.items():
        kind, _, parameter = setting["source"].partition(" ")
        if kind == "parameter" and parameter not in listed:
            detail = f"by {setting['source']}, which the output parameters does not name"
            yield {"name": name, "status": "warn", "detail": detail, "remedy": _APPLY}
