"""The local servers start, stop, die and come back as their users need, and speak as the services they stand for."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
import redis
from botocore.exceptions import ClientError

from scripts.local.aws import Intake, LocalAws
from scripts.local.lambda_host import LambdaHost
from scripts.local.pgbouncer import PgBouncer
from scripts.local.postgres import Postgres
from scripts.local.process import HOST, Server, free_port, secret_file
from scripts.local.redis_server import RedisServer
from scripts.local.rest_shim import RestShim
from scripts.local.stack import Api
from shared.core.errors import Unavailable
from tests.support.servers import revive, running, scratch_folder
from tests.support.waiting import until, within

ODD_KEYS = [
    "plain.txt",
    "a b+c.txt",
    "a%2Bb%20.txt",
    "emoji-🐻/ü.txt",
    "../../etc/passwd",
    "a/../b",
    "line\nbreak\ttab",
    "quote\"'<&>",
    "a//b",
    "folder/",
    "ü" * 512,
]


class Web(Server):
    """A small server for the tests of what all servers share."""

    name = "web"
    script = "import sys, http.server as h; h.test(h.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", self.script, str(self.port)]


class Doomed(Web):
    script = "print('the disk is on fire'); raise SystemExit(3)"


class Stubborn(Web):
    """It does not listen to SIGTERM and has a child."""

    grace = 0.2
    script = (
        "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.Popen(['sleep', '60']);" + Web.script
    )


class Tidy(Web):
    """It tidies up on SIGTERM, as most servers do, and is given the time."""

    grace = 120.0
    script = "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0));" + Web.script


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as made:
        yield made


# What all servers share.


def test_a_server_starts_answers_and_stops(folder: Path) -> None:
    server = Web(folder)
    with running(server):
        assert httpx.get(f"http://{HOST}:{server.port}").status_code == 200
        assert server.pid is not None
    assert server.pid is None
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{HOST}:{server.port}")


def test_one_that_cannot_start_says_why(folder: Path) -> None:
    server = Doomed(folder)
    server.start()
    with pytest.raises(
        Unavailable, match=r"web ended before it was ready; the end of .*web\.log:\nthe disk is on fire"
    ):
        server.wait_ready()


def test_one_that_does_not_answer_says_so_in_time(folder: Path) -> None:
    server = Web(folder)
    with running(server):
        server.freeze()
        server.probe = lambda: False  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match=r"web was not ready after 0.1 s"):
            server.wait_ready(0.1)
        server.thaw()


def test_the_next_start_ends_what_a_killed_run_left_behind(folder: Path) -> None:
    """A supervisor that died (kill -9) leaves servers running; the next one must not trip over them."""
    left = Web(folder)
    with running(left):
        again = Web(folder, port=left.port)
        old = left.pid
        with running(again):
            assert again.pid not in (None, old)
            assert not psutil.pid_exists(old or 0) or psutil.Process(old).status() == psutil.STATUS_ZOMBIE


def test_a_pid_file_never_hits_a_stranger(folder: Path) -> None:
    """The pid in a stale file may belong to any other process by now."""
    with subprocess.Popen(["sleep", "30"]) as stranger:
        (folder / "web.pid").write_text(f"{stranger.pid} {time.time() - 3600}")
        with running(Web(folder)):
            pass
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("content", ["", "garbage", "1", "99999999 1.0"])
def test_a_broken_pid_file_is_no_obstacle(folder: Path, content: str) -> None:
    (folder / "web.pid").write_text(content)
    with running(Web(folder)) as server:
        assert server.pid


def test_a_stubborn_server_is_killed_with_its_children(folder: Path) -> None:
    server, children = Stubborn(folder), list[psutil.Process]()

    def start() -> None:
        server.start()
        server.wait_ready()
        children[:] = psutil.Process(server.pid).children()

    within(2, server.stop, start)
    (child,) = children
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_frozen_server_can_be_stopped(folder: Path) -> None:
    server = Tidy(folder)
    with running(server):

        def freeze() -> None:
            server.start()
            server.wait_ready()
            server.freeze()

        within(2, server.stop, freeze)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_tethered_servers_end_with_their_starter(folder: Path) -> None:
    program = (
        "import os, pathlib, sys; from tests.contract.test_local_servers import Web;"
        "server = Web(pathlib.Path(sys.argv[1]), tethered=True); server.start(); server.wait_ready();"
        "print(server.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, cwd=root, check=False
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    until(lambda: not Web(folder).running())


def test_what_would_end_with_a_thread_is_not_started_by_one(folder: Path) -> None:
    server = Web(folder, tethered=True)
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="main"):
        pool.submit(server.start).result()
    assert not server.running()


def test_a_taken_port_is_avoided() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port


GIVEN = """
import sys
from scripts.local.process import free_port

