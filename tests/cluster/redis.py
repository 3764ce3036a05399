"""Redis for tests: one server, or a cluster of six: three primaries, each with a replica."""

import json
import pathlib
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from cluster.network import Host, Loopback, Namespaces
from cluster.processes import WITH_US, Process, directory, told, until

#: Milliseconds after which a node that does not answer counts as failed.
NODE_TIMEOUT = 1000
ALL_SLOTS = 16384


class Redis:
    """One server. Its append-only file is synced each second: what a killed process wrote the machine keeps."""

    def __init__(self, host: Host, home: pathlib.Path, *, clustered: bool) -> None:
        self.host, self.port = host, host.port()
        settings = ["--bind", host.address, "--port", self.port, "--dir", home, "--protected-mode", "no",
                    "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
                    "--enable-debug-command", "yes", "--repl-diskless-sync-delay", 0, "--repl-timeout", 5]
        if clustered:
            settings += ["--cluster-enabled", "yes", "--cluster-config-file", f"{home}/nodes-{self.port}.conf",
                         "--cluster-node-timeout", NODE_TIMEOUT, "--cluster-require-full-coverage", "no",
                         "--cluster-replica-validity-factor", 0, "--appenddirname", f"append-{self.port}"]
        self.process = Process(host.command(*WITH_US, "redis-server", *settings), home / f"log-{self.port}")

    @property
    def address(self) -> tuple[str, int]:
        return self.host.address, self.port

    @property
    def name(self) -> str:
        return f"{self.host.address}:{self.port}"

    def start(self) -> "Redis":
        self.process.start()
        until(self.answers, "Redis answers", within=60)
        return self

    def answers(self) -> bool:
        assert self.process.alive(), self.process.logged()
        return self.try_ask("PING") == "PONG"

    def kill(self) -> None:
        self.process.end(signal.SIGKILL)

    def _client(self, *words: object) -> list[object]:
        return ["redis-cli", "-h", self.host.address, "-p", self.port, *words]

    def ask(self, *words: object) -> str:
        answer = told(self._client(*words)).strip()
        assert not answer.startswith(("ERR", "(error)", "CLUSTERDOWN", "MOVED")), f"{words}: {answer}"
        return answer

    def try_ask(self, *words: object) -> str:
        """Empty where it does not answer within a second."""
        command = [str(word) for word in ["timeout", "1", *self._client(*words)]]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    def info(self, section: str) -> dict[str, str]:
        lines = (line.split(":", 1) for line in self.ask("INFO", section).splitlines() if ":" in line)
        return {name: value.strip() for name, value in lines}

    def connections(self) -> int:
        """How many clients have: this one, replicas, and the cluster's own left aside."""
        listed = self.ask("CLIENT", "LIST", "TYPE", "normal").splitlines()
        listed += self.ask("CLIENT", "LIST", "TYPE", "pubsub").splitlines()
        return len([line for line in listed if line and "lib-name=redis-cli" not in line and "cmd=client" not in line])


