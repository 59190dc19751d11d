"""What costs money while nobody asks, told from a plan: each kind of it is found, and nothing is passed over."""

from __future__ import annotations

import re
from typing import Any

import pytest

from scripts.costing import gpu
from scripts.costing.__main__ import idle_table, promise
from scripts.costing.gpu import Container
from scripts.costing.plans import Planned, written
from scripts.costing.prices import HOURS, free, prices
from scripts.costing.resources import DAYS, FIXED, RULES, Plans, always_on, charges, runs_a_month
from scripts.deployment.stack import ENVIRONMENTS, SOURCE
from shared.core.errors import ConfigurationError

NEON = {"default_endpoint_settings": [{"autoscaling_limit_min_cu": 0.25, "suspend_timeout_seconds": 0}]}
NEVER = {"default_endpoint_settings": [{"autoscaling_limit_min_cu": 0.25, "suspend_timeout_seconds": -1}]}


def aurora(least: float) -> dict[str, Any]:
    return {
        "serverlessv2_scaling_configuration": [{"min_capacity": least, "seconds_until_auto_pause": 300}],
    }


def plans(*found: tuple[str, dict[str, Any]]) -> Plans:
    return Plans([{"address": f"{type_}.this", "type": type_, "values": values} for type_, values in found])


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("aws_nat_gateway", {}),
        ("aws_eip", {}),
        ("aws_db_proxy", {}),
        ("aws_rds_cluster", aurora(0.5)),
        ("neon_project", NEVER),
        (
            "aws_lambda_provisioned_concurrency_config",
            {"function_name": "f", "provisioned_concurrent_executions": 1},
        ),
        ("aws_scheduler_schedule", {"schedule_expression": "rate(5 minutes)"}),
        ("aws_vpc_endpoint", {"vpc_endpoint_type": "Interface", "subnet_ids": ["a", "b"]}),
    ],
)
def test_what_never_sleeps_is_found(type_: str, values: dict[str, Any]) -> None:
    found = always_on(charges(plans((type_, values))))
    assert [each.resource for each in found] == [f"{type_}.this"]
    assert found[0].usd > 0


def test_what_sleeps_costs_its_storage() -> None:
    found = charges(
        plans(
            ("aws_rds_cluster", aurora(0)),
            ("neon_project", NEON),
            ("aws_vpc_endpoint", {"vpc_endpoint_type": "Gateway"}),
        )
    )
    assert {each.kind for each in found} == {"storage"}


def test_a_warm_container_is_always_on_and_a_sleeping_one_is_not() -> None:
    warm, asleep = (Container("generate", "L4", least, 4, 300) for least in (1, 0))
    assert [each.kind for each in gpu.charges([warm, asleep])] == ["always on", "asleep"]
    assert always_on(gpu.charges([warm]))[0].usd == pytest.approx(HOURS * 3600 * warm.usd_a_second)


def test_a_nightly_task_pays_for_the_time_the_database_is_awake() -> None:
    """30.4 nights of 10 s and Neon's own 300 s, at a quarter of a compute unit."""
    nightly = ("aws_scheduler_schedule", {"schedule_expression": "cron(0 3 * * ? *)"})
    (task,) = charges(plans(nightly))
    with_database = charges(plans(nightly, ("neon_project", NEON)))[0]
    assert task.kind == with_database.kind == "woken"
    awake = DAYS * 310 / 3600 * 0.25 * prices()["neon_cu_hour"].usd
    assert with_database.usd - task.usd == pytest.approx(awake)


def test_schedules_that_sleep_alone_may_keep_the_database_awake_together() -> None:
    """Each of them an hour after its last time, and one of them too many."""

    def nightly(runs: int) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("aws_scheduler_schedule", {"schedule_expression": f"cron(0 {hour} * * ? *)"})
            for hour in range(runs)
        ]

    hourly = ("aws_scheduler_schedule", {"schedule_expression": "cron(30 * * * ? *)"})
    assert always_on(charges(plans(hourly))) == []
    assert always_on(charges(plans(*nightly(24)))) == []
    assert len(always_on(charges(plans(hourly, *nightly(1))))) == 2


@pytest.mark.parametrize(
    ("expression", "a_day"),
    [
        ("cron(0 3 * * ? *)", 1),
        ("cron(0 * * * ? *)", 24),
        ("cron(*/5 * * * ? *)", 288),
        ("cron(0,30 8-17 * * ? *)", 20),
        ("cron(0 3 ? * SUN *)", 1 / 7),
        ("cron(0 3 ? * MON-FRI *)", 5 / 7),
        ("cron(0 3 ? * 6L *)", 1 / 7),
        ("cron(0 3 ? * TUE#1 *)", 1 / 7),
        ("rate(1 day)", 1),
        ("rate(12 hours)", 2),
        ("rate(1 minute)", 1440),
    ],
)
def test_schedules_are_counted(expression: str, a_day: float) -> None:
    assert runs_a_month(expression) == pytest.approx(a_day * DAYS)


def test_an_alarm_on_several_metrics_is_paid_by_the_metric() -> None:
    metric, expression = {"metric": [{"metric_name": "Errors"}]}, {"metric": []}
    both = plans(
        ("aws_cloudwatch_metric_alarm", {"metric_query": []}),
        ("aws_cloudwatch_metric_alarm", {"metric_query": [metric, metric, expression]}),
    )
    assert [each.usd for each in charges(both)] == [0.1, 0.2]


def test_a_resource_nobody_priced_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="aws_elasticache_cluster"):
        charges(plans(("aws_elasticache_cluster", {})))


def test_every_resource_of_ours_has_a_price() -> None:
    """Before somebody meets it in a plan."""
    text = "".join(path.read_text() for path in SOURCE.rglob("*.tf") if ".terraform" not in path.parts)
    used = set(re.findall(r'(?m)^resource "(\w+)"', text))
    assert len(used) > 50
    assert used == free() | set(FIXED) | set(RULES)


@pytest.mark.parametrize(("zero_idle", "code"), [(True, 1), (False, 0)])
def test_a_promise_that_is_broken_fails_and_names_what_breaks_it(
    zero_idle: bool, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bill = charges(plans(("aws_nat_gateway", {}), ("neon_project", NEON)))
    assert promise(Planned([], 100, zero_idle), bill) == code
    assert ("aws_nat_gateway.this is always on" in capsys.readouterr().err) == zero_idle


def test_the_table_says_zero_of_what_is_not_there() -> None:
    text = idle_table(charges(plans(("neon_project", NEON))))
    assert "    0.1750  storage    neon_project.this: 0.5 GB of index" in text
    assert "    0.0000  always on" in text
    assert text.endswith("    0.1750  all together")


def test_a_stack_whose_provider_is_not_here_is_read_from_its_source() -> None:
    (project,) = [each for each in written("database-neon", "prod") if each["type"] == "neon_project"]
    settings = project["values"]["default_endpoint_settings"][0]
    assert settings == {
        "autoscaling_limit_min_cu": 0.25,
        "autoscaling_limit_max_cu": 8,  # of prod's file
        "suspend_timeout_seconds": 0,
    }


def test_every_price_says_where_from_and_since_when() -> None:
    for name, price in prices().items():
        assert price.usd > 0, name
        assert price.source.startswith("https://"), name
        assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", price.as_of), name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_modal_definitions_keep_nothing_warm(environment: str) -> None:
    found = gpu.containers(environment)
    assert {each.gpu for each in found} == {"T4", "L4", None}
    assert always_on(gpu.charges(found)) == []
