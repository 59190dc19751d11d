"""Hints that something happened to a key of the bucket: S3's notifications, and what we say in their form ourselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from shared.core.errors import InvalidInput

OURS = "Hint:"
"""What the names of events begin with that S3 did not send."""
_EXPIRY = "LifecycleExpiration:"
_KINDS = ("ObjectCreated:", "ObjectRemoved:", "ObjectRestore:", _EXPIRY, OURS)
_MAX_RECORDS = 1000
_SEQUENCER, _COUNTER = 64, 16  # characters; S3 itself uses the first 18 or so
_COUNTS = re.compile(r"0[0-9A-F]{15}")


@dataclass(frozen=True, slots=True)
class Hint:
    """Look at this key: something happened to it. sequencer orders the events of one key; "" is never out of date."""

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
        or len(sequencer) > _SEQUENCER
    ):
        raise InvalidInput("a record's bucket, key or sequencer is malformed")
    return Hint(bucket, key, sequencer)


def message(hint: Hint, origin: str) -> str:
    """A queue message that says hint, as S3 would; origin is who says it, e.g. `Sweep`."""
    where = {"key": quote_plus(hint.key, safe="/"), "sequencer": hint.sequencer}
    record = {"eventName": OURS + origin, "s3": {"bucket": {"name": hint.bucket}, "object": where}}
    return json.dumps({"Records": [record]}, separators=(",", ":"))


def next_sequencer(done: str) -> str:
    """One that comes after everything done for a key, and before any event that S3 will yet send for it.

    S3's own differ within the first digits, so a counter in the last ones lies between. With it a hint that is
    delivered twice, or overtaken by an event, is known to be done. "" where the last ones are no counter.
    """
    padded = done.ljust(_SEQUENCER, "0")
    head, tail = padded[:-_COUNTER], padded[-_COUNTER:]
    return head + format(int(tail, 16) + 1, f"0{_COUNTER}X") if _COUNTS.fullmatch(tail) else ""
