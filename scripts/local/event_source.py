"""What Lambda's event source mapping does with an SQS queue: batches in, a handler called, finished messages deleted.

What the handler does not finish stays in the queue and comes back when its visibility ends; the queue's own redrive
policy moves it to the dead-letter queue after enough receives.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from scripts.local.lambda_runtime import Event, Handler, LambdaContext, dying_at_deadline, load
from scripts.local.workers import Workers
from shared.core.errors import ConfigurationError
from shared.telemetry import configure, get_logger

SQS_BATCH = 10
MAX_VISIBILITY = 43_200

Message = dict[str, Any]
logger = get_logger(__name__)


@dataclass(frozen=True)
class MappingSettings:
    """The mapping's settings; times are in seconds.

    window is how long a batch may be gathered (Lambda wants one for batches above 10); timeout is the function's;
    retry_delay, where given, brings a failed message back after that time (doubled with each receive) instead of
    when its visibility ends.
    """

    function_name: str = "ingest"
    batch_size: int = 10
    window: float = 0.0
    timeout: float = 60.0
    report_batch_item_failures: bool = True
    retry_delay: float | None = None

    def __post_init__(self) -> None:
        if self.batch_size > SQS_BATCH and self.window < 1:
            raise ConfigurationError(
                "window", f"must be at least 1 s for batches of {self.batch_size} (> {SQS_BATCH})"
            )


class EventSource:
    """One poller with one handler in this process, as one execution environment of the function."""

    def __init__(
        self, sqs: Any, queue_url: str, handler: Handler, settings: MappingSettings | None = None
    ) -> None:
        self.settings = settings or MappingSettings()
        self._sqs = sqs
        self._queue_url = queue_url
        self._handler = handler
        self._arn: str | None = None
        self._stopping = threading.Event()

    def run(self, wait: int = 1) -> None:
        """Poll until stop; a batch in hand is finished first. wait is the length of one long poll in seconds."""
        while not self._stopping.is_set():
            try:
                self.poll(wait)
            except (BotoCoreError, ClientError) as error:
                logger.warning("queue_unreachable", error=str(error))
                self._stopping.wait(1.0)

    def stop(self) -> None:
        self._stopping.set()

    def drain(self, wait: int = 1) -> int:
        """Poll until nothing is visible any more; the number of messages handled, returning ones counted again."""
        handled = 0
        while count := self.poll(wait):
            handled += count
        return handled

    def poll(self, wait: int = 1) -> int:
        """Receive one batch and call the handler with it; the number of messages in it."""
        messages = self._gather(wait)
        if messages:
            self._settle(messages, self._failures(messages))
        return len(messages)

    def _gather(self, wait: int) -> list[Message]:
        size = self.settings.batch_size
        messages = self._receive(min(SQS_BATCH, size), wait)
        closes = time.monotonic() + self.settings.window
        while messages and len(messages) < size and (left := closes - time.monotonic()) > 0:
            more = self._receive(min(SQS_BATCH, size - len(messages)), int(left))
            messages += more
            if not more:
                # SQS waits whole seconds only.
                self._stopping.wait(min(left, 0.05))
            if self._stopping.is_set():
                break
        return messages

    def _receive(self, count: int, wait: int) -> list[Message]:
        answer = self._sqs.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=count,
            WaitTimeSeconds=min(20, wait),
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return list(answer.get("Messages", []))

    def _failures(self, messages: Sequence[Message]) -> set[str]:
        """The ids of the messages that the handler did not finish."""
        everything = {message["MessageId"] for message in messages}
        context = LambdaContext(self.settings.function_name, time.monotonic() + self.settings.timeout)
        try:
            # What goes in and out of a function is JSON, so nothing else may come through here either.
            response = json.loads(json.dumps(self._handler(self._event(messages), context)))
        except Exception as error:
            logger.exception("handler_failed", error=str(error), messages=len(messages))
            return everything
        if not self.settings.report_batch_item_failures:
            return set()
        failed = reported_failures(response, everything)
        if failed is None:
            logger.warning("response_malformed", response=str(response)[:500])
        return everything if failed is None else failed

    def _event(self, messages: Sequence[Message]) -> Event:
        return {"Records": [record(message, self._queue_arn()) for message in messages]}

    def _queue_arn(self) -> str:
        if self._arn is None:
            found = self._sqs.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=["QueueArn"])
            self._arn = str(found["Attributes"]["QueueArn"])
        return self._arn

    def _settle(self, messages: Sequence[Message], failed: set[str]) -> None:
        done = [message for message in messages if message["MessageId"] not in failed]
        back = [message for message in messages if message["MessageId"] in failed]
        for some in _tens(done):
            self._sqs.delete_message_batch(QueueUrl=self._queue_url, Entries=[_entry(each) for each in some])
        if self.settings.retry_delay is not None:
            for some in _tens(back):
                entries = [_entry(each) | {"VisibilityTimeout": self._delay(each)} for each in some]
                self._sqs.change_message_visibility_batch(QueueUrl=self._queue_url, Entries=entries)

    def _delay(self, message: Message) -> int:
        receives = int(message["Attributes"]["ApproximateReceiveCount"])
        delay = (self.settings.retry_delay or 0.0) * 2.0 ** min(receives - 1, 16)
        return min(MAX_VISIBILITY, math.ceil(delay))


def record(message: Message, queue_arn: str) -> dict[str, Any]:
    """The message as Lambda shows it to a function."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {
            name: _attribute(each) for name, each in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }


