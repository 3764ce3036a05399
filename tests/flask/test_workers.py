"""The Flask door in real servers: gunicorn's worker models, restarts, killed workers, forks."""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from workers_app import PASSWORD

HERE = pathlib.Path(__file__).resolve().parent
#: The long form: kills of a worker in each model, starts, forks.
LONG = int(os.environ.get("TEST_KILLS", "0"))
KILLS, STARTS, FORKS = max(6, LONG // 5), max(3, LONG // 25), max(20, LONG)
#: Whoever waits longer than this hangs.
PATIENCE = 15
CHEAP = {"DOORWARD_PASSWORD_MEMORY_KIB": 8, "DOORWARD_PASSWORD_ITERATIONS": 1}
#: Each refresh is written, and an older state of a row would show as a thief.
EACH_WRITTEN = {"DOORWARD_REFRESH_WINDOW": 0}

SYNC = ["--workers", "4"]
GTHREAD = ["--workers", "2", "--worker-class", "gthread", "--threads", "8"]
GEVENT = ["--workers", "2", "--worker-class", "gevent"]
MODELS = {
    "sync": SYNC,
    "sync-preload": [*SYNC, "--preload"],
    "gthread": GTHREAD,
    "gthread-preload": [*GTHREAD, "--preload"],
    "gevent": GEVENT,
}


def environment(folder: pathlib.Path, **more: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("DOORWARD_")}
    return {**ours, "TEST_FOLDER": str(folder), "PYTHONPATH": str(HERE), **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Gunicorn:
    """One master and its workers. They end by their own process ids."""

    def __init__(self, folder: pathlib.Path, *flags: str, at_import: bool = False, **settings: Any) -> None:
        self.folder, self.flags, self.port = folder, flags, free_port()
        self.size = int(flags[flags.index("--workers") + 1])
        self.database = folder / "doorward.db"
        more = {"TEST_AT_IMPORT": "1"} if at_import else {}
        self.environment = environment(folder, TEST_SETTINGS=json.dumps({**CHEAP, **settings}), **more)
        self.process: subprocess.Popen[bytes] | None = None

    def add_user(self) -> None:
        command = [sys.executable, "-m", "flask", "--app", "workers_app:create_app"]
        added = subprocess.run(
            [*command, "auth", "user", "add", "ada", "--password-stdin"],
            input=PASSWORD.encode(), env=self.environment, capture_output=True, timeout=60,
        )
        assert added.returncode == 0, added.stderr.decode()

    def start(self) -> "Gunicorn":
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "workers_app:create_app()", *self.flags,
                 "--bind", f"127.0.0.1:{self.port}", "--graceful-timeout", "5", "--keep-alive", "60",
                 "--no-control-socket"],
                env=self.environment, cwd=self.folder, stdout=log, stderr=log,
            )
        self.wait_until(lambda: Browser(self).send("GET", "/open").status == 200)
        return self

    def stop(self) -> None:
        assert self.process
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0, self.logged()

    def reload(self) -> None:
        """HUP: the master starts new workers, and ends the old ones."""
        assert self.process
        old = self.workers()
        self.process.send_signal(signal.SIGHUP)
        self.wait_until(lambda: not old & self.workers())

    def workers(self) -> set[int]:
        assert self.process
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return {int(child) for child in children.split()}

    def workers_that_serve(self) -> set[int]:
        """All of the workers, once each has answered."""
        answered: set[int] = set()

        def all_have() -> bool:
            answered.update(from_each_worker(self, {}, "/open"))
            return len(self.workers()) == self.size and answered >= self.workers()

        self.wait_until(all_have)
        return answered & self.workers()

    def wait_until(self, fact: Callable[[], bool]) -> None:
        assert self.process
        for _ in range(PATIENCE * 50):
            with contextlib.suppress(OSError, http.client.HTTPException):
                if fact():
                    return
            assert self.process.poll() is None, self.logged()
            time.sleep(0.02)
        raise AssertionError("this takes too long: " + self.logged())

    def logged(self) -> str:
        return (self.folder / "log").read_text()

    def is_intact(self) -> bool:
        with contextlib.closing(sqlite3.connect(self.database)) as db:
            return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@dataclasses.dataclass
class Answer:
    status: int
    worker: int
    body: dict[str, Any]


