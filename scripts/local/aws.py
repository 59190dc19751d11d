"""S3 and SQS on this machine (ministack), with a bucket that reports its changes to a queue."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from botocore.config import Config

from scripts.local.process import HOST, Server
from shared.adapters import aws

REGION = "us-east-1"
ACCESS_KEY = "local"
MAX_RECEIVE_COUNT = 5
EVENTS = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


@dataclass(frozen=True)
class Intake:
    """A versioned bucket, the queue its events go to, and that queue's dead-letter queue."""

    bucket: str
    queue_url: str
    queue_arn: str
    dead_letter_url: str
    dead_letter_arn: str


class LocalAws(Server):
    """durable keeps objects in the folder at once, and queues and bucket settings from one clean stop to the next.

    hosts: Lambda functions whose calls go to an address, as the event in a POST; others run inside the emulator.
    After a crash `ensure` makes the queues and settings again; messages in flight are lost, as lost events are late
    ones that a sweep repairs.
    """

    name = "aws"
    preferred_port = 14566

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        tethered: bool = False,
        durable: bool = True,
        services: Sequence[str] = ("s3", "sqs"),
        hosts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, port=port, tethered=tethered)
        self._durable = durable
        self._services = services
        self._hosts = hosts or {}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """What a program's environment needs for its AWS clients to come here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
        }

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "ministack"]

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": HOST,
            "SERVICES": ",".join(self._services),
            # what presigned addresses are checked against
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
            "PERSIST_STATE": str(int(self._durable)),
            "STATE_DIR": str(self.folder / "state"),
            "S3_PERSIST": str(int(self._durable)),
            "S3_DATA_DIR": str(self.folder / "objects"),
            # Its own pid file goes there; two servers must not share it.
            "TMPDIR": str(self.folder),
            "LOG_LEVEL": "WARNING",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            **{f"MINISTACK_LAMBDA_PROXY_{name}": address for name, address in self._hosts.items()},
        }

    def probe(self) -> bool:
        try:
            return httpx.get(f"{self.url}/_ministack/health", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def client(self, service: str) -> Any:
        """A boto3 client (thread-safe) of this server."""
        return _client(service, self.url)

    def ensure(
        self, bucket: str, queue: str, *, visibility: int = 360, max_receive_count: int = MAX_RECEIVE_COUNT
    ) -> Intake:
        """Make what is missing of bucket, queue and dead-letter queue, and connect them. visibility is in seconds."""
        dead_url, dead_arn = self._queue(f"{queue}-dead", {"MessageRetentionPeriod": "1209600"})
        redrive = {"deadLetterTargetArn": dead_arn, "maxReceiveCount": max_receive_count}
        url, arn = self._queue(
            queue,
            {
                "VisibilityTimeout": str(visibility),
                "RedrivePolicy": json.dumps(redrive),
                "Policy": json.dumps(_policy(_queue_arn(queue), bucket)),
            },
        )
        self._bucket(bucket, arn)
        return Intake(bucket, url, arn, dead_url, dead_arn)

    def _queue(self, name: str, attributes: dict[str, str]) -> tuple[str, str]:
        sqs = self.client("sqs")
        try:
            url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        except sqs.exceptions.QueueNameExists:  # with other attributes
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
            sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
        return url, _queue_arn(name)

    def _bucket(self, name: str, queue_arn: str) -> None:
        s3 = self.client("s3")
        with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket=name)
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        wanted = {"Id": "ingest", "QueueArn": queue_arn, "Events": EVENTS}
        now = s3.get_bucket_notification_configuration(Bucket=name).get("QueueConfigurations", [])
        # Each change sends a test event, so an unchanged one is left alone.
        if not any(each["QueueArn"] == queue_arn and sorted(each["Events"]) == EVENTS for each in now):
            s3.put_bucket_notification_configuration(
                Bucket=name, NotificationConfiguration={"QueueConfigurations": [wanted]}
            )


def _queue_arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:000000000000:{name}"


@functools.cache
def _client(service: str, url: str) -> Any:
    return aws.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=ACCESS_KEY,
        config=Config(
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "max_attempts": 3},
            connect_timeout=2,
        ),
    )


def by_path(aws: str, api: str) -> str:
    """The address of an HTTP API below that of its AWS: not every resolver knows the name that it has otherwise."""
    return f"{aws}/_aws/execute-api/{urlsplit(api).netloc.split('.')[0]}/%24default"


def _policy(queue_arn: str, bucket: str) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "s3.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{bucket}"}},
            }
        ],
    }
