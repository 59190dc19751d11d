"""SQS batch in, list of failed messages out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from functions.ingest.events import Hint, hints
from functions.ingest.service import IngestService
from functions.ingest.wiring import service
from shared.core.errors import InvalidInput
from shared.telemetry import begin, get_logger, metrics

_log = get_logger(__name__)
_MARGIN_S = 5.0


def handler(event: Mapping[str, Any], context: Any) -> dict[str, list[dict[str, str]]]:
    begin(context.aws_request_id)
    try:
        return handle(event, context, service())
    finally:
        metrics.flush()


def handle(event: Mapping[str, Any], context: Any, ingest: IngestService) -> dict[str, list[dict[str, str]]]:
    """Messages named in batchItemFailures come back later, and in the end go to the dead-letter queue."""
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - _MARGIN_S
    failed: set[str] = set()
    work: list[tuple[str, Hint]] = []
    for record in event["Records"]:
        try:
            work += [(record["messageId"], hint) for hint in hints(record["body"])]
        except InvalidInput as error:
            _log.warning("message_refused", message_id=record["messageId"], reason=str(error))
            failed.add(record["messageId"])
    failed |= ingest.process(work, deadline)
    return {"batchItemFailures": [{"itemIdentifier": message} for message in sorted(failed)]}
