"""What each of Terraform's resources costs in a month in which nobody asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scripts.costing.prices import HOURS, SECONDS, free, usd
from shared.core.errors import ConfigurationError

Kind = Literal["always on", "woken", "storage", "watching", "asleep"]
GB = 10**9
DAYS = HOURS / 24
_WEEK = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True)
class Charge:
    """usd a month. always on: runs, or keeps something awake, though nobody asks; woken: runs when a schedule says so."""

    resource: str
    kind: Kind
    usd: float
    why: str


@dataclass(frozen=True)
class Asleep:
    """What is assumed of an environment that nobody asks: how much it keeps, and how long a scheduled task takes."""

    documents_gb: float = 1.0
    index_gb: float = 0.5
    task_seconds: float = 10.0


@dataclass(frozen=True)
class Plans:
    """The resources of all stacks of an environment as {address, type, values}, and what is assumed."""

    resources: Sequence[Mapping[str, Any]]
    asleep: Asleep = Asleep()

    def named(self, type_: str, name: str) -> Mapping[str, Any]:
        """values of the function, cluster... of that name; empty where the plan does not know it yet."""
        return next(
            (each["values"] for each in self.resources if each["type"] == type_ and name in _names(each)), {}
        )

    @property
    def wakings(self) -> float:
        """How often a month schedules wake the database, at most."""
        return sum(
            runs_a_month(each["values"]["schedule_expression"])
            for each in self.resources
            if each["type"] == "aws_scheduler_schedule"
        )

    @property
    def nap(self) -> float:
        """USD for one waking of the database: the task, and the time until it sleeps again."""
        return sum(
            _nap(each["type"], each["values"], self.asleep.task_seconds)
            for each in self.resources
            if each["type"] in ("aws_rds_cluster", "neon_project")
        )


Found = tuple[Kind, float, str]


@dataclass(frozen=True)
class Seen:
    """A resource among the others."""

    values: Mapping[str, Any]
    plans: Plans


Rule = Callable[[Seen], Iterator[Found]]


def charges(plans: Plans) -> list[Charge]:
    """Raises ConfigurationError for a resource nobody has said the price of."""
    return [
        Charge(each["address"], kind, cost, why)
        for each in plans.resources
        for kind, cost, why in _found(each["type"], Seen(each["values"], plans))
    ]


def always_on(found: Iterable[Charge]) -> list[Charge]:
    return [each for each in found if each.kind == "always on"]


def runs_a_month(expression: str) -> float:
    """How often a schedule fires, an upper bound where days of the month or months are restricted.

    >>> runs_a_month("rate(12 hours)") == 2 * DAYS
    True
    """
    if rate := re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression):
        return SECONDS / (int(rate[1]) * {"minute": 60, "hour": 3600, "day": 86400}[rate[2]])
    fields = re.fullmatch(r"cron\((\S+) (\S+) \S+ \S+ (\S+) \S+\)", expression)
    minutes, hours, days = fields.groups()  # type: ignore[union-attr]
    return _times(minutes, 60) * _times(hours, 24) * _times(_numbered(days), 7) / 7 * DAYS


def _numbered(days: str) -> str:
    """MON-FRI as 2-6; what is named by its place in the month counts as every week."""
    for number, name in enumerate(_WEEK, 1):
        days = days.replace(name, str(number))
    return re.sub(r"[#L].*", "", days) or "7"


def _times(field: str, of: int) -> int:
    """How many of the `of` minutes, hours or weekdays a field of a cron expression names."""
    if step := re.fullmatch(r"(?:\*|\d+)/(\d+)", field):
        return -(-of // int(step[1]))
    parts = [part.split("-") for part in field.split(",")]
    return of if field in "*?" else sum(int(part[-1]) - int(part[0]) + 1 for part in parts)


def _names(resource: Mapping[str, Any]) -> set[object]:
    return {resource["values"].get(key) for key in ("function_name", "cluster_identifier", "name")}


def _nap(type_: str, values: Mapping[str, Any], task: float) -> float:
    if type_ == "neon_project":
        settings = values["default_endpoint_settings"][0]
        awake = task + (settings["suspend_timeout_seconds"] or 300)
        return float(settings["autoscaling_limit_min_cu"] * awake / 3600 * usd("neon_cu_hour"))
    scaling = values["serverlessv2_scaling_configuration"][0]
    if scaling["min_capacity"] > 0:
        return 0.0
    # the least that a cluster which is awake has
    return float(0.5 * (task + scaling["seconds_until_auto_pause"]) / 3600 * usd("aurora_acu_hour"))


def _cluster(seen: Seen) -> Iterator[Found]:
    least = seen.values["serverlessv2_scaling_configuration"][0]["min_capacity"]
    if least > 0:
        yield "always on", HOURS * least * usd("aurora_acu_hour"), f"{least:g} ACU that never pause"
    stored = seen.plans.asleep.index_gb
    yield "storage", stored * usd("aurora_gb_month"), f"{stored:g} GB of index"


def _instance(seen: Seen) -> Iterator[Found]:
    if seen.values["instance_class"] != "db.serverless":
        raise ConfigurationError("instance_class", f"no price is known for {seen.values['instance_class']}")
    return iter(())  # paid with its cluster's capacity


def _neon(seen: Seen) -> Iterator[Found]:
    settings = seen.values["default_endpoint_settings"][0]
    if settings["suspend_timeout_seconds"] == -1:
        least = settings["autoscaling_limit_min_cu"]
        yield "always on", HOURS * least * usd("neon_cu_hour"), f"{least:g} compute units that never sleep"
    stored = seen.plans.asleep.index_gb
    yield "storage", stored * usd("neon_gb_month"), f"{stored:g} GB of index"


def _provisioned(seen: Seen) -> Iterator[Found]:
    function = seen.plans.named("aws_lambda_function", seen.values["function_name"])
    copies, memory = (
        seen.values["provisioned_concurrent_executions"],
        function.get("memory_size", 1024) / 1024,
    )
    cost = SECONDS * copies * memory * usd("lambda_provisioned_gb_second")
    yield "always on", cost, f"{copies} warm copies of {seen.values['function_name']}"


def _schedule(seen: Seen) -> Iterator[Found]:
    expression = seen.values["schedule_expression"]
    runs = runs_a_month(expression)
    called = usd("lambda_request") + seen.plans.asleep.task_seconds * usd("lambda_gb_second_arm64")
    cost = runs * (called + usd("scheduler_call") + seen.plans.nap)
    if seen.plans.wakings > 24 * DAYS:
        yield "always on", cost, f"{expression}, with all other schedules, hardly lets the database sleep"
    else:
        yield "woken", cost, f"{expression}: the function, and the database until it sleeps again"


def _alarm(seen: Seen) -> Iterator[Found]:
    metrics = sum(1 for query in seen.values.get("metric_query") or () if query["metric"]) or 1
    yield "watching", metrics * usd("alarm_metric_month"), f"an alarm on {metrics} metrics"


def _endpoint(seen: Seen) -> Iterator[Found]:
    if seen.values.get("vpc_endpoint_type") != "Gateway":
        zones = len(seen.values.get("subnet_ids") or ()) or 1
        yield "always on", HOURS * zones * usd("vpc_endpoint_hour"), f"a private endpoint in {zones} zones"


def _bucket(seen: Seen) -> Iterator[Found]:
    if "-documents-" in seen.values["bucket"]:
        stored = seen.plans.asleep.documents_gb
        yield "storage", stored * usd("s3_gb_month"), f"{stored:g} GB of documents"


def _object(seen: Seen) -> Iterator[Found]:
    size = Path(seen.values["source"]).stat().st_size / GB
    said = f"{size * 1000:.0f} MB of package" if size else "a package that scripts/build has not made yet"
    yield "storage", size * usd("s3_gb_month"), said


FIXED: Mapping[str, Found] = {
    "aws_cloudwatch_dashboard": ("watching", usd("dashboard_month"), "a dashboard"),
    "aws_db_proxy": ("always on", HOURS * 8 * usd("rds_proxy_acu_hour"), "RDS Proxy, of 8 ACU at least"),
    "aws_eip": ("always on", HOURS * usd("public_ipv4_hour"), "a public IPv4 address by the hour"),
    "aws_nat_gateway": ("always on", HOURS * usd("nat_gateway_hour"), "a NAT gateway by the hour"),
    "aws_secretsmanager_secret": ("storage", usd("secret_month"), "a secret by the month"),
    "upstash_redis_database": ("asleep", 0.0, "paid by the command; what it holds expires"),
}
RULES: Mapping[str, Rule] = {
    "aws_cloudwatch_metric_alarm": _alarm,
    "aws_lambda_provisioned_concurrency_config": _provisioned,
    "aws_rds_cluster": _cluster,
    "aws_rds_cluster_instance": _instance,
    "aws_s3_bucket": _bucket,
    "aws_s3_object": _object,
    "aws_scheduler_schedule": _schedule,
    "aws_vpc_endpoint": _endpoint,
    "neon_project": _neon,
}


def _found(type_: str, seen: Seen) -> Iterator[Found]:
    if type_ in RULES:
        yield from RULES[type_](seen)
    elif type_ in FIXED:
        yield FIXED[type_]
    elif type_ not in free():
        problem = "nobody has said what this resource costs asleep; say it in scripts/costing/resources.py"
        raise ConfigurationError(type_, problem)
