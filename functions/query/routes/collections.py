"""Collections of the caller's tenant."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from functions.query.routes.access import Reader, Wired, Writer
from functions.query.schemas import (
    COLLECTION_PATTERN,
    CollectionChange,
    CollectionPage,
    CollectionRemoval,
    CollectionView,
    NewCollection,
)
from shared.core.keys import DEFAULT_COLLECTION
from shared.core.models import Collection

router = APIRouter(prefix="/v1/collections", tags=["collections"])
_Name = Annotated[str, Path(pattern=COLLECTION_PATTERN)]


@router.post("", status_code=201)
async def make(body: NewCollection, who: Writer, wired: Wired) -> CollectionView:
    made = await wired.collections.make(who, body.name, body.language, body.chunk_tokens, body.overlap_tokens)
    return _view(made)


@router.get("")
async def collections(
    who: Reader,
    wired: Wired,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> CollectionPage:
    """Newest first."""
    rows, following = await wired.collections.list(who, limit=limit, cursor=cursor)
    return CollectionPage(items=[_view(row) for row in rows], next_cursor=following)


@router.get("/{name}")
async def collection(name: _Name, who: Reader, wired: Wired) -> CollectionView:
    return _view(await wired.collections.get(who, name))


@router.patch("/{name}")
async def change(name: _Name, body: CollectionChange, who: Writer, wired: Wired) -> CollectionView:
    """Other settings, while the collection is empty, or with `reread`: what is in it was indexed under these."""
    return _view(await wired.collections.change(who, name, body.model_dump(exclude_unset=True)))


@router.delete("/{name}", responses={202: {"description": "There is more to remove; call again."}})
async def remove(name: _Name, who: Writer, wired: Wired, response: Response) -> CollectionRemoval:
    """Removes its documents from the index and the bucket, then the collection; the default one is emptied."""
    removal = await wired.collections.remove(who, name)
    response.status_code = 200 if removal.over else 202
    finished = "emptied" if name == DEFAULT_COLLECTION else "deleted"
    return CollectionRemoval(
        name=name,
        status=finished if removal.over else "deleting",
        documents=removal.documents,
        remaining=removal.remaining,
    )


def _view(collection: Collection) -> CollectionView:
    return CollectionView.model_validate(collection, from_attributes=True)
