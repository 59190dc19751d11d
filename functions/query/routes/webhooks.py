"""Who is told when a document becomes searchable or fails."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from functions.query.routes.access import Wired, Writer
from functions.query.schemas import StrictRequest
from shared.core.credentials import Principal
from shared.core.errors import Forbidden
from shared.core.webhooks import MAX_ATTEMPTS, SECRET_BYTES, Webhook, WebhookEvent, checked_url, shown

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
_Events = Annotated[
    list[Annotated[WebhookEvent, Field(strict=False)]], Field(min_length=1, max_length=len(WebhookEvent))
]


class NewWebhook(StrictRequest):
    url: Annotated[str, Field(max_length=2_048, examples=["https://app.example.org/hooks/ragzero"])]
    events: _Events = Field(
        default_factory=lambda: list(WebhookEvent), description="All of them unless said."
    )


class WebhookView(BaseModel):
    id: UUID
    url: str
    events: list[WebhookEvent]
    waiting: int = Field(description="Messages that are still to be delivered.")
    given_up: int = Field(
        description=f"Messages of the last week that were tried {MAX_ATTEMPTS} times in vain."
    )
    delivered_at: datetime | None = Field(description="When a message was last accepted.")
    failed_at: datetime | None
    error: str | None = Field(description="Why one was last not accepted.")
    created_at: datetime


class WebhookMade(WebhookView):
    secret: str = Field(description="Messages are signed with it as Standard Webhooks say. Shown this once.")


class WebhookList(BaseModel):
    items: list[WebhookView]


class WebhookRemoved(BaseModel):
    id: UUID
    status: str = "deleted"


@router.post("", status_code=201)
async def make(body: NewWebhook, who: Writer, wired: Wired, response: Response) -> WebhookMade:
    """From now on each document that becomes searchable, or fails, is told to that address, signed."""
    tenant = _all_seeing(who).tenant_id
    url = checked_url(body.url, private=wired.private_webhooks)
    secret, events = secrets.token_bytes(SECRET_BYTES), sorted(set(body.events))
    made = await wired.webhooks.make(tenant, uuid4(), url, events, secret)
    response.headers["Cache-Control"] = "no-store"
    return WebhookMade(**_view(made).model_dump(), secret=shown(secret))


@router.get("")
async def webhooks(who: Writer, wired: Wired) -> WebhookList:
    """Oldest first, and how they fare."""
    found = await wired.webhooks.list(_all_seeing(who).tenant_id)
    return WebhookList(items=[_view(one) for one in found])


@router.delete("/{id}")
async def remove(id: UUID, who: Writer, wired: Wired) -> WebhookRemoved:
    """It is told nothing any more, not even what it has not been told yet."""
    await wired.webhooks.remove(_all_seeing(who).tenant_id, id)
    return WebhookRemoved(id=id)


def _all_seeing(who: Principal) -> Principal:
    """Messages are about any document of the tenant."""
    if who.acl is not None:
        raise Forbidden("this API key does not see every document, so webhooks are not its to set up")
    return who


def _view(webhook: Webhook) -> WebhookView:
    return WebhookView.model_validate(webhook, from_attributes=True)
