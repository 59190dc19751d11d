"""What a check has found."""

from __future__ import annotations

from functions.query.index_schemas import Check


def ok(detail: str) -> Check:
    return Check(status="ok", detail=detail)


def warn(detail: str, remedy: str) -> Check:
    return Check(status="warn", detail=detail, remedy=remedy)


def fail(detail: str, remedy: str) -> Check:
    return Check(status="fail", detail=detail, remedy=remedy)
