"""SQS batch in, list of failed messages out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from functions.ingest.events import Hint, hints
from functions.ingest.service import IngestService
from functions.ingest.wiring import alarm, service
from shared.core.errors import InvalidInput
from shared.core.webhooks import reminded
from shared.telemetry import begin, get_logger, metrics

_log = get_logger(__name__)
_MARGIN_S = 5.0


def handler(event: Mapping[str, Any], context: Any) -> dict[str, list[dict[str, str]]]:
    begin(context.aws_request_id)
    try:
        bell, records = alarm(), event["Records"]
        early = bell.snoozed(record["body"] for record in records) if bell else ()
        awake = [record for record in records if record["body"] not in early]
        return handle({"Records": awake}, context, service()) if awake else _answer(set())
    finally:
        metrics.flush()


def handle(event: Mapping[str, Any], context: Any, ingest: IngestService) -> dict[str, list[dict[str, str]]]:
    """Messages named in batchItemFailures come back later, and in the end go to the dead-letter queue."""
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - _MARGIN_S
    failed: set[str] = set()
    work: list[tuple[str, Hint]] = []
    reminders = {one["messageId"] for one in event["Records"] if reminded(one["body"]) is not None}
    for record in event["Records"]:
        if record["messageId"] in reminders:
            continue
        try:
            work += [(record["messageId"], hint) for hint in hints(record["body"])]
        except InvalidInput as error:
            _log.warning("message_refused", message_id=record["messageId"], reason=str(error))
            failed.add(record["messageId"])
    failed |= ingest.process(work, deadline) if work else set()
    if reminders and not ingest.remind(deadline):
        failed |= reminders
    return _answer(failed)


def _answer(failed: set[str]) -> dict[str, list[dict[str, str]]]:
    return {"batchItemFailures": [{"itemIdentifier": message} for message in sorted(failed)]}