class Cluster:
    def __init__(self, servers: list[Redis]) -> None:
        self.servers = servers

    def create(self) -> "Cluster":
        for server in self.servers:
            server.start()
        told(["redis-cli", "--cluster", "create", *(server.name for server in self.servers),
              "--cluster-replicas", 1, "--cluster-yes"])
        self.settled()
        return self

    def url(self) -> str:
        return "redis://" + ",".join(server.name for server in self.servers) + "/?cluster"

    def settled(self, within: float = 60) -> float:
        """Waits until all who live agree that every slot has a primary with a replica that is in step."""
        def content() -> bool:
            roles = [server.try_ask("ROLE").split("\n")[0] for server in self.living()]
            return roles.count("master") == 3 and all(self._content(server) for server in self.living())
        return until(content, "the cluster settles", within)

    def living(self) -> list[Redis]:
        return [server for server in self.servers if server.process.alive()]

    def _content(self, server: Redis) -> bool:
        info = dict(line.split(":", 1) for line in server.try_ask("CLUSTER", "INFO").splitlines() if ":" in line)
        if info.get("cluster_state", "").strip() != "ok" or int(info["cluster_slots_ok"]) != ALL_SLOTS:
            return False
        role = server.try_ask("ROLE").splitlines()
        if not role or role[0] != "master" and role[3] != "connected":
            return False
        shards = json.loads(server.try_ask("--json", "CLUSTER", "SHARDS") or "[]")
        return bool(shards) and all(_has_replica(shard) for shard in shards if shard["slots"])

    def seen_by(self, nodes: int) -> None:
        """Waits until nodes of Doorward, each of which asks once a second, have all seen how it is now."""
        before = self._asked()
        until(lambda: self._asked() >= before + 4 * nodes, "the nodes look at the cluster", within=60)

    def _asked(self) -> int:
        stats = (server.info("commandstats").get("cmdstat_cluster|slots", "calls=0") for server in self.living())
        return sum(int(stat.partition("calls=")[2].partition(",")[0]) for stat in stats)

    def shards(self, asked: Redis | None = None) -> list[dict[str, Any]]:
        """As one who lives sees it: slots, and nodes with their roles."""
        answer = (asked or self.living()[0]).ask("--json", "CLUSTER", "SHARDS")
        shards: list[dict[str, Any]] = json.loads(answer)
        return shards

    def primaries(self, asked: Redis | None = None) -> list[Redis]:
        """Those who have slots."""
        return self._named(node for shard in self.shards(asked) if shard["slots"] for node in shard["nodes"]
                           if node["role"] == "master" and node["health"] == "online")

    def replicas(self, primary: Redis) -> list[Redis]:
        return self._named(node for shard in self.shards() if primary in self._named(shard["nodes"])
                           for node in shard["nodes"] if node["role"] == "replica")

    def _named(self, nodes: Iterable[dict[str, Any]]) -> list[Redis]:
        names = {f"{node['ip']}:{node['port']}" for node in nodes}
        return [server for server in self.servers if server.name in names]

    def identity(self, server: Redis) -> str:
        return server.ask("CLUSTER", "MYID")

    def failed_over(self, dead: Redis, within: float = 30) -> float:
        """Waits until another has the slots of one who is gone; tells after how many seconds."""
        other = next(server for server in self.living() if server is not dead)

        def complete() -> bool:
            primaries = self.primaries(other)
            return dead not in primaries and len(primaries) == 3 and "state:ok" in other.try_ask("CLUSTER", "INFO")
        return until(complete, "a replica takes over", within)

    def move(self, slots: int, start: Redis, end: Redis) -> None:
        """Moves slots, keys and all, while clients go on."""
        told(["redis-cli", "--cluster", "reshard", end.name, "--cluster-from", self.identity(start),
              "--cluster-to", self.identity(end), "--cluster-slots", slots, "--cluster-yes"], within=120)

    def slots_of(self, server: Redis) -> int:
        ranges = next(shard["slots"] for shard in self.shards(server) if server in self._named(shard["nodes"]))
        return sum(last - first + 1 for first, last in zip(ranges[::2], ranges[1::2], strict=True))

    def resync(self, primary: Redis) -> None:
        """Makes the primary's replicas take all of it anew."""
        before = int(primary.info("stats")["sync_full"])
        primary.ask("DEBUG", "CHANGE-REPL-ID")
        primary.ask("CLIENT", "KILL", "TYPE", "replica")
        until(lambda: int(primary.info("stats")["sync_full"]) > before, "a full resync begins")
        self.settled()


def _has_replica(shard: dict[str, Any]) -> bool:
    return any(node["role"] == "replica" and node["health"] == "online" for node in shard["nodes"])


@contextmanager
def single(site: Namespaces | Loopback, name: str = "redis") -> Iterator[Redis]:
    with directory(name) as home:
        server = Redis(site.host(name), home, clustered=False)
        try:
            yield server.start()
        finally:
            server.kill()


@contextmanager
def cluster(site: Namespaces | Loopback) -> Iterator[Cluster]:
    """Six servers, each on a host of its own."""
    with ExitStack() as stack:
        made = Cluster([Redis(site.host(f"redis-{number}"), stack.enter_context(directory("redis")), clustered=True)
                        for number in range(1, 7)])
        stack.callback(lambda: [server.kill() for server in made.servers])
        yield made.create()
