"""An app that moves from Flask-JWT-Extended: whoever was logged in goes on without a login."""

import logging
import pathlib
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import flask_jwt_extended as before
import pytest
from flask import Flask, jsonify
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_doorward import Doorward
from flask_doorward import jwt_extended as after
from flask_doorward.testing import CONFIG

from apps import add_ada, bearer

#: What both apps say.
JWT = {
    "JWT_SECRET_KEY": "9b1d5c7e02f84a63b7c1e0d94f5a6238",
    "JWT_TOKEN_LOCATION": ["cookies", "headers", "json"],
    "JWT_COOKIE_SECURE": True,
    "JWT_ACCESS_COOKIE_PATH": "/api/v1",
    "JWT_REFRESH_COOKIE_PATH": "/api/v1/refresh",
    "JWT_REFRESH_TOKEN_EXPIRES": timedelta(days=30),
    "JWT_COOKIE_CSRF_PROTECT": False,
}
UNTIL = {"DOORWARD_ADOPT_UNTIL": "2099-01-01", "DOORWARD_ADOPT_NAMES": "username"}
HTTPS = {"base_url": "https://localhost"}


def old_app(**config: Any) -> Flask:
    app = Flask("old")
    app.config.update({"TESTING": True, **JWT, **config})
    before.JWTManager(app)

    @app.post("/api/v1/login")
    def login() -> Any:
        answer = jsonify(token=before.create_refresh_token("ada"))
        before.set_refresh_cookies(answer, before.create_refresh_token("ada"))
        return answer

    return app


def new_app(folder: pathlib.Path, **config: Any) -> tuple[Flask, Doorward]:
    app = Flask("new", instance_path=str(folder))
    app.config.update({"TESTING": True, **CONFIG, **JWT, **UNTIL, "DOORWARD_STORE": "memory:", **config})
    return app, Doorward(app)


def moved(old: Flask, new: Flask) -> FlaskClient:
    """A browser that was logged in to the old app."""
    browser = old.test_client()
    browser.post("/api/v1/login", **HTTPS)
    after_move = new.test_client()
    after_move._cookies = browser._cookies
    return after_move


def refresh(client: FlaskClient, **more: Any) -> TestResponse:
    return client.post("/api/v1/refresh", **HTTPS, **more)


def token_of(old: Flask) -> str:
    return str(old.test_client().post("/api/v1/login", **HTTPS).json["token"])


def test_a_browser_that_was_logged_in_goes_on(tmp_path: pathlib.Path) -> None:
    new, auth = new_app(tmp_path)
    ada = add_ada(new, auth)
    browser = moved(old_app(), new)
    adopted = refresh(browser)
    assert adopted.status_code == 200 and adopted.json["user"] == {"id": ada, "username": "ada"}
    session = browser.get("/api/v1/session", **HTTPS)
    assert session.json["session"]["id"] == adopted.json["session"]["id"]
    assert refresh(browser).json["session"]["id"] == adopted.json["session"]["id"]
    assert browser.post("/api/v1/refresh/logout", **HTTPS).status_code == 204
    assert refresh(browser).status_code == 401


def test_the_double_submit_of_before_counts(tmp_path: pathlib.Path) -> None:
    protected = {"JWT_COOKIE_CSRF_PROTECT": True, "JWT_REFRESH_CSRF_COOKIE_PATH": "/"}
    new, auth = new_app(tmp_path, **protected)
    add_ada(new, auth)
    browser = moved(old_app(**protected), new)
    assert refresh(browser).json["code"] == "csrf_failed"
    value = browser.get_cookie("csrf_refresh_token", domain="localhost").value
    assert refresh(browser, headers={"X-CSRF-TOKEN": value + "x"}).json["code"] == "csrf_failed"
    assert refresh(browser, headers={"X-CSRF-TOKEN": value}).status_code == 200


@pytest.mark.parametrize("manager", [before.JWTManager, after.JWTManager])
def test_a_token_that_the_old_app_had_revoked_is_not_adopted(tmp_path: pathlib.Path, manager: Any) -> None:
    new, auth = new_app(tmp_path)
    add_ada(new, auth)
    revoked: list[str] = []
    jwt = manager(new)

    @jwt.token_in_blocklist_loader
    def is_revoked(header: dict[str, Any], claims: dict[str, Any]) -> bool:
        assert header["alg"] == "HS256" and claims["sub"] == "ada"
        return claims["jti"] in revoked

    old = old_app()
    with old.app_context():
        token = before.create_refresh_token("ada")
        revoked.append(before.decode_token(token)["jti"])
    client = new.test_client()
    assert refresh(client, json={"refresh_token": token}).json["code"] == "token_invalid"
    revoked.clear()
    assert refresh(client, json={"refresh_token": token}).status_code == 200