print(free_port(int(sys.argv[1])), *(free_port() for _ in range(100)), flush=True)
sys.stdin.read()
"""


def test_a_port_is_given_once_although_nobody_listens_yet() -> None:
    """Two that started at once found the same port free: the second server could not listen and ended."""
    preferred = free_port() + 1
    asked = [sys.executable, "-c", GIVEN, str(preferred)]
    root = Path(__file__).resolve().parents[2]
    with contextlib.ExitStack() as ended:
        processes = [
            ended.enter_context(
                subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
            )
            for _ in range(4)
        ]
        given = [[int(port) for port in each.stdout.readline().split()] for each in processes if each.stdout]
        for process in processes:
            process.communicate()
    ports = [preferred - 1, *(port for each in given for port in each)]
    assert len(ports) == 4 * 101 + 1
    assert len(set(ports)) == len(ports)


@pytest.mark.skipif(
    sys.platform != "linux", reason="where connections get their ports from is asked of Linux"
)
def test_no_connection_takes_a_port_that_was_given() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    usual = [
        each.preferred_port
        for each in (Api, LambdaHost, LocalAws, PgBouncer, Postgres, RedisServer, RestShim)
    ]
    assert all(0 < port < first for port in [*usual, free_port()])


def test_a_secret_is_made_once_and_kept_private(folder: Path) -> None:
    first = secret_file(folder / "secret")
    assert len(first) >= 32
    assert secret_file(folder / "secret") == first
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600


# Postgres.


def test_postgres_is_18_with_pgvector(postgres: Postgres) -> None:
    with psycopg.connect(postgres.dsn()) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        version = "SELECT current_setting('server_version_num')::int / 10000, extversion FROM pg_extension"
        major, vector = connection.execute(f"{version} WHERE extname = 'vector'").fetchone() or (0, "")
        connection.rollback()
    assert major == 18
    assert tuple(map(int, vector.split("."))) >= (0, 8, 4)


def test_postgres_wants_a_password(postgres: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.dsn(password="wrong"))


def test_postgres_folds_case_beyond_ascii(postgres: Postgres) -> None:
    with psycopg.connect(postgres.dsn()) as connection:
        assert connection.execute("SELECT lower('ÄÉ')").fetchone() == ("äé",)


def test_postgres_keeps_committed_rows_through_a_kill(folder: Path) -> None:
    server = Postgres(folder / "postgres", port=free_port(), tethered=True)
    with running(server):
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("CREATE TABLE t AS SELECT 42 AS x")
        server.kill()
        revive(server)
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SELECT x FROM t").fetchone() == (42,)


def test_a_half_made_cluster_is_made_again(folder: Path) -> None:
    """A first start that was killed inside initdb must not poison the folder."""
    (folder / "postgres" / "data.new" / "base").mkdir(parents=True)
    with running(Postgres(folder / "postgres", port=free_port(), tethered=True, durable=False)) as server:
        psycopg.connect(server.dsn()).close()


def test_a_lock_file_with_a_reused_pid_is_no_obstacle(folder: Path) -> None:
    server = Postgres(folder / "postgres", port=free_port(), tethered=True, durable=False)
    with running(server):
        pass
    (server.data / "postmaster.pid").write_text(
        f"{os.getpid()}\n{server.data}\n1\n{server.port}\n\n{HOST}\n\nready\n"
    )
    with running(server):
        psycopg.connect(server.dsn()).close()


# PgBouncer.


@pytest.fixture
def role(postgres: Postgres) -> Iterator[tuple[str, str]]:
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE ROLE pooled LOGIN PASSWORD 'p@ss/word'")
        yield "pooled", "p@ss/word"
        connection.execute("DROP ROLE pooled")


def test_any_role_of_postgres_may_come_through_the_pooler(
    pgbouncer: PgBouncer, role: tuple[str, str]
) -> None:
    with psycopg.connect(pgbouncer.dsn(*role), prepare_threshold=None) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("pooled",)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(pgbouncer.dsn(role[0], "wrong"))


def test_a_server_connection_is_held_for_a_transaction_only(postgres: Postgres, folder: Path) -> None:
    """Transaction mode: with one server connection, two idle clients take turns on it."""
    query = "SELECT pg_backend_pid()"
    pooler = PgBouncer(folder / "pooler", postgres, port=free_port(), tethered=True, pool_size=1)
    with (
        running(pooler),
        psycopg.connect(pooler.dsn(), autocommit=True, prepare_threshold=None) as one,
        psycopg.connect(pooler.dsn(), autocommit=True, prepare_threshold=None) as two,
    ):
        assert one.execute(query).fetchone() == two.execute(query).fetchone()


def test_an_exhausted_pool_makes_clients_wait_and_then_fails_them(postgres: Postgres, folder: Path) -> None:
    """F6: the pooler answers with an error once a client has queued too long."""
    pooler = PgBouncer(
        folder / "pooler", postgres, port=free_port(), tethered=True, pool_size=1, query_wait_timeout=5
    )
    with running(pooler), psycopg.connect(pooler.dsn()) as holder:
        holder.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="query_wait_timeout"):
            psycopg.connect(pooler.dsn()).execute("SELECT 1")


def test_the_pooler_may_be_restarted(pgbouncer: PgBouncer) -> None:
    pgbouncer.kill()
    revive(pgbouncer)
    psycopg.connect(pgbouncer.dsn()).close()


# Redis.


def test_redis_keeps_what_it_was_told_and_evicts_the_least_used(folder: Path) -> None:
    server = RedisServer(folder, port=free_port(), tethered=True, max_memory="4mb")
    with running(server), redis.Redis(port=server.port) as client:
        client.config_set("maxmemory-samples", 64)  # looks at all keys, where it usually draws five
        client.set("k0", b"x" * 100_000)
        time.sleep(1.1)  # ages are counted in seconds
        for number in range(1, 64):
            client.set(f"k{number}", b"x" * 100_000)
        assert client.exists("k63") == 1
        assert client.exists("k0") == 0
        server.stop()
        revive(server)
        assert client.exists("k63") == 1


# S3 and SQS.


def test_odd_keys_make_the_round_trip(aws: LocalAws, intake: Intake) -> None:
    """Attack 15: the key a program gives is the key it gets back, in reads and in listings."""
    s3 = aws.client("s3")
    for key in ODD_KEYS:
        s3.put_object(Bucket=intake.bucket, Key=key, Body=key.encode())
    for key in ODD_KEYS:
        assert s3.get_object(Bucket=intake.bucket, Key=key)["Body"].read() == key.encode()
    listed = {each["Key"] for each in s3.list_objects_v2(Bucket=intake.bucket)["Contents"]}
    assert listed == set(ODD_KEYS)


def test_a_read_can_insist_on_what_it_saw(aws: LocalAws, intake: Intake) -> None:
    """F15: an object that was replaced meanwhile is noticed, and the older version can still be read."""
    s3, where = aws.client("s3"), {"Bucket": intake.bucket, "Key": "k"}
    first = s3.put_object(**where, Body=b"1")
    s3.put_object(**where, Body=b"2")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.get_object(**where, IfMatch=first["ETag"])
    assert s3.get_object(**where, VersionId=first["VersionId"])["Body"].read() == b"1"


def test_ensuring_twice_changes_nothing_but_what_is_asked_for(
    aws: LocalAws, make_intake: Callable[..., Intake]
) -> None:
    first = make_intake()
    aws.client("sqs").purge_queue(QueueUrl=first.queue_url)
    again = aws.ensure(first.bucket, first.bucket, visibility=30)
    assert again == first
    assert "Messages" not in aws.client("sqs").receive_message(QueueUrl=first.queue_url), (
        "a second test event"
    )
    aws.ensure(first.bucket, first.bucket, visibility=40)
    found = aws.client("sqs").get_queue_attributes(QueueUrl=first.queue_url, AttributeNames=["All"])
    assert found["Attributes"]["VisibilityTimeout"] == "40"
    assert found["Attributes"]["QueueArn"] == first.queue_arn


def test_objects_and_settings_survive_a_crash(folder: Path) -> None:
    server = LocalAws(folder, port=free_port(), tethered=True)
    with running(server):
        intake = server.ensure("docs", "ingest")
        s3: Any = server.client("s3")
        old = s3.put_object(Bucket="docs", Key="k", Body=b"1")["VersionId"]
        s3.put_object(Bucket="docs", Key="k", Body=b"2")
        s3.put_object(Bucket="docs", Key="gone", Body=b"3")
        s3.delete_object(Bucket="docs", Key="gone")
        server.kill()
        revive(server)
        assert server.ensure("docs", "ingest") == intake
        assert s3.get_object(Bucket="docs", Key="k")["Body"].read() == b"2"
        assert s3.get_object(Bucket="docs", Key="k", VersionId=old)["Body"].read() == b"1"
        assert [each["Key"] for each in s3.list_objects_v2(Bucket="docs")["Contents"]] == ["k"]
        assert s3.get_bucket_versioning(Bucket="docs")["Status"] == "Enabled"
