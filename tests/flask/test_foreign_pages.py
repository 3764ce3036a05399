"""A real browser whose user is logged in visits a page of somebody else's: nothing happens, nothing is read.

At the binary and at a Flask app. 127.0.0.1 is the same site at every port, so that browsers send the
cookies along; localhost is another site.
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from apps import PASSWORD
from browser import Browser, Person, Tab
from browsers import Rule
from conftest import Server, add_user
from test_browser import browser, elsewhere, person  # noqa: F401
from test_foreign_requests import app_with, served

HOSTS = ["127.0.0.1", "localhost"]


@dataclasses.dataclass
class Place:
    """Where the API is, and what its cookies are called."""

    url: str
    access: str
    refresh: str

    def sessions(self) -> int:
        """How many ada has, one of them asked for here and gone again."""
        body = {"username": "ada", "password": PASSWORD, "delivery": "body"}
        token = httpx.post(f"{self.url}/login", json=body).json()["access_token"]
        device = {"Authorization": f"Bearer {token}"}
        listed = httpx.get(f"{self.url}/sessions", headers=device).json()["sessions"]
        httpx.post(f"{self.url}/logout", headers=device)
        return len(listed) - 1


@contextlib.contextmanager
def binary(folder: pathlib.Path, *origins: str) -> Iterator[Place]:
    add_user(folder)
    server = Server(folder, "--allowed-origins", ",".join(origins)).start()
    yield Place(server.url, "__Secure-access_token_cookie", "__Secure-refresh_token_cookie")
    server.stop()


@contextlib.contextmanager
def flask(_: pathlib.Path, *origins: str) -> Iterator[Place]:
    with served(app_with(DOORWARD_ALLOWED_ORIGINS=list(origins)), Rule()) as door:
        yield Place(f"http://127.0.0.1:{door.port}/api/v1", door.access, door.refresh)


DOORS: list[Callable[..., contextlib.AbstractContextManager[Place]]] = [binary, flask]


@pytest.fixture(params=DOORS, ids=["binary", "flask"])
def door(request: pytest.FixtureRequest) -> Callable[..., contextlib.AbstractContextManager[Place]]:
    return request.param


#: The status of a call by a page, or that it could not be read.
CALL = """
fetch(%s, { method: %s, credentials: 'include', headers: %s, body: %s ?? undefined })
    .then((answer) => answer.status, () => 'unread')
"""


def call(tab: Tab, url: str, method: str = "GET", body: object = None) -> int | str:
    headers = {} if body is None else {"Content-Type": "application/json"}
    text = None if body is None else json.dumps(body)
    return tab.run(CALL % tuple(json.dumps(value) for value in (url, method, headers, text)))


def logged_in(person: Person, place: Place) -> Tab:
    """By the API's own page, which is of this site."""
    tab = person.tab(f"{place.url}/docs")
    assert call(tab, f"{place.url}/login", "POST", {"username": "ada", "password": PASSWORD}) == 200
    return tab


#: A page's ways to send a request without asking first, and some for which it must ask.
SENDS = """
(async (api, path, body) => {
    const url = api + path, json = { 'Content-Type': 'application/json' };
    const ways = [
        { method: 'POST', mode: 'no-cors', body },
        { method: 'POST', mode: 'no-cors', body: new URLSearchParams(body) },
        { method: 'POST', mode: 'no-cors', body: new FormData() },
        { method: 'POST', mode: 'no-cors', body: new Blob([body]) },
        { method: 'POST' }, { method: 'POST', body }, { method: 'POST', body, headers: json },
        { method: 'DELETE' }, { method: 'PUT', body }, { method: 'PATCH', body }, { method: 'GET' },
        { method: 'POST', headers: { 'X-HTTP-Method-Override': 'DELETE' } },
    ];
    const fetched = ways.map((way) => fetch(url, { credentials: 'include', ...way })
        .then((answer) => answer.type === 'opaque' ? 'unread' : answer.status, () => 'unread'));
    navigator.sendBeacon(url, body);
    return Promise.all(fetched);
})(%s, %s, %s)
"""
#: Forms of a page, each into a frame; and what a page may embed.
FORMS = """
Promise.all(['application/x-www-form-urlencoded', 'multipart/form-data', 'text/plain'].map((enctype, at) =>
    new Promise((done) => {
        const frame = Object.assign(document.createElement('iframe'), { name: 'frame' + at, onload: done });
        const form = Object.assign(document.createElement('form'),
            { method: 'post', action: %s, enctype, target: frame.name });
        const field = Object.assign(document.createElement('input'), { name: '{"username":"ada","a":"', value: '"}' });
        form.append(field);
        document.body.append(frame, form);
        form.submit();
    })))
"""
EMBEDS = """
Promise.all(['img', 'script', 'video', 'object', 'link'].map((tag) => new Promise((done) => {
    const element = document.createElement(tag);
    Object.assign(element, { onload: () => done('loaded'), onerror: () => done('refused'), rel: 'stylesheet' });
    element[{ object: 'data', link: 'href' }[tag] ?? 'src'] = %s;
    document.body.append(element);
})))
"""
ATTACKED = {
    "/login": {"username": "ada", "password": PASSWORD}, "/refresh": {}, "/logout": {}, "/refresh/logout": {},
    "/sessions": {}, "/reauthenticate": {"password": PASSWORD}, "/session": {},
    "/password": {"current": PASSWORD, "new": "nineteen purple otters sing"},
}


