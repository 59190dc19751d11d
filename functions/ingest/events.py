"""SQS batches of S3 notifications, read as hints that something happened to a key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from shared.core.errors import InvalidInput

_EXPIRY = "LifecycleExpiration:"
_KINDS = ("ObjectCreated:", "ObjectRemoved:", "ObjectRestore:", _EXPIRY)
_MAX_RECORDS = 1000


@dataclass(frozen=True, slots=True)
class Hint:
    """Look at this key: something happened to it. sequencer orders the events of one key."""

    bucket: str
    key: str
    sequencer: str


def hints(body: str) -> Iterator[Hint]:
    """The hints in one message. Raises InvalidInput when the message is not an S3 notification."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("the message is not JSON") from error
    if isinstance(message, Mapping) and message.get("Event") == "s3:TestEvent":
        return
    records = message.get("Records") if isinstance(message, Mapping) else None
    if not isinstance(records, list) or len(records) > _MAX_RECORDS:
        raise InvalidInput(f"the message has no list of up to {_MAX_RECORDS} Records")
    for record in records:
        yield _hint(record)


def _hint(record: Any) -> Hint:
    try:
        name = str(record["eventName"]).removeprefix("s3:")
        bucket, found = record["s3"]["bucket"]["name"], record["s3"]["object"]
        key, sequencer = unquote_plus(found["key"], errors="strict"), found.get("sequencer", "")
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"a record lacks what an S3 event has ({error})") from error
    if not name.startswith(_KINDS):
        raise InvalidInput(f"{name[:80]!r} is not an event ragzero listens to")
    if (
        not all(isinstance(part, str) and "\x00" not in part for part in (bucket, key, sequencer))
        or len(sequencer) > 64
    ):
        raise InvalidInput("a record's bucket, key or sequencer is malformed")
    return Hint(bucket, key, sequencer)
