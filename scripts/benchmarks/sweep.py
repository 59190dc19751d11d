"""A sweep over a large bucket that nothing happened to, and over one that lost some events.

scripts/bench sweep [--objects 250000] [--call-seconds 60] [--emulated 3000] [--only untouched]

The large bucket is a listing served over HTTP, page by page, as S3 would; the database has a document with a chunk for
each object. The emulated one is the local S3 with real objects. Sweeps are called as a schedule calls them, and go on
from where they ended.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil

from functions.reindex.handler import handle
from functions.reindex.wiring import Services, build
from scripts.benchmarks.throwaway import MODEL, report
from scripts.local.aws import Intake, LocalAws
from scripts.local.lambda_runtime import LambdaContext
from scripts.local.postgres import Postgres
from scripts.local.process import accepts, free_port
from scripts.migrate import space_of
from shared.adapters.onnx_embedder import Manifest
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.migrate import ROLES, migrate
from shared.adapters.postgres.space_tables import ensure_space
from shared.adapters.postgres.tenants import TenantStore
from shared.settings import ReindexSettings
from shared.telemetry import configure

_PASSWORD = "only-for-a-measurement"  # noqa: S105 - of a database that lives for a minute
_BUCKET = "listed"
_MARGIN_S = 10.0
_PAGE = 1000
_LOST_EVERY = 1000  # in the second round: of so many objects one has changed and one is gone


def key_of(number: int) -> str:
    return f"archive/{number // 1000:04}/document-{number:07}.txt"


class Listing(BaseHTTPRequestHandler):
    """ListObjectsV2 of objects that are made up on the way. Drifted: some are not what the database was filled with."""

    protocol_version = "HTTP/1.1"
    objects = 0
    drifted = False

    def do_GET(self) -> None:
        after = parse_qs(urlsplit(self.path).query).get("start-after", [""])[0]
        first = int(after[-11:-4]) + 1 if after else 0
        body = self._page(first).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _page(self, first: int) -> str:
        numbers = range(first, min(first + _PAGE, self.objects))
        entries = "".join(self._entry(number) for number in numbers if not self._lost(number, 1))
        more = str(numbers.stop < self.objects).lower()
        return f"<ListBucketResult><IsTruncated>{more}</IsTruncated>{entries}</ListBucketResult>"

    def _entry(self, number: int) -> str:
        etag = hashlib.md5(key_of(number).encode(), usedforsecurity=False).hexdigest()
        changed = "x" if self._lost(number, 2) else ""
        return (
            f"<Contents><Key>{key_of(number)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{etag}{changed}&quot;</ETag><Size>100</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )

    def _lost(self, number: int, which: int) -> bool:
        return self.drifted and number % _LOST_EVERY == which

    def log_message(self, *_: object) -> None:
        pass


def serve(objects: int, drifted: bool, port: int) -> None:
    handler = type("Listed", (Listing,), {"objects": objects, "drifted": drifted})
    ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()


@contextmanager
def listing(objects: int, *, drifted: bool) -> Iterator[str]:
    """The address of a bucket with so many objects, in a process of its own."""
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(objects, drifted, port))
    process.start()
    try:
        while not accepts(port):
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()


class Installation:
    """A database, and a queue for the hints."""

    def __init__(self, postgres: Postgres, aws: LocalAws) -> None:
        self.postgres = postgres
        self._aws = aws
        self.tenant = uuid.uuid4()
        migrate(postgres.dsn(), dict.fromkeys(ROLES, _PASSWORD))
        ensure_space(postgres.dsn(), space_of(Manifest.read(MODEL)))
        owner = Database(self._url("ragzero_owner"))
        TenantStore(owner).ensure_tenant(self.tenant, "bench")
        owner.close()

    def fill(self, objects: int) -> None:
        """A searchable document with one chunk for each object of the listing."""
        import psycopg

        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            connection.execute(
                """
                insert into documents (tenant_id, collection_id, bucket, key, status, etag, bytes, generation,
                                       published_generation, chunks, done_sequencer, acl, updated_at)
                select tenant_id, id, %s, key, 'searchable', '"' || md5(key) || '"', 100, 1, 1, 1, rpad('1', 64, '0'), null,
                       now() - interval '1 day'
                from collections, lateral (
                    select format('archive/%%s/document-%%s.txt', lpad((n / 1000)::text, 4, '0'), lpad(n::text, 7, '0')) as key
                    from generate_series(0, %s - 1) as n) as keys
                """,
                [_BUCKET, objects],
            )
            connection.execute(
                """
                insert into chunks (tenant_id, collection_id, document_id, generation, ordinal, text, start_char, end_char,
                                    text_hash, weights)
                select tenant_id, collection_id, id, 1, 0, key, 0, 1, '', '{1:1}/268435456' from documents
                """
            )
            connection.execute("analyze")

    def services(self, bucket: str, queue: str, endpoint: str) -> Services:
        settings = ReindexSettings(
            database_url=self._url("ragzero_reindex"),
            bucket=bucket,
            queue_url=queue,
            aws_endpoint_url=endpoint,
            default_tenant=self.tenant,
            grace_seconds=0,
        )
        made = build(settings)
        made.sweep._means.ingest._endpoint_url = self._aws.url  # type: ignore[attr-defined]
        return made

    def _url(self, role: str) -> str:
        return self.postgres.dsn(role, _PASSWORD)


@contextmanager
def installation() -> Iterator[tuple[Installation, LocalAws]]:
    with tempfile.TemporaryDirectory(prefix="ragzero-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with (
            Postgres(folder / "postgres", port=free_port(), tethered=True) as postgres,
            LocalAws(folder / "aws", port=free_port(), tethered=True, durable=False) as aws,
        ):
            assert isinstance(postgres, Postgres)
            assert isinstance(aws, LocalAws)
            os.environ.update(aws.variables)
            yield Installation(postgres, aws), aws


def swept(services: Services, postgres: Postgres, call_seconds: float) -> dict[str, Any]:
    """To the end, in calls of so many seconds; what it took of the processor, and of memory after the first call and in all.

    On a machine that others use, the seconds of processor time tell more than those of the clock.
    """
    process, calls, memory = psutil.Process(), 0, []
    started, before, cpu = time.perf_counter(), process.memory_info().rss, _cpu(postgres)
    status = ""
    while status != "done":
        context = LambdaContext("reindex", time.monotonic() + call_seconds + _MARGIN_S)
        answer = handle({"task": "sweep"}, context, lambda: services)
        status, calls = answer["status"], calls + 1
        memory.append(process.memory_info().rss)
    seconds, counts = time.perf_counter() - started, answer["counts"]
    used = {name: after - cpu[name] for name, after in _cpu(postgres).items()}
    return {
        "seconds": round(seconds, 1),
        "objects_per_second": round(counts["objects"] / seconds),
        "objects_per_cpu_second": {name: round(counts["objects"] / used[name]) for name in used},
        "calls": calls,
        "mb_after_first_call": round((memory[0] - before) / 1e6, 1),
        "mb_in_all": round((max(memory) - before) / 1e6, 1),
        "counts": {name: count for name, count in counts.items() if count},
    }


def _cpu(postgres: Postgres) -> dict[str, float]:
    """Seconds so far, of this process and of the database's."""
    servers = psutil.Process(postgres.pid).children()
    return {
        "function": sum(psutil.Process().cpu_times()[:2]),
        "database": sum(sum(server.cpu_times()[:2]) for server in servers if server.is_running()),
    }


