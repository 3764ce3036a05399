"""What goes wrong outside: killed servers, damaged files, bad settings, full disks."""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import ssl
import subprocess
import threading
import time

import httpx
import pytest

from conftest import BINARY, ENVIRONMENT, Server, add_user, bearer, command

KILLS = int(os.environ.get("TEST_KILLS", "30"))


class Client(threading.Thread):
    """An honest client: refreshes, and retries what was not answered, at any of the servers. Sometimes
    logs out, and looks whether a server lets it in all the same."""

    def __init__(self, servers: list[Server], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.servers, self.stop = servers, stop
        self.refused: list[str] = []
        self.ended: list[dict[str, object]] = []
        self.rounds = 0

    def retried(self, path: str, body: dict[str, object]) -> httpx.Response:
        while True:
            try:
                answer = self.http.post(f"{random.choice(self.servers).url}{path}", json=body)
            except httpx.TransportError:
                time.sleep(0.01)
                continue
            if answer.status_code != 503:
                return answer

    def look(self, ended: dict[str, object]) -> None:
        server = random.choice(self.servers)
        try:
            answer = self.http.get(f"{server.url}/session", headers=bearer(str(ended["access_token"])))
        except httpx.TransportError:
            return
        if answer.status_code not in (401, 503):
            self.refused.append("let in after the end: " + answer.text)

    def run(self) -> None:
        body: dict[str, object] = {"username": "ada", "password": "correct horse battery", "delivery": "body"}
        with httpx.Client() as self.http:
            granted = self.retried("/login", body).json()
            while not self.stop.is_set():
                if random.random() < 0.1:
                    answer = self.retried("/logout", {"refresh_token": granted["refresh_token"]})
                    assert answer.status_code == 204
                    self.look(granted)
                    self.ended.append(granted)
                    granted = self.retried("/login", body).json()
                answer = self.retried("/refresh", {"refresh_token": granted["refresh_token"]})
                if answer.status_code != 200:
                    self.refused.append(answer.text)
                    return
                granted = answer.json()
                self.rounds += 1


def kill_during_a_mixed_load(servers: list[Server], kills: int) -> None:
    stop = threading.Event()
    clients = [Client(servers, stop) for _ in range(6)]
    for client in clients:
        client.start()
    for _ in range(kills):
        time.sleep(random.uniform(0.02, 0.2))
        server = random.choice(servers)
        server.stop(signal.SIGKILL)
        server.start()
    stop.set()
    for client in clients:
        client.join(timeout=30)
    assert [client.refused for client in clients] == [[]] * len(clients)
    assert sum(client.rounds for client in clients) > kills
    for granted in (granted for client in clients for granted in client.ended):
        server = random.choice(servers)
        assert server.refresh(str(granted["refresh_token"])).json()["code"] == "session_ended"
        assert server.session(str(granted["access_token"])).status_code == 401


def test_kill_9_during_a_mixed_load(start) -> None:
    # Logins that a kill cuts off count as failed.
    kill_during_a_mixed_load([start("--throttle", "off")], KILLS)


def test_kill_9_of_processes_that_share_a_file(start) -> None:
    # Without a window each refresh is written, and an older state of the row would show as a thief.
    kill_during_a_mixed_load([start("--refresh-window", "0", "--throttle", "off") for _ in range(3)], KILLS // 2)


def test_a_graceful_stop_loses_no_answered_request(start) -> None:
    server: Server = start()
    token = server.login().json()["refresh_token"]
    token = server.refresh(token).json()["refresh_token"]
    assert server.stop() == 0
    server.start()
    assert server.refresh(token).status_code == 200


@pytest.mark.parametrize("damage", ["text", "torn", "foreign"])
def test_a_corrupt_file_is_refused_by_name(tmp_path: pathlib.Path, damage: str) -> None:
    path = tmp_path / "doorward.db"
    if damage == "text":
        path.write_text("this is no database\n" * 100)
    elif damage == "foreign":
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE theirs (x)")
            db.commit()
    else:
        add_user(tmp_path)
        path.write_bytes(path.read_bytes()[:100] + os.urandom(8000))
    before = path.read_bytes()
    refused = command(tmp_path, "check-config")
    assert refused.returncode == 1
    assert "doorward.db" in refused.stderr and "backup" in refused.stderr, refused.stderr
    assert path.read_bytes() == before


def test_a_newer_file_is_refused_unless_it_says_that_this_program_may_go_on(tmp_path: pathlib.Path) -> None:
    add_user(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "doorward.db")) as db:
        db.execute("PRAGMA user_version = 99")
        assert command(tmp_path, "check-config").returncode == 0
        db.execute("INSERT OR REPLACE INTO marks VALUES ('compatible_since', 99)")
        db.commit()
    refused = command(tmp_path, "check-config")
    assert refused.returncode == 1 and "newer" in refused.stderr


def test_weak_settings_are_refused_in_words(tmp_path: pathlib.Path) -> None:
    for flags, word in [
        (["--secret", "short"], "openssl rand"),
        (["--secret", "changeme" * 8], "openssl rand"),
        (["--secret", "insecure-default-key-do-not-use-me"], "openssl rand"),
        (["--store", "sqlite://:memory:"], "memory:"),
        (["--url-prefix", "/:a"], "url_prefix"),
        (["--max-connections", "18446744073709551615"], "max_connections"),
        (["--request-timeout", "0"], "request_timeout"),
        (["--store", "sqlite:///nowhere/at/all.db"], "directory"),
        (["--access-ttl", "1m", "--refresh-window", "50s"], "half of access_ttl"),
    ]:
        refused = command(tmp_path, "check-config", *flags)
        assert refused.returncode == 1 and word in refused.stderr, refused.stderr
        assert "changeme" not in refused.stderr
    unknown = subprocess.run(
        [BINARY, "check-config"], cwd=tmp_path, env={**ENVIRONMENT, "DOORWARD_TYPO": "1"},
        capture_output=True, text=True,
    )
    assert unknown.returncode == 1 and "typo" in unknown.stderr


def test_a_full_disk_stops_writes_and_not_verification(tmp_path: pathlib.Path) -> None:
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small file system takes root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk])
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    server = Server(disk, "--log-level", "error")
    try:
        add_user(disk)
        server.start()
        granted = server.login().json()
        with open(disk / "filler", "wb") as filler:
            with contextlib.suppress(OSError):
                while True:
                    os.write(filler.fileno(), b"x" * 4096)
        statuses = {server.login().status_code for _ in range(200)}
        assert 503 in statuses and statuses <= {200, 503}
        assert server.session(granted["access_token"]).status_code in (200, 503)
        verified = httpx.get(f"{server.url}/verify", headers=bearer(granted["access_token"]))
        assert verified.status_code == 200
        (disk / "filler").unlink()
        assert server.login().status_code == 200
    finally:
        server.stop()
        subprocess.run(["umount", "-l", disk], check=True)


