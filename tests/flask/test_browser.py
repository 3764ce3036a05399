"""The example app in a real browser: a page that stays logged in, and others that cannot interfere."""

import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from browser import PATIENCE, Browser, Person, Tab
from conftest import PASSWORD, ROOT, free_port

ACCESS, REFRESH = "access_token_cookie", "refresh_token_cookie"
LOGGED_IN = "!document.getElementById('app').hidden"
LOGGED_OUT = "!document.getElementById('login').hidden"
EXPIRED = """
fetch('/api/v1/session').then((answer) => answer.json()).then(({ code }) => code === 'token_expired')
"""
#: Access tokens that expire while a test waits for it, and hashing that protects nothing.
ENVIRONMENT = {
    **os.environ, "FLASK_DOORWARD_PASSWORD_MEMORY_KIB": "8", "FLASK_DOORWARD_PASSWORD_ITERATIONS": "1",
}


class Example:
    """The app of examples/flask as its README starts it. It ends by its own process id."""

    def __init__(self, folder: pathlib.Path, access_ttl: int) -> None:
        self.folder = folder / "notes"
        shutil.copytree(ROOT / "examples/flask", self.folder, ignore=shutil.ignore_patterns("instance"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {**ENVIRONMENT, "FLASK_JWT_ACCESS_TOKEN_EXPIRES": str(access_ttl)}
        for name in ("ada", "eve"):
            subprocess.run(
                self._flask("add-user", name, "--password", PASSWORD), cwd=self.folder,
                env=self.environment, check=True,
            )
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(
            self._flask("run", "--port", str(self.port)), cwd=self.folder,
            env=self.environment, stdout=self.log, stderr=self.log,
        )
        self._wait()

    def _flask(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "flask", "--app", "app", *words]

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            try:
                httpx.get(self.url)
                return
            except httpx.TransportError:
                time.sleep(0.02)
        raise RuntimeError(self.logged())

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=PATIENCE)
        self.log.close()

    def logged(self) -> str:
        return (self.folder / "log").read_text()

    def answers(self, request: str) -> list[int]:
        """The statuses that a request got."""
        found = [line for line in self.logged().splitlines() if f"{request} HTTP/1.1" in line]
        return [int(line.split()[-2]) for line in found]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def person(browser: Browser) -> Person:
    return browser.person()


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Callable[..., Example]]:
    started: list[Example] = []

    def start(*, access_ttl: int = 3600) -> Example:
        started.append(Example(tmp_path, access_ttl))
        return started[-1]

    yield start
    for example in started:
        example.close()


def fill(form: str, **values: str) -> str:
    """A script that fills a form and sends it."""
    lines = [f"form.{name}.value = {json.dumps(value)};" for name, value in values.items()]
    return f"{{ const form = document.getElementById('{form}'); {' '.join(lines)} form.requestSubmit(); }}"


def log_in(tab: Tab, name: str = "ada", password: str = PASSWORD) -> None:
    tab.until(LOGGED_OUT)
    tab.run(fill("login", username=name, password=password))


def logged_in(person: Person, example: Example) -> Tab:
    tab = person.tab(example.url)
    log_in(tab)
    tab.until(LOGGED_IN)
    return tab


def add(tab: Tab, text: str) -> None:
    tab.run(fill("add", text=text))


def has(text: str, where: str = "notes") -> str:
    return f"document.getElementById('{where}').innerText.includes({json.dumps(text)})"


def click(button: str) -> str:
    return f"document.getElementById('{button}').click()"


def test_a_user_logs_in_and_calls(start, person: Person) -> None:
    example = start()
    tab = logged_in(person, example)
    add(tab, "<b>buy milk</b>")
    tab.until(has("<b>buy milk</b>"))
    tab.run("document.querySelector('#notes button').click()")
    tab.until(f"!{has('buy milk')}")
    tab.run(click("logout"))
    tab.until(LOGGED_OUT)
    assert person.cookies() == {}


def test_a_wrong_password_is_told(start, person: Person) -> None:
    tab = person.tab(start().url)
    log_in(tab, password="wrong horse battery")
    tab.until("document.getElementById('problem').innerText")
    assert tab.run(LOGGED_OUT) and person.cookies() == {}


def test_no_page_sees_the_cookies(start, person: Person) -> None:
    tab = logged_in(person, start())
    assert tab.run("document.cookie") == ""
    cookies = person.cookies()
    assert {name: cookie["path"] for name, cookie in cookies.items()} == {
        ACCESS: "/api/v1", REFRESH: "/api/v1/refresh",
    }
    assert all(cookie["httpOnly"] and cookie["secure"] for cookie in cookies.values())
    assert (cookies[ACCESS]["sameSite"], cookies[REFRESH]["sameSite"]) == ("Lax", "Strict")


