"""What is still there of an environment that was taken down: whatever carries its tags or its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from scripts.deployment import models
from scripts.deployment.stack import stacks_of
from scripts.deployment.target import Target
from shared.core.errors import ConfigurationError


def leftovers(target: Target, without: Collection[str] = ()) -> list[str]:
    """ARNs, parameters, databases, apps; and who could not be asked, because not knowing is not nothing.

    without: stacks, or modal, that the environment never had.
    """
    stacks = stacks_of(target.like, target.source)
    had = {name for name in (*stacks, models.STEP) if name not in without}
    asked = {"AWS": _tagged, "SSM": _parameters, "CloudWatch": _logs}
    others = {"Modal": (models.STEP, models.left), "Neon": ("database-neon", _neon)}
    others |= {"Upstash": ("cache-upstash", _upstash)}
    asked |= {name: ask for name, (part, ask) in others.items() if part in had}
    return sorted({each for name, ask in asked.items() for each in _answered(name, ask, target)})


def _answered(name: str, ask: Callable[[Target], Iterator[str]], target: Target) -> Iterator[str]:
    try:
        yield from ask(target)
    except (BotoCoreError, ClientError, httpx.HTTPError, ConfigurationError) as error:
        yield f"unknown: {name} could not be asked ({error})"


def _tagged(target: Target) -> Iterator[str]:
    """Of every service that knows tags."""
    filters = [{"Key": "project", "Values": ["ragzero"]}, {"Key": "environment", "Values": [target.name]}]
    pages = target.client("resourcegroupstaggingapi").get_paginator("get_resources")
    for page in pages.paginate(TagFilters=filters):
        yield from (each["ResourceARN"] for each in page["ResourceTagMappingList"])


def _parameters(target: Target) -> Iterator[str]:
    """Those that people stored themselves carry no tags."""
    named = [{"Key": "Path", "Option": "Recursive", "Values": [f"/ragzero/{target.name}/"]}]
    pages = target.client("ssm").get_paginator("describe_parameters")
    for page in pages.paginate(ParameterFilters=named):
        yield from (f"SSM parameter {each['Name']}" for each in page["Parameters"])


def _logs(target: Target) -> Iterator[str]:
    """A function that was called once more after its group was gone has made a new one."""
    pages = target.client("logs").get_paginator("describe_log_groups")
    for page in pages.paginate(logGroupNamePrefix=f"/aws/lambda/ragzero-{target.name}-"):
        yield from (f"log group {each['logGroupName']}" for each in page["logGroups"])


def _neon(target: Target) -> Iterator[str]:
    key = _needed("NEON_API_KEY")
    base = os.environ.get("NEON_API_URL", "https://console.neon.tech/api/v2")
    told = httpx.get(f"{base}/projects", params={"limit": 400}, headers={"Authorization": f"Bearer {key}"})
    projects, name = told.raise_for_status().json()["projects"], f"ragzero-{target.name}"
    yield from (f"Neon project {each['id']}" for each in projects if each["name"] == name)


def _upstash(target: Target) -> Iterator[str]:
    who = (_needed("UPSTASH_EMAIL"), _needed("UPSTASH_API_KEY"))
    base = os.environ.get("UPSTASH_API_URL", "https://api.upstash.com/v2")
    databases, name = (
        httpx.get(f"{base}/redis/databases", auth=who).raise_for_status().json(),
        f"ragzero-{target.name}",
    )
    yield from (
        f"Upstash database {each['database_id']}" for each in databases if each["database_name"] == name
    )


def _needed(variable: str) -> str:
    if variable not in os.environ:
        raise ConfigurationError(variable, "is not set")
    return os.environ[variable]
