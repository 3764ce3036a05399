"""Redis by the real binary: a user with the documented rights and no more, TLS, and servers that may lose something."""

import pathlib
import re
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from cluster.network import Loopback
from cluster.processes import WITH_US, Process, until
from cluster.redis import Redis, single
from conftest import BINARY, ENVIRONMENT, PASSWORD, ROOT, Server, bearer, command, free_port


@pytest.fixture
def redis() -> Iterator[Redis]:
    with single(Loopback()) as server:
        yield server


def documented_user(redis: Redis) -> str:
    """The URL of a user as docs/redis.md has it."""
    docs = (ROOT / "docs/redis.md").read_text()
    rules = re.search(r"ACL SETUSER doorward on >PASSWORD (.*?)```", docs, re.S)
    assert rules is not None
    assert redis.ask("ACL", "SETUSER", "doorward", "on", ">right-horse", *rules[1].split()) == "OK"
    return f"redis://doorward:right-horse@{redis.name}/"


def did(directory: pathlib.Path, *arguments: str, text: str = "") -> str:
    done = command(directory, *arguments, text=text)
    assert done.returncode == 0, done.stderr
    assert "right-horse" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def life(server: Server) -> None:
    """A login, a refresh and a logout."""
    opened = server.login().json()
    refreshed = server.refresh(opened["refresh_token"]).json()
    assert server.session(refreshed["access_token"]).status_code == 200
    out = httpx.post(f"{server.url}/logout", headers=bearer(refreshed["access_token"]))
    assert out.status_code == 204
    assert server.session(refreshed["access_token"]).status_code == 401


def test_the_documented_rights_are_all_that_the_program_needs(redis: Redis, tmp_path: pathlib.Path) -> None:
    url = documented_user(redis)
    second, third = "sqlite://second.db", url + "?prefix=doorward:third:"
    did(tmp_path, "user", "add", "ada", "--store", url, "--password-stdin", text=PASSWORD + "\n")
    server = Server(tmp_path, "--store", url).start()
    try:
        life(server)
        doctor = looked_at(server)
        assert doctor.returncode == 0, doctor.stdout
        kept = server.login().json()
        assert "ada" in did(tmp_path, "user", "list", "--store", url)
        assert "\t" in did(tmp_path, "session", "list", "--store", url)
        assert "logged_in" in did(tmp_path, "events", "--store", url)
        did(tmp_path, "keys", "rotate", "--store", url)
        did(tmp_path, "user", "reset", "ada", "--store", url)
        did(tmp_path, "store", "restored", "--store", url)
        until(lambda: server.session(kept["access_token"]).status_code == 401, "all is over", within=5)
    finally:
        server.stop()
    for start, end in [(url, second), (second, third)]:
        did(tmp_path, "store", "copy", start, end)
        did(tmp_path, "store", "switch", start, end)
    assert "ada" in did(tmp_path, "user", "list", "--store", third)
    denied = redis.ask("ACL", "LOG")
    assert denied == "", denied


def looked_at(server: Server) -> subprocess.CompletedProcess[str]:
    login = ["--username", "ada", "--password-stdin"]
    return subprocess.run([BINARY, "doctor", server.url, *login], env=ENVIRONMENT, input=PASSWORD + "\n",
                          capture_output=True, text=True, timeout=60)


def test_a_server_that_may_lose_ends_is_pointed_out(redis: Redis, tmp_path: pathlib.Path) -> None:
    url = f"redis://{redis.name}/"
    assert "Redis" not in did(tmp_path, "check-config", "--store", url)
    redis.ask("CONFIG", "SET", "appendonly", "no")
    assert "appendonly yes" in did(tmp_path, "check-config", "--store", url)
    did(tmp_path, "user", "add", "ada", "--store", url, "--password-stdin", text=PASSWORD + "\n")
    server = Server(tmp_path, "--store", url).start()
    try:
        until(lambda: "appendonly yes" in server.logged(), "it is in the log", within=10)
    finally:
        server.stop()


@pytest.fixture
def encrypted(tmp_path: pathlib.Path) -> Iterator[str]:
    """The URL of a server that speaks TLS and nothing else, without a word of whom to trust."""
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
            "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"]
    subprocess.run(make, check=True, capture_output=True)
    port = free_port()
    settings = ["--port", 0, "--tls-port", port, "--bind", "127.0.0.1", "--tls-auth-clients", "no", "--dir", tmp_path,
                "--tls-cert-file", tmp_path / "cert.pem", "--tls-key-file", tmp_path / "key.pem",
                "--tls-ca-cert-file", tmp_path / "cert.pem", "--appendonly", "yes", "--save", ""]
    process = Process([*WITH_US, "redis-server", *settings], tmp_path / "log-redis")
    process.start()
    try:
        ping = ["redis-cli", "-p", str(port), "--tls", "--cacert", tmp_path / "cert.pem", "PING"]
        until(lambda: "PONG" in subprocess.run(ping, capture_output=True, text=True).stdout, "Redis answers")
        yield f"rediss://127.0.0.1:{port}/"
    finally:
        process.end()


def test_sessions_go_through_tls(encrypted: str, tmp_path: pathlib.Path) -> None:
    url = f"{encrypted}?ca={tmp_path}/cert.pem"
    did(tmp_path, "user", "add", "ada", "--store", url, "--password-stdin", text=PASSWORD + "\n")
    server = Server(tmp_path, "--store", url).start()
    try:
        life(server)
    finally:
        server.stop()
    untrusted = command(tmp_path, "user", "list", "--store", encrypted)
    assert untrusted.returncode == 1 and "certificate" in untrusted.stderr
