"""The example app in a real browser: a page that stays logged in, and others that cannot interfere."""

import http.server
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from browser import PATIENCE, Browser, Person, Tab
from conftest import PASSWORD, ROOT, free_port

ACCESS, REFRESH = "access_token_cookie", "refresh_token_cookie"
DEVICE = "__Secure-device_token_cookie"
LOGGED_IN = "!document.getElementById('app').hidden"
LOGGED_OUT = "!document.getElementById('login').hidden"
PROBLEM = "document.getElementById('problem').innerText"
SESSION = "fetch('/api/v1/session').then((answer) => answer.json())"
EXPIRED = f"{SESSION}.then(({{ code }}) => code === 'token_expired')"
STALE = """
import('/static/session.js').then(({ call }) => call('GET', '/session'))
    .then(({ session }) => new Date(session.fresh_until) <= Date.now())
"""
USER = f"{SESSION}.then(({{ user }}) => user.id)"
#: The app takes settings from the environment, and must not take up the caller's.
OTHERS = {name: value for name, value in os.environ.items() if not name.startswith("FLASK_")}
#: Hashing that protects nothing, so that the tests spend their time elsewhere.
CHEAP = {"FLASK_DOORWARD_PASSWORD_MEMORY_KIB": "8", "FLASK_DOORWARD_PASSWORD_ITERATIONS": "1"}
#: Tokens that expire while a test waits for it.
BRIEF = {"FLASK_JWT_ACCESS_TOKEN_EXPIRES": "1", "FLASK_DOORWARD_FRESH_TTL": "2"}


class Example:
    """The app of examples/flask as its README starts it. It ends by its own process id."""

    def __init__(self, folder: pathlib.Path, **settings: str) -> None:
        self.folder = folder / "notes"
        self.environment = {**OTHERS, **CHEAP, **settings}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "log"
        shutil.copytree(ROOT / "examples/flask", self.folder, ignore=shutil.ignore_patterns("instance"))
        self._flask("add-user", "ada", "--password", PASSWORD).wait(timeout=PATIENCE)
        with sqlite3.connect(self.folder / "instance/notes.db") as users:
            users.execute("INSERT INTO user (name, password_hash) SELECT 'eve', password_hash FROM user")
        users.close()
        self._process = self._flask("run", "--port", str(self.port))
        self._wait()

    def _flask(self, *words: str) -> "subprocess.Popen[bytes]":
        with open(self._log, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "flask", "--app", "app", *words],
                cwd=self.folder, env=self.environment, stdout=log, stderr=log,
            )

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            try:
                httpx.get(self.url)
                return
            except httpx.TransportError:
                time.sleep(0.02)
        raise RuntimeError(self._log.read_text())

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=PATIENCE)

    def answers(self, request: str) -> list[int]:
        """The statuses that a request got so far."""
        lines = self._log.read_text().splitlines()
        return [int(line.split()[-2]) for line in lines if f"{request} HTTP/1.1" in line]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """With the settings that are in it."""
    example = Example(tmp_path_factory.mktemp("example"))
    yield example
    example.close()


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """With tokens that expire soon."""
    example = Example(tmp_path_factory.mktemp("brief"), **BRIEF)
    yield example
    example.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def person(browser: Browser) -> Person:
    return browser.person()


def fill(form: str, **values: str) -> str:
    """A script that fills a form and sends it."""
    lines = [f"form.{name}.value = {json.dumps(value)};" for name, value in values.items()]
    return f"{{ const form = document.getElementById('{form}'); {' '.join(lines)} form.requestSubmit(); }}"


def log_in(tab: Tab, name: str = "ada", password: str = PASSWORD) -> None:
    tab.until(LOGGED_OUT)
    tab.run(fill("login", username=name, password=password))


def logged_in(person: Person, example: Example, name: str = "ada") -> Tab:
    tab = person.tab(example.url)
    log_in(tab, name)
    tab.until(LOGGED_IN)
    return tab


