"""Keeps what the bucket of documents cannot bring back: tenants, keys, collections, usage, evaluations; --index adds the
whole index with its vectors. Encrypted, to a folder or to s3://bucket/prefix (not the documents' bucket: what lies there
is ingested). Each backup is a file of its own, named after its time.

    scripts/backup make DESTINATION [--index]     scripts/backup ls DESTINATION     scripts/backup restore FILE
    scripts/backup audit DESTINATION [--days N]   which backups with an index hold what was deleted since

Needs DATABASE_ADMIN_URL and RAGZERO_BACKUP_KEY (64 hex digits; whoever loses it has no backup). Restores into an empty
database that scripts/migrate has brought to the current schema. What a backup without the index lacks comes from the
documents' bucket: the next sweep finds every object missing, and ingest does the rest.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import struct
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import IO, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.adapters.postgres.backup import Record, deleted_since, dump, restore
from shared.adapters.postgres.migrate import shipped
from shared.core.errors import ConfigurationError, Conflict, NotFound, RagzeroError

_MAGIC = b"ragzero-backup-1\n"
_NONCE = 12
_LENGTH = struct.Struct(">I")
_END: Record = ("end", [])


def write(out: IO[bytes], key: bytes, records: Iterable[Record]) -> dict[str, int]:
    """How many rows of each table. A frame per record: length, nonce, and the record, compressed and sealed together with
    its place, so that frames neither change, move nor go missing unnoticed."""
    sealed, rows = AESGCM(key), dict[str, int]()
    out.write(_MAGIC)
    schema: Record = ("schema", [json.dumps(sorted(shipped()))])
    for place, (table, lines) in enumerate(chain([schema], records, [_END])):
        nonce = os.urandom(_NONCE)
        plain = gzip.compress(json.dumps([table, lines]).encode(), 6)
        frame = nonce + sealed.encrypt(nonce, plain, _at(place))
        out.write(_LENGTH.pack(len(frame)) + frame)
        rows[table] = rows.get(table, 0) + len(lines)
    return {table: count for table, count in rows.items() if table not in ("schema", "end")}


def read(source: IO[bytes], key: bytes) -> Iterator[Record]:
    """The records. Raises Conflict when it was made with another key, was changed, is cut off, or is of another schema."""
    if source.read(len(_MAGIC)) != _MAGIC:
        raise Conflict("this is no backup of ragzero")
    place, table = 0, ""
    while table != _END[0]:
        table, lines = _opened(source, AESGCM(key), place)
        if table == "schema" and set(json.loads(lines[0])) != set(shipped()):
            raise Conflict("the backup is of another release; restore it with that one, then migrate")
        if table not in ("schema", _END[0]):
            yield table, lines
        place += 1


def _opened(source: IO[bytes], sealed: AESGCM, place: int) -> Record:
    head = source.read(_LENGTH.size)
    frame = source.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
    try:
        plain = sealed.decrypt(frame[:_NONCE], frame[_NONCE:], _at(place))
    except (InvalidTag, ValueError) as error:
        raise Conflict(f"frame {place} is not what was written: another key, changed, or cut off") from error
    table, lines = json.loads(gzip.decompress(plain))
    return table, lines


def _at(place: int) -> bytes:
    return _MAGIC + str(place).encode()


def make(given: argparse.Namespace) -> int:
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}{'-index' if given.index else ''}.backup"
    with tempfile.TemporaryFile() as file:
        rows = write(file, _key(), dump(_admin_url(), index=given.index))
        size = file.tell()
        file.seek(0)
        _put(given.destination, name, file)
    print(f"{given.destination.rstrip('/')}/{name}: {sum(rows.values())} rows, {size} bytes")
    return 0


def ls(given: argparse.Namespace) -> int:
    print("\n".join(_names(given.destination)))
    return 0


def audit(given: argparse.Namespace) -> int:
    """1 when one that is older than it may be holds documents that were deleted since."""
    oldest, overdue = datetime.now(UTC) - timedelta(days=given.days), 0
    for name in _names(given.destination):
        made = re.search(r"(\d{8}T\d{6}Z)-index\.backup$", name)
        if made is None:
            continue
        at = datetime.strptime(made[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        held = deleted_since(_admin_url(), at)
        late = bool(held) and at < oldest
        overdue += late
        note = f", and is older than {given.days:g} days: remove it" if late else ""
        print(f"{name}: holds {held} documents that were deleted since{note}")
    return 1 if overdue else 0


def back(given: argparse.Namespace) -> int:
    with _opened_file(given.file) as file:
        rows = restore(_admin_url(), read(file, _key()))
    print(", ".join(f"{count} {table}" for table, count in rows.items()) or "nothing was in it")
    return 0


def _put(destination: str, name: str, file: IO[bytes]) -> None:
    if place := _s3(destination):
        bucket, prefix = place
        _client().upload_fileobj(
            file, bucket, f"{prefix}{name}", ExtraArgs={"ServerSideEncryption": "AES256"}
        )
        return
    path = Path(destination) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        path.chmod(0o600)
        while part := file.read(1 << 20):
            out.write(part)


def _names(destination: str) -> list[str]:
    if place := _s3(destination):
        bucket, prefix = place
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [f"s3://{bucket}/{found['Key']}" for page in pages for found in page.get("Contents", [])]
    return sorted(map(str, Path(destination).glob("*.backup")))


@contextmanager
def _opened_file(name: str) -> Iterator[IO[bytes]]:
    if place := re.fullmatch(r"s3://([^/]+)/(.+)", name):
        with tempfile.TemporaryFile() as file:
            _client().download_fileobj(place[1], place[2], file)
            file.seek(0)
            yield file
        return
    try:
        with Path(name).open("rb") as file:
            yield file
    except OSError as error:
        raise NotFound(f"{name} cannot be read: {error.strerror}") from error


def _s3(destination: str) -> tuple[str, str] | None:
    """The bucket, and what its keys begin with. Raises ConfigurationError for the documents' own."""
    place = re.fullmatch(r"s3://([^/]+)/?(.*)", destination)
    if place is None:
        return None
    if place[1] == os.environ.get("RAGZERO_BUCKET"):
        raise ConfigurationError(
            "destination", "what lies in the documents' bucket is ingested; use another one"
        )
    return place[1], f"{place[2].rstrip('/')}/" if place[2] else ""


