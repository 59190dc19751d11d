"""SQS batches of S3 notifications, read as hints that something happened to a key."""

from shared.core.hints import Hint, hints

__all__ = ["Hint", "hints"]