def add(tab: Tab, text: str) -> None:
    tab.run(fill("add", text=text))


def has(text: str, where: str = "notes") -> str:
    return f"document.getElementById('{where}').innerText.includes({json.dumps(text)})"


def click(button: str) -> str:
    return f"document.getElementById('{button}').click()"


def test_a_user_logs_in_calls_and_logs_out(example: Example, person: Person) -> None:
    tab = logged_in(person, example)
    add(tab, "<b>buy milk</b>")
    tab.until(has("<b>buy milk</b>"))
    tab.run("document.querySelector('#notes button').click()")
    tab.until(f"!{has('buy milk')}")
    tab.run(click("logout"))
    tab.until(LOGGED_OUT)
    assert person.cookies().keys() == {DEVICE}


def test_a_wrong_password_is_told(example: Example, person: Person) -> None:
    tab = person.tab(example.url)
    log_in(tab, password="wrong horse battery")
    tab.until(PROBLEM)
    assert tab.run(LOGGED_OUT) and person.cookies() == {}


def test_no_page_sees_the_cookies(example: Example, person: Person) -> None:
    tab = logged_in(person, example)
    assert tab.run("document.cookie") == ""
    cookies = person.cookies()
    assert {name: cookie["path"] for name, cookie in cookies.items()} == {
        ACCESS: "/api/v1", REFRESH: "/api/v1/refresh", DEVICE: "/api/v1/login",
    }
    assert all(cookie["httpOnly"] and cookie["secure"] for cookie in cookies.values())
    assert (cookies[ACCESS]["sameSite"], cookies[REFRESH]["sameSite"]) == ("Lax", "Strict")


def test_remember_outlives_the_browser(example: Example, person: Person) -> None:
    tab = person.tab(example.url)
    tab.until(LOGGED_OUT)
    tab.run("document.getElementById('login').remember.checked = true")
    log_in(tab)
    tab.until(LOGGED_IN)
    assert not any(cookie["session"] for cookie in person.cookies().values())


def test_an_expired_access_token_is_renewed_unnoticed(brief: Example, person: Person) -> None:
    tab = logged_in(person, brief)
    before = person.cookies()
    tab.until(EXPIRED)
    add(tab, "still here")
    tab.until(has("still here"))
    assert tab.run(LOGGED_IN) and tab.run(PROBLEM) == ""
    after = person.cookies()
    assert all(before[name]["value"] != after[name]["value"] for name in (ACCESS, REFRESH))


def test_calls_of_one_tab_share_a_refresh(brief: Example, person: Person) -> None:
    tab = logged_in(person, brief)
    tab.until(EXPIRED)
    before = len(brief.answers("POST /api/v1/refresh"))
    calls = "Array.from({ length: 5 }, () => call('GET', '/notes'))"
    tab.run(f"import('/static/session.js').then(({{ call }}) => Promise.all({calls}))")
    refreshes = brief.answers("POST /api/v1/refresh")[before:]
    # A call whose refusal comes after the refresh is over starts another one.
    assert set(refreshes) == {200} and len(refreshes) < 5


def test_two_tabs_that_refresh_at_once_both_stay_logged_in(brief: Example, person: Person) -> None:
    tabs = [logged_in(person, brief), person.tab(brief.url)]
    tabs[1].until(LOGGED_IN)
    refreshes: list[list[int]] = []
    # Until both found the token expired before either had a new one.
    while len(refreshes) < 2 or max(map(len, refreshes)) < 2:
        tabs[0].until(EXPIRED)
        refreshes.append(add_in_each(tabs, brief, f"turn {len(refreshes)}"))
        assert set(refreshes[-1]) == {200} and len(refreshes) < 10, refreshes
    assert all(tab.run(LOGGED_IN) for tab in tabs)


def add_in_each(tabs: list[Tab], example: Example, text: str) -> list[int]:
    """How the refreshes were answered that this took."""
    before = len(example.answers("POST /api/v1/refresh"))
    for number, tab in enumerate(tabs):
        add(tab, f"{text} of tab {number}")
    for number, tab in enumerate(tabs):
        tab.until(has(f"{text} of tab {number}"))
    return example.answers("POST /api/v1/refresh")[before:]