_ROUNDS = ("untouched", "events_lost")


def large(
    made: Installation, intake: Intake, objects: int, call_seconds: float, rounds: Sequence[str]
) -> dict[str, Any]:
    made.fill(objects)
    found: dict[str, Any] = {"objects": objects}
    for name in rounds:
        with listing(objects, drifted=name == "events_lost") as url:
            services = made.services(_BUCKET, intake.queue_url, url)
            found[name] = swept(services, made.postgres, call_seconds)
            services.close()
    return found


def emulated(made: Installation, aws: LocalAws, intake: Intake, objects: int) -> dict[str, Any]:
    """Of so many objects nobody has told ingest of a single one; all are told of, and then none."""
    s3 = aws.client("s3")
    s3.put_bucket_notification_configuration(Bucket=intake.bucket, NotificationConfiguration={})
    for number in range(objects):
        s3.put_object(Bucket=intake.bucket, Key=key_of(number), Body=b"x")
    services = made.services(intake.bucket, intake.queue_url, aws.url)
    found: dict[str, Any] = {"objects": objects}
    for name in ("all_missing", "told_before"):
        found[name] = swept(services, made.postgres, 600)
    services.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=250_000)
    parser.add_argument("--call-seconds", type=float, default=60)
    parser.add_argument("--emulated", type=int, default=3000)
    parser.add_argument("--only", choices=_ROUNDS, help="of the large bucket")
    given = parser.parse_args()
    configure("WARNING")
    with installation() as (made, aws):
        figures: dict[str, Any] = {}
        if given.emulated:
            figures["emulator"] = emulated(made, aws, aws.ensure("emulated", "emulated"), given.emulated)
        rounds = [given.only] if given.only else _ROUNDS
        other = aws.ensure("other", "other")
        figures["listing"] = large(made, other, given.objects, given.call_seconds, rounds)
    report(**figures)


if __name__ == "__main__":
    main()
