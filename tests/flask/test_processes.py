"""Forks, greenlets and gunicorn's workers: threads and stores are each process's own."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

APP = """
    import contextlib
    from flask import Flask
    from flask_doorward import Doorward, errors
    from flask_doorward.testing import CONFIG

    app = Flask(__name__)
    app.config.update(CONFIG, DOORWARD_STORE="sqlite://{folder}/doorward.db", DOORWARD_URL_PREFIX="/api/v1")
    auth = Doorward(app)

    @app.get("/api/v1/hello")
    @auth.required
    def hello():
        import os
        return {{"id": auth.current_session.user_id, "process": os.getpid()}}

    with app.app_context():
        # The parent has used the store before it forks.
        if not auth.service.sessions_of("nobody"):
            with contextlib.suppress(errors.Conflict):
                auth.service.create_user("ada", "correct horse battery")
"""


def run(script: str, folder: pathlib.Path) -> str:
    text = textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "served.py").write_text(textwrap.dedent(APP.format(folder=tmp_path)))
    return tmp_path


def test_a_child_and_its_parent_both_go_on_after_a_fork(folder: pathlib.Path) -> None:
    script = """
        import os
        from served import app, auth

        with app.app_context():
            token = auth.service.login("7", delivery="body").access_token
            child = os.fork()
            session = auth.service.verify(token)
            if child == 0:
                auth.service.end_session(session.id)
                os._exit(0)  # As multiprocessing does.
            assert os.waitpid(child, 0)[1] == 0
            try:
                auth.service.verify(token)
            except Exception as error:
                print(error.reason)
            auth.service.login("8")
    """
    assert run(script, folder) == "ended_by_operator\n"


def test_nothing_runs_before_the_first_use(tmp_path: pathlib.Path) -> None:
    script = """
        import threading, os
        from flask import Flask
        from flask_doorward import Doorward
        before = len(os.listdir("/proc/self/task"))
        app = Flask(__name__, instance_path=os.getcwd())
        auth = Doorward(app)
        assert len(os.listdir("/proc/self/task")) == before
        assert not os.path.exists("doorward.db")
        with app.app_context():
            auth.service.login("7")
        assert len(os.listdir("/proc/self/task")) > before
    """
    run(script, tmp_path)


def test_under_gevent_the_loop_goes_on_while_a_password_is_hashed(folder: pathlib.Path) -> None:
    script = """
        from gevent import monkey
        monkey.patch_all()
        import gevent
        from served import app, auth
        app2 = type(app)("dear")
        app2.config.update(DOORWARD_STORE="memory:", DOORWARD_PASSWORD_ITERATIONS=8)
        from flask_doorward import Doorward
        dear = Doorward(app2)
        ticks = []

        def tick():
            while True:
                ticks.append(1)
                gevent.sleep(0.001)

        ticking = gevent.spawn(tick)
        with app2.app_context():
            dear.service.hash_password("to start")
            before = len(ticks)
            dear.service.hash_password("correct horse battery")
        print(len(ticks) - before > 3)
        ticking.kill()
        client = app.test_client()
        body = {"username": "ada", "password": "correct horse battery"}
        print(client.post("/api/v1/login", json=body).status_code)
        print(client.get("/api/v1/hello").status_code)
        print(client.post("/api/v1/login", json={**body, "password": "x"}).status_code)
    """
    assert run(script, folder).split() == ["True", "200", "200", "401"]


@pytest.fixture
def gunicorn(folder: pathlib.Path) -> Iterator[Callable[..., str]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*flags: str) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", *flags, "served:app"]
        with open(folder / "log", "ab") as log:
            started.append(subprocess.Popen(command, cwd=folder, stderr=log))
        url = f"http://127.0.0.1:{port}/api/v1"
        for _ in range(500):
            try:
                httpx.get(f"{url}/jwks.json")
                return url
            except httpx.TransportError:
                time.sleep(0.02)
        raise RuntimeError((folder / "log").read_text())

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


MODELS = {
    "sync": ["-w", "4"],
    "sync, preload": ["-w", "4", "--preload"],
    "gthread": ["-k", "gthread", "-w", "2", "--threads", "4"],
    "gthread, preload": ["-k", "gthread", "-w", "2", "--threads", "4", "--preload"],
    "gevent": ["-k", "gevent", "-w", "2"],
}


@pytest.mark.parametrize("flags", MODELS.values(), ids=MODELS.keys())
def test_a_logout_in_one_worker_is_known_to_all(gunicorn: Callable[..., str], flags: list[str]) -> None:
    url = gunicorn(*flags)
    # A connection for each request, so that every worker gets some.
    http = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))
    body = {"username": "ada", "password": "correct horse battery", "delivery": "body"}
    processes = set()
    for _ in range(5):
        tokens = http.post(f"{url}/login", json=body).json()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        for _ in range(12):
            processes.add(http.get(f"{url}/hello", headers=bearer).json()["process"])
        assert http.post(f"{url}/logout", headers=bearer).status_code == 204
        after = {http.get(f"{url}/hello", headers=bearer).status_code for _ in range(12)}
        assert after == {401}
    http.close()
    assert os.getpid() not in processes and len(processes) > 1


def test_sessions_outlive_a_restart(gunicorn: Callable[..., str]) -> None:
    first = gunicorn("-w", "2")
    body = {"username": "ada", "password": "correct horse battery", "delivery": "body"}
    tokens = httpx.post(f"{first}/login", json=body).json()
    second = gunicorn("-w", "2")
    refreshed = httpx.post(f"{second}/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert refreshed.status_code == 200