class Browser:
    """A client with one keep-alive connection and the cookies that it was given."""

    def __init__(self, server: Gunicorn, cookies: dict[str, str] | None = None) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self.cookies = dict(cookies or {})

    def __del__(self) -> None:
        self.connection.close()

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        text = None if body is None else json.dumps(body)
        headers = {"Cookie": self.cookie(path)} if self.cookies else {}
        try:
            self.connection.request(method, path, text, headers | {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
            read = answer.read()
        except BaseException:
            self.connection.close()
            raise
        self.keep(answer.msg.get_all("Set-Cookie") or [])
        is_json = "json" in answer.getheader("Content-Type", "")
        return Answer(answer.status, int(answer.getheader("Worker", "0")), json.loads(read) if is_json else {})

    def cookie(self, path: str) -> str:
        sent = self.cookies.items()
        of_refresh = path.startswith("/api/v1/refresh")
        return "; ".join(f"{name}={value}" for name, value in sent if of_refresh or "refresh" not in name)

    def keep(self, lines: list[str]) -> None:
        for line in lines:
            name, _, value = line.split(";")[0].partition("=")
            self.cookies.pop(name, None)
            if value:
                self.cookies[name] = value

    def login(self) -> "Browser":
        answer = self.send("POST", "/api/v1/login", {"username": "ada", "password": PASSWORD})
        assert answer.status == 200, answer
        return self

    def who(self) -> Answer:
        return self.send("GET", "/api/v1/who")

    def refresh(self) -> Answer:
        return self.send("POST", "/api/v1/refresh")

    def logout(self) -> Answer:
        return self.send("POST", "/api/v1/refresh/logout")


@pytest.fixture
def serve(tmp_path: pathlib.Path) -> Iterator[Callable[..., Gunicorn]]:
    """Starts servers on a folder with one user, `ada`."""
    with contextlib.ExitStack() as started:

        def serve(*flags: str, **settings: Any) -> Gunicorn:
            server = Gunicorn(tmp_path, *flags, **settings)
            server.add_user()
            started.callback(stop_whatever_runs, server)
            return server.start()

        yield serve


def stop_whatever_runs(server: Gunicorn) -> None:
    if server.process and server.process.poll() is None:
        server.stop()


@pytest.fixture(scope="module", params=MODELS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """One server of each model, for what leaves it in order."""
    folder = tmp_path_factory.mktemp(request.param)
    server = Gunicorn(folder, *MODELS[request.param], **EACH_WRITTEN)
    server.add_user()
    yield server.start()
    stop_whatever_runs(server)
    assert server.is_intact()


def test_workers_accept_each_others_tokens_at_once(server: Gunicorn) -> None:
    workers = server.workers_that_serve()
    answered = set()
    for _ in range(20):
        cookies = Browser(server).login().cookies
        answers = [Browser(server, cookies).who() for _ in range(10)]
        assert {answer.status for answer in answers} == {200}
        answered |= {answer.worker for answer in answers}
    assert answered == workers


def from_each_worker(server: Gunicorn, cookies: dict[str, str], path: str) -> dict[int, Answer]:
    """What each worker answers first: asked until all have."""
    answers: dict[int, Answer] = {}

    def all_have() -> bool:
        browsers = [Browser(server, cookies) for _ in range(server.size)]
        # A sync worker that waits for a request leaves the next connection to another.
        for browser in browsers:
            browser.connection.connect()
        for answer in (browser.send("GET", path) for browser in browsers):
            answers.setdefault(answer.worker, answer)
        return answers.keys() >= server.workers()

    server.wait_until(all_have)
    return answers


def test_a_logout_is_refused_by_the_next_request_in_every_worker(server: Gunicorn) -> None:
    server.workers_that_serve()
    for _ in range(20):
        browser = Browser(server).login()
        cookies = dict(browser.cookies)
        before = from_each_worker(server, cookies, "/api/v1/who")
        assert {answer.status for answer in before.values()} == {200}
        assert browser.logout().status == 204
        # The device stays known.
        assert list(browser.cookies) == ["__Secure-device_token_cookie"]
        after = from_each_worker(server, cookies, "/api/v1/who")
        refused = {(answer.status, answer.body["code"], answer.body["reason"]) for answer in after.values()}
        assert refused == {(401, "session_ended", "logout")}


def test_nobody_is_logged_out_by_a_restart(server: Gunicorn) -> None:
    quiet, busy = (Browser(server).login().cookies for _ in range(2))
    for restart in (server.reload, lambda: (server.stop(), server.start()), server.reload):
        restart()
        server.workers_that_serve()
        still = from_each_worker(server, quiet, "/api/v1/who")
        assert {answer.status for answer in still.values()} == {200}
        busy = cookies_after_use(server, busy)
    cookies_after_use(server, quiet)


def cookies_after_use(server: Gunicorn, cookies: dict[str, str]) -> dict[str, str]:
    browser = Browser(server, cookies)
    assert browser.who().status == 200 and browser.refresh().status == 200
    return browser.cookies


class Client(threading.Thread):
    """An honest client: calls, refreshes, and logs out now and then, repeating what was not answered;
    and looks whether a worker lets it in all the same."""

    def __init__(self, server: Gunicorn, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.server, self.stop, self.browser = server, stop, Browser(server)
        self.wrong: list[object] = []
        self.ended: list[dict[str, str]] = []
        self.rounds = 0

    def run(self) -> None:
        try:
            self.repeated(self.browser.login)
            while not self.stop.is_set() and not self.wrong:
                if random.random() < 0.1:
                    self.log_out_and_in()
                self.expect(200, random.choice([self.browser.who, self.browser.refresh]))
                self.rounds += 1
        except Exception as error:
            self.wrong.append(error)

    def log_out_and_in(self) -> None:
        ended = dict(self.browser.cookies)
        self.expect(204, self.browser.logout)
        self.ended.append(ended)
        for _ in range(3):
            self.expect(401, Browser(self.server, ended).who)
        self.browser.cookies.clear()
        self.repeated(self.browser.login)

    def expect(self, status: int, call: Callable[[], Answer]) -> None:
        answer = self.repeated(call)
        if answer.status != status:
            self.wrong.append((status, answer))

    def repeated(self, call: Callable[[], Any]) -> Any:
        while True:
            try:
                return call()
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)


def test_killed_workers_log_nobody_out_and_let_nobody_in(server: Gunicorn) -> None:
    stop = threading.Event()
    clients = [Client(server, stop) for _ in range(6)]
    for client in clients:
        client.start()
    for _ in range(KILLS):
        server.workers_that_serve()
        time.sleep(random.uniform(0.05, 0.3))
        os.kill(random.choice([*server.workers()]), signal.SIGKILL)
    stop.set()
    for client in clients:
        client.join(2 * PATIENCE)
    assert not any(client.is_alive() for client in clients)
    assert [client.wrong for client in clients] == [[]] * len(clients)
    assert sum(client.rounds for client in clients) > 10 * KILLS
    for cookies in (cookies for client in clients for cookies in client.ended):
        ended = Browser(server, cookies)
        assert ended.who().status == 401
        assert ended.refresh().body["code"] == "session_ended"
    assert server.is_intact()


@pytest.mark.parametrize("flags", [SYNC, GTHREAD], ids=["sync", "gthread"])
def test_what_was_opened_before_the_fork_hangs_no_worker(serve: Callable[..., Gunicorn], flags: list[str]) -> None:
    server = serve(*flags, "--preload", at_import=True)
    for _ in range(STARTS):
        cookies = cookies_after_use(server, Browser(server).login().cookies)
        answers = from_each_worker(server, cookies, "/api/v1/who")
        assert {answer.status for answer in answers.values()} == {200}
        assert Browser(server, cookies).logout().status == 204
        server.stop()
        server.start()
    assert server.is_intact()


ONE_WORKER = ["--workers", "1", "--worker-class", "gthread", "--threads", "16"]


def test_16_threads_refresh_one_token_and_nobody_is_out(serve: Callable[..., Gunicorn]) -> None:
    server = serve(*ONE_WORKER, **EACH_WRITTEN)
    browser = Browser(server).login()
    for _ in range(10):
        browsers = [Browser(server, browser.cookies) for _ in range(16)]
        together = threading.Barrier(16)

        def refresh(browser: Browser) -> int:
            browser.send("GET", "/open")
            together.wait(PATIENCE)
            return browser.refresh().status

        with ThreadPoolExecutor(16) as pool:
            assert [*pool.map(refresh, browsers)] == [200] * 16
        assert {browser.who().status for browser in browsers} == {200}
        browser = browsers[-1]
        assert browser.refresh().status == 200


def test_forks_amid_requests_neither_hang_nor_harm(serve: Callable[..., Gunicorn]) -> None:
    server = serve(*ONE_WORKER, **EACH_WRITTEN)
    stop = threading.Event()
    clients = [Client(server, stop) for _ in range(4)]
    for client in clients:
        client.start()
    browser = Browser(server).login()
    for _ in range(FORKS):
        for path in ("/api/v1/fork", "/api/v1/process"):
            answer = browser.send("POST", path)
            assert (answer.status, answer.body) == (200, {"child": 0}), server.logged()
    stop.set()
    for client in clients:
        client.join(2 * PATIENCE)
    assert [client.wrong for client in clients] == [[]] * len(clients)
    assert server.is_intact()


def test_gevent_serves_others_while_it_hashes(serve: Callable[..., Gunicorn]) -> None:
    costly = {"DOORWARD_PASSWORD_MEMORY_KIB": 64 * 1024, "DOORWARD_PASSWORD_ITERATIONS": 6}
    server = serve("--workers", "1", "--worker-class", "gevent", **costly)
    browser, logged_in = Browser(server), threading.Event()
    browser.send("GET", "/open")

    def login() -> float:
        started = time.monotonic()
        Browser(server).login()
        logged_in.set()
        return time.monotonic() - started

    slowest = 0.0
    with ThreadPoolExecutor(1) as pool:
        took = pool.submit(login)
        while not logged_in.is_set():
            started = time.monotonic()
            assert browser.send("GET", "/open").status == 200
            slowest = max(slowest, time.monotonic() - started)
    assert slowest < took.result() / 2, f"{slowest:.3f} s of {took.result():.3f} s"


#: One that changes from start to start would be pointed out.
LASTING_KEY = {"JWT_SECRET_KEY": "7f0c3a9e51d24b86a1c9e3f05b7d2846"}


def run_python(folder: pathlib.Path, code: str) -> subprocess.CompletedProcess[str]:
    """An interpreter of its own, which must end by itself, cleanly and without a word but that each
    app has a key of its own."""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code], cwd=folder, timeout=60, text=True,
        env=environment(folder, TEST_SETTINGS=json.dumps({**CHEAP, **LASTING_KEY}), TEST_AT_IMPORT="1"),
        capture_output=True,
    )
    said = [line for line in ended.stderr.splitlines() if "key ring" not in line]
    assert (ended.returncode, said) == (0, []), ended
    return ended


@pytest.mark.parametrize(
    "end",
    [
        "pass",
        "sys.exit(0)",
        "threading.Thread(target=served_by_a_child, args=(app, '')).start()",
        "threading.Thread(target=served_by_a_child, args=(app, ''), daemon=True).start()",
        "child = os.fork()\nif child: assert os.waitpid(child, 0)[1] == 0",
        "apps = [create_app() for _ in range(5)]",
    ],
)
def test_an_interpreter_with_open_doors_ends_cleanly(tmp_path: pathlib.Path, end: str) -> None:
    head = "import os, sys, threading\nfrom workers_app import create_app, served_by_a_child\n"
    run_python(tmp_path, f"{head}app = create_app()\n{end}\n")


UNANNOUNCED = """
import ctypes, os
from workers_app import create_app, served_by_a_child

app = create_app()
# A fork in C, of which Python hears nothing.
child = ctypes.PyDLL(None).fork()
if child == 0:
    os._exit(served_by_a_child(app, ""))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_that_inherits_an_open_store_is_refused_in_words(tmp_path: pathlib.Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", UNANNOUNCED], cwd=tmp_path, timeout=60, text=True, capture_output=True,
        env=environment(tmp_path, TEST_SETTINGS=json.dumps(CHEAP), TEST_AT_IMPORT="1"),
    )
    assert "a child's login: 503" in ended.stdout and ended.stdout.endswith("1\n"), ended
    assert "forked while its parent used the store" in ended.stderr


MANY_APPS = """
import gc, os, time
from workers_app import create_app

def open_now():
    gc.collect()
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

def settled():
    # A thread that has been waited for may show for a moment longer.
    for _ in range(500):
        if open_now()[0] == 1:
            return open_now()
        time.sleep(0.01)

create_app()
before = settled()
apps = [create_app() for _ in range(10)]
during = open_now()
del apps
after = settled()
assert during[0] > 10 and during[1] > before[1], (before, during)
assert after == before, (before, during, after, open_now())
"""


def test_apps_that_are_gone_give_back_threads_and_files(tmp_path: pathlib.Path) -> None:
    run_python(tmp_path, MANY_APPS)
