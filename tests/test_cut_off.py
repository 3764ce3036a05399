"""A node that is cut off from its store, and routes that ask it."""

import sqlite3
import time
from collections.abc import Callable

import httpx

from conftest import Server, bearer, command


def soon(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it does not come to pass")


def test_readiness_tells_at_once_and_verification_goes_on_for_the_allowance(start) -> None:
    server: Server = start("--revocation-allowance", "12s")
    token = server.login().json()["access_token"]
    database = server.directory / "doorward.db"
    ready = lambda: httpx.get(f"{server.operator_url}/readyz").status_code
    verify = lambda: httpx.get(f"{server.url}/verify", headers=bearer(token)).status_code
    database.rename(server.directory / "away.db")
    soon(lambda: ready() == 503)
    assert verify() == 200 and server.login().status_code == 503
    text = httpx.get(f"{server.operator_url}/metrics").text
    assert "doorward_ready 0" in text and "doorward_verifies 1" in text
    assert httpx.get(f"{server.operator_url}/healthz").status_code == 200
    soon(lambda: verify() == 503)
    assert httpx.get(f"{server.operator_url}/healthz").status_code == 200
    (server.directory / "away.db").rename(database)
    soon(lambda: ready() == 200)
    assert verify() == 200 and server.login().status_code == 200


def test_a_strict_look_asks_the_store(server: Server) -> None:
    token = server.login().json()["access_token"]
    def ask(query: str) -> int:
        return httpx.get(f"{server.url}/verify{query}", headers=bearer(token)).status_code

    assert (ask(""), ask("?strict=1"), ask("?strict=yes")) == (200, 200, 400)
    # Behind the back of the server: nobody tells it.
    with sqlite3.connect(server.directory / "doorward.db") as db:
        db.execute("DELETE FROM sessions")
        db.execute("DELETE FROM rotations")
    db.close()
    assert (ask(""), ask("?strict=1")) == (200, 401)


def test_an_allowance_out_of_bounds_is_refused(start) -> None:
    for bad in ("9s", "25h"):
        refused = command(start().directory, "check-config", "--revocation-allowance", bad)
        assert refused.returncode == 1 and "revocation_allowance" in refused.stderr
