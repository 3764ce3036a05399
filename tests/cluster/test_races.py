"""A refresh and a logout of one session at once, at two nodes: whoever comes first, nothing lives afterwards."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from cluster.fleet import kept
from cluster.nodes import Node, add_users, hosts, nodes
from cluster.stores import STORES, opened
from conftest import PASSWORD, bearer

RACES = int(os.environ.get("TEST_RACES", "120"))
#: Seconds after which every node knows of an end.
BOUND = 2.0


class Racer:
    """Two clients that hold one session, at two nodes, and look for what is left at the third."""

    def __init__(self, made: list[Node], number: int) -> None:
        self.made = made
        self.user = f"user-{number}"
        self.outcomes = {200: 0, 401: 0}
        self.granted: list[tuple[str, str]] = []

    def run(self, races: int) -> None:
        with httpx.Client(timeout=30) as one, httpx.Client(timeout=30) as other, ThreadPoolExecutor(1) as pool:
            for number in range(races):
                self.race(one, other, pool, self.made[number % 3:] + self.made[:number % 3])

    def race(self, one: httpx.Client, other: httpx.Client, pool: ThreadPoolExecutor, made: list[Node]) -> None:
        login = {"username": self.user, "password": PASSWORD, "delivery": "body"}
        first = one.post(f"{made[2].url}/login", json=login).json()
        start = threading.Barrier(2)

        def refresh() -> httpx.Response:
            start.wait()
            return one.post(f"{made[0].url}/refresh", json={"refresh_token": first["refresh_token"]})
        refreshed = pool.submit(refresh)
        start.wait()
        ended = other.post(f"{made[1].url}/logout", json={"refresh_token": first["refresh_token"]})
        answer = refreshed.result()
        assert ended.status_code == 204, ended.text
        self.outcomes[answer.status_code] += 1
        self.look(one, made[2], [first, *([answer.json()] if answer.status_code == 200 else [])])

    def look(self, client: httpx.Client, node: Node, all_granted: list[dict[str, str]]) -> None:
        for granted in all_granted:
            answer = client.post(f"{node.url}/refresh", json={"refresh_token": granted["refresh_token"]})
            assert answer.status_code == 401, answer.text
            self.granted.append((granted["access_token"], granted["refresh_token"]))

    def live(self) -> list[str]:
        """Tokens that some node still takes."""
        with httpx.Client(timeout=30) as client:
            return [token for token, _ in self.granted for node in self.made
                    if client.get(f"{node.url}/verify", headers=bearer(token)).status_code != 401]


@pytest.mark.parametrize("store", STORES)
def test_refresh_raced_with_logout(site, tmp_path, store: str) -> None:
    with opened(site, store, tmp_path) as url, nodes(tmp_path, hosts(site), [url] * 3) as made:
        add_users(tmp_path, url, 4)
        racers = [Racer(made, number) for number in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda racer: racer.run(-(-RACES // 4)), racers))
        races = sum(sum(racer.outcomes.values()) for racer in racers)
        time.sleep(BOUND)
        assert [token for racer in racers for token in racer.live()] == []
        both = [sum(racer.outcomes[status] for racer in racers) for status in (200, 401)]
        # Each won some: the two did meet.
        assert races >= RACES and min(both) > 0, both
        kept({"fault": f"refresh raced with logout, {store}", "effect": races, "refreshed_first": both[0]})
