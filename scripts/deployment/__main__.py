"""Puts an environment up and takes it down: scripts/deploy, scripts/destroy, scripts/env."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from scripts.deployment import models
from scripts.deployment.leftovers import leftovers
from scripts.deployment.stack import ENVIRONMENTS, SOURCE
from scripts.deployment.steps import Deployment
from scripts.deployment.target import Target
from shared.core.errors import ConfigurationError, RagzeroError

_EXPIRES = "expires"
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def deploy(given: argparse.Namespace) -> int:
    return _brought_up(Target.named(given.environment, given.terraform), given)


def _brought_up(target: Target, given: argparse.Namespace) -> int:
    deployment = Deployment(target, _say, given.without)
    if given.plan:
        deployment.plan()
    else:
        deployment.run(given.first)
    return 0


def destroy(given: argparse.Namespace) -> int:
    if given.environment in ENVIRONMENTS and given.confirm != given.environment:
        _say(f"this takes {given.environment} down, its documents too; say so: --confirm {given.environment}")
        return 2
    return take_down(Target.named(given.environment, given.terraform), given.without)


def take_down(target: Target, without: Sequence[str] = ()) -> int:
    """1 when something is left, or may be."""
    for stack in reversed(target.stacks):
        if stack.name not in without:
            _say(f"{stack.name} ...")
            target.init(target.doomed(stack)).destroy()
    if models.STEP not in without:
        _stop_models(target)
    left = leftovers(target, without)
    for each in left:
        _say(f"left behind: {each}")
    if not left:
        _say(f"nothing is left of {target.name}")
    return 1 if left else 0


def _stop_models(target: Target) -> None:
    try:
        models.stop(target, _say)
    except ConfigurationError as error:  # what is left is listed afterwards, or that nobody knows
        _say(str(error))


def up(given: argparse.Namespace) -> int:
    """A short-lived environment with the files of dev."""
    expires = (datetime.now(UTC) + given.ttl).isoformat(timespec="minutes")
    target = Target(given.name, "dev", {_EXPIRES: expires}, given.terraform)
    _say(f"until {expires}; after that, scripts/env expire takes it down")
    return _brought_up(target, given)


def down(given: argparse.Namespace) -> int:
    return take_down(Target(given.name, "dev", source=given.terraform), given.without)


def expire(given: argparse.Namespace) -> int:
    """Takes down every short-lived environment whose time is over."""
    over = [
        Target(name, "dev", source=given.terraform) for name in expired(datetime.now(UTC), given.terraform)
    ]
    return max([take_down(target, given.without) for target in over], default=0)


def expired(now: datetime, source: Path = SOURCE) -> list[str]:
    """By the tags of what they are made of."""
    found: set[str] = set()
    pages = Target.named("dev", source).client("resourcegroupstaggingapi").get_paginator("get_resources")
    for page in pages.paginate(TagFilters=[{"Key": "project", "Values": ["ragzero"]}, {"Key": _EXPIRES}]):
        for each in page["ResourceTagMappingList"]:
            tags = {tag["Key"]: tag["Value"] for tag in each["Tags"]}
            if datetime.fromisoformat(tags[_EXPIRES]) < now:
                found.add(tags["environment"])
    return sorted(found - set(ENVIRONMENTS))


def _say(line: str) -> None:
    print(line, flush=True)


def _ttl(text: str) -> timedelta:
    said = re.fullmatch(r"(\d+)([mhd])", text)
    if said is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 90m, 24h or 7d, got {text}")
    return timedelta(**{_UNITS[said[2]]: int(said[1])})


def _short_lived(text: str) -> str:
    if text in ENVIRONMENTS or not re.fullmatch(r"[a-z][a-z0-9-]{0,14}[a-z0-9]", text):
        raise argparse.ArgumentTypeError(
            f"expected 2 to 16 small letters, digits and hyphens such as pr-123, got {text}"
        )
    return text


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, run in (("deploy", deploy), ("destroy", destroy)):
        command = commands.add_parser(name)
        command.add_argument("environment", choices=ENVIRONMENTS)
        command.set_defaults(run=run)
        if run is destroy:
            command.add_argument("--confirm", help="the environment's name once more")
    env = commands.add_parser("env").add_subparsers(required=True)
    for name, run in (("up", up), ("down", down), ("expire", expire)):
        command = env.add_parser(name, help=run.__doc__)
        command.set_defaults(run=run)
        if run is not expire:
            command.add_argument("name", type=_short_lived)
        if run is up:
            command.add_argument(
                "--ttl", type=_ttl, default="24h", help="90m, 24h, 7d (default: %(default)s)"
            )
    for command in (*commands.choices.values(), *env.choices.values()):
        if command.get_default("run") is not None:
            command.add_argument(
                "--without", action="append", default=[], help="what it does without: a stack, or modal"
            )
            command.add_argument(
                "--terraform",
                type=Path,
                default=SOURCE,
                help="a copy of infra/terraform with environments of its own",
            )
        if command.get_default("run") in (deploy, up):
            command.add_argument("--from", dest="first", default="build", help="the step to go on with")
            command.add_argument(
                "--plan", action="store_true", help="say what would change, and change nothing"
            )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    given = _arguments(arguments)
    try:
        return int(given.run(given))
    except (RagzeroError, BotoCoreError, ClientError) as error:
        print(f"{error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