def _client() -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=os.environ.get("AWS_ENDPOINT_URL"))


def _key() -> bytes:
    text = os.environ.get("RAGZERO_BACKUP_KEY", "")
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise ConfigurationError(
            "RAGZERO_BACKUP_KEY", "expected 64 hex digits, such as openssl rand -hex 32 makes"
        )
    return bytes.fromhex(text)


def _admin_url() -> str:
    url = os.environ.get("DATABASE_ADMIN_URL")
    if not url:
        raise ConfigurationError(
            "DATABASE_ADMIN_URL", "is missing: a role that may administer, on the server itself"
        )
    return url


def main(argv: list[str] | None = None) -> int:
    formatted = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="scripts/backup", description=__doc__, formatter_class=formatted)
    commands = parser.add_subparsers(required=True, metavar="make | ls | audit | restore")
    one = commands.add_parser("make")
    one.add_argument("destination", help="a folder, or s3://bucket/prefix")
    one.add_argument("--index", action="store_true", help="documents, chunks and vectors, too")
    one.set_defaults(run=make)
    one = commands.add_parser("ls")
    one.add_argument("destination")
    one.set_defaults(run=ls)
    one = commands.add_parser("audit")
    one.add_argument("destination")
    one.add_argument(
        "--days", type=float, default=30, help="how long a backup may hold what was deleted since"
    )
    one.set_defaults(run=audit)
    one = commands.add_parser("restore")
    one.add_argument("file", help="a file, or s3://bucket/key")
    one.set_defaults(run=back)
    given = parser.parse_args(argv)
    try:
        return int(given.run(given))
    except RagzeroError as error:
        print(f"backup: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