@pytest.mark.parametrize("host", HOSTS)
def test_a_foreign_page_does_nothing_and_reads_nothing(
    door: Callable[..., contextlib.AbstractContextManager[Place]],
    person: Person, elsewhere: int, host: str, tmp_path: pathlib.Path,  # noqa: F811
) -> None:
    with door(tmp_path) as place:
        victim = logged_in(person, place)
        jar, known = person.cookies(), place.sessions()
        page = person.tab(f"http://{host}:{elsewhere}/")
        for path, body in ATTACKED.items():
            seen = page.run(SENDS % tuple(json.dumps(v) for v in (place.url, path, json.dumps(body))))
            assert set(seen) == {"unread"}, (path, seen)
            page.run(FORMS % json.dumps(place.url + path))
        for path in ("/session", "/sessions", "/jwks.json", "/openapi.json", "/docs", "/docs/start.js"):
            assert set(page.run(EMBEDS % json.dumps(place.url + path))) == {"refused"}, path
        # A page that it opens, and one that it leads its visitor to.
        opened = f"window.other = window.open({json.dumps(place.url + '/session')}); !window.other || window.other.closed"
        page.run(opened)
        page.open(f"{place.url}/session")
        assert json.loads(page.run("document.body.innerText"))["user"]
        assert place.sessions() == known and person.cookies() == jar
        assert call(victim, f"{place.url}/session") == 200


DEVICE = "__Secure-device_token_cookie"


def sessions_cookies(person: Person) -> dict[str, dict[str, Any]]:
    """All but the device's, which stays."""
    return {name: cookie for name, cookie in person.cookies().items() if name != DEVICE}


@pytest.mark.parametrize("host", HOSTS)
def test_an_allowed_origin_logs_in_calls_and_logs_out_where_it_is_of_the_same_site(
    door: Callable[..., contextlib.AbstractContextManager[Place]],
    person: Person, elsewhere: int, host: str, tmp_path: pathlib.Path,  # noqa: F811
) -> None:
    with door(tmp_path, f"http://{host}:{elsewhere}") as place:
        page = person.tab(f"http://{host}:{elsewhere}/")
        login = {"username": "ada", "password": PASSWORD}
        assert call(page, f"{place.url}/login", "POST", login) == 200
        # `SameSite` keeps cookies from pages of another site, allowed or not: those use bodies.
        same_site = host == "127.0.0.1"
        assert call(page, f"{place.url}/session") == (200 if same_site else 401)
        assert call(page, f"{place.url}/refresh", "POST", {}) == (200 if same_site else 401)
        assert bool(sessions_cookies(person)) == same_site
        assert call(page, f"{place.url}/sessions", "DELETE") == (200 if same_site else 401)
        assert sessions_cookies(person) == {}
        other = person.tab(f"http://{HOSTS[host == HOSTS[0]]}:{elsewhere}/")
        assert call(other, f"{place.url}/login", "POST", login) == "unread"
        assert sessions_cookies(person) == {}


def test_a_browser_keeps_the_cookies_as_they_are_documented(
    door: Callable[..., contextlib.AbstractContextManager[Place]],
    person: Person, tmp_path: pathlib.Path,  # noqa: F811
) -> None:
    with door(tmp_path) as place:
        tab = logged_in(person, place)
        cookies = person.cookies()
        assert {name: (cookie["path"], cookie["sameSite"]) for name, cookie in cookies.items()} == {
            place.access: ("/api/v1", "Lax"), place.refresh: ("/api/v1/refresh", "Strict"),
            DEVICE: ("/api/v1/login", "Strict"),
        }
        assert all(cookie["httpOnly"] and cookie["secure"] for cookie in cookies.values())
        assert {name for name, cookie in cookies.items() if not cookie["session"]} == {DEVICE}
        assert tab.run("document.cookie") == ""
        assert {cookie["domain"] for cookie in cookies.values()} == {"127.0.0.1"}
        assert call(tab, f"{place.url}/refresh/logout", "POST") == 204
        assert sessions_cookies(person) == {} and place.sessions() == 0


def test_another_port_plants_no_cookie_that_hides_ours(
    door: Callable[..., contextlib.AbstractContextManager[Place]],
    person: Person, elsewhere: int, tmp_path: pathlib.Path,  # noqa: F811
) -> None:
    with door(tmp_path) as place:
        victim = logged_in(person, place)
        page = person.tab(f"http://127.0.0.1:{elsewhere}/")
        for path in ("/", "/api", "/api/v1/session"):
            page.run(f"document.cookie = '{place.access}=planted; path={path}; secure'")
        assert call(victim, f"{place.url}/session") == 200
