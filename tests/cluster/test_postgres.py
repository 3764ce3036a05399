"""PostgreSQL fails under three nodes: no verdict is wrong, verification goes on, and all works soon after its return."""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from cluster.fleet import BROWSERS, Fleet, Outage, caused, fleet, judged, kept, late
from cluster.network import Host, Loopback, Namespaces
from cluster.nodes import Node, add_users, hosts, nodes
from cluster.postgres import Postgres, postgres
from cluster.processes import exists, until
from cluster.proxy import Proxy

#: Each fault so often.
TIMES = int(os.environ.get("TEST_FAULTS", "1"))
#: Seconds without the store.
LASTS = 2.0
#: And with a slow one.
LONG = 3 * LASTS
#: Threads, open files and connections to the store that come and go with the load.
ROOM = 24


@dataclasses.dataclass
class Trial:
    """What a fault is done to."""

    site: Namespaces | Loopback
    server: Postgres
    hosts: list[Host]
    proxies: list[Proxy]

    def stopped(self) -> Outage:
        return self._down("restarted", self.server.stop)

    def killed(self) -> Outage:
        return self._down("kill -9", self.server.kill)

    def _down(self, fault: str, how: Callable[[], None]) -> Outage:
        process = self.server.process.id

        def up_again() -> int:
            gone = not exists(process)
            self.server.start()
            return int(gone)
        return caused(fault, how, up_again, LASTS)

    def black_holed(self) -> Outage:
        return self._cut("black-holed", "drop")

    def reset(self) -> Outage:
        return self._cut("reset", "reset")

    def _cut(self, fault: str, how: str) -> Outage:
        def cut() -> None:
            for host in self.hosts:
                self.site.cut(host, self.server.host, how)
        return caused(fault, cut, self.site.mend, LASTS)

    def dawdled(self) -> Outage:
        def each(change: Callable[[Proxy], None]) -> int:
            for proxy in self.proxies:
                change(proxy)
            return sum(proxy.effects["dawdled"] for proxy in self.proxies)
        return caused("one byte a second", lambda: each(Proxy.dawdle), lambda: each(Proxy.forward), LONG)


@contextmanager
def served(trial: Trial, directory: pathlib.Path, urls: Sequence[str], lasts: float) -> Iterator[Fleet]:
    """Three nodes and a fleet, whose promises hold at the end, and which leave nothing open."""
    users = add_users(directory, trial.server.url(), max(8, BROWSERS // 5))
    with nodes(directory, trial.hosts, urls) as made, fleet(directory, made, users, *late(lasts)) as browsers:
        time.sleep(2)
        before, connected = [held(node) for node in made], trial.server.connections()
        yield browsers
        for node, most in zip(made, before, strict=True):
            until(lambda: held(node) <= most + ROOM, f"{node.address} lets go: {most}, {held(node)}", within=20)
        until(lambda: trial.server.connections() <= connected + ROOM, "the nodes' connections end", within=20)
        kept({"fault": "held before and after", "before": before, "after": [held(node) for node in made],
              "connections": [connected, trial.server.connections()]})


def held(node: Node) -> int:
    return node.threads() + node.files()


@pytest.mark.parametrize("faults", [
    (Trial.stopped, Trial.killed, Trial.black_holed, Trial.reset), (Trial.dawdled,),
], ids=["direct", "through_a_proxy"])
def test_postgres_fails_and_returns(site, tmp_path, faults: Sequence[Callable[[Trial], Outage]]) -> None:
    with postgres(site, "postgres") as (server,):
        trial = Trial(site, server, hosts(site), [])
        if Trial.dawdled in faults:
            trial.proxies = [Proxy(server.address, listen=site.here) for _ in trial.hosts]
            urls = [server.url(proxy.address) for proxy in trial.proxies]
        else:
            urls = [server.url(site.way(host, server.host, server.port)) for host in trial.hosts]
        with served(trial, tmp_path, urls, LONG if trial.proxies else LASTS) as browsers:
            outages = [fault(trial) for _ in range(TIMES) for fault in faults]
            summary = browsers.end()
            story = browsers.story()
        for outage in outages:
            judged(story, outage, range(3))
        assert len(outages) == TIMES * len(faults)
        kept({"fault": "postgres", "effect": len(outages), "sessions": summary["sessions"], "requests": summary["requests"]})
        for proxy in trial.proxies:
            proxy.close()


#: What is lost with a primary whose replica was behind: nothing that was acknowledged later than the replica had it.
LOST = ("login_lost", "end_undone", "stale_verify", "stale_strict")


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "asynchronous"])
def test_failover_to_a_replica(site, tmp_path, synchronous: bool) -> None:
    with postgres(site, "postgres", "replica") as pair:
        replicates(site, *pair, synchronous)
        url = pair[0].url(*(server.address for server in pair))
        users = add_users(tmp_path, url, max(8, BROWSERS // 5))
        allowed = [] if synchronous else [word for kind in LOST for word in ("--allow", kind)]
        with nodes(tmp_path, hosts(site), [url] * 3) as made, fleet(tmp_path, made, users, *late(LASTS), *allowed) as browsers:
            time.sleep(2)
            outages = [fails_over(site, *pair, synchronous)]
            for _ in range(TIMES - 1):
                # There and back: whoever died comes back as a replica.
                pair.reverse()
                replicates(site, *pair, synchronous)
                outages.append(fails_over(site, *pair, synchronous))
            summary = browsers.end()
            story = browsers.story()
        for outage in outages:
            judged(story, outage, range(3))
        assert len(outages) == TIMES
        kept({"fault": outages[0].fault, "effect": TIMES, "violations": summary["violations"],
              "sessions": summary["sessions"], "requests": summary["requests"]})


def replicates(site: Namespaces | Loopback, primary: Postgres, replica: Postgres, synchronous: bool) -> None:
    replica.follow(primary, site.way(replica.host, primary.host, primary.port))
    primary.waits_for(replica if synchronous else None)


def fails_over(site: Namespaces | Loopback, primary: Postgres, replica: Postgres, synchronous: bool) -> Outage:
    """The replica is behind by half a second when the primary dies."""
    before = site.held_up()
    site.cut(primary.host, replica.host)
    time.sleep(0.5)
    behind = site.held_up() - before

    def promoted() -> int:
        assert not primary.process.alive()
        site.mend()
        replica.promote()
        return behind
    how = "synchronous" if synchronous else "asynchronous"
    return caused(f"failover, {how}", primary.kill, promoted, LASTS)
