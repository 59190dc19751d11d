"""Uploads that go straight into the bucket: small files as a form, large ones in parts; many at once are a job."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol
from uuid import UUID

from functions.query.documents import checked_metadata, labels_of
from functions.query.writing import Writer
from shared.core.credentials import Principal
from shared.core.errors import Conflict, InvalidInput, NotFound, RagzeroError
from shared.core.keys import key_of
from shared.core.labels import Labels
from shared.core.sealing import Sealer

PART_BYTES = 8 * 2**20
_WHOLE_BYTES = 2 * PART_BYTES
_MOST_PARTS = 10_000
_SEALED = "upload"
_FOR_S3 = "${filename}"  # which the bucket would replace in a form


class Store(Protocol):
    def announce(
        self, tenant: UUID, bucket: str, key: str, acl: Labels, sees: Labels, seconds: float | None = None
    ) -> UUID: ...
    def withdraw(self, tenant: UUID, document: UUID) -> None: ...


class Jobs(Protocol):
    async def make(self, tenant: UUID, kind: str, documents: Sequence[UUID]) -> UUID: ...
    async def add(self, tenant: UUID, id: UUID, documents: Sequence[UUID]) -> None: ...


class Links(Protocol):
    seconds: int

    def post(
        self, key: str, size: int, content_type: str, metadata: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]: ...
    def begin_parts(self, key: str, content_type: str, metadata: Mapping[str, str]) -> str: ...
    def parts(self, key: str, upload: str, sizes: Sequence[int]) -> list[str]: ...
    def arrived(self, key: str, upload: str) -> int: ...
    def finish_parts(self, key: str, upload: str, etags: Sequence[str]) -> None: ...
    def abort_parts(self, key: str, upload: str) -> None: ...


@dataclass(frozen=True, slots=True)
class File:
    name: str
    size: int
    content_type: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    size: int
    url: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """What lets a caller upload one file: a form (url, fields), or parts of an upload that is then completed."""

    name: str
    document: UUID
    key: str
    url: str | None = None
    fields: Mapping[str, str] | None = None
    upload: str | None = None
    parts: Sequence[Part] = ()


@dataclass(frozen=True, slots=True)
class _Parts:
    """An upload in parts, as its caller carries it to and fro under our seal."""

    tenant: str
    document: str
    key: str
    upload: str
    size: int
    parts: int


@dataclass(frozen=True, slots=True)
class _Place:
    file: File
    key: str
    acl: Labels


class UploadService:
    """most: bytes of a file."""

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        links: Links,
        writer: Writer,
        sealer: Sealer,
        bucket: str,
        default_tenant: UUID | None,
        most: int,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._links = links
        self._writer = writer
        self._sealer = sealer
        self._bucket = bucket
        self._default_tenant = default_tenant
        self._most = most

    @property
    def seconds(self) -> int:
        """How long a ticket holds."""
        return self._links.seconds

    async def begin(
        self, who: Principal, files: Sequence[File], job: UUID | None
    ) -> tuple[UUID, list[Ticket]]:
        """The job these files belong to, and what each is uploaded with. Nothing is announced when one is refused."""
        places = [self._place(who, file) for file in files]
        if len({place.key for place in places}) < len(places):
            raise InvalidInput("two of the files have the same name", field="files")
        announced: list[UUID] = []
        try:
            for place in places:
                announced.append(await self._announce(who, place))  # noqa: PERF401 - some may be there when one fails
            tickets = await asyncio.to_thread(self._tickets, who.tenant_id, places, announced)
            if job is None:
                return await self._jobs.make(who.tenant_id, "upload", announced), tickets
            await self._jobs.add(who.tenant_id, job, announced)
            return job, tickets
        except RagzeroError:
            for id in announced:
                await self._withdraw(who.tenant_id, id)
            raise

    async def complete(self, who: Principal, token: str, etags: Sequence[str]) -> tuple[UUID, str]:
        """(document id, key), once all parts are one object. Raises InvalidInput while some are missing."""
        upload = self._opened(who, token)
        if len(etags) != upload.parts:
            raise InvalidInput(f"the upload has {upload.parts} parts, not {len(etags)}", field="etags")
        try:
            arrived = await asyncio.to_thread(self._links.arrived, upload.key, upload.upload)
            if arrived != upload.size:
                raise InvalidInput(
                    f"{arrived} of {upload.size} bytes are there; upload the parts that are missing",
                    field="etags",
                )
            await asyncio.to_thread(self._links.finish_parts, upload.key, upload.upload, etags)
        except NotFound as error:
            raise Conflict("this upload was completed or given up before") from error
        return UUID(upload.document), upload.key

    async def abort(self, who: Principal, token: str) -> None:
        """Nothing of the upload remains; one that was given up before is no error."""
        upload = self._opened(who, token)
        try:
            await asyncio.to_thread(self._links.abort_parts, upload.key, upload.upload)
        except NotFound:
            return
        await self._withdraw(who.tenant_id, UUID(upload.document))

    def _place(self, who: Principal, file: File) -> _Place:
        if file.size > self._most:
            raise InvalidInput(
                f"{file.name[:80]!r} has {file.size} bytes, the limit is {self._most}", field="files"
            )
        if _FOR_S3 in file.name:
            raise InvalidInput(f"a file name cannot contain {_FOR_S3}", field="files")
        metadata = checked_metadata(file.metadata)
        key = key_of(who.tenant_id, file.name, self._default_tenant)
        described = File(file.name, file.size, file.content_type, metadata)
        return _Place(described, key, labels_of(metadata))

    async def _announce(self, who: Principal, place: _Place) -> UUID:
        return await self._writer.run(
            lambda: self._store.announce(
                who.tenant_id, self._bucket, place.key, place.acl, who.acl, self._links.seconds
            )
        )

    async def _withdraw(self, tenant: UUID, document: UUID) -> None:
        await self._writer.run(lambda: self._store.withdraw(tenant, document))

    def _tickets(self, tenant: UUID, places: Sequence[_Place], documents: Sequence[UUID]) -> list[Ticket]:
        return [
            self._whole(place, id) if place.file.size <= _WHOLE_BYTES else self._in_parts(tenant, place, id)
            for place, id in zip(places, documents, strict=True)
        ]

    def _whole(self, place: _Place, id: UUID) -> Ticket:
        file = place.file
        url, fields = self._links.post(place.key, file.size, file.content_type, file.metadata)
        return Ticket(file.name, id, place.key, url, fields)

    def _in_parts(self, tenant: UUID, place: _Place, id: UUID) -> Ticket:
        file = place.file
        sizes = _sizes(file.size)
        upload = self._links.begin_parts(place.key, file.content_type, file.metadata)
        urls = self._links.parts(place.key, upload, sizes)
        token = self._sealed(_Parts(str(tenant), str(id), place.key, upload, file.size, len(sizes)))
        parts = [
            Part(number, size, url) for number, (size, url) in enumerate(zip(sizes, urls, strict=True), 1)
        ]
        return Ticket(file.name, id, place.key, upload=token, parts=parts)

    def _sealed(self, upload: _Parts) -> str:
        payload = json.dumps(asdict(upload), ensure_ascii=False, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._sealer.seal(_SEALED, payload)).decode()

    def _opened(self, who: Principal, token: str) -> _Parts:
        try:
            payload = self._sealer.open(_SEALED, base64.urlsafe_b64decode(token.encode()))
        except ValueError:
            payload = None
        known: dict[str, Any] = json.loads(payload) if payload else {}
        if known.get("tenant") != str(who.tenant_id):
            raise NotFound("there is no such upload")
        return _Parts(**known)


def _sizes(size: int) -> list[int]:
    part = max(PART_BYTES, -(-size // _MOST_PARTS))
    return [min(part, size - first) for first in range(0, size, part)]
