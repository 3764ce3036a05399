"""Servers for the whole-system tests: the real binary, free ports, a temporary directory."""

import itertools
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time

import httpx
import pytest

import rings

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("TEST_BINARY", ROOT / "target/debug/doorward"))
PASSWORD = "correct horse battery"
#: The server refuses settings that it does not know, and must not take up the caller's.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("DOORWARD_")}
#: Which of the processes this is that run tests at once.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
#: Hashing that protects nothing, so that the tests spend their time elsewhere.
CHEAP = ["--password-memory-kib", "8", "--password-iterations", "1"]
#: Without it each request reads all the certificates that there are.
TRUSTED = ssl.create_default_context()
#: Ports of this process's own, where several run tests at once; below those that the system gives out.
PORTS = itertools.cycle(range(first := 12_000 + 1_500 * WORKER, first + 1_500))


def free_port() -> int:
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port := next(PORTS)))
                return port
            except OSError:
                continue


class Server:
    """One process of the server. It ends by its own process id."""

    #: What the binary is started by, and with; tests/cluster has hosts of its own.
    address = "127.0.0.1"
    before: list[str] = []
    environment = ENVIRONMENT

    def __init__(self, directory: pathlib.Path, *flags: str, scheme: str = "http") -> None:
        self.directory, self.flags = directory, flags
        rings.used(flags)
        self.port, self.operator = free_port(), free_port()
        self.url = f"{scheme}://{self.address}:{self.port}/api/v1"
        self.operator_url = f"http://{self.address}:{self.operator}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        self.log = open(self.directory / f"log-{self.port}", "ab")
        listen = ["--listen", f"{self.address}:{self.port}"]
        listen += ["--operator-listen", f"{self.address}:{self.operator}"]
        self.process = subprocess.Popen(
            [*self.before, BINARY, "serve", *listen, *CHEAP, *self.flags],
            cwd=self.directory, stdout=self.log, stderr=self.log, env=self.environment,
        )
        for _ in range(500):
            if self.process.poll() is not None:
                self.log.close()
                raise RuntimeError(self.logged())
            try:
                if httpx.get(f"{self.operator_url}/readyz", verify=TRUSTED).status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.02)
        raise RuntimeError("the server does not get ready: " + self.logged())

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=30)
        self.log.close()
        return code

    def logged(self) -> str:
        return (self.directory / f"log-{self.port}").read_text()

    def login(self, **more: object) -> httpx.Response:
        body = {"username": "ada", "password": PASSWORD, "delivery": "body", **more}
        return httpx.post(f"{self.url}/login", json=body, verify=TRUSTED)

    def refresh(self, token: str) -> httpx.Response:
        return httpx.post(f"{self.url}/refresh", json={"refresh_token": token}, verify=TRUSTED)

    def session(self, token: str) -> httpx.Response:
        return httpx.get(f"{self.url}/session", headers=bearer(token), verify=TRUSTED)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def command(directory: pathlib.Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    rings.used(arguments)
    return subprocess.run(
        [BINARY, *arguments, *CHEAP], cwd=directory, env=ENVIRONMENT, input=text,
        capture_output=True, text=True, timeout=60,
    )


def add_user(directory: pathlib.Path, name: str = "ada") -> None:
    added = command(directory, "user", "add", name, "--password-stdin", text=PASSWORD + "\n")
    assert added.returncode == 0, added.stderr


def pytest_sessionfinish() -> None:
    rings.remove_all()


@pytest.fixture
def start(tmp_path: pathlib.Path):
    """Starts servers on one directory with one user, `ada`."""
    servers: list[Server] = []
    add_user(tmp_path)

    def start(*flags: str, **more: str) -> Server:
        servers.append(Server(tmp_path, *flags, **more))
        return servers[-1].start()

    yield start
    for server in servers:
        if server.process and server.process.poll() is None:
            server.stop()


@pytest.fixture
def server(start) -> Server:
    return start()
