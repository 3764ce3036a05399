"""The seal secret and its replacement, and rotation under load, on the real binary."""

import base64
import concurrent.futures
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import random
import shutil
import sqlite3
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from conftest import BINARY, CHEAP, ENVIRONMENT, Server, add_user, bearer, command

OLD = "7f0c3a9e51d24b86a1c9e3f05b7d2846"
NEW = "b1946ac92492d2347c6235b4d2611184"
SEALED = ["--seal-secret", OLD]
MOVING = ["--seal-secret", NEW, "--seal-secret-previous", OLD]
MOVED = ["--seal-secret", NEW]


def opens(directory: pathlib.Path, flags: list[str]) -> bool:
    return command(directory, "check-config", *flags).returncode == 0


def test_a_seal_secret_is_replaced_in_the_documented_order_and_nobody_notices(start) -> None:
    first = start(*SEALED)
    granted = first.login().json()
    servers = [first]
    # Each is started anew with both secrets, while the others go on; then sealed anew; then again.
    for flags in (MOVING, MOVED):
        for _ in range(2):
            servers.append(start(*flags))
            for server in servers:
                granted = server.refresh(granted["refresh_token"]).json()
                newcomer = server.login().json()
                for other in servers:
                    assert other.session(granted["access_token"]).status_code == 200
                    assert other.session(newcomer["access_token"]).status_code == 200
        for server in [server for server in servers if list(server.flags) != flags]:
            server.stop()
            servers.remove(server)
        if flags == MOVING:
            assert "seal_secret_previous: once every process" in servers[0].logged()
            resealed = command(first.directory, "keys", "reseal", *MOVING)
            assert resealed.returncode == 0 and "keys sealed by seal_secret" in resealed.stdout
            assert command(first.directory, "keys", "reseal", *MOVING).stdout.startswith("0 keys")
    assert servers[0].refresh(granted["refresh_token"]).status_code == 200
    assert not opens(first.directory, SEALED)


def test_a_secret_that_is_dropped_too_early_is_asked_for(start) -> None:
    server = start(*SEALED)
    token = server.login().json()["refresh_token"]
    server.stop()
    with pytest.raises(RuntimeError, match="as seal_secret_previous where another one is to replace it"):
        start(*MOVED)
    assert start(*MOVING).refresh(token).status_code == 200


def test_a_store_is_sealed_later_and_who_does_not_know_says_so(start) -> None:
    server = start()
    token = server.login().json()["refresh_token"]
    assert "seal_secret is missing" in command(server.directory, "keys", "reseal").stderr
    sealed = command(server.directory, "keys", "reseal", *SEALED)
    assert sealed.returncode == 0, sealed.stderr
    for _ in range(200):
        ready = httpx.get(f"{server.operator_url}/readyz")
        if ready.status_code == 503:
            break
        time.sleep(0.02)
    assert "seal_secret is missing: the keys in the store are sealed" in ready.text
    assert "seal_secret is missing" in server.logged()
    assert "does not answer" not in server.logged()
    server.stop()
    with pytest.raises(RuntimeError, match="seal_secret is missing"):
        start()
    assert start(*SEALED).refresh(token).status_code == 200


def test_killed_at_any_moment_it_leaves_a_store_that_one_of_the_secrets_opens(tmp_path: pathlib.Path) -> None:
    add_user(tmp_path)
    Server(tmp_path, *SEALED).start().stop()
    moves, (old, new) = random.Random(7), (OLD, NEW)
    for _ in range(12):
        flags = ["--seal-secret", new, "--seal-secret-previous", old]
        process = subprocess.Popen([BINARY, "keys", "reseal", *CHEAP, *flags], cwd=tmp_path, env=ENVIRONMENT,
                                   stdout=subprocess.DEVNULL)
        time.sleep(moves.uniform(0, 0.03))
        process.kill()
        process.wait()
        assert opens(tmp_path, flags)
        by_new = opens(tmp_path, ["--seal-secret", new])
        assert by_new != opens(tmp_path, ["--seal-secret", old])
        if by_new:
            old, new = new, old


# ---- what a database yields to whoever has it ----

class Row(NamedTuple):
    """A live session, as its row says it."""

    id: bytes
    confirmed: bytes
    generation: int
    attempt: int


def copied(directory: pathlib.Path, to: pathlib.Path) -> sqlite3.Connection:
    """The file and its log, as a thief takes them from under a running server."""
    to.mkdir()
    for name in ("doorward.db", "doorward.db-wal"):
        shutil.copy(directory / name, to / name)
    return sqlite3.connect(to / "doorward.db")


def values(db: sqlite3.Connection) -> set[bytes]:
    """Everything in it, and each piece that is as long as a key."""
    found = set()
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for row in db.execute(f'SELECT * FROM "{table}"'):
            for value in row:
                if isinstance(value, (str, bytes)) and value:
                    whole = value.encode() if isinstance(value, str) else value
                    found |= {whole, *(whole[at:at + 32] for at in range(len(whole) - 31))}
    return found


def rows(db: sqlite3.Connection) -> list[Row]:
    latest = {}
    for table, key in (("sessions", "id"), ("rotations", "session")):
        select = f"SELECT {key}, confirmed, generation, attempt FROM {table}"
        for row in map(Row._make, db.execute(select)):
            if row.id not in latest or latest[row.id].generation <= row.generation:
                latest[row.id] = row
    return list(latest.values())


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)


