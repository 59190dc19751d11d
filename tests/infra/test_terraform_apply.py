"""The Terraform applied to AWS on this machine: `app` with its HTTP API on ministack, with its REST API beside
`database-aurora` on moto. Most of the time is Terraform waiting for queues to settle, so all three are applied at once.
"""

from __future__ import annotations

import json
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from scripts.deployment.stack import Stack
from scripts.local.aws import LocalAws
from scripts.local.process import free_port
from scripts.local.twin import SERVICES
from shared import settings
from tests.support.moto_server import Moto
from tests.support.servers import running
from tests.support.terraform import changes, check_that_it_sleeps, state_of

pytestmark = pytest.mark.timeout(900)  # on a machine with other work; three minutes on one without

_FUNCTIONS = ("ingest", "query", "query-stream", "reindex")
# Says what it was called with, on the disk of this machine.
_HANDLER = """
import json, os, pathlib
def handler(event, context):
    with pathlib.Path({said!r}).open("a") as file:
        file.write(json.dumps(event) + "\\n")
    if "Records" in event:
        return {{"batchItemFailures": []}}
    return {{"statusCode": 200, "body": os.environ["RAGZERO_SSM_PREFIX"]}}
"""
# What moto stores but does not give back, and what it invents.
_FORGOTTEN = {
    ("aws_lambda_function", "dead_letter_config"),
    ("aws_rds_cluster", "scaling_configuration"),
    ("aws_vpc_security_group_egress_rule", "description"),
    ("aws_vpc_security_group_ingress_rule", "description"),
}


@dataclass(frozen=True)
class Applied:
    """Stacks by a short name, and what the functions' handlers said."""

    stacks: Mapping[str, Stack]
    ministack: LocalAws
    moto: Moto
    said: Path

    def of_type(self, *types: str) -> list[dict[str, Any]]:
        """The attributes of all resources of these types, of all stacks."""
        states = [state_of(stack) for stack in self.stacks.values()]
        return [each["attributes"] for state in states for each in state.instances if each["type"] in types]


def _packages(folder: Path, said: Path) -> Path:
    folder.mkdir()
    for name in _FUNCTIONS:
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for package in ("functions", f"functions/{name}"):
                archive.writestr(f"{package}/__init__.py", "")
            archive.writestr(f"functions/{name}/handler.py", _HANDLER.format(said=str(said)))
    return folder


def _openapi(folder: Path) -> Path:
    paths = {
        "/v1/query": {"post": {}},
        "/v1/chat/completions": {"post": {}},
        "/v1/models/{model+}": {"get": {}},
        "/v1/documents/{id}": {"get": {}, "delete": {}},
    }
    path = folder / "openapi.json"
    path.write_text(json.dumps({"openapi": "3.1.0", "info": {}, "paths": paths}))
    return path


def _http(scratch: Path, server: LocalAws, packages: Path) -> Stack:
    values = {
        "environment": "twin",
        "region": "us-east-1",
        "zero_idle": "true",
        "disposable": "true",
        "gateway": "http",
        "architecture": "x86_64",
        "database": "url",
        "connection_budget": "100",
        "schedules": "{}",
        "alarms": "false",  # ministack forgets most of what an alarm is
        "endpoint_url": server.url,
        "package_dir": str(packages),
    }
    return Stack.copied("app", scratch, server.variables, [f"-var={k}={v}" for k, v in values.items()])


def _rest(scratch: Path, server: Moto, packages: Path) -> Stack:
    layer = server.client("lambda").publish_layer_version(
        LayerName="adapter", Content={"ZipFile": (packages / "query.zip").read_bytes()}
    )
    values = {
        "database": "aurora",
        "alarms": "true",
        "alarm_emails": '["team@example.com"]',
        "adapter_layer_arn": layer["LayerVersionArn"],
        "endpoint_url": server.url,
        "package_dir": str(packages),
        "openapi_file": str(_openapi(scratch)),
    }
    stack = Stack.copied("app", scratch, server.variables)
    return stack.with_options(*stack.files("dev"), *(f"-var={k}={v}" for k, v in values.items()))


