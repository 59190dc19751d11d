"""Clients of AWS's services."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any


def client(service: Any, **options: Any) -> Any:
    """boto3's, of its default session; the first one makes that session quick with dates, for they were three quarters of
    the work of reading a long listing."""
    import boto3  # heavy: loaded when first used

    if boto3.DEFAULT_SESSION is None:
        from botocore.session import get_session

        core = get_session()
        core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=instant)
        boto3.setup_default_session(botocore_session=core)
    return boto3.client(service, **options)


def instant(text: Any) -> datetime:
    """What botocore makes of a date, sooner where it is written as listings or heads write it."""
    from botocore.utils import parse_timestamp  # heavy: loaded when first used

    for read in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(AttributeError, TypeError, ValueError):
            found = read(text)
            if found.tzinfo:
                return found
    return parse_timestamp(text)
