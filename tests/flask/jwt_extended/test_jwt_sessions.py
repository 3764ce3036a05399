"""Both in one app: sessions that Doorward opened pass this extension's guards while they last."""

from typing import Any

import pytest
from apps import add_ada, bare, bearer, login
from flask import Flask, jsonify
from twins import SECRET, THEIRS, answer, build

import flask_doorward.jwt_extended as ours
from flask_doorward import Doorward

COOKIE, BODY = {"delivery": "cookie"}, {"delivery": "body"}


def both(**config: Any) -> tuple[Flask, Doorward]:
    places = ["headers", "cookies", "json"]
    config = {"SECRET_KEY": SECRET, "JWT_TOKEN_LOCATION": places, **config}
    app = bare(**config)
    auth = Doorward(app)
    ours.JWTManager(app)
    for path, arguments in (("/view", {}), ("/renew", {"refresh": True})):

        @ours.jwt_required(**arguments)
        def view() -> Any:
            return jsonify(user=ours.get_jwt_identity(), claims=ours.get_jwt())

        app.add_url_rule(f"/api/v1{path}", path, view, methods=["GET", "POST"])
        app.add_url_rule(f"/api/v1/refresh{path}", f"r{path}", view, methods=["GET", "POST"])
    add_ada(app, auth)
    return app, auth


@pytest.mark.parametrize("config", [{}, {"JWT_SECRET_KEY": SECRET}], ids=["EdDSA", "HS256"])
def test_an_access_token_opens_views_until_its_session_ends(config: dict[str, str]) -> None:
    app, auth = both(**config)
    client = app.test_client()
    token = login(client, **BODY).json["access_token"]
    opened = client.get("/api/v1/view", headers=bearer(token))
    assert (opened.status_code, opened.json["claims"]["type"]) == (200, "access")
    with app.app_context():
        auth.service.end_session(opened.json["claims"]["sid"])
    refused = client.get("/api/v1/view", headers=bearer(token))
    assert (refused.status_code, refused.json) == (401, {"msg": "Token has been revoked"})


def test_an_access_token_passes_the_original_too() -> None:
    app, _ = both(JWT_SECRET_KEY=SECRET)
    token = login(app.test_client(), **BODY).json["access_token"]
    assert answer(build(THEIRS, {}), "protected", headers=bearer(token)).status == 200


def test_a_forged_access_token_is_refused() -> None:
    app, _ = both()
    client = app.test_client()
    token = login(client, **BODY).json["access_token"]
    signed, signature = token.rsplit(".", 1)
    forged = f"{signed}.{'B' if signature[0] != 'B' else 'C'}{signature[1:]}"
    refused = client.get("/api/v1/view", headers=bearer(forged))
    assert (refused.status_code, refused.json) == (422, {"msg": "Signature verification failed"})


def test_a_refresh_token_opens_refresh_views_without_being_used_up() -> None:
    app, _ = both()
    client = app.test_client()
    tokens = login(client, **BODY).json
    for _ in range(3):
        body = {"refresh_token": tokens["refresh_token"]}
        opened = client.post("/api/v1/renew", json=body)
        assert (opened.status_code, opened.json["claims"]["type"]) == (200, "refresh")
        assert opened.json["user"] == tokens["user"]["id"]
    assert client.post("/api/v1/view", headers=bearer(tokens["refresh_token"])).status_code == 422
    assert client.post("/api/v1/renew", headers=bearer(tokens["access_token"])).status_code == 422
    assert client.post("/api/v1/renew", json={"refresh_token": "dwr_x"}).status_code == 422


@pytest.mark.parametrize(
    ("body", "status"), [('{"refresh_token": "dwr_\\ud800"}', 422), ("[" * 100_000, 401)], ids=["half", "deep"]
)
def test_json_that_holds_no_token_is_no_mistake_of_the_apps(body: str, status: int) -> None:
    app, _ = both()
    asked = app.test_client().post("/api/v1/renew", data=body, content_type="application/json")
    assert asked.status_code == status


def test_a_refresh_token_of_an_ended_session_is_refused() -> None:
    app, auth = both()
    client = app.test_client()
    tokens = login(client, **BODY).json
    with app.app_context():
        auth.service.end_session(tokens["session"]["id"])
    refused = client.post("/api/v1/renew", json={"refresh_token": tokens["refresh_token"]})
    assert (refused.status_code, refused.json) == (401, {"msg": "Token has been revoked"})


def test_a_refresh_token_that_was_used_before_ends_the_session() -> None:
    app, _ = both(DOORWARD_REFRESH_WINDOW=0)
    client = app.test_client()
    first = login(client, **BODY).json
    tokens = first
    for _ in range(2):
        body = {"refresh_token": tokens["refresh_token"]}
        tokens = client.post("/api/v1/refresh", json=body).json
    refused = client.post("/api/v1/renew", json={"refresh_token": first["refresh_token"]})
    assert (refused.status_code, refused.json) == (401, {"msg": "Token has been revoked"})
    late = client.post("/api/v1/renew", json={"refresh_token": tokens["refresh_token"]})
    assert late.status_code == 401
    assert client.get("/api/v1/view", headers=bearer(tokens["access_token"])).status_code == 401


@pytest.mark.parametrize(("path", "kind"), [("view", "access"), ("refresh/renew", "refresh")])
def test_cookies_need_their_double_submit_value(path: str, kind: str) -> None:
    app, _ = both(JWT_COOKIE_CSRF_PROTECT=True, JWT_COOKIE_SECURE=False)
    client = app.test_client()
    login(client, **COOKIE)
    csrf = client.get_cookie(f"csrf_{kind}_token").value
    path = f"/api/v1/{path}"
    assert client.get(path).status_code == 200
    assert client.post(path).json == {"msg": "Missing CSRF token"}
    wrong = client.post(path, headers={"X-CSRF-TOKEN": "x"})
    assert wrong.json == {"msg": "CSRF double submit tokens do not match"}
    assert client.post(path, headers={"X-CSRF-TOKEN": csrf}).status_code == 200


def test_tokens_of_the_extensions_own_pass_beside_it() -> None:
    app, _ = both()
    client = app.test_client()
    with app.app_context():
        access, refresh = ours.create_access_token("bob"), ours.create_refresh_token("bob")
        keyed = ours.create_access_token("bob", additional_headers={"kid": "0" * 16})
    for token in (access, keyed):
        assert client.get("/api/v1/view", headers=bearer(token)).json["user"] == "bob"
    assert client.get("/api/v1/renew", headers=bearer(refresh)).json["user"] == "bob"