def derived(root: bytes, label: str) -> bytes:
    """HKDF-SHA-256, as the engine derives."""
    return mac(mac(b"doorward refresh key", root), label.encode() + b"\1")


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def refresh_token(root: bytes, key: bytes, row: Row) -> str:
    asked = row.id + row.confirmed + struct.pack(">I", row.attempt)
    own = mac(derived(root, "refresh id, HMAC-SHA-256"), asked)[:16]
    fields = b"\1" + key + row.id + own + row.confirmed
    fields += struct.pack(">IQ", row.generation + 1, int(time.time() * 1000))
    return "dwr_" + base64url(fields + mac(derived(root, "refresh token, HMAC-SHA-256"), fields))


def access_tokens(secret: bytes, key: bytes, row: Row) -> Iterator[str]:
    now, session = int(time.time()), str(uuid.UUID(bytes=row.id))
    claims = {"sub": "root", "sid": session, "jti": base64url(bytes(16)), "iat": now, "nbf": now, "exp": now + 600,
              "type": "access", "fresh": now, "auth_time": now}
    for algorithm in ("HS256", "EdDSA"):
        header = f'{{"alg":"{algorithm}","kid":"{key.hex()}","typ":"JWT"}}'
        signed = f"{base64url(header.encode())}.{base64url(json.dumps(claims).encode())}"
        signature = sign(algorithm, secret, signed.encode())
        if signature:
            yield f"{signed}.{base64url(signature)}"


def sign(algorithm: str, secret: bytes, text: bytes) -> bytes | None:
    if algorithm == "HS256":
        return mac(secret, text)
    try:
        key = load_der_private_key(secret, None)
    except ValueError:
        key = Ed25519PrivateKey.from_private_bytes(secret) if len(secret) == 32 else None
    return key.sign(text) if isinstance(key, Ed25519PrivateKey) else None


def loot(server: Server, stolen: pathlib.Path) -> set[str]:
    """Which kinds of token the running server takes that were made from the copy alone."""
    with contextlib.closing(copied(server.directory, stolen)) as db, httpx.Client() as client:
        keys = db.execute("SELECT id, purpose FROM keys").fetchall()
        keys = [(struct.pack(">q", number), purpose) for number, purpose in keys]
        taken, row = set(), rows(db)[0]
        for value in values(db):
            for key, purpose in keys:
                if purpose == "refresh":
                    token = {"refresh_token": refresh_token(value, key, row)}
                    if client.post(f"{server.url}/refresh", json=token).status_code == 200:
                        taken.add("refresh")
                    continue
                for token in access_tokens(value, key, row):
                    if client.get(f"{server.url}/session", headers=bearer(token)).status_code == 200:
                        taken.add("access")
        return taken


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA"])
def test_a_leaked_database_yields_tokens_without_a_seal_and_none_with_one(
    tmp_path: pathlib.Path, start, algorithm: str
) -> None:
    server = start("--algorithm", algorithm)
    alive = server.refresh(server.login().json()["refresh_token"]).json()
    assert loot(server, tmp_path / "plain") == {"access", "refresh"}
    server.stop()
    for name in tmp_path.glob("doorward.db*"):
        name.unlink()
    add_user(tmp_path)
    server = start("--algorithm", algorithm, *SEALED)
    alive = server.refresh(server.login().json()["refresh_token"]).json()
    assert loot(server, tmp_path / "sealed") == set()
    assert server.refresh(alive["refresh_token"]).status_code == 200
    raw = b"".join(file.read_bytes() for file in tmp_path.glob("doorward.db*"))
    for secret in (OLD, alive["refresh_token"], alive["access_token"], alive["refresh_token"][-43:]):
        assert secret.encode() not in raw


# ---- rotation ----

class Load:
    """Clients that log in, refresh and verify until they are stopped."""

    def __init__(self, server: Server) -> None:
        self.server, self.stopped = server, threading.Event()
        self.access: set[str] = set()
        self.refresh: set[bytes] = set()
        self.refused: list[str] = []

    def client(self) -> None:
        granted = self.server.login().json()
        older = granted
        while not self.stopped.is_set():
            granted = self.answer(self.server.refresh(granted["refresh_token"])) or granted
            for token in (granted["access_token"], older["access_token"]):
                self.answer(self.server.session(token))
            # A session keeps its refresh key; the next one is seen by those that log in.
            newest = self.answer(self.server.login())
            for tokens in filter(None, (granted, newest)):
                self.access.add(tokens["access_token"].split(".")[0])
                self.refresh.add(base64.urlsafe_b64decode(tokens["refresh_token"][4:16])[1:9])
        self.answer(self.server.login())
        self.answer(self.server.session(older["access_token"]))

    def answer(self, answer: httpx.Response) -> dict:
        if answer.status_code != 200:
            self.refused.append(answer.text)
            return {}
        return answer.json()


def memory(server: Server) -> int:
    """In KiB."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def processor(server: Server) -> float:
    """Seconds of it that a hundred verifications take: other work on the machine does not count."""
    def used() -> float:
        fields = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    headers, before = bearer(server.login().json()["access_token"]), used()
    with httpx.Client(headers=headers) as client:
        assert {client.get(f"{server.url}/session").status_code for _ in range(100)} == {200}
    return used() - before


def test_a_hundred_rotations_of_each_key_refuse_nobody_and_cost_nothing(server: Server) -> None:
    load, alone = Load(server), processor(server)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(load.client) for _ in range(3)]
        time.sleep(1)
        before = memory(server)
        for _ in range(100):
            for purpose in ("access", "refresh"):
                assert command(server.directory, "keys", "rotate", "--purpose", purpose).returncode == 0
        # The last of them signs ten seconds on.
        time.sleep(11.5)
        load.stopped.set()
        for client in clients:
            client.result()
    assert load.refused == []
    assert len(load.access) > 20 and len(load.refresh) > 20, (len(load.access), len(load.refresh))
    assert memory(server) - before < 20 * 1024
    assert processor(server) < 3 * alone + 0.1
