"""What pages of other sites, hostile headers and hostile cookies come to at an app behind a WSGI server."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.serving import make_server

import browsers
from apps import PASSWORD, bare
from browsers import Door, Rule
from flask_doorward import Doorward
from test_exchanges import Quiet

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"]
GUARDED = {method: (method, "/hello", []) for method in METHODS}
SETTINGS = {
    "plain": ({}, Rule(joins=True)),
    "allowed": (
        {"DOORWARD_ALLOWED_ORIGINS": ["https://first.example", browsers.ALLOWED]},
        Rule(allowed=True, joins=True),
    ),
    "strict": (
        {"DOORWARD_CSRF_STRICT": True, "DOORWARD_ALLOW_SAME_SITE": True},
        Rule(strict=True, same_site=True, joins=True),
    ),
    "double submit": ({"JWT_COOKIE_CSRF_PROTECT": True}, Rule(double_submit=True, joins=True)),
}


def app_with(**config: Any) -> Flask:
    """Guarded by `protect`: whatever is no route of ours."""
    app = bare(JWT_COOKIE_SECURE=True, **config)
    auth = Doorward(app)

    @app.route("/api/v1/hello", methods=METHODS)
    @auth.required
    def hello() -> str:
        return "hello"

    with app.app_context():
        auth.service.create_user("ada", PASSWORD)
    return app


@contextlib.contextmanager
def served(app: Flask, rule: Rule) -> Iterator[Door]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Door(server.port, PASSWORD, rule, "access_token_cookie", "refresh_token_cookie", GUARDED)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def doors() -> Iterator[dict[str, Door]]:
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(served(app_with(**config), rule))
            for name, (config, rule) in SETTINGS.items()
        }


@pytest.mark.parametrize("settings", SETTINGS)
def test_another_site_changes_nothing(doors: dict[str, Door], settings: str) -> None:
    assert browsers.check_cross_site(doors[settings]) > 1000


def test_an_allowed_origin_reads_answers_and_none_that_looks_like_it(doors: dict[str, Door]) -> None:
    browsers.check_cors(doors["allowed"])
    browsers.check_no_cors(doors["plain"])


def test_every_answer_has_the_headers(doors: dict[str, Door]) -> None:
    # What a view of the app's own answers has the headers that the app gives it.
    door = Door(**vars(doors["plain"]) | {"guarded": {"GET": GUARDED["GET"]}})
    assert browsers.check_headers(door) == {200, 204, 400, 401, 403, 404, 413, 415, 422}
    for method in METHODS:
        refused = door.send(method, "/hello", [])
        assert refused.status == 401
        browsers.has_headers(refused)


@pytest.mark.parametrize("settings", ["plain", "double submit"])
@pytest.mark.parametrize("remember", [True, False])
def test_cookies_are_set_as_documented_and_cleared_alike(
    doors: dict[str, Door], settings: str, remember: bool
) -> None:
    browsers.check_cookies(doors[settings], remember)


def test_cookies_for_a_domain_are_cleared_there() -> None:
    with served(app_with(JWT_COOKIE_DOMAIN="example"), Rule(joins=True)) as door:
        browsers.check_cookies(door, True, domain="example")


def test_hostile_cookies_count_or_do_not(doors: dict[str, Door]) -> None:
    browsers.check_hostile_cookies(doors["plain"])


def test_hostile_headers_change_nothing(doors: dict[str, Door]) -> None:
    browsers.check_hostile_headers(doors["plain"])


def test_a_trusted_proxy_tells_the_address_and_nothing_else() -> None:
    app = app_with(DOORWARD_TRUSTED_PROXIES=["127.0.0.0/8"])
    with served(app, Rule(joins=True)) as door:
        browsers.check_trusted_proxy(door)


def test_proxy_fix_tells_the_address_and_the_host_that_it_is_told_to_believe() -> None:
    app = app_with()
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)  # type: ignore[method-assign]
    told = [("X-Forwarded-For", "1.1.1.1, 6.6.6.6:4711"), ("X-Forwarded-Host", "app.example")]
    with served(app, Rule(joins=True)) as door:
        answer = door.login("body", *told)
        device = [("Authorization", f"Bearer {answer.json()['access_token']}")]
        listed = door.send("GET", "/sessions", device).json()["sessions"]
        assert [session["address"] for session in listed] == ["6.6.6.6"]
        for origin, status in {"https://app.example": 415, f"https://{browsers.HOST}": 403}.items():
            answer = door.send("POST", "/login", [("Origin", origin), *told], b"x")
            assert answer.status == status
