"""Documents: list, status, upload, delete."""

from __future__ import annotations

import mimetypes
from functools import cache
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, File, Form, Query, UploadFile

from functions.query.documents import parse_metadata
from functions.query.routes.access import Reader, Wired, Writer
from functions.query.schemas import COLLECTION_FORM, Deletion, DocumentPage, DocumentView, UploadAccepted
from shared.core.errors import InvalidInput
from shared.core.keys import uri_of
from shared.core.models import Document, Status

_FORM_OVERHEAD = 64 * 1024


@cache
def router(max_upload_bytes: int) -> APIRouter:
    routes = APIRouter(prefix="/v1/documents", tags=["documents"])

    @routes.get("")
    async def list_documents(
        who: Reader,
        wired: Wired,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
        status: Status | None = None,
        collection: Annotated[str | None, Query(max_length=63, json_schema_extra=COLLECTION_FORM)] = None,
    ) -> DocumentPage:
        """Newest first; deleted ones only with status=deleted."""
        rows, following = await wired.documents.list(
            who, limit=limit, cursor=cursor, status=status, collection=collection
        )
        return DocumentPage(items=[view(row) for row in rows], next_cursor=following)

    @routes.get("/{id}")
    async def document(id: UUID, who: Reader, wired: Wired) -> DocumentView:
        """What is known of a document: its status, how it got there, and why where it is not searchable."""
        return view(await wired.documents.get(who, id))

    @routes.post("", status_code=202, max_body_size=max_upload_bytes + _FORM_OVERHEAD)
    async def upload(
        who: Writer,
        wired: Wired,
        file: Annotated[UploadFile, File(description="The document.")],
        metadata: Annotated[str | None, Form(description="A flat JSON object.")] = None,
        collection: Annotated[
            str | None, Form(max_length=63, json_schema_extra={"pattern": "^([a-z0-9][a-z0-9_-]{0,62})?$"})
        ] = None,
    ) -> UploadAccepted:
        """Puts a file in the bucket. It is searchable once its status says so."""
        if file.size is not None and file.size > max_upload_bytes:
            raise InvalidInput(
                f"the file has {file.size} bytes, the limit is {max_upload_bytes}", field="file"
            )
        name = file.filename or ""
        id, key = await wired.documents.upload(
            who, name, file.file, _content_type(name), parse_metadata(metadata, collection)
        )
        return UploadAccepted(
            id=id, uri=uri_of(wired.bucket, key), status=Status.PENDING, status_url=f"/v1/documents/{id}"
        )

    @routes.delete("/{id}")
    async def delete(id: UUID, who: Writer, wired: Wired) -> Deletion:
        """Removes a document from the index and the bucket. No query sees it once this has answered."""
        coherence = await wired.documents.delete(who, id)
        return Deletion(id=id, status=Status.DELETED, coherent=coherence.coherent, until=coherence.until)

    return routes


def _content_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def view(document: Document) -> DocumentView:
    return DocumentView.model_validate(document, from_attributes=True)
