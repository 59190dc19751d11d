"""The routes. The probe's is there from the start; those of questions come with the first question, all others when one of
them is first asked for, because each costs a cold start a few milliseconds."""

from __future__ import annotations

from fastapi import APIRouter

from functions.query.routes import health

PROBES = frozenset(("/healthz",))
QUESTIONS = frozenset(("/readyz", "/v1/query", "/v1/search"))
PROBE = health.router


def of_questions() -> list[APIRouter]:
    from functions.query.routes import questions, readiness

    return [readiness.router, questions.router]


def others(most_upload: int) -> list[APIRouter]:
    """most_upload: bytes of a file that comes through the API."""
    from functions.query.routes import (
        admin,
        batch,
        caller,
        candidates,
        collections,
        deletion,
        documents,
        evaluations,
        explain,
        feedback,
        index,
        jobs,
        mcp,
        openai,
        operations,
        passages,
        sources,
        spaces,
        uploads,
        usage,
        webhooks,
    )

    return [
        operations.router,
        documents.router(most_upload),
        passages.router,
        explain.router,
        batch.router,
        feedback.router,
        deletion.router,
        sources.router,
        uploads.router,
        jobs.router,
        webhooks.router,
        mcp.router,
        caller.router,
        collections.router,
        admin.router,
        index.router,
        candidates.router,
        openai.router,
        evaluations.router,
        spaces.router,
        usage.router,
    ]


def pages(title: str, upload_origin: str | None) -> list[APIRouter]:
    """What browsers look at, without a key. upload_origin: the bucket's, where the page sends files to it."""
    from functions.query.routes import page, reference

    return [reference.router(title), page.router(upload_origin)]