def test_a_logout_in_one_tab_ends_the_other_at_its_next_request(example: Example, person: Person) -> None:
    first, second = logged_in(person, example), person.tab(example.url)
    second.until(LOGGED_IN)
    first.run(click("logout"))
    first.until(LOGGED_OUT)
    assert second.run(LOGGED_IN)
    add(second, "too late")
    second.until(LOGGED_OUT)
    assert 401 in example.answers("POST /api/v1/notes")


def test_a_logout_with_an_expired_access_token_ends_the_session(brief: Example, person: Person) -> None:
    tab = logged_in(person, brief)
    kept = person.cookies()[REFRESH]["value"]
    tab.until(EXPIRED)
    tab.run(click("logout"))
    tab.until(LOGGED_OUT)
    again = httpx.post(f"{brief.url}/api/v1/refresh", headers={"Cookie": f"{REFRESH}={kept}"})
    assert (again.json()["code"], again.json()["reason"]) == ("session_ended", "logout")


def test_a_session_is_ended_from_another_device(example: Example, person: Person, browser: Browser) -> None:
    there = logged_in(browser.person(), example, "eve")
    here = logged_in(person, example, "eve")
    here.until("document.querySelectorAll('#sessions li').length === 2")
    here.run("document.querySelector('#sessions button').click()")
    here.until("document.querySelectorAll('#sessions li').length === 1")
    add(there, "too late")
    there.until(LOGGED_OUT)
    assert here.run(LOGGED_IN)


def test_what_needs_a_fresh_login_asks_for_the_password(brief: Example, person: Person) -> None:
    tab = logged_in(person, brief)
    add(tab, "to go")
    tab.until(has("to go"))
    tab.until(STALE)
    tab.run(click("clear"))
    tab.until("!document.getElementById('confirm').hidden")
    assert tab.run(has("to go"))
    tab.run(fill("confirm", password=PASSWORD))
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


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """Its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


#: What a page may send to another origin without asking first, and what it must ask for.
ATTACK = """
(async (url, body) => {
    const text = { body, headers: { 'Content-Type': 'text/plain' } };
    const json = { body, headers: { 'Content-Type': 'application/json' } };
    const tries = [{ mode: 'no-cors' }, {}, { mode: 'no-cors', ...text }, text, json];
    return Promise.all(tries.map((how) => fetch(url, { method: 'POST', credentials: 'include', ...how })
        .then((answer) => answer.type, () => 'unread')));
})(%s, %s)
"""
ATTACKED = {
    "/login": {"username": "eve", "password": PASSWORD},
    "/refresh": {}, "/logout": {}, "/refresh/logout": {}, "/reauthenticate": {"password": PASSWORD},
    "/notes": {"text": "not mine"},
}


# 127.0.0.1 is the same site at every port, so that browsers send the cookies there; localhost is another.
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_another_origin_changes_nothing(
    example: Example, person: Person, elsewhere: int, host: str
) -> None:
    victim = logged_in(person, example)
    jar, page = person.cookies(), person.tab(f"http://{host}:{elsewhere}/")
    for path, body in ATTACKED.items():
        before = len(example.answers(f"POST /api/v1{path}"))
        seen = page.run(ATTACK % (json.dumps(f"{example.url}/api/v1{path}"), json.dumps(json.dumps(body))))
        assert set(seen) <= {"opaque", "unread"}, (path, seen)
        statuses = example.answers(f"POST /api/v1{path}")[before:]
        assert len(statuses) == 4 and set(statuses) <= {400, 401, 403, 415}, (path, statuses)
        assert 403 in statuses or body or host == "localhost", (path, statuses)
    assert person.cookies() == jar
    victim.open(example.url)
    victim.until(LOGGED_IN)
    assert victim.run(USER) == "1" and not victim.run(has("not mine"))