def _aurora(scratch: Path, server: Moto) -> Stack:
    stack = Stack.copied("database-aurora", scratch, server.variables)
    # moto never finishes with IPv6
    return stack.with_options(*stack.files("dev"), "-var=emulated=true", "-var=ipv6=false")


def _apply_after_contract(stack: Stack, server: Moto) -> None:
    """As soon as the database stack has said what it is, which is long before its cluster runs."""
    ssm, deadline = server.client("ssm"), time.monotonic() + 300
    while "/ragzero/dev/database" not in {each["Name"] for each in ssm.describe_parameters()["Parameters"]}:
        assert time.monotonic() < deadline, "the database stack left no contract"
        time.sleep(0.5)
    stack.apply()


@pytest.fixture(scope="module")
def applied(state_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    scratch = tmp_path_factory.mktemp("applied")
    said = scratch / "said.jsonl"
    packages = _packages(scratch / "packages", said)
    ministack = LocalAws(
        state_folder / "ministack", port=free_port(), tethered=True, durable=False, services=SERVICES
    )
    moto = Moto(state_folder / "moto-applied", port=free_port(), tethered=True)
    with running(ministack), running(moto):
        http, rest, aurora = (
            _http(scratch, ministack, packages),
            _rest(scratch, moto, packages),
            _aurora(scratch, moto),
        )
        for stack in (http, rest, aurora):
            stack.init()
        with ThreadPoolExecutor(3) as pool:
            for done in [
                pool.submit(http.apply),
                pool.submit(aurora.apply),
                pool.submit(_apply_after_contract, rest, moto),
            ]:
                done.result()
        yield Applied({"http": http, "rest": rest, "aurora": aurora}, ministack, moto, said)


@pytest.fixture(scope="module")
def again(applied: Applied) -> Mapping[str, dict[str, Any]]:
    """What a second apply would do, by the short name of the stack."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(applied.stacks, pool.map(Stack.plan, applied.stacks.values()), strict=True))


def test_a_second_apply_changes_nothing(again: Mapping[str, dict[str, Any]]) -> None:
    assert changes(again["http"]) == set()
    assert changes(again["rest"]) <= _FORGOTTEN
    assert changes(again["aurora"]) <= _FORGOTTEN


def _wait_for(said: Path, words: Sequence[str]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60
    while not said.exists() or not all(word in said.read_text() for word in words):
        assert time.monotonic() < deadline, said.read_text() if said.exists() else "nothing was called"
        time.sleep(0.1)
    return [json.loads(line) for line in said.read_text().splitlines()]


def test_uploads_deletes_and_questions_reach_their_functions(applied: Applied) -> None:
    outputs, s3 = state_of(applied.stacks["http"]).outputs, applied.ministack.client("s3")
    s3.put_object(Bucket=outputs["bucket"], Key="report.txt", Body=b"The ferry leaves at nine.")
    s3.delete_object(Bucket=outputs["bucket"], Key="report.txt")
    _wait_for(applied.said, ["ObjectCreated:Put", "ObjectRemoved:DeleteMarkerCreated", "report.txt"])
    host = outputs["url"].split("//")[1]
    request = urllib.request.Request(f"{applied.ministack.url}/v1/query", headers={"Host": host})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.read().decode() == "/ragzero/twin/query"


def test_streaming_routes_stream_and_the_others_do_not(applied: Applied) -> None:
    """A method that a known path lacks is the app's to refuse, not the gateway's; a model's id may have slashes."""
    gateway = applied.moto.client("apigateway")
    api = next(each["id"] for each in gateway.get_rest_apis()["items"] if each["name"] == "ragzero-dev")
    found = {
        # moto keeps OpenAPI's extension for ANY as it is written
        (each["path"], "ANY" if "ANY" in method else method): gateway.get_integration(
            restApiId=api, resourceId=each["id"], httpMethod=method
        )["uri"]
        for each in gateway.get_resources(restApiId=api)["items"]
        for method in each.get("resourceMethods", {})
    }
    streams = {route for route, uri in found.items() if uri.endswith("/response-streaming-invocations")}
    assert streams == {("/v1/query", "POST"), ("/v1/chat/completions", "POST")}
    assert {
        ("/v1/models/{model+}", "GET"),
        ("/{proxy+}", "ANY"),
        ("/", "ANY"),
        ("/v1/query", "ANY"),
        ("/v1/documents/{id}", "DELETE"),
    } <= set(found)
    assert all("ragzero-dev-query-stream" in found[route] for route in streams)
    body = json.loads(applied.of_type("aws_api_gateway_rest_api")[0]["body"])
    transfer = {
        (path, method): operation["x-amazon-apigateway-integration"]["responseTransferMode"]
        for path, methods in body["paths"].items()
        for method, operation in methods.items()
    }
    assert {
        (path, method.upper()) for (path, method), mode in transfer.items() if mode == "STREAM"
    } == streams
    (model,) = body["paths"]["/v1/models/{model+}"]["get"]["parameters"]
    assert model["name"] == "model"


_SETTINGS: Mapping[str, type[BaseSettings]] = {
    "ingest": settings.IngestSettings,
    "query": settings.QuerySettings,
    "query-stream": settings.QuerySettings,
    "reindex": settings.ReindexSettings,
}
_READERS = {"query-stream": "query"}
# Read by Lambda, by its adapter, or by the AWS SDK.
_NOT_OURS = {
    "AWS_LAMBDA_EXEC_WRAPPER",
    "AWS_LWA_INVOKE_MODE",
    "AWS_LWA_READINESS_CHECK_PATH",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "RAGZERO_SSM_PREFIX",
}


def _aliases(model: type[BaseSettings]) -> dict[str, bool]:
    """Variable to whether it is required."""
    return {
        str(alias): field.is_required()
        for field in model.model_fields.values()
        for alias in getattr(field.validation_alias, "choices", None) or [field.validation_alias]
    }


@pytest.mark.parametrize("name", _FUNCTIONS)
def test_each_function_gets_the_settings_it_wants(name: str, applied: Applied) -> None:
    """Those in the environment and those in SSM together: all that are required, none that nobody reads."""
    outputs = state_of(applied.stacks["rest"]).outputs
    function = next(
        each
        for each in applied.of_type("aws_lambda_function")
        if each["function_name"] == f"ragzero-dev-{name}"
    )
    environment = set(function["environment"][0]["variables"])
    stored = {each.rsplit("/", 1)[1] for each in outputs["parameters"][_READERS.get(name, name)]}
    known = _aliases(_SETTINGS[name])
    assert (environment | stored) - _NOT_OURS <= set(known)
    assert {alias for alias, required in known.items() if required} <= environment | stored
    assert not environment & stored


def test_what_is_set_is_also_valid(applied: Applied) -> None:
    """The settings model takes the values, not only the names."""
    function = next(
        each
        for each in applied.of_type("aws_lambda_function")
        if each["function_name"] == "ragzero-dev-query"
    )
    variables = function["environment"][0]["variables"]
    by_alias = {
        str(field.validation_alias): name for name, field in settings.QuerySettings.model_fields.items()
    }
    given = {by_alias[alias]: value for alias, value in variables.items() if alias in by_alias}
    made = settings.QuerySettings.load(database_url="postgresql://", pepper="x" * 16, **given)
    assert made.max_connections == 2
    assert made.request_seconds == 28


_SECRET = ("_KEY", "_SECRET", "_PASSWORD", "_TOKEN", "_PEPPER", "_URL")
_ADDRESSES = {"AWS_ENDPOINT_URL", "RAGZERO_DEAD_LETTER_URL", "RAGZERO_QUEUE_URL"}


def test_no_secret_is_in_a_functions_environment_a_state_or_a_plan(
    applied: Applied, again: Mapping[str, dict[str, Any]]
) -> None:
    ssm = applied.moto.client("ssm")
    secret = {
        each["Value"]
        for page in ssm.get_paginator("get_parameters_by_path").paginate(
            Path="/ragzero/dev", Recursive=True, WithDecryption=True
        )
        for each in page["Parameters"]
        if each["Type"] == "SecureString"
    }
    assert len(secret) == 12
    for name, stack in applied.stacks.items():
        kept = state_of(stack).text + json.dumps(again[name])
        assert not [value for value in secret if value in kept]
    for function in applied.of_type("aws_lambda_function"):
        for name in function["environment"][0]["variables"]:
            assert name in _ADDRESSES or not name.endswith(_SECRET)


def test_asleep_dev_costs_its_storage_and_what_wakes_it(applied: Applied) -> None:
    found = [
        {"address": each["type"], "type": each["type"], "values": each["attributes"]}
        for name in ("rest", "aurora")
        for each in state_of(applied.stacks[name]).instances
    ]
    check_that_it_sleeps(found, "dev")


# Actions that know no resources.
_UNBOUNDED = {
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_POLICIES = (
    "aws_iam_role",
    "aws_iam_role_policy",
    "aws_s3_bucket_policy",
    "aws_sns_topic_policy",
    "aws_sqs_queue",
)


def _allowed(applied: Applied) -> Iterator[dict[str, Any]]:
    for each in applied.of_type(*_POLICIES):
        for document in (each.get("policy"), each.get("assume_role_policy")):
            statements = json.loads(document)["Statement"] if document else []
            yield from (statement for statement in statements if statement["Effect"] == "Allow")


def test_policies_allow_single_actions_on_named_resources(applied: Applied) -> None:
    statements = list(_allowed(applied))
    assert len(statements) > 40
    for statement in statements:
        actions = _listed(statement["Action"])
        assert not [action for action in actions if "*" in action]
        if "*" in _listed(statement.get("Resource", [])):
            assert set(actions) <= _UNBOUNDED
        assert statement.get("Principal") != "*"
        if "Principal" in statement and statement["Action"] != "sts:AssumeRole":
            assert "aws:SourceAccount" in statement["Condition"]["StringEquals"]


# What a call needs. A missing object is only told from a forbidden one with s3:ListBucket.
_NEEDED = {
    "s3:AbortMultipartUpload": {"s3:AbortMultipartUpload"},
    "s3:CopyObject": {"s3:GetObject", "s3:PutObject"},
    "s3:CreateMultipartUpload": {"s3:PutObject"},
    "s3:DeleteObject": {"s3:DeleteObject", "s3:DeleteObjectVersion"},
    "s3:GetBucketLifecycleConfiguration": {"s3:GetLifecycleConfiguration"},
    "s3:GetBucketNotificationConfiguration": {"s3:GetBucketNotification"},
    "s3:GetBucketVersioning": {"s3:GetBucketVersioning"},
    "s3:GetObject": {"s3:GetObject", "s3:GetObjectVersion"},
    "s3:HeadObject": {"s3:GetObject", "s3:ListBucket"},
    "s3:ListObjectVersions": {"s3:ListBucketVersions"},
    "s3:ListObjectsV2": {"s3:ListBucket"},
    "s3:ListParts": {"s3:ListMultipartUploadParts"},
    "s3:PutObject": {"s3:PutObject"},
    "sqs:ChangeMessageVisibilityBatch": {"sqs:ChangeMessageVisibility"},
    "sqs:DeleteMessageBatch": {"sqs:DeleteMessage"},
    "sqs:GetQueueAttributes": {"sqs:GetQueueAttributes"},
    "sqs:ReceiveMessage": {"sqs:ReceiveMessage"},
    "sqs:SendMessageBatch": {"sqs:SendMessage"},
}
# What Lambda does in the function's name: takes messages, and puts failed calls away.
_LAMBDAS = {
    "ingest": {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"},
    "reindex": {"sqs:SendMessage"},
}


@pytest.mark.parametrize("name", _FUNCTIONS)
def test_a_function_may_do_what_it_calls_and_nothing_else(name: str, applied: Applied) -> None:
    """The calls are those that test_calls.py has seen it make."""
    calls = json.loads((Path(__file__).parent / "calls.json").read_text()).get(name, [])
    (policy,) = {
        role["policy"]
        for role in applied.of_type("aws_iam_role_policy")
        if role["role"] == f"ragzero-dev-{name}"
    }
    granted = {action for each in json.loads(policy)["Statement"] for action in _listed(each["Action"])}
    assert {action for action in granted if action.startswith(("s3:", "sqs:"))} == _LAMBDAS.get(
        name, set()
    ).union(*(_NEEDED[call] for call in calls))
    assert {action for action in granted if action.startswith("ssm:")} == {"ssm:GetParametersByPath"}


def test_no_bucket_is_public_or_answers_without_tls(applied: Applied) -> None:
    buckets = {each["id"] for each in applied.of_type("aws_s3_bucket")}
    assert len(buckets) == 4
    closed = {
        each["bucket"]
        for each in applied.of_type("aws_s3_bucket_public_access_block")
        if each["block_public_acls"]
        and each["block_public_policy"]
        and each["ignore_public_acls"]
        and each["restrict_public_buckets"]
    }
    denied = {
        each["bucket"]
        for each in applied.of_type("aws_s3_bucket_policy")
        if '"aws:SecureTransport":"false"' in each["policy"] and '"Deny"' in each["policy"]
    }
    versioned = {
        each["bucket"]
        for each in applied.of_type("aws_s3_bucket_versioning")
        if each["versioning_configuration"][0]["status"] == "Enabled"
    }
    encrypted = {
        each["bucket"] for each in applied.of_type("aws_s3_bucket_server_side_encryption_configuration")
    }
    assert buckets == closed == denied == versioned == encrypted


def test_every_queue_has_dead_letters(applied: Applied) -> None:
    queues = applied.of_type("aws_sqs_queue")
    targets = {
        json.loads(each["redrive_policy"])["deadLetterTargetArn"] for each in queues if each["redrive_policy"]
    }
    without = {each["arn"] for each in queues if not each["redrive_policy"]}
    assert len(targets) == 2
    assert {arn for arn in without if not arn.endswith("-dead")} == set()
    assert targets <= without
    assert all(each["sqs_managed_sse_enabled"] for each in queues)


def test_nobody_from_outside_reaches_the_database(applied: Applied) -> None:
    rules = applied.of_type("aws_vpc_security_group_ingress_rule")
    assert rules
    assert not [rule for rule in rules if rule["cidr_ipv4"] or rule["cidr_ipv6"]]
    assert not [each for each in applied.of_type("aws_rds_cluster_instance") if each["publicly_accessible"]]


def _left(aws: LocalAws | Moto) -> dict[str, list[str]]:
    """What there is of ours, by service."""
    client = aws.client
    left = {
        "buckets": [each["Name"] for each in client("s3").list_buckets()["Buckets"]],
        "queues": client("sqs").list_queues().get("QueueUrls", []),
        "functions": [each["FunctionName"] for each in client("lambda").list_functions()["Functions"]],
        "mappings": [
            each["UUID"] for each in client("lambda").list_event_source_mappings()["EventSourceMappings"]
        ],
        "roles": [each["RoleName"] for each in client("iam").list_roles()["Roles"]],
        "logs": [each["logGroupName"] for each in client("logs").describe_log_groups()["logGroups"]],
        "parameters": [each["Name"] for each in client("ssm").describe_parameters()["Parameters"]],
        "alarms": [each["AlarmName"] for each in client("cloudwatch").describe_alarms()["MetricAlarms"]],
        "topics": [each["TopicArn"] for each in client("sns").list_topics()["Topics"]],
        "schedules": [each["Name"] for each in client("scheduler").list_schedules()["Schedules"]],
        "http": [each["Name"] for each in client("apigatewayv2").get_apis()["Items"]],
    }
    if isinstance(aws, Moto):
        left["rest"] = [each["name"] for each in client("apigateway").get_rest_apis()["items"]]
        left["clusters"] = [
            each["DBClusterIdentifier"] for each in client("rds").describe_db_clusters()["DBClusters"]
        ]
        left["networks"] = [
            each["VpcId"] for each in client("ec2").describe_vpcs()["Vpcs"] if not each["IsDefault"]
        ]
    return {what: found for what, found in left.items() if found}


def test_destroy_leaves_nothing(applied: Applied) -> None:
    """Documents in the bucket included, where the environment says that it is disposable."""
    assert {"buckets", "queues", "functions", "roles", "logs", "http"} <= set(_left(applied.ministack))
    assert {"clusters", "networks", "rest", "alarms", "parameters", "schedules"} <= set(_left(applied.moto))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda stack: stack.destroy("-refresh=false"), applied.stacks.values()))
    assert _left(applied.ministack) == {}
    assert _left(applied.moto) == {}
