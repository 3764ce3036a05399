"""Nodes of Doorward on hosts of their own, all on one store."""

import base64
import glob
import json
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from cluster.network import Host, Loopback, Namespaces
from cluster.processes import WITH_US, exists
from conftest import ENVIRONMENT, PASSWORD, Server, command

#: A user whom no browser of the fleet is: a login while all sessions of its user are ended is refused by design.
OBSERVER = "observer"
#: Seconds until a retry has to go through.
PATIENCE = 10.0
#: What nodes of these tests have beside their store. The fleet has no proxy before it that would encrypt.
FLAGS = ["--throttle", "off", "--log-level", "warn"]
FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "")


class Node(Server):
    """A server on a host, whose clock may be another."""

    def __init__(self, directory: pathlib.Path, host: Host, store: str, *flags: str) -> None:
        self.host, self.address = host, host.address
        self.before = [str(word) for word in host.command(*WITH_US)]
        super().__init__(directory, "--store", store, *FLAGS, *flags)
        self.kills = 0
        self.began = 0.0

    @property
    def id(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """At once and without a word; counts that it is gone."""
        process = self.id
        self.stop(signal.SIGKILL)
        self.kills += not exists(process)

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.stop(signal.SIGKILL)

    def threads(self) -> int:
        return len(list(pathlib.Path(f"/proc/{self.id}/task").iterdir()))

    def files(self) -> int:
        """Open ones, connections among them."""
        return len(list(pathlib.Path(f"/proc/{self.id}/fd").iterdir()))

    def metric(self, name: str) -> float:
        """The sum over its labels."""
        text = httpx.get(f"{self.operator_url}/metrics").text
        values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith((name + " ", name + "{"))]
        assert values, f"no metric {name}"
        return sum(map(float, values))

    def ahead(self) -> float:
        """By how many seconds its clock is ahead of ours. (Its `Date` header stays where it was once the clock goes
        back.)"""
        answer = retried(lambda: self.login(username=OBSERVER))
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        payload = answer.json()["access_token"].split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(payload + "=="))["iat"]) - time.time()

    def tells_time_by(self, file: pathlib.Path) -> "Node":
        """Once it is started, its clock is what the file says: `+120`, `-600`, or `+0 x10`, which is ten times as fast
        since the start. Time spans are as long as ever."""
        assert FAKETIME, "libfaketime is not installed: run scripts/install"
        self.environment = {**ENVIRONMENT, "LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(file),
                            "FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        self.began = time.time()
        return self


def retried(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """As an honest client does: again after a 503, until it is answered."""
    begun = time.monotonic()
    while (answer := ask()).status_code == 503 and time.monotonic() < begun + PATIENCE:
        time.sleep(0.02)
    return answer


@contextmanager
def nodes(directory: pathlib.Path, hosts: Sequence[Host], stores: Sequence[str], *flags: str) -> Iterator[list[Node]]:
    """A node on each host, with the URL by which it reaches the store. They run as soon as it has them."""
    made = [Node(directory, host, store, *flags) for host, store in zip(hosts, stores, strict=True)]
    try:
        for node in made:
            node.start()
        yield made
    finally:
        for node in made:
            node.close()


def hosts(site: Namespaces | Loopback, how_many: int = 3) -> list[Host]:
    """For nodes."""
    return [site.host(f"node-{number}") for number in range(1, how_many + 1)]


def add_users(directory: pathlib.Path, store: str, how_many: int) -> pathlib.Path:
    """Makes accounts, the observer's too, and a file of the others for the fleet."""
    names = [f"user-{number}" for number in range(how_many)]
    _add(directory, store, OBSERVER)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: _add(directory, store, name), names))
    users = directory / "users.txt"
    users.write_text("".join(f"{name}:{PASSWORD}\n" for name in names))
    return users


def _add(directory: pathlib.Path, store: str, name: str) -> None:
    added = command(directory, "user", "add", name, "--store", store, "--password-stdin", text=PASSWORD + "\n")
    assert added.returncode == 0, added.stderr
