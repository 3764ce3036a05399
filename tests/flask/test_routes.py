"""The blueprint: its endpoints behave as any blueprint's."""

import io

import pytest
from flask import Flask, Response, g, request, url_for
from flask.cli import routes_command
from werkzeug.exceptions import HTTPException

from flask_doorward import Doorward

from apps import PASSWORD, add_ada, bare, bearer, login, protected


@pytest.fixture
def app() -> Flask:
    app, auth = protected()
    add_ada(app, auth)
    return app


def test_login_opens_a_session_and_logout_ends_it(app: Flask) -> None:
    client = app.test_client()
    assert login(client).status_code == 200
    assert client.get("/api/v1/hello").status_code == 200
    assert client.post("/api/v1/refresh").status_code == 200
    assert client.post("/api/v1/refresh/logout").status_code == 204
    assert client.get("/api/v1/hello").status_code == 401


def test_an_answer_has_the_headers_of_the_engine_only(app: Flask) -> None:
    headers = login(app.test_client(), delivery="body").headers
    assert {name.lower() for name in headers.keys()} == {
        "content-type", "content-length", "cache-control", "x-content-type-options",
        "referrer-policy", "vary", "content-security-policy", "cross-origin-resource-policy",
    }  # fmt: skip
    client = app.test_client()
    login(client)
    assert "Content-Type" not in client.post("/api/v1/logout").headers


def test_url_for_finds_the_endpoints(app: Flask) -> None:
    with app.test_request_context():
        assert url_for("auth.login") == "/api/v1/login"
        assert url_for("auth.end_session", id="x") == "/api/v1/sessions/x"


def test_flask_routes_lists_them(app: Flask) -> None:
    listed = app.test_cli_runner().invoke(routes_command).output
    assert "auth.refresh" in listed and "/api/v1/sessions/<id>" in listed


def test_only_the_chosen_endpoints_are_mounted() -> None:
    app = bare()
    Doorward(app, endpoints=["login", "refresh"])
    rules = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert rules == {"auth.login", "auth.refresh", "static"}


def test_the_description_has_what_is_mounted() -> None:
    app = bare()
    Doorward(app, endpoints=["login", "openapi"])
    described = app.test_client().get("/api/v1/openapi.json").json
    assert set(described["paths"]) == {"/login", "/openapi.json"}


def test_registration_is_off_unless_switched_on() -> None:
    app, _ = protected()
    body = {"username": "bob", "password": PASSWORD}
    assert app.test_client().post("/api/v1/register", json=body).status_code == 404
    app, _ = protected(DOORWARD_REGISTER=True)
    assert app.test_client().post("/api/v1/register", json=body).status_code == 201


def test_another_method_is_405_and_options_are_answered(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/api/v1/login").status_code == 405
    answer = client.options("/api/v1/login")
    assert answer.status_code == 200 and "POST" in answer.headers["Allow"]


def test_a_preflight_is_answered_where_origins_are_allowed() -> None:
    app, _ = protected(DOORWARD_ALLOWED_ORIGINS="https://app.example")
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    answer = app.test_client().options("/api/v1/login", headers=asked)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Access-Control-Allow-Origin" not in app.test_client().options("/api/v1/hello", headers=asked).headers


def test_hooks_of_the_app_and_of_the_blueprint_run() -> None:
    app, seen = bare(), []
    auth = Doorward()
    auth.blueprint.before_request(lambda: seen.append("blueprint"))
    auth.blueprint.after_request(lambda answer: (answer.headers.set("X-Mark", "1"), answer)[1])
    auth.init_app(app)
    app.before_request(lambda: seen.append("app"))
    answer = app.test_client().get("/api/v1/jwks.json")
    assert seen == ["app", "blueprint"] and answer.headers["X-Mark"] == "1"


def test_an_error_handler_of_the_blueprint_sees_refusals() -> None:
    app, auth = bare(), Doorward()

    @auth.blueprint.errorhandler(401)
    def refused(error: HTTPException) -> tuple[dict[str, str], int]:
        return {"mine": error.error}, 418  # type: ignore[attr-defined]

    auth.init_app(app)
    answer = login(app.test_client())
    assert answer.status_code == 418 and answer.json == {"mine": "invalid_credentials"}


def test_a_body_that_is_announced_as_too_large_is_not_read(app: Flask) -> None:
    answer = app.test_client().post("/api/v1/login", data=b"x" * 20_000, content_type="application/json")
    assert answer.status_code == 413 and answer.json["code"] == "payload_too_large"


def test_the_apps_own_limit_counts_too() -> None:
    app, _ = protected(MAX_CONTENT_LENGTH=20)
    answer = login(app.test_client())
    assert answer.status_code == 413 and answer.json["code"] == "payload_too_large"


def chunked(app: Flask, body: io.BytesIO) -> Response:
    environ = {"wsgi.input": body, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    client = app.test_client()
    return client.post("/api/v1/login", content_type="application/json", environ_overrides=environ)


def test_a_body_without_a_length_is_bounded(app: Flask) -> None:
    endless = io.BytesIO(b" " * 1_000_000)
    assert chunked(app, endless).json["code"] == "payload_too_large"
    assert endless.tell() < 100_000
    body = f'{{"username": "ada", "password": "{PASSWORD}"}}'.encode()
    assert chunked(app, io.BytesIO(body)).status_code == 200


class NoChunk(Exception):
    """As servers name what is wrong with a body."""


@pytest.mark.parametrize("error", [OSError("reset"), NoChunk("zz")])
def test_a_body_that_breaks_off_is_refused(app: Flask, error: Exception) -> None:
    class Torn(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise error

    assert chunked(app, Torn()).json["code"] == "bad_request"
    answer = app.test_client().post(
        "/api/v1/login", data=b"{}", content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "100"},
    )  # fmt: skip
    assert answer.json["code"] == "bad_request" and "whole" in answer.json["detail"]


def test_a_body_that_the_app_has_read_is_used(app: Flask) -> None:
    app.before_request(lambda: setattr(g, "read", request.get_data()))
    assert login(app.test_client()).status_code == 200


def test_a_factory_may_register_callbacks_after_init_app() -> None:
    app = bare()
    auth = Doorward(app)

    @auth.check_credentials
    def check(username: str, password: str) -> int | None:
        return 7 if password == PASSWORD else None

    answer = login(app.test_client())
    assert answer.json["user"]["id"] == "7"


def test_the_response_class_of_the_app_is_used() -> None:
    class Mine(Response):
        pass

    app = bare()
    app.response_class = Mine
    Doorward(app)
    seen = []
    app.after_request(lambda answer: (seen.append(type(answer)), answer)[1])
    client = app.test_client()
    client.get("/api/v1/jwks.json")
    client.get("/api/v1/session")
    assert seen == [Mine, Mine]


def test_a_bearer_may_be_in_any_case(app: Flask) -> None:
    token = login(app.test_client(), delivery="body").json["access_token"]
    for kind in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{kind} {token}"}
        assert app.test_client().get("/api/v1/hello", headers=headers).status_code == 200
    assert app.test_client().get("/api/v1/hello", headers=bearer("x")).status_code == 401
