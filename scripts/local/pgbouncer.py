"""A real PgBouncer in transaction mode, in front of a local Postgres."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from scripts.local.postgres import SUPERUSER, Postgres, hand_over, unprivileged_user
from scripts.local.process import HOST, Server, executable
from shared.core.errors import ConfigurationError

# Any role that Postgres knows may come in: its SCRAM secret is looked up there and reused to log in there.
CONFIGURATION = """\
[databases]
* = host={host} port={postgres_port}

[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
auth_type = scram-sha-256
auth_file = {folder}/userlist.txt
auth_user = {superuser}
auth_query = SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename = $1
admin_users = {superuser}
ignore_startup_parameters = extra_float_digits
max_client_conn = {max_clients}
default_pool_size = {pool_size}
query_wait_timeout = {query_wait_timeout:g}
server_login_retry = 1
log_connections = 0
log_disconnections = 0
"""


class PgBouncer(Server):
    """pool_size: server connections per (database, role); query_wait_timeout: seconds a client queues for one."""

    name = "pgbouncer"
    preferred_port = 16432
    # SIGINT waits for running transactions; SIGTERM leaves at once, as a redeployed pooler does.

    def __init__(
        self,
        folder: Path,
        postgres: Postgres,
        *,
        port: int | None = None,
        tethered: bool = False,
        pool_size: int = 20,
        max_clients: int = 1000,
        query_wait_timeout: float = 30.0,
    ) -> None:
        super().__init__(folder, port=port, tethered=tethered)
        self._postgres = postgres
        self._limits = {
            "pool_size": pool_size,
            "max_clients": max_clients,
            "query_wait_timeout": query_wait_timeout,
        }

    def dsn(self, role: str = SUPERUSER, password: str | None = None, dbname: str = "postgres") -> str:
        """Like Postgres.dsn; dbname `pgbouncer` is the pooler's own console."""
        secret = self._postgres.password if password is None else password
        return f"postgresql://{quote(role)}:{quote(secret, safe='')}@{HOST}:{self.port}/{quote(dbname)}"

    def run_as(self) -> str | None:
        return unprivileged_user()

    def command(self) -> Sequence[str]:
        return [_program(), str(self.folder / "pgbouncer.ini")]

    def prepare(self) -> None:
        settings = CONFIGURATION.format(
            host=HOST,
            port=self.port,
            postgres_port=self._postgres.port,
            folder=self.folder,
            superuser=SUPERUSER,
            **self._limits,
        )
        self._write("pgbouncer.ini", settings)
        self._write("userlist.txt", f'"{SUPERUSER}" "{self._postgres.password}"\n')

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        hand_over(path, self.run_as())


def _program() -> str:
    if shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/sbin:/opt/homebrew/bin") is None:
        _install()
    return executable(
        "pgbouncer", "install the package pgbouncer (apt-get install pgbouncer, brew install pgbouncer)"
    )


def _install() -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    # A fresh machine may not have the package lists yet.
    failure = _apt_get("install", "--yes", "--no-install-recommends", "pgbouncer")
    if failure and not _apt_get("update"):
        failure = _apt_get("install", "--yes", "--no-install-recommends", "pgbouncer")
    if failure:
        raise ConfigurationError("pgbouncer", f"apt-get could not install it: {failure}")


def _apt_get(*arguments: str) -> str:
    """What apt-get had to complain about; nothing when it succeeded."""
    # Run level 1 keeps the package from starting a service of its own.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    done = subprocess.run(["apt-get", *arguments], env=quiet, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip()[-500:] or f"exit code {done.returncode}"
