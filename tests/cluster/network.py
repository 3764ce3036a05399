"""Hosts of our own: network namespaces around one that routes, in which links are cut by nftables. A host shares
no memory with others either: nodes on one machine tell each other of ends by a mapped file.

The machine's own network stays as it is. A namespace is held by a process, and gone with it, so nothing is left
behind, even if the tests are killed. Where namespaces are not permitted, `Loopback` stands in: all hosts are
127.0.0.1, and what is cut is a proxy on the way to a server."""

import ctypes
import functools
import json
import os
import pathlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from cluster.processes import WITH_US, told
from cluster.proxy import Proxy
from conftest import free_port

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_NETWORK = 0x40000000


class Host(Protocol):
    name: str
    address: str

    def port(self) -> int:
        """One that nobody has yet."""

    def command(self, *words: object) -> list[object]:
        """So it runs on this host."""


class Site(Protocol):
    """Hosts, and the ways between them."""

    #: What tests say they were run on.
    kind: str
    #: Where tests themselves are.
    here: str

    def host(self, name: str) -> Host: ...

    def way(self, start: Host, end: Host, port: int) -> tuple[str, int]:
        """By which address a server on `end` is reached, so that `cut` applies."""

    def cut(self, one: Host, other: Host, how: str = "drop") -> None:
        """Nothing passes between two hosts: `drop` says nothing of it, `reset` resets connections."""

    def held_up(self) -> int:
        """How many packets were, since all was well."""

    def mend(self) -> int:
        """Everything passes again. Tells how many packets were held up."""


class Namespace:
    """A network namespace for as long as this process lives."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.last_port = 7000
        hold = "mount -t tmpfs tmpfs /dev/shm && echo && exec sleep infinity"
        self.holder = subprocess.Popen([*WITH_US, "unshare", "--net", "--mount", "sh", "-c", hold],
                                       stdout=subprocess.PIPE)
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == b"\n", "no network namespace"
        self.run("ip", "link", "set", "lo", "up")

    def port(self) -> int:
        self.last_port += 1
        return self.last_port

    def command(self, *words: object) -> list[object]:
        spaces = f"/proc/{self.holder.pid}/ns"
        return ["nsenter", f"--net={spaces}/net", f"--mount={spaces}/mnt", *words]

    def run(self, *words: object, text: str | None = None) -> str:
        return told(self.command(*words), text=text)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and threads and processes that it starts meanwhile, are on this host."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _enter(pathlib.Path(f"/proc/{self.holder.pid}/ns/net"))
        try:
            yield
        finally:
            assert _LIBC.setns(home, _NEW_NETWORK) == 0
            os.close(home)

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait()
        assert self.holder.stdout is not None
        self.holder.stdout.close()


def _enter(path: pathlib.Path) -> None:
    there = os.open(path, os.O_RDONLY)
    try:
        if _LIBC.setns(there, _NEW_NETWORK) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(there)


_TABLE = "add table inet faults\nadd chain inet faults forward { type filter hook forward priority 0; }\n"


class Namespaces:
    kind = "network namespaces"
    here = "10.213.1.2"

    def __init__(self) -> None:
        self.hosts: list[Namespace] = []
        self.router = Namespace("router", "10.213.0.1")
        self.router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self.router.run("nft", "-f", "-", text=_TABLE)

    def host(self, name: str) -> Namespace:
        number = len(self.hosts) + 1
        host = Namespace(name, f"10.213.{number}.2")
        self.hosts.append(host)
        self.router.run("ip", "link", "add", f"to-{number}", "type", "veth",
                        "peer", "name", "veth", "netns", host.holder.pid)
        self.router.run("ip", "address", "add", f"10.213.{number}.1/24", "dev", f"to-{number}")
        self.router.run("ip", "link", "set", f"to-{number}", "up")
        host.run("ip", "address", "add", f"{host.address}/24", "dev", "veth")
        host.run("ip", "link", "set", "veth", "up")
        host.run("ip", "route", "add", "default", "via", f"10.213.{number}.1")
        return host

    def way(self, start: Host, end: Host, port: int) -> tuple[str, int]:
        return end.address, port

    def cut(self, one: Host, other: Host, how: str = "drop") -> None:
        verdict = {"drop": "drop", "reset": "reject with tcp reset"}[how]
        rules = [f"add rule inet faults forward ip saddr {start.address} ip daddr {end.address} "
                 f"meta l4proto tcp counter {verdict}\n" for start, end in ((one, other), (other, one))]
        self.router.run("nft", "-f", "-", text="".join(rules))

    def held_up(self) -> int:
        listed = json.loads(self.router.run("nft", "-j", "list", "table", "inet", "faults"))
        rules = [entry["rule"]["expr"] for entry in listed["nftables"] if "rule" in entry]
        return sum(part["counter"]["packets"] for rule in rules for part in rule if "counter" in part)

    def mend(self) -> int:
        packets = self.held_up()
        self.router.run("nft", "flush", "chain", "inet", "faults", "forward")
        return packets

    def close(self) -> None:
        for host in (*self.hosts, self.router):
            host.close()


class LoopbackHost:
    address = "127.0.0.1"

    def __init__(self, name: str) -> None:
        self.name = name

    def port(self) -> int:
        return free_port()

    def command(self, *words: object) -> list[object]:
        return list(words)


class Loopback:
    kind = "a fault proxy on loopback"
    here = "127.0.0.1"

    def __init__(self) -> None:
        self.ways: list[tuple[set[str], Proxy]] = []

    def host(self, name: str) -> LoopbackHost:
        return LoopbackHost(name)

    def way(self, start: Host, end: Host, port: int) -> tuple[str, int]:
        proxy = Proxy((end.address, port))
        self.ways.append(({start.name, end.name}, proxy))
        return proxy.address

    def cut(self, one: Host, other: Host, how: str = "drop") -> None:
        cut = [proxy for ends, proxy in self.ways if ends == {one.name, other.name}]
        assert cut, "no way between these hosts goes through a proxy"
        for proxy in cut:
            proxy.black_hole() if how == "drop" else proxy.reset()

    def held_up(self) -> int:
        return sum(proxy.held_up() for _, proxy in self.ways)

    def mend(self) -> int:
        for _, proxy in self.ways:
            proxy.forward()
        return self.held_up()

    def close(self) -> None:
        for _, proxy in self.ways:
            proxy.close()


@functools.cache
def permitted() -> bool:
    """Whether this machine lets us have namespaces, routes between them, and rules in them. `TEST_HOSTS=loopback`
    does as if it did not."""
    if os.environ.get("TEST_HOSTS") == "loopback":
        return False
    try:
        probe = Namespaces()
        try:
            one, other = probe.host("one"), probe.host("other")
            probe.cut(one, other, "reset")
            return probe.mend() == 0
        finally:
            probe.close()
    except (AssertionError, OSError):
        return False


@contextmanager
def site() -> Iterator[Namespaces | Loopback]:
    """Runs the tests on a host of their own: `clients`."""
    made: Namespaces | Loopback
    if not permitted():
        made = Loopback()
        try:
            yield made
        finally:
            made.close()
        return
    made = Namespaces()
    try:
        with made.host("clients").entered():
            yield made
    finally:
        made.close()