def test_users_of_the_apps_own_are_asked_for(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    new, auth = new_app(tmp_path)
    users = {"ada": ("7", "hash")}
    auth.find_user(users.get)
    token = token_of(old_app())
    client = new.test_client()
    with caplog.at_level(logging.WARNING):
        assert refresh(client, json={"refresh_token": token}).json["code"] == "token_invalid"
    assert "adopt_user" in caplog.text
    new, auth = new_app(tmp_path)
    auth.find_user(users.get)
    auth.claims_loader(lambda user_id: {"role": "admin"})

    @auth.adopt_user
    def adopt_user(claims: dict[str, Any]) -> str | None:
        return users[claims["sub"]][0] if claims["sub"] in users else None

    client = new.test_client()
    adopted = refresh(client, json={"refresh_token": token})
    assert adopted.json["user"]["id"] == "7"
    with new.test_request_context(headers=bearer(adopted.json["access_token"])):
        assert auth.service.verify(adopted.json["access_token"]).claims["role"] == "admin"
    users.clear()
    other = token_of(old_app())
    assert refresh(client, json={"refresh_token": other}).json["code"] == "token_invalid"


@pytest.mark.parametrize("says", ["the account", "the app", "the app of its own users"])
def test_a_privileged_user_has_the_limits_of_one(tmp_path: pathlib.Path, says: str) -> None:
    new, auth = new_app(tmp_path, DOORWARD_STORE=f"sqlite://{tmp_path}/moved.db", DOORWARD_PRIVILEGED_SESSION_TTL="1h")
    if says == "the app of its own users":
        auth.adopt_user(lambda claims: "7")
    else:
        add_ada(new, auth)
    if says == "the account":
        new.test_cli_runner().invoke(args=["auth", "user", "privilege", "ada", "on"])
    else:
        auth.privilege_loader(lambda user_id: True)
    # The mark ends what was open before, and tokens are dated in seconds.
    until = time.monotonic() + 5
    while (adopted := refresh(moved(old_app(), new))).status_code == 401 and time.monotonic() < until:
        time.sleep(0.2)
    assert adopted.status_code == 200, adopted.json
    ends = datetime.fromisoformat(adopted.json["refresh_expires_at"])
    assert ends <= datetime.now(timezone.utc) + timedelta(hours=1)


def test_one_rule_holds_where_views_of_the_old_app_stay(tmp_path: pathlib.Path) -> None:
    new, auth = new_app(tmp_path)
    add_ada(new, auth)
    after.JWTManager(new)

    @new.post("/old/refresh")
    @after.jwt_required(refresh=True, locations=["headers"])
    def old_refresh() -> dict[str, Any]:
        return {"sub": after.get_jwt_identity()}

    token, client = token_of(old_app()), new.test_client()
    there = lambda: client.post("/old/refresh", headers=bearer(token), **HTTPS)  # noqa: E731
    # Until it is adopted it is what it was.
    assert there().json == {"sub": "ada"}
    adopted = refresh(client, headers=bearer(token))
    assert adopted.status_code == 200
    assert there().json == {"sub": adopted.json["user"]["id"]}
    client.post("/api/v1/logout", json={"refresh_token": adopted.json["refresh_token"]}, **HTTPS)
    assert there().status_code == 401 and there().json == {"msg": "Token has been revoked"}


def test_it_is_off_without_a_date_and_a_setting_that_cannot_be_used_is_named(tmp_path: pathlib.Path) -> None:
    new, auth = new_app(tmp_path, DOORWARD_ADOPT_UNTIL=None)
    add_ada(new, auth)
    assert refresh(moved(old_app(), new)).json["code"] == "token_invalid"
    for key, value in (("UNTIL", "soon"), ("NAMES", "email"), ("ALGORITHM", "none"), ("ALGORITHM", "RS256")):
        with pytest.raises(ValueError, match=f"^DOORWARD_ADOPT_{'KEY' if value == 'RS256' else key}"):
            new_app(tmp_path, **{f"DOORWARD_ADOPT_{key}": value})


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_weak_secret_of_before_verifies_and_signs_nothing(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    new, auth = new_app(tmp_path, DOORWARD_ADOPT_SECRET="old-secret")
    with caplog.at_level(logging.WARNING):
        add_ada(new, auth)
        token = token_of(old_app(JWT_SECRET_KEY="old-secret"))
        assert refresh(new.test_client(), json={"refresh_token": token}).status_code == 200
    assert "lets others make tokens" in caplog.text and "old-secret" not in caplog.text


