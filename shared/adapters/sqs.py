"""A queue and its dead letters. Vendor errors become shared.core.errors here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared.adapters import aws
from shared.core.errors import ConfigurationError, Unavailable
from shared.core.setup import QueueState

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_BATCH = 10
_BATCH_BYTES = 200_000  # a batch as a whole may have 256 KiB


@dataclass(frozen=True, slots=True)
class Letter:
    """A message under its visibility time-out. handle is what deletes it; sent_at when it first came to a queue."""

    id: str
    handle: str
    body: str
    sent_at: datetime | None
    receives: int


class Queue:
    def __init__(self, url: str, *, endpoint_url: str | None = None, region: str = "us-east-1") -> None:
        self._url = url
        self._endpoint_url = endpoint_url
        self._region = region
        self._lazy: SQSClient | None = None

    @property
    def _client(self) -> SQSClient:
        if self._lazy is None:
            from botocore.config import Config  # heavy: loaded when first used

            self._lazy = aws.client(
                "sqs",
                endpoint_url=self._endpoint_url,
                region_name=self._region,
                config=Config(
                    connect_timeout=3, read_timeout=25, retries={"max_attempts": 3, "mode": "standard"}
                ),
            )
        return self._lazy

    def send(self, bodies: Iterable[str], *, delay_s: int = 0) -> None:
        """Nobody sees them before delay_s is over. Raises Unavailable when some could not be sent; others may have been."""
        for batch in _batches(bodies):
            entries: Any = [
                {"Id": str(place), "MessageBody": body, "DelaySeconds": delay_s}
                for place, body in enumerate(batch)
            ]
            with _translated():
                answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
            _require_all(answer.get("Failed", []), len(batch))

    def receive(self, visibility_seconds: int, *, wait_seconds: int = 0) -> list[Letter]:
        """Up to ten messages that nobody else sees for that time."""
        with _translated():
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=_BATCH,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=visibility_seconds,
                MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            )
        return [_letter(message) for message in answer.get("Messages", [])]

    def delete(self, letters: Sequence[Letter]) -> None:
        for batch in _tens(letters):
            entries: Any = [
                {"Id": str(place), "ReceiptHandle": letter.handle} for place, letter in enumerate(batch)
            ]
            with _translated():
                answer = self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
            _require_all(answer.get("Failed", []), len(batch))

    def release(self, letters: Sequence[Letter]) -> None:
        """Visible to everybody at once, rather than when their time is over."""
        for batch in _tens(letters):
            entries: Any = [
                {"Id": str(place), "ReceiptHandle": letter.handle, "VisibilityTimeout": 0}
                for place, letter in enumerate(batch)
            ]
            with _translated():
                self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)

    def waiting(self) -> int:
        """About how many messages nobody works on."""
        return self.state().waiting

    def state(self) -> QueueState:
        with _translated():
            answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["All"])
        found: Mapping[Any, str] = answer["Attributes"]
        redrive = json.loads(found.get("RedrivePolicy") or "{}")
        return QueueState(
            arn=found["QueueArn"],
            waiting=int(found.get("ApproximateNumberOfMessages", 0)),
            in_flight=int(found.get("ApproximateNumberOfMessagesNotVisible", 0)),
            visibility_seconds=int(found.get("VisibilityTimeout", 30)),
            dead_letters_to=redrive.get("deadLetterTargetArn"),
            max_receives=int(redrive["maxReceiveCount"]) if "maxReceiveCount" in redrive else None,
        )


def _letter(message: Mapping[str, Any]) -> Letter:
    known = message.get("Attributes", {})
    sent = known.get("SentTimestamp")
    return Letter(
        id=message["MessageId"],
        handle=message["ReceiptHandle"],
        body=message["Body"],
        sent_at=datetime.fromtimestamp(int(sent) / 1000, UTC) if sent else None,
        receives=int(known.get("ApproximateReceiveCount", 0)),
    )


def _batches(bodies: Iterable[str]) -> Iterator[list[str]]:
    """As many as one call takes, by number and by size."""
    batch: list[str] = []
    size = 0
    for body in bodies:
        bytes = len(body.encode())
        if batch and (len(batch) == _BATCH or size + bytes > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += bytes
    if batch:
        yield batch


def _tens(letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
    return (letters[first : first + _BATCH] for first in range(0, len(letters), _BATCH))


def _require_all(failed: Sequence[Mapping[str, Any]], asked: int) -> None:
    if failed:
        code = failed[0].get("Code", "")
        raise Unavailable("queue", f"the queue did not take {len(failed)} of {asked} messages ({code})")


@contextmanager
def _translated() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError  # heavy: loaded when first used

    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "")
        if status in (400, 403, 404):
            raise ConfigurationError("RAGZERO_QUEUE_URL", f"the queue refuses ({status} {code})") from error
        raise Unavailable("queue", f"the queue answered {status}") from error
    except BotoCoreError as error:
        raise Unavailable("queue", f"the queue cannot be reached ({type(error).__name__})") from error
