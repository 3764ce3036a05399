"""A Redis Cluster fails in part under three nodes: no verdict is wrong, and all works soon after it has settled."""

import os
import time
from collections.abc import Callable

from cluster.fleet import BROWSERS, Outage, caused, fleet, judged, kept
from cluster.network import Loopback, Namespaces
from cluster.nodes import add_users, hosts, nodes
from cluster.processes import until
from cluster.redis import Cluster, Redis, cluster

#: Each fault so often.
TIMES = int(os.environ.get("TEST_FAULTS", "1"))
NODES = 3
#: How soon after an end every node refuses. The log of ends is on one server: while that fails over, nodes do not hear of
#: ends that others still take, until it is back and a poll was made.
LATE = ["--bound-ms", 8000]


class Trial:
    """What a fault is done to. Each begins and ends with a cluster in which every primary has its replica, and the nodes
    know of it: logins and ends wait for no replica where there is none."""

    def __init__(self, site: Namespaces | Loopback, made: Cluster) -> None:
        self.site, self.made = site, made

    def killed(self) -> Outage:
        """A primary dies, a replica takes over; later it is back as a replica."""
        dead = self.greatest()

        def taken_over() -> int:
            self.made.failed_over(dead)
            return 1
        outage = caused("a primary killed", dead.kill, taken_over, 0)
        dead.start()
        self.at_rest()
        assert dead not in self.made.primaries()
        return outage

    def split(self) -> Outage:
        """A primary is cut off from the other servers and not from the nodes, which may still write to it."""
        lonely = self.greatest()
        others = [server for server in self.made.servers if server is not lonely]

        def split() -> None:
            for other in others:
                self.site.cut(lonely.host, other.host)

        def outvoted() -> int:
            until(lambda: lonely not in self.made.primaries(others[0]), "the majority goes on without it")
            return self.site.held_up()
        outage = caused("a minority cut off", split, outvoted, 0)
        self.site.mend()
        self.at_rest()
        assert lonely not in self.made.primaries()
        return outage

    def moved(self) -> Outage:
        """A third of a primary's slots go to another, keys and all."""
        start, end = self.greatest(), min(self.made.primaries(), key=self.made.slots_of)
        before = self.made.slots_of(start)
        outage = caused("slots moved", lambda: self.made.move(before // 3, start, end),
                        lambda: before - self.made.slots_of(start), 0)
        self.at_rest()
        return outage

    def resynced(self) -> Outage:
        """All replicas take all of their primaries anew."""
        primaries = self.made.primaries()

        def resync() -> None:
            for primary in primaries:
                self.made.resync(primary)
        outage = caused("full resync", resync, lambda: len(primaries), 0)
        self.at_rest()
        return outage

    def greatest(self) -> Redis:
        """The primary that most users' slots are at: what it does is noticed."""
        return max(self.made.primaries(), key=self.made.slots_of)

    def at_rest(self) -> None:
        self.made.settled()
        self.made.seen_by(NODES)


#: What makes some slots unavailable for a while; the others go on throughout.
OUTAGES: list[Callable[[Trial], Outage]] = [Trial.killed, Trial.split]
SILENT: list[Callable[[Trial], Outage]] = [Trial.moved, Trial.resynced]
#: The one that somebody must notice: who is cut off from the others goes on for a while, and may do so until it is replaced.
NOTICED = Trial.killed


def test_a_redis_cluster_fails_in_part(site, tmp_path) -> None:
    with cluster(site) as made, nodes(tmp_path, hosts(site, NODES), [made.url()] * NODES) as three:
        trial = Trial(site, made)
        faults = [*(OUTAGES if site.kind == "network namespaces" else OUTAGES[:1]), *SILENT]
        users = add_users(tmp_path, made.url(), max(8, BROWSERS // 5))
        with fleet(tmp_path, three, users, *LATE) as browsers:
            trial.at_rest()
            before = [node.threads() + node.files() for node in three]
            outages = [(fault, fault(trial)) for _ in range(TIMES) for fault in faults]
            for node, most in zip(three, before, strict=True):
                until(lambda: node.threads() + node.files() <= most + 24, f"{node.address} lets go", within=20)
            summary = browsers.end()
            story = browsers.story()
        for fault, outage in outages:
            judged(story, outage, range(NODES), noticed=fault == NOTICED)
        assert len(outages) == TIMES * len(faults)
        kept({"fault": "redis", "violations": summary["violations"], "sessions": summary["sessions"],
              "requests": summary["requests"]})
