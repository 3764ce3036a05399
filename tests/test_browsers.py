"""What pages of other sites, hostile headers and hostile cookies come to at the real binary."""

import pathlib

import httpx
import pytest

import browsers
from browsers import Door, Rule
from conftest import PASSWORD, Server, add_user

ACCESS, REFRESH = "__Secure-access_token_cookie", "__Secure-refresh_token_cookie"
#: What `GET /verify` is told decides there.
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"]
GUARDED = {method: ("GET", "/verify", [("X-Original-Method", method)]) for method in METHODS}
SETTINGS = {
    "plain": ([], Rule()),
    "allowed": (["--allowed-origins", f"https://first.example,{browsers.ALLOWED}"], Rule(allowed=True)),
    "strict": (["--csrf-strict", "true", "--allow-same-site", "true"], Rule(strict=True, same_site=True)),
}


def door(server: Server, rule: Rule) -> Door:
    return Door(server.port, PASSWORD, rule, ACCESS, REFRESH, GUARDED)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory):
    servers = {}
    for name, (flags, rule) in SETTINGS.items():
        directory: pathlib.Path = tmp_path_factory.mktemp(name)
        add_user(directory)
        servers[name] = Server(directory, *flags).start(), rule
    yield {name: door(server, rule) for name, (server, rule) in servers.items()}
    for server, _ in servers.values():
        assert server.stop() == 0


@pytest.mark.parametrize("settings", SETTINGS)
def test_another_site_changes_nothing(doors: dict[str, Door], settings: str) -> None:
    assert browsers.check_cross_site(doors[settings]) > 1000


def test_an_allowed_origin_reads_answers_and_none_that_looks_like_it(doors: dict[str, Door]) -> None:
    browsers.check_cors(doors["allowed"])
    browsers.check_no_cors(doors["plain"])


def test_every_answer_has_the_headers(doors: dict[str, Door]) -> None:
    door = doors["plain"]
    assert browsers.check_headers(door) == {200, 204, 400, 401, 403, 404, 413, 415, 422}
    for answer in (
        door.send("GET", "/unknown", []), door.send("POST", "/session", []), door.send("TRACE", "/login", []),
        door.send("GET", "/session", [("X", "a" * 33_000)]), door.send("GET", "/session", [("Host", "a b")]),
    ):
        assert answer.status in (400, 404, 405, 431)
        browsers.has_headers(answer)


@pytest.mark.parametrize("remember", [True, False])
def test_cookies_are_set_as_documented_and_cleared_alike(doors: dict[str, Door], remember: bool) -> None:
    browsers.check_cookies(doors["plain"], remember)


def test_cookies_for_a_domain_are_cleared_there(start) -> None:
    server = start("--cookie-domain", "example")
    browsers.check_cookies(door(server, Rule()), True, domain="example")


def test_hostile_cookies_count_or_do_not(doors: dict[str, Door]) -> None:
    browsers.check_hostile_cookies(doors["plain"])


def test_hostile_headers_change_nothing(doors: dict[str, Door]) -> None:
    browsers.check_hostile_headers(doors["plain"])


def test_a_trusted_proxy_tells_the_address_and_nothing_else(start) -> None:
    browsers.check_trusted_proxy(door(start("--trusted-proxies", "127.0.0.0/8"), Rule()))
