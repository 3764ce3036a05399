"""A node that is cut off from the store: it verifies for its allowance, then answers 503; then it is as the others."""

import time

import httpx
import pytest

from cluster.fleet import kept
from cluster.nodes import Node, add_users, hosts, nodes
from cluster.postgres import postgres
from cluster.processes import until
from conftest import bearer

#: Seconds of an access token's life, and so of the allowance.
ALLOWANCE = 12
FLAGS = ["--access-ttl", f"{ALLOWANCE}s", "--refresh-window", f"{ALLOWANCE // 2}s"]


def verdict(node: Node, token: str) -> int:
    return httpx.get(f"{node.url}/verify", headers=bearer(token), timeout=10).status_code


def logged_out(node: Node, granted: dict[str, str]) -> float:
    """When it was."""
    answer = httpx.post(f"{node.url}/logout", json={"refresh_token": granted["refresh_token"]})
    assert answer.status_code == 204
    return time.monotonic()


@pytest.mark.parametrize("how", ["drop", "reset"])
def test_a_node_cut_off_from_the_store_and_back(site, tmp_path, how: str) -> None:
    with postgres(site, "postgres") as (server,):
        at = hosts(site)
        urls = [server.url(site.way(host, server.host, server.port)) for host in at]
        add_users(tmp_path, server.url(), 1)
        with nodes(tmp_path, at, urls, *FLAGS) as made:
            cut_off(site, server, made, how)


def cut_off(site, server, made: list[Node], how: str) -> None:
    near, _, far = made
    doomed = near.login(username="user-0").json()
    until(lambda: verdict(far, doomed["access_token"]) == 200, "tokens of one node verify at another")
    site.cut(far.host, server.host, how)
    cut = time.monotonic()
    ended = logged_out(near, doomed)
    # What was ended elsewhere is still accepted, for as long as the token lives at most.
    stale = until(lambda: verdict(far, doomed["access_token"]) != 200, "the verdict changes", within=ALLOWANCE + 5)
    assert stale + (ended - cut) <= ALLOWANCE + 1
    assert httpx.post(f"{far.url}/refresh", json={"refresh_token": doomed["refresh_token"]}, timeout=20).status_code == 503
    fresh = near.login(username="user-0").json()
    until(lambda: verdict(far, fresh["access_token"]) == 503, "nothing is verified after the allowance", ALLOWANCE + 5)
    refused_after = time.monotonic() - cut
    assert refused_after <= ALLOWANCE + 2
    assert httpx.get(f"{far.operator_url}/readyz", timeout=10).status_code == 503
    assert verdict(near, fresh["access_token"]) == 200
    packets = site.mend()
    back = until(lambda: verdict(far, fresh["access_token"]) == 200, "the node is back", within=10)
    assert packets > 0 and back <= 2
    assert verdict(far, doomed["access_token"]) == 401
    kept({"fault": f"a node cut off, {how}", "effect": packets, "stale_s": stale, "refused_after_s": refused_after,
          "recovery": back})
