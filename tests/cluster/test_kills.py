"""Nodes that are killed: no honest client is logged out, no acknowledged login lost, no acknowledged end undone."""

import os
import random
import time

import pytest

from cluster.fleet import BROWSERS, fleet, kept
from cluster.nodes import add_users, hosts, nodes
from cluster.stores import STORES, opened

KILLS = int(os.environ.get("TEST_KILLS", "20"))


@pytest.mark.parametrize("store", STORES)
def test_kill_9_of_nodes(site, tmp_path, store: str) -> None:
    # Every store has its share of them.
    kills = -(-KILLS // len(STORES))
    with opened(site, store, tmp_path) as url, nodes(tmp_path, hosts(site), [url] * 3) as made:
        users = add_users(tmp_path, url, BROWSERS // 5)
        with fleet(tmp_path, made, users) as browsers:
            for _ in range(kills):
                node = random.choice(made)
                node.kill()
                node.start()
                time.sleep(random.uniform(0, 0.2))
            summary = browsers.end()
        assert sum(node.kills for node in made) == kills
        assert all(summary["operations"][op]["ok"] > kills for op in ("refresh", "verify"))
        kept({"fault": f"kill -9, {store}", "effect": kills, "sessions": summary["sessions"],
              "requests": summary["requests"], "operations": summary["operations"]})