def test_tls_and_a_renewed_certificate(start, tmp_path: pathlib.Path) -> None:
    def certificate(name: str) -> None:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", f"/CN={name}",
             "-addext", "subjectAltName=IP:127.0.0.1"],
            cwd=tmp_path, check=True, capture_output=True,
        )

    certificate("first")
    server = start("--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", scheme="https")
    def ask() -> int:
        context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        answer = httpx.get(f"{server.url}/session", verify=context)
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        return answer.status_code

    assert ask() == 401
    certificate("second")
    for _ in range(100):
        try:
            assert ask() == 401
            return
        except httpx.ConnectError:
            time.sleep(0.2)
    raise AssertionError("the renewed certificate was not taken up")


def test_a_hangup_ends_nothing(start) -> None:
    server: Server = start()
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    for _ in range(100):
        if "SIGHUP" in server.logged():
            break
        time.sleep(0.02)
    assert server.login().status_code == 200 and "SIGHUP" in server.logged()


def test_a_server_without_its_configured_key_says_why(start) -> None:
    secret = ["--secret", "7f0c3a9e51d24b86a1c9e3f05b7d2846"]
    server: Server = start(*secret)
    keys = command(server.directory, "keys", "list").stdout.splitlines()
    access = next(line.split("\t")[0] for line in keys if "\taccess\t" in line)
    refused = command(server.directory, "keys", "rotate", *secret)
    assert refused.returncode == 1 and "configured key" in refused.stderr
    assert command(server.directory, "keys", "retire", access, *secret).returncode == 0
    for _ in range(100):
        ready = httpx.get(f"{server.operator_url}/readyz")
        if ready.status_code == 503:
            break
        time.sleep(0.05)
    assert ready.status_code == 503 and "retired" in ready.text
    assert server.login().status_code == 503
    assert "the configured key was retired" in server.logged()
