"""Forks and greenlets: threads and stores are each process's own. Servers: test_workers.py."""

import pathlib
import subprocess
import sys
import textwrap

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
        return {{"id": auth.current_session.user_id}}

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
