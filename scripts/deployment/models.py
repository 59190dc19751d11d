"""The models of an environment, on Modal: deployed, made known to the functions that ask them, stopped again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from scripts.deployment.stack import ENVIRONMENTS, ROOT
from scripts.deployment.target import Target
from scripts.packaging.layers import MODEL
from shared.core.errors import ConfigurationError

STEP = "modal"
_APPS = ("ragzero-embed", "ragzero-generate")
_MODELS = (
    "RAGZERO_EMBED_MODEL",
    "RAGZERO_EMBED_REVISION",
    "RAGZERO_GENERATE_MODEL",
    "RAGZERO_GENERATE_REVISION",
)
_KNOCKERS = ("ingest", "reindex")
# What a function reads: the variable that deploying the models was given it in.
_KNOCK = {
    "RAGZERO_EMBED_KEY": "RAGZERO_EMBED_KEY",
    "RAGZERO_MODAL_KEY": "RAGZERO_MODAL_KEY",
    "RAGZERO_MODAL_SECRET": "RAGZERO_MODAL_SECRET",
}
_ASK = {
    "RAGZERO_GENERATOR_API_KEY": "RAGZERO_GENERATE_API_KEY",
    "RAGZERO_GENERATOR_MODEL": "RAGZERO_GENERATE_MODEL",
    "RAGZERO_GENERATOR_PROXY_KEY": "RAGZERO_MODAL_KEY",
    "RAGZERO_GENERATOR_PROXY_SECRET": "RAGZERO_MODAL_SECRET",
}
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "query": ("RAGZERO_GENERATOR_URL", *_ASK),
    **dict.fromkeys(_KNOCKERS, ("RAGZERO_EMBED_URL", *_KNOCK)),
}
"""By reader: what is stored in SSM when the models are deployed."""
_PATIENCE_S = 120


def reason_to_leave_out(target: Target) -> str | None:
    if target.name not in ENVIRONMENTS:
        return f"it uses the generator of {target.like}, where its address is stored, and embeds on the CPU"
    missing = [name for name in _MODELS if not os.environ.get(name)]
    return f"{', '.join(missing)} are not set: answers are quotes" if missing else None


def deploy(target: Target, say: Callable[[str], None]) -> None:
    if reason := reason_to_leave_out(target):
        say(f"  left out, because {reason}")
        target.store(_borrowed(target))
    else:
        # the space of the packages, so that both lanes make the same vectors
        told = {"RAGZERO_MODEL_DIR": str(MODEL), **os.environ}
        command = [str(ROOT / "scripts" / "deploy-modal"), target.name]
        if subprocess.run(command, env=told, check=False).returncode != 0:
            raise ConfigurationError("scripts/deploy-modal", "failed; see above")
        target.store(parameters(*addresses(target.name)))


def parameters(embed_url: str, generator_url: str) -> dict[str, dict[str, str]]:
    knock = {"RAGZERO_EMBED_URL": embed_url, **_given(_KNOCK)}
    ask = {"RAGZERO_GENERATOR_URL": generator_url, **_given(_ASK)}
    return {"query": ask, **dict.fromkeys(_KNOCKERS, knock)}


def addresses(environment: str) -> tuple[str, str]:
    """Of the embedding job's door and of the generator, as they are deployed."""
    import modal  # heavy: loaded when first used

    door = modal.Function.from_name("ragzero-embed", "door", environment_name=environment)
    generate = modal.Cls.from_name("ragzero-generate", "Generate", environment_name=environment)
    return str(door.get_web_url()), str(generate().serve.get_web_url())


def stop(target: Target, say: Callable[[str], None]) -> None:
    """And what the functions were told of them."""
    target.forget(PARAMETERS)
    if target.name in ENVIRONMENTS:
        for name in running(target.name):
            say(f"modal: stopping {name}")
            _asked("app", "stop", name, "--env", target.name, "--yes")


def running(environment: str) -> list[str]:
    """Raises ConfigurationError when Modal does not say."""
    listed = json.loads(_asked("app", "list", "--env", environment, "--json"))
    return sorted(
        each["description"]
        for each in listed
        if each["description"] in _APPS and each["state"] not in ("stopped", "stopping...")
    )


def left(target: Target) -> Iterator[str]:
    """Short-lived environments have nothing of their own there. Volumes hold weights, which are worth keeping."""
    if target.name in ENVIRONMENTS:
        yield from (f"Modal app {name}" for name in running(target.name))
        listed: list[dict[str, Any]] = json.loads(_asked("volume", "list", "--env", target.name, "--json"))
        for each in listed:
            if each["name"].startswith("ragzero-"):
                yield f"Modal Volume {each['name']} (modal volume delete {each['name']} --env {target.name})"


def _borrowed(target: Target) -> dict[str, dict[str, str]]:
    """For a short-lived environment. The embedding job stays out: it works in one environment's database."""
    if target.name == target.like:
        return {}
    there = Target.named(target.like, target.source).stored("query")
    return {"query": {name: there[name] for name in PARAMETERS["query"] if name in there}}


def _given(wanted: Mapping[str, str]) -> dict[str, str]:
    return {name: os.environ[variable] for name, variable in wanted.items() if variable in os.environ}


def _asked(*arguments: str) -> str:
    """By Modal's own command, which also knows who asks."""
    done = subprocess.run(
        [ROOT / ".venv" / "bin" / "modal", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
    )
    if done.returncode != 0:
        said = " ".join((done.stderr + done.stdout).split())[-300:]
        raise ConfigurationError("modal", f"does not answer: {said} (modal token new makes a token)")
    return done.stdout
