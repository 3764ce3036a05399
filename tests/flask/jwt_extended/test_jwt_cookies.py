"""Cookies set and cleared: the same `Set-Cookie`, but that they live no longer than their token."""

import importlib
import time
from datetime import timedelta
from typing import Any

import jwt
import pytest
from flask import Flask, jsonify
from twins import OURS, SECRET, THEIRS, Answer, Twins, answer, build

TOKEN = jwt.encode(
    {"sub": "ada", "csrf": "double", "type": "access", "exp": int(time.time()) + 3600}, SECRET
)


def setting(**arguments: Any) -> Any:
    def prepare(app: Flask, extension: Any, _: Any) -> None:
        @app.get("/set/<kind>")
        def set_cookies(kind: str) -> Any:
            response = jsonify()
            getattr(extension, f"set_{kind}_cookies")(response, TOKEN, **arguments)
            return response

        @app.get("/unset/<kind>")
        def unset_cookies(kind: str) -> Any:
            response = jsonify()
            getattr(extension, f"unset_{kind}_cookies")(response, domain=arguments.get("domain"))
            return response

    return prepare


NAMES = {
    f"JWT_{kind}_{part}": f"{kind}-{part}".lower()
    for kind in ("ACCESS", "REFRESH")
    for part in ("COOKIE_NAME", "CSRF_COOKIE_NAME")
}
PATHS = {
    f"JWT_{kind}_{part}": f"/{kind}/{part}".lower()
    for kind in ("ACCESS", "REFRESH")
    for part in ("COOKIE_PATH", "CSRF_COOKIE_PATH")
}


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        NAMES,
        PATHS,
        {"JWT_COOKIE_SECURE": True},
        {"JWT_COOKIE_DOMAIN": "example.com"},
        {"JWT_COOKIE_SAMESITE": "Strict"},
        {"JWT_COOKIE_SAMESITE": "None", "JWT_COOKIE_SECURE": True},
        {"JWT_COOKIE_CSRF_PROTECT": False},
        {"JWT_CSRF_IN_COOKIES": False},
    ],
    ids=repr,
)
@pytest.mark.parametrize("arguments", [{}, {"max_age": 60}, {"domain": "example.org"}], ids=repr)
def test_cookies_are_set_and_cleared_alike(chosen: dict[str, Any], arguments: Any) -> None:
    twins = Twins(setting(**arguments), JWT_TOKEN_LOCATION=["cookies"], **chosen)
    for path in ("set/access", "set/refresh", "unset/access", "unset/refresh", "unset/jwt"):
        given = twins.agree(path)
        assert any(name == "Set-Cookie" for name, _ in given.headers)


def max_ages(given: Answer) -> list[int | None]:
    cookies = [value for name, value in given.headers if name == "Set-Cookie"]
    ages = [
        [part for part in cookie.split("; ") if part.startswith("Max-Age=")] for cookie in cookies
    ]
    return [int(age[0].removeprefix("Max-Age=")) if age else None for age in ages]


def test_a_cookie_lives_as_long_as_its_token() -> None:
    twins = Twins(setting(), JWT_SESSION_COOKIE=False)
    ours, theirs = twins.answers("set/access")
    # The apps are built once, and so may be some of the tokens.
    assert [age for age in max_ages(ours) if not 3300 <= age <= 3600] == []
    assert max_ages(theirs) == [31540000, 31540000]


def test_a_token_without_end_has_a_cookie_for_a_year() -> None:
    app = build(OURS, {"JWT_SESSION_COOKIE": False})
    ours = importlib.import_module(OURS)
    with app.test_request_context():
        response = jsonify()
        ours.set_access_cookies(response, ours.create_access_token("ada", expires_delta=False))
        ours.set_refresh_cookies(
            response, ours.create_refresh_token("ada", expires_delta=timedelta(days=2))
        )
    ages = max_ages(Answer(200, b"", list(response.headers)))
    assert ages[:2] == [31540000] * 2 and all(172790 <= age <= 172800 for age in ages[2:])


def test_a_max_age_of_zero_counts() -> None:
    twins = Twins(setting(max_age=0), JWT_SESSION_COOKIE=False)
    ours, _ = twins.answers("set/access")
    assert max_ages(ours) == [0, 0]


@pytest.mark.parametrize("name", [OURS, THEIRS])
def test_cookies_that_were_set_open_views(name: str) -> None:
    app = build(name, {"JWT_TOKEN_LOCATION": ["cookies"]}, login)
    client = app.test_client()
    client.post("/login")
    csrf = client.get_cookie("csrf_access_token").value
    assert client.get("/protected").status_code == 200
    assert client.post("/protected").json == {"msg": "Missing CSRF token"}
    wrong = client.post("/protected", headers={"X-CSRF-TOKEN": "x"})
    assert wrong.json == {"msg": "CSRF double submit tokens do not match"}
    assert client.post("/protected", headers={"X-CSRF-TOKEN": csrf}).status_code == 200
    assert client.post("/refresh", headers={"X-CSRF-TOKEN": csrf}).status_code == 401
    client.post("/logout")
    assert client.get("/protected").json == {"msg": 'Missing cookie "access_token_cookie"'}


def login(app: Flask, extension: Any, _: Any) -> None:
    @app.post("/login")
    def log_in() -> Any:
        response = jsonify()
        extension.set_access_cookies(response, extension.create_access_token("ada"))
        extension.set_refresh_cookies(response, extension.create_refresh_token("ada"))
        return response

    @app.post("/logout")
    def log_out() -> Any:
        response = jsonify()
        extension.unset_jwt_cookies(response)
        return response


def test_either_apps_cookies_open_the_others_views() -> None:
    apps = [build(name, {"JWT_TOKEN_LOCATION": ["cookies"]}, login) for name in (OURS, THEIRS)]
    for maker, reader in (apps, apps[::-1]):
        client = maker.test_client()
        client.post("/login")
        token = client.get_cookie("access_token_cookie").value
        assert answer(reader, "protected", cookies={"access_token_cookie": token}).status == 200
