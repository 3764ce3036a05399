"""The servers and faults of these tests are what they say."""

import subprocess
import time

import pytest

from cluster.nodes import add_users, hosts, nodes
from cluster.postgres import DATABASE, USER, postgres, programs
from cluster.processes import until
from cluster.proxy import Postgres as PostgresFraming
from cluster.proxy import Proxy
from cluster.proxy import Redis as RedisFraming
from cluster.redis import cluster, single


def asked(address: tuple[str, int], statement: str) -> subprocess.CompletedProcess[str]:
    host, port = address
    return subprocess.run([programs() / "psql", "-h", host, "-p", str(port), "-U", USER, "-d", DATABASE, "-XAtq",
                           "-c", statement], capture_output=True, text=True, timeout=30,
                          env={"PGCONNECT_TIMEOUT": "2"})


def test_nodes_serve_on_hosts_of_their_own(site, tmp_path) -> None:
    store = f"sqlite://{tmp_path}/doorward.db"
    add_users(tmp_path, store, 2)
    with nodes(tmp_path, hosts(site, 2), [store] * 2) as (one, other):
        token = one.login(username="user-1").json()["access_token"]
        assert other.session(token).status_code == 200
        assert one.threads() > 0 and one.files() > 0 and one.metric("doorward_requests_total") == 1
        one.kill()
        assert one.kills == 1 and other.session(token).status_code == 200


def test_a_node_can_have_a_clock_of_its_own(site, tmp_path) -> None:
    store = f"sqlite://{tmp_path}/doorward.db"
    add_users(tmp_path, store, 1)
    clock = tmp_path / "clock"
    clock.write_text("+600")
    with nodes(tmp_path, hosts(site, 1), [store]) as (node,):
        node.stop()
        node.tells_time_by(clock).start()
        assert node.ahead() == pytest.approx(600, abs=3)
        clock.write_text("-600")
        until(lambda: node.ahead() < 0, "the clock jumps back")


def test_postgres_is_killed_and_restarted_and_fails_over(site) -> None:
    with postgres(site, "postgres", "replica") as (primary, replica):
        primary.ask("CREATE TABLE kept (n int)")
        replica.follow(primary, site.way(replica.host, primary.host, primary.port))
        primary.waits_for(replica)
        primary.ask("INSERT INTO kept VALUES (1)")
        primary.kill()
        assert not primary.process.alive()
        replica.promote()
        assert replica.ask("SELECT n FROM kept") == "1"
        replica.stop()
        replica.start()
        assert replica.connections() == 0


@pytest.mark.parametrize("how", ["drop", "reset"])
def test_a_cut_link_holds_everything_up(site, how: str) -> None:
    with postgres(site, "postgres") as (server,):
        clients = site.host("more-clients")
        way = site.way(clients, server.host, server.port)
        assert asked(way, "SELECT 1").stdout == "1\n"
        site.cut(site.hosts[0] if site.kind == "network namespaces" else clients, server.host, how)
        refused = asked(way, "SELECT 1")
        assert refused.returncode == 2, refused
        assert site.mend() > 0
        assert asked(way, "SELECT 1").stdout == "1\n"


def test_the_proxy_loses_replies_and_refuses_operations_of_postgres(site) -> None:
    with postgres(site, "postgres") as (server,):
        server.ask("CREATE TABLE kept (n int)")
        proxy = Proxy(server.address, PostgresFraming)
        proxy.lose_reply(1)
        assert asked(proxy.address, "INSERT INTO kept VALUES (1)").returncode == 2
        proxy.refuse_operation(1)
        assert asked(proxy.address, "INSERT INTO kept VALUES (2)").returncode == 2
        assert asked(proxy.address, "INSERT INTO kept VALUES (3)").returncode == 0
        assert (proxy.effects["lost"], proxy.effects["refused"]) == (1, 1)
        assert server.ask("SELECT n FROM kept") == "1\n3"
        proxy.close()


def test_the_proxy_resets_dawdles_and_is_silent(site) -> None:
    with postgres(site, "postgres") as (server,):
        proxy = Proxy(server.address)
        proxy.reset()
        assert asked(proxy.address, "SELECT 1").returncode == 2 and proxy.effects["reset"]
        for mode in (proxy.black_hole, proxy.dawdle):
            mode()
            begun = time.monotonic()
            assert asked(proxy.address, "SELECT 1").returncode == 2
            assert time.monotonic() - begun > 1
        assert proxy.effects["held up"] and proxy.effects["dawdled"]
        proxy.forward()
        assert asked(proxy.address, "SELECT 1").stdout == "1\n"
        proxy.close()


def test_the_proxy_loses_replies_and_refuses_operations_of_redis(site) -> None:
    with single(site) as server:
        proxy = Proxy(server.address, RedisFraming)
        # Here redis-cli first asks what commands there are.
        command = ["redis-cli", "-h", proxy.address[0], "-p", str(proxy.address[1])]
        for fault, text in ((proxy.lose_reply, "lost"), (proxy.refuse_operation, "refused")):
            fault(1)
            subprocess.run([*command, "SET", text, "1"], capture_output=True, timeout=10)
            assert proxy.effects[text] == 1
        assert server.ask("EXISTS", "lost") == "1"
        proxy.close()


def test_redis_fails_over_and_moves_slots_and_resyncs(site) -> None:
    with cluster(site) as made:
        first, second, _ = made.primaries()
        slots = made.slots_of(second)
        made.move(20, second, first)
        assert made.slots_of(second) == slots - 20
        made.resync(first)
        assert len(made.replicas(first)) == 1
        first.kill()
        assert made.failed_over(first) < 15
        first.start()
        made.settled()
        assert first not in made.primaries()
