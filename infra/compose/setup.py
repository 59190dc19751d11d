"""Makes what the services of compose.yaml need, where it is missing, and prints the first API key."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
from typing import Any

import boto3

from scripts.migrate import run as migrate
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.tenants import TenantStore
from shared.core.credentials import digest, mint
from shared.core.errors import ConfigurationError
from shared.settings import MigrateSettings, QuerySettings

VISIBILITY_S = 6 * 120  # six times what the ingest worker lets a call take
TRIES = 5
EVENTS = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


def main() -> None:
    settings = QuerySettings.load()
    print("\n".join(migrate(MigrateSettings.load(), settings.model_dir)))  # noqa: T201 - for the log
    queue = make_queue(os.environ["RAGZERO_QUEUE_URL"].rpartition("/")[2])
    make_bucket(settings.bucket, queue)
    print(f"API key: {make_key(settings)}")  # noqa: T201 - for the log


def make_queue(name: str) -> str:
    """The queue's ARN. What fails too often goes to a queue beside it."""
    sqs = boto3.client("sqs")
    redrive = {"deadLetterTargetArn": _arn(sqs, f"{name}-dead"), "maxReceiveCount": TRIES}
    arn = _arn(sqs, name)
    attributes = {"VisibilityTimeout": str(VISIBILITY_S), "RedrivePolicy": json.dumps(redrive)}
    sqs.set_queue_attributes(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"], Attributes=attributes)
    return arn


def make_bucket(name: str, queue: str) -> None:
    """With versions, and with its events in the queue."""
    s3: Any = boto3.client("s3")
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    told = {"QueueConfigurations": [{"Id": "ingest", "QueueArn": queue, "Events": EVENTS}]}
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=told)


def make_key(settings: QuerySettings) -> str:
    """The default tenant's first key: the same one each time, because it is made of the pepper."""
    tenant, pepper = settings.default_tenant, settings.pepper.get_secret_value()
    if tenant is None:
        raise ConfigurationError("RAGZERO_DEFAULT_TENANT", "is missing")
    key, text = mint("compose", hmac.digest(pepper.encode(), b"first key", hashlib.sha256), pepper)
    database = Database(settings.database_url.get_secret_value())
    tenants = TenantStore(database)
    tenants.ensure_tenant(tenant, "default")
    scopes = ["query", "ingest", "admin"]
    tenants.ensure_key(tenant, key.id, "first", digest(key.secret, pepper), scopes)
    database.close()
    return text


def _arn(sqs: Any, name: str) -> str:
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(found["Attributes"]["QueueArn"])


if __name__ == "__main__":
    main()
