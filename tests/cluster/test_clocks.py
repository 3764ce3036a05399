"""Nodes whose clocks are wrong: nothing is revived; nobody is logged out while delay and skew stay under half a window."""

import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

from cluster.fleet import BROWSERS, fleet, kept
from cluster.nodes import Node, add_users, hosts, nodes
from cluster.processes import until
from cluster.stores import opened
from conftest import bearer

STORE = "postgres"
#: Seconds under each clock.
LASTS = float(os.environ.get("TEST_CLOCK_SECONDS", "3"))
#: Seconds by which a clock that runs may get ahead: ends are remembered for ten minutes longer, and no more is promised.
AHEAD = 450
#: The promise of refreshes that the clocks below are within: a window of five minutes, skew of two.
FLAGS = ["--refresh-window", "5m", "--clock-skew", "2m"]
#: Beyond it clients may have to log in again, as a token of a clock that is ten minutes ahead is refused.
BEYOND = ("honest_logout", "token_refused", "login_lost")


@contextmanager
def clocked(directory: pathlib.Path, site, clocks: Sequence[str], *flags: str) -> Iterator[tuple[list[Node], list[pathlib.Path], pathlib.Path]]:
    """Nodes, the files of their clocks, and the users' file."""
    files = [directory / f"clock-{number}" for number in range(len(clocks))]
    for file, clock in zip(files, clocks, strict=True):
        file.write_text(clock)
    with opened(site, STORE, directory) as url:
        users = add_users(directory, url, max(8, BROWSERS // 5))
        made = [Node(directory, host, url, *flags) for host in hosts(site, len(clocks))]
        try:
            for node, file in zip(made, files, strict=True):
                node.tells_time_by(file).start()
            yield made, files, users
        finally:
            for node in made:
                node.close()


def test_two_nodes_two_minutes_apart_log_nobody_out(site, tmp_path) -> None:
    with clocked(tmp_path, site, ["+60", "-60", "+0"], *FLAGS) as (made, _, users):
        apart = made[0].ahead() - made[1].ahead()
        assert 115 < apart < 125
        with fleet(tmp_path, made, users) as browsers:
            time.sleep(LASTS)
            summary = browsers.end()
        kept({"fault": "clocks two minutes apart", "effect": round(apart), "sessions": summary["sessions"],
              "requests": summary["requests"]})


def test_clocks_that_jump_and_run_revive_nothing(site, tmp_path) -> None:
    allowed = [word for kind in BEYOND for word in ("--allow", kind)]
    with clocked(tmp_path, site, ["+0"] * 3, *FLAGS) as (made, clocks, users):
        with fleet(tmp_path, made, users, *allowed) as browsers:
            moved = [jumped(made[1], clocks[1], clock) for clock in ("+600", "+0", "-600", "+0")]
            moved.append(jumped(made[1], clocks[1], ten_times(made[1]), min(LASTS, AHEAD / 10)))
            jumped(made[1], clocks[1], "+0", 0)
            summary = browsers.end()
        assert len(moved) == 5 and all(moved)
        kept({"fault": "clock jumps and runs", "effect": len(moved), "violations": summary["violations"],
              "sessions": summary["sessions"], "requests": summary["requests"]})


def ten_times(node: Node) -> str:
    """From now on, and not since the process began."""
    return f"{-9 * (time.time() - node.began):+.0f} x10"


def jumped(node: Node, file: pathlib.Path, clock: str, lasts: float = LASTS) -> bool:
    """Whether the node came to tell another time."""
    before = node.ahead()
    file.write_text(clock)
    until(lambda: abs(node.ahead() - before) > 30, f"the clock goes to {clock}", within=20)
    time.sleep(lasts)
    return True


def test_a_clock_that_jumps_ahead_and_back_forgets_no_end(site, tmp_path) -> None:
    # Shorter than the jump, so that meanwhile the end seems old enough to be forgotten.
    with clocked(tmp_path, site, ["+0", "+0"], "--access-ttl", "6m") as (made, clocks, _):
        one, other = made
        granted = one.login(username="user-0").json()

        def verdict(node: Node) -> int:
            return httpx.get(f"{node.url}/verify", headers=bearer(granted["access_token"])).status_code
        until(lambda: verdict(other) == 200, "tokens verify at both")
        assert httpx.post(f"{one.url}/logout", json={"refresh_token": granted["refresh_token"]}).status_code == 204
        until(lambda: verdict(other) == 401, "the end is known at both")
        for clock, ahead in (("+600", 600), ("+0", 0)):
            clocks[1].write_text(clock)
            until(lambda: abs(other.ahead() - ahead) < 10, f"the clock goes to {clock}")
            begun = time.monotonic()
            while time.monotonic() < begun + 3:
                assert verdict(other) == 401
