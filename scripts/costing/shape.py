"""What an environment can carry, read from its plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.costing.gpu import Container
from scripts.costing.load import Shape
from scripts.costing.plans import Planned
from scripts.costing.prices import usd

_LEAST_ACU = 0.5  # of an Aurora that is awake
_ACU_CORES = 0.25  # 2 GB of memory each, and instances of Aurora's have 8 GB to a processor
_CU_CORES = 1.0  # says Neon


def shape(found: Planned, gpus: Sequence[Container]) -> Shape:
    """A rest gateway answers questions with the function that streams."""
    functions = {
        each["values"]["function_name"].split("-", 2)[2]: each["values"]
        for each in found.resources
        if each["type"] == "aws_lambda_function"
    }
    rest = "query-stream" in functions
    asked = "query-stream" if rest else "query"
    query, ingest = functions[asked], functions["ingest"]
    unit_hour, gb_month, cores = _database(found.resources)
    return Shape(
        query_copies=query["reserved_concurrent_executions"],
        query_gb=query["memory_size"] / 1024,
        query_connections=found.held[asked],
        ingest_copies=ingest["reserved_concurrent_executions"],
        ingest_gb=ingest["memory_size"] / 1024,
        ingest_connections=found.held["ingest"],
        connection_budget=found.connections,
        gateway="rest" if rest else "http",
        database_unit_hour=unit_hour,
        database_cores=cores,
        index_gb_month=gb_month,
        generator=next(each for each in gpus if each.name.startswith("generate") and each.gpu),
        embedder=next(each for each in gpus if each.name.startswith("embed") and each.gpu),
    )


def _database(resources: Sequence[Mapping[str, Any]]) -> tuple[float, float, float | None]:
    """USD for an hour awake at its smallest, and for a GB kept for a month; its processors at its largest. Nothing for a
    database of your own."""
    for each in resources:
        if each["type"] == "neon_project":
            limits = each["values"]["default_endpoint_settings"][0]
            cores = limits["autoscaling_limit_max_cu"] * _CU_CORES
            return limits["autoscaling_limit_min_cu"] * usd("neon_cu_hour"), usd("neon_gb_month"), cores
        if each["type"] == "aws_rds_cluster":
            limits = each["values"]["serverlessv2_scaling_configuration"][0]
            hour = max(limits["min_capacity"], _LEAST_ACU) * usd("aurora_acu_hour")
            return hour, usd("aurora_gb_month"), limits["max_capacity"] * _ACU_CORES
    return 0.0, 0.0, None
