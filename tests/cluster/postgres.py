"""PostgreSQL for tests: a server of our own, its data in a temporary directory, and replicas of it."""

import functools
import pathlib
import signal
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cluster.network import Host, Loopback, Namespaces
from cluster.processes import Process, as_nobody, directory, given_to_nobody, told, until

USER = DATABASE = "doorward"
#: Small and quick. Every host of the tests may come in without a password.
SETTINGS = {
    "unix_socket_directories": "''", "shared_buffers": "32MB", "max_connections": "200", "wal_level": "replica",
    "max_wal_senders": "4", "hot_standby": "on", "wal_receiver_status_interval": "1s", "wal_sender_timeout": "20s",
    "wal_receiver_timeout": "2s", "wal_retrieve_retry_interval": "200ms", "autovacuum_naptime": "5s",
    "tcp_keepalives_idle": "2", "dynamic_shared_memory_type": "mmap", "log_min_messages": "warning",
    # The machine itself never fails in these tests: what a killed process wrote is still there.
    "fsync": "off",
}


@functools.cache
def programs() -> pathlib.Path:
    """Where the newest version's are: Debian has them outside of the path."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    assert on_path, "PostgreSQL is not installed: run scripts/install"
    return pathlib.Path(on_path).parent


@functools.cache
def _template() -> tempfile.TemporaryDirectory[str]:
    """A fresh cluster, made once and copied for each server."""
    kept = tempfile.TemporaryDirectory(prefix="doorward-postgres-")
    given_to_nobody(pathlib.Path(kept.name))
    initdb = [*as_nobody(), programs() / "initdb", "-D", f"{kept.name}/data", "-U", USER, "-A", "trust",
              "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
    told(initdb)
    with open(f"{kept.name}/data/pg_hba.conf", "a") as rules:
        rules.write("host all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n")
    return kept


class Postgres:
    def __init__(self, host: Host, home: pathlib.Path) -> None:
        self.host, self.home, self.data = host, home, home / "data"
        self.port = host.port()
        self.process = Process(host.command(*as_nobody(), programs() / "postgres", "-D", self.data,
                                            "-p", self.port, "-h", host.address), home / "log")

    @property
    def address(self) -> tuple[str, int]:
        return self.host.address, self.port

    def url(self, *addresses: tuple[str, int]) -> str:
        """For nodes, directly or by other addresses than its own."""
        hosts = ",".join(f"{host}:{port}" for host, port in addresses or [self.address])
        several = "?target_session_attrs=read-write" if len(addresses) > 1 else ""
        return f"postgres://{USER}@{hosts}/{DATABASE}{several}"

    def create(self) -> "Postgres":
        told([*as_nobody(), "cp", "-a", f"{_template().name}/data", self.data])
        self.set(SETTINGS)
        self.start()
        self.ask(f"CREATE DATABASE {DATABASE}", database="postgres")
        return self

    def set(self, settings: dict[str, str]) -> None:
        with open(self.data / "postgresql.conf", "a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def start(self) -> float:
        """Tells how many seconds it took until it answered."""
        self.process.start()
        return until(self.answers, f"PostgreSQL answers: {self.process.logged()}", within=60)

    def answers(self) -> bool:
        assert self.process.alive(), self.process.logged()
        return subprocess.run([programs() / "pg_isready", "-q", *self._where()]).returncode == 0

    def _where(self) -> list[str]:
        return ["-h", self.host.address, "-p", str(self.port)]

    def stop(self) -> None:
        """As `pg_ctl stop` does: connections are ended, nothing is left to recover."""
        self.process.end(signal.SIGINT)

    def kill(self) -> None:
        self.process.end(signal.SIGKILL)

    def ask(self, statement: str, database: str = DATABASE) -> str:
        client = [programs() / "psql", *self._where(), "-U", USER, "-d", database, "-XAtq", "-v", "ON_ERROR_STOP=1"]
        return told([*client, "-c", statement]).strip()

    def connections(self) -> int:
        """How many clients have, this one and replicas left aside."""
        return int(self.ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                            f"AND datname = '{DATABASE}' AND pid <> pg_backend_pid()"))

    def backup(self, to: pathlib.Path) -> None:
        told([programs() / "pg_dump", *self._where(), "-U", USER, "-Fc", "-f", to, DATABASE])

    def restore(self, backup: pathlib.Path) -> None:
        """In place of what the database has now."""
        self.ask(f"DROP DATABASE {DATABASE} WITH (FORCE)", database="postgres")
        self.ask(f"CREATE DATABASE {DATABASE}", database="postgres")
        told([programs() / "pg_restore", *self._where(), "-U", USER, "-d", DATABASE, backup])

    # Replicas.

    def follow(self, primary: "Postgres", way: tuple[str, int]) -> "Postgres":
        """Becomes a replica that streams from another, asynchronously until `waits_for` says otherwise. What it had
        is gone."""
        host, port = way
        shutil.rmtree(self.data, ignore_errors=True)
        told(self.host.command(*as_nobody(), programs() / "pg_basebackup", "-D", self.data, "-h", host, "-p", port,
                               "-U", USER, "-R", "-X", "stream", "-c", "fast", "-N"))
        self.set({"cluster_name": f"'{self.host.name}'"})  # By which it is known to `waits_for`.
        self.start()
        until(lambda: primary.ask("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") != "0",
              "the replica streams")
        return self

    def waits_for(self, replica: "Postgres | None") -> None:
        """Commits are acknowledged once the replica has them, or by this server alone."""
        names = f'"{replica.host.name}"' if replica else ""
        self.ask(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        self.ask("SELECT pg_reload_conf()")
        state = "sync" if replica else "async"
        until(lambda: self.ask("SELECT sync_state FROM pg_stat_replication") == state, f"replication is {state}")

    def promote(self) -> float:
        """Tells after how many seconds it takes writes."""
        self.ask("SELECT pg_promote(wait => false)")
        return until(lambda: self.ask("SELECT pg_is_in_recovery()") == "f", "the replica is promoted", each=0.01)


@contextmanager
def postgres(site: Namespaces | Loopback, *names: str) -> Iterator[list[Postgres]]:
    """Servers on hosts of these names. The first one runs; others are for `follow`."""
    with ExitStack() as stack:
        servers = [Postgres(site.host(name), stack.enter_context(directory(name))) for name in names]
        stack.callback(lambda: [server.kill() for server in servers])
        servers[0].create()
        yield servers