def test_an_expired_access_token_is_renewed_unnoticed(start, person: Person) -> None:
    example = start(access_ttl=1)
    tab = logged_in(person, example)
    before = person.cookies()
    tab.until(EXPIRED)
    add(tab, "still here")
    tab.until(has("still here"))
    assert tab.run(LOGGED_IN) and tab.run("document.getElementById('problem').innerText") == ""
    after = person.cookies()
    assert all(before[name]["value"] != after[name]["value"] for name in (ACCESS, REFRESH))


def test_calls_of_one_tab_share_a_refresh(start, person: Person) -> None:
    example = start(access_ttl=1)
    tab = logged_in(person, example)
    before = len(example.answers("POST /api/v1/refresh"))
    tab.until(EXPIRED)
    calls = "Array.from({ length: 5 }, () => call('GET', '/notes'))"
    tab.run(f"import('/static/session.js').then(({{ call }}) => Promise.all({calls}))")
    assert example.answers("POST /api/v1/refresh")[before:] == [200]


def test_two_tabs_that_refresh_at_once_both_stay_logged_in(start, person: Person) -> None:
    example = start(access_ttl=1)
    tabs = [logged_in(person, example), person.tab(example.url)]
    tabs[1].until(LOGGED_IN)
    before = len(example.answers("POST /api/v1/refresh"))
    for turn in range(3):
        tabs[0].until(EXPIRED)
        for number, tab in enumerate(tabs):
            add(tab, f"turn {turn} of tab {number}")
        for number, tab in enumerate(tabs):
            tab.until(has(f"turn {turn} of tab {number}"))
    refreshes = example.answers("POST /api/v1/refresh")[before:]
    assert len(refreshes) > 3 and set(refreshes) == {200}, refreshes
    assert all(tab.run(LOGGED_IN) for tab in tabs)


def test_a_logout_in_one_tab_ends_the_other_at_its_next_request(start, person: Person) -> None:
    example = start()
    first, second = logged_in(person, example), person.tab(example.url)
    second.until(LOGGED_IN)
    first.run(click("logout"))
    first.until(LOGGED_OUT)
    assert second.run(LOGGED_IN)
    add(second, "too late")
    second.until(LOGGED_OUT)
    assert 401 in example.answers("POST /api/v1/notes")


def test_a_logout_with_an_expired_access_token_ends_the_session(start, person: Person, browser: Browser) -> None:
    example = start(access_ttl=1)
    tab = logged_in(person, example)
    kept = person.cookies()[REFRESH]
    tab.until(EXPIRED)
    tab.run(click("logout"))
    tab.until(LOGGED_OUT)
    again = httpx.post(f"{example.url}/api/v1/refresh", headers={"Cookie": f"{REFRESH}={kept['value']}"})
    assert again.json()["code"] == "session_ended"


def test_a_session_is_ended_from_another_device(start, person: Person, browser: Browser) -> None:
    example = start()
    here, there = logged_in(person, example), logged_in(browser.person(), example)
    here.open(example.url)
    here.until("document.querySelectorAll('#sessions li').length === 2")
    here.run("document.querySelector('#sessions button').click()")
    here.until("document.querySelectorAll('#sessions li').length === 1")
    add(there, "too late")
    there.until(LOGGED_OUT)
    assert here.run(LOGGED_IN)


def test_what_asks_for_a_fresh_login_is_done_after_the_password(start, person: Person) -> None:
    example = start()
    example.environment["FLASK_DOORWARD_FRESH_TTL"] = "1"
    tab = logged_in(person, example)
    add(tab, "to go")
    tab.until(has("to go"))
    tab.run(click("clear"))
    tab.until(f"!{has('to go')}")


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A page of somebody else's."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


#: Whatever a page may send without being asked first, and what it may not.
ATTACK = """
Promise.all(['text/plain', 'application/json'].flatMap((type) => ['no-cors', 'cors'].map((mode) =>
    fetch(%s, { method: 'POST', credentials: 'include', mode, body: %s, headers: { 'Content-Type': type } })
        .then((answer) => [answer.type, answer.status], () => ['refused', 0]))))
"""


# 127.0.0.1 is the same site at every port, so that browsers send the cookies there; localhost is another.
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("path", ["/login", "/refresh", "/refresh/logout", "/logout", "/notes"])
def test_another_origin_changes_nothing(start, person: Person, elsewhere: int, host: str, path: str) -> None:
    example = start()
    victim = logged_in(person, example)
    before = person.cookies()
    url, body = f"{example.url}/api/v1{path}", "{}"
    if path == "/login":
        body = json.dumps({"username": "eve", "password": PASSWORD})
    page = person.tab(f"http://{host}:{elsewhere}/")
    seen = page.run(ATTACK % (json.dumps(url), json.dumps(body)))
    assert all(kind in ("opaque", "refused") for kind, _ in seen), seen
    statuses = example.answers(f"POST /api/v1{path}")[1 if path == "/login" else 0 :]
    assert statuses and all(status in (401, 403, 415) for status in statuses), statuses
    assert person.cookies() == before
    add(victim, "mine")
    victim.until(has("mine"))
    assert victim.run("fetch('/api/v1/session').then((it) => it.json()).then((it) => it.user.id)") == "1"
