"""The store does what it is told and its answer is lost, or it does not: at whichever operation, a retry goes through."""

import os
import time

import httpx
import pytest

from cluster.fleet import kept
from cluster.nodes import Node, add_users, hosts, nodes, retried
from cluster.postgres import postgres
from cluster.proxy import Postgres as PostgresFraming
from cluster.proxy import Proxy
from cluster.proxy import Redis as RedisFraming
from cluster.redis import single
from conftest import PASSWORD, bearer

#: The long form fails each operation; the short one some, beginning with another one each time. Among them are those that a
#: node makes by itself.
EACH = "TEST_EACH_OPERATION" in os.environ
SOME = 16
#: Now and then a node asks Redis about each of some thousand places whether something there has expired.
SWEEP = b"\r\nHLEN\r\n", b"\r\nHSTRLEN\r\n"


def a_life(node: Node, client: httpx.Client) -> None:
    """Of a session: none of its steps fails for good, and its end is one."""
    login = {"username": "user-0", "password": PASSWORD, "delivery": "body"}

    def post(path: str, body: dict[str, str]) -> httpx.Response:
        return retried(lambda: client.post(f"{node.url}{path}", json=body))
    granted = post("/login", login)
    assert granted.status_code == 200, granted.text
    first = granted.json()["refresh_token"]
    again = post("/refresh", {"refresh_token": first})
    assert again.status_code == 200, again.text
    third = post("/refresh", {"refresh_token": again.json()["refresh_token"]})
    assert third.status_code == 200, third.text
    token = third.json()["access_token"]
    assert retried(lambda: client.get(f"{node.url}/session", headers=bearer(token))).status_code == 200
    last = {"refresh_token": third.json()["refresh_token"]}
    ended = post("/logout", last)
    assert ended.status_code == 204, ended.text
    assert post("/refresh", last).status_code == 401
    assert retried(lambda: client.get(f"{node.url}/session", headers=bearer(token))).status_code == 401


@pytest.fixture(params=["postgres", "redis"])
def behind(request, site, tmp_path):
    """A node behind a proxy that counts, and the proxy."""
    kind = request.param
    with (postgres(site, "postgres") if kind == "postgres" else single(site)) as server:
        server = server[0] if kind == "postgres" else server
        proxy = Proxy(server.address, PostgresFraming if kind == "postgres" else RedisFraming, listen=site.here)
        url = server.url(proxy.address) if kind == "postgres" else f"redis://{site.here}:{proxy.address[1]}"
        proxy.left_out = SWEEP if kind == "redis" else ()
        add_users(tmp_path, url, 1)
        with nodes(tmp_path, hosts(site, 1), [url], "--refresh-window", "0") as (node,):
            yield kind, node, proxy
        proxy.close()


@pytest.mark.parametrize("fault", [Proxy.lose_reply, Proxy.refuse_operation], ids=["reply_lost", "not_done"])
def test_the_nth_operation_fails_for_every_n(behind, fault) -> None:
    kind, node, proxy = behind
    with httpx.Client(timeout=30) as client:
        fault(proxy, 0)
        a_life(node, client)
        operations = proxy.operations
        assert operations > 4
        step = 1 if EACH else max(1, operations // SOME)
        failing = range(1 + int(time.time()) % step, operations + 1, step)
        for n in failing:
            fault(proxy, n)
            a_life(node, client)
            while proxy.operations < n:
                a_life(node, client)
    effects = proxy.effects["lost"] + proxy.effects["refused"]
    assert effects == len(failing)
    kept({"fault": f"{fault.__name__}, {kind}", "effect": effects, "operations": operations})