def reported_failures(response: Any, sent: set[str]) -> set[str] | None:
    """The failed ids in a partial batch response; None where it is malformed, which fails the whole batch.

    Null, {} and an empty or null batchItemFailures mean that everything succeeded.
    """
    if response is None:
        return set()
    if not isinstance(response, dict):
        return None
    failures = response.get("batchItemFailures")
    if failures is None:
        return set()
    if not isinstance(failures, list):
        return None
    ids = [each.get("itemIdentifier") if isinstance(each, dict) else None for each in failures]
    known = {each for each in ids if isinstance(each, str) and each in sent}
    return known if known.issuperset(ids) else None


def _attribute(value: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"dataType": value["DataType"], "stringListValues": [], "binaryListValues": []}
    if "StringValue" in value:
        shown["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        shown["binaryValue"] = value["BinaryValue"].decode("latin-1")
    return shown


def _entry(message: Message) -> dict[str, Any]:
    return {"Id": message["MessageId"], "ReceiptHandle": message["ReceiptHandle"]}


def _tens(messages: Sequence[Message]) -> list[Sequence[Message]]:
    return [messages[at : at + SQS_BATCH] for at in range(0, len(messages), SQS_BATCH)]


def _work(arguments: argparse.Namespace, parent: int) -> None:
    settings = MappingSettings(
        function_name=arguments.function_name,
        batch_size=arguments.batch_size,
        window=arguments.window,
        timeout=arguments.timeout,
        retry_delay=arguments.retry_delay,
    )
    sqs = boto3.client("sqs", config=Config(retries={"mode": "standard", "max_attempts": 2}))
    source = EventSource(sqs, arguments.queue_url, dying_at_deadline(load(arguments.handler)), settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: source.stop())
    threading.Thread(target=_stop_without, args=(source, parent), daemon=True).start()
    source.run()


def _stop_without(source: EventSource, parent: int) -> None:
    """Stop when the parent is gone: a worker nobody can stop would go on taking messages."""
    while os.getppid() == parent:
        time.sleep(1)
    source.stop()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--handler", required=True, help="package.module:function")
    parser.add_argument("--queue-url", required=True)
    parser.add_argument("--function-name", default="ingest")
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--window", type=float, default=0.0, help="seconds a batch may be gathered")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds a call may take")
    parser.add_argument("--retry-delay", type=float, help="seconds until a failed message comes back")
    parser.add_argument("--maximum-concurrency", type=int, default=1, help="worker processes")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _arguments(argv)
    configure()
    parent = os.getpid()
    Workers(lambda: _work(arguments, parent), arguments.maximum_concurrency).run()


if __name__ == "__main__":
    main()
