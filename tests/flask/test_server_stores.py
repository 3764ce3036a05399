"""The Flask door on PostgreSQL and on Redis, in gunicorn's worker models: ends, forks, a store that goes away and
comes back, and what is given back."""

import contextlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cluster.network import Loopback
from cluster.postgres import Postgres, postgres
from cluster.redis import Redis, single
from rings import remove_ring
from test_workers import (
    CHEAP,
    GEVENT,
    GTHREAD,
    LASTING_KEY,
    ONE_WORKER,
    PATIENCE,
    SYNC,
    Browser,
    Client,
    Gunicorn,
    environment,
    from_each_worker,
    stop_whatever_runs,
)
from workers_app import PASSWORD

#: After how many seconds a store that answers again is used again.
BACK = 2


class Store:
    """A server, and a place in it that nobody else has."""

    def __init__(self, server: Postgres | Redis) -> None:
        self.server, self.numbers, self.urls = server, itertools.count(1), list[str]()

    def fresh(self) -> str:
        number = next(self.numbers)
        if isinstance(self.server, Postgres):
            url = f"{self.server.url()}?schema=t{number}"
        else:
            url = f"redis://{self.server.name}/?prefix=t{number}:"
        self.urls.append(url)
        return url


@pytest.fixture(scope="module", params=["postgres", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with contextlib.ExitStack() as stack:
        if request.param == "postgres":
            (server,) = stack.enter_context(postgres(Loopback(), "postgres"))
            store = Store(server)
        else:
            store = Store(stack.enter_context(single(Loopback())))
        yield store
        for url in store.urls:
            remove_ring(url)


@pytest.fixture
def serve(store: Store, tmp_path: pathlib.Path) -> Iterator[Callable[..., Gunicorn]]:
    """Starts servers on a place of their own with one user, `ada`."""
    with contextlib.ExitStack() as started:

        def serve(*flags: str, **settings: Any) -> Gunicorn:
            server = Gunicorn(tmp_path, *flags, DOORWARD_STORE=store.fresh(), **settings)
            server.add_user()
            started.callback(stop_whatever_runs, server)
            return server.start()

        yield serve


@pytest.mark.parametrize(
    ("flags", "at_import"),
    [([*SYNC, "--preload"], True), (GTHREAD, False), (GEVENT, False)], ids=["sync-preload", "gthread", "gevent"],
)
def test_an_end_is_refused_by_the_next_request_in_every_worker(
    serve: Callable[..., Gunicorn], flags: list[str], at_import: bool
) -> None:
    server = serve(*flags, at_import=at_import)
    server.workers_that_serve()
    for _ in range(3):
        browser = Browser(server).login()
        assert browser.refresh().status == 200
        cookies = dict(browser.cookies)
        before = from_each_worker(server, cookies, "/api/v1/who")
        assert {answer.status for answer in before.values()} == {200}
        assert browser.logout().status == 204
        after = from_each_worker(server, cookies, "/api/v1/who")
        refused = {(answer.status, answer.body["code"], answer.body["reason"]) for answer in after.values()}
        assert refused == {(401, "session_ended", "logout")}
    assert "Traceback" not in server.logged()


def test_forks_amid_requests_neither_hang_nor_harm(serve: Callable[..., Gunicorn]) -> None:
    server = serve(*ONE_WORKER)
    stop = threading.Event()
    clients = [Client(server, stop) for _ in range(3)]
    for client in clients:
        client.start()
    browser = Browser(server).login()
    for path in ["/api/v1/fork", "/api/v1/process"] * 3:
        answer = browser.send("POST", path)
        assert (answer.status, answer.body) == (200, {"child": 0}), server.logged()
    stop.set()
    for client in clients:
        client.join(2 * PATIENCE)
    assert [client.wrong for client in clients] == [[]] * len(clients)


def held(process: int) -> tuple[int, int]:
    """Threads and open files."""
    return len(os.listdir(f"/proc/{process}/task")), len(os.listdir(f"/proc/{process}/fd"))


def test_a_store_that_restarts_is_used_again_at_once_and_nothing_leaks(
    store: Store, serve: Callable[..., Gunicorn]
) -> None:
    server = serve("--workers", "1", "--worker-class", "gthread", "--threads", "4", DOORWARD_REFRESH_WINDOW=0)
    (worker,) = server.workers()
    browsers = [Browser(server).login() for _ in range(4)]

    def refresh_all() -> set[int]:
        with ThreadPoolExecutor(len(browsers)) as pool:
            return {answer.status for answer in pool.map(Browser.refresh, browsers)}

    assert refresh_all() == {200}
    before = None
    for _ in range(2):
        store.server.kill()
        refused = browsers[0].refresh()
        assert (refused.status, refused.body["code"]) == (503, "store_unavailable")
        assert browsers[0].who().status == 200  # Verified without the store.
        store.server.start()
        begun = time.monotonic()
        while (statuses := refresh_all()) != {200}:
            assert statuses <= {200, 503}, statuses
            assert time.monotonic() - begun < BACK, server.logged()
        now = (*held(worker), store.server.connections())
        before = before or now
        assert all(one <= other + 2 for one, other in zip(now, before, strict=True)), (before, now)


CLOSED = """
import os, time
from workers_app import PASSWORD, create_app
from flask_doorward.processes import close_all

def settled(threads):
    # A thread that has been waited for may show for a moment longer.
    for _ in range(500):
        if len(os.listdir("/proc/self/task")) == threads:
            return True
        time.sleep(0.01)

app = create_app()
client = app.test_client()
for _ in range(3):
    granted = client.post("/api/v1/login", json={"username": "ada", "password": PASSWORD})
    assert granted.status_code == 200, granted.text
    assert len(os.listdir("/proc/self/task")) > 1
    close_all()
    assert settled(1), os.listdir("/proc/self/task")
"""


def on(folder: pathlib.Path, url: str, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    settings = {**CHEAP, **LASTING_KEY, "DOORWARD_STORE": url}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, timeout=60, text=True, capture_output=True, input=text,
        env=environment(folder, TEST_SETTINGS=json.dumps(settings)),
    )


def flask(folder: pathlib.Path, url: str, *words: str, text: str = "") -> str:
    done = on(folder, url, "-m", "flask", "--app", "workers_app:create_app", "auth", *words, text=text)
    assert done.returncode == 0, done
    return done.stdout


def test_commands_work_and_what_is_closed_leaves_no_thread(store: Store, tmp_path: pathlib.Path) -> None:
    url = store.fresh()
    flask(tmp_path, url, "user", "add", "ada", "--password-stdin", text=PASSWORD)
    closed = on(tmp_path, url, "-c", CLOSED)
    assert closed.returncode == 0, closed.stderr
    assert "ada" in flask(tmp_path, url, "user", "list")
    sessions = flask(tmp_path, url, "session", "list").splitlines()
    assert len(sessions) == 1  # A login takes the place of the session of before.
    flask(tmp_path, url, "session", "end", "--user", "ada")
    assert flask(tmp_path, url, "session", "list") == ""
    assert "logout" in (events := flask(tmp_path, url, "events")) or "session_ended" in events


@pytest.mark.parametrize("at", ["postgres://ada:SECRETWORD@127.0.0.1:1/x", "redis://:SECRETWORD@127.0.0.1:1/"])
def test_a_store_that_is_away_is_said_without_its_password(tmp_path: pathlib.Path, at: str) -> None:
    begun = time.monotonic()
    done = on(tmp_path, at, "-m", "flask", "--app", "workers_app:create_app", "auth", "user", "list")
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr, done
    assert "SECRETWORD" not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert time.monotonic() - begun < PATIENCE
