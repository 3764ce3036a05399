"""Refusals: exceptions of Werkzeug's classes, which frameworks on top of Flask pass on."""

from typing import Any

import flask_restful
import flask_restx
import pytest
from flask import Flask
from werkzeug import exceptions

from flask_doorward import Doorward, DoorwardError, errors

from apps import PASSWORD, bare, bearer, login, protected


def test_a_class_for_each_status_is_werkzeugs_too() -> None:
    for status, refused in errors.CLASSES.items():
        theirs = exceptions.default_exceptions[status]
        assert issubclass(refused, theirs) and issubclass(refused, DoorwardError)
        assert refused.code == status


@pytest.mark.parametrize("caught", [401, exceptions.Unauthorized, DoorwardError, exceptions.HTTPException])
def test_an_error_handler_sees_what_is_refused(caught: Any) -> None:
    app, _ = protected()

    @app.errorhandler(caught)
    def refused(error: DoorwardError) -> tuple[dict[str, Any], int]:
        return {"error": error.error, "detail": error.description, "status": error.code}, 418

    answer = app.test_client().get("/api/v1/hello")
    told = {"error": "token_missing", "detail": "a token is required", "status": 401}
    assert answer.status_code == 418 and answer.json == told


def test_a_handler_may_hand_out_the_finished_answer() -> None:
    app, _ = protected()
    app.register_error_handler(401, lambda error: error.response)
    answer = app.test_client().get("/api/v1/hello")
    assert answer.json["code"] == "token_missing" and answer.headers["WWW-Authenticate"] == "Bearer"


def test_it_says_why_a_session_ended() -> None:
    app, auth = protected()
    seen: list[DoorwardError] = []
    app.register_error_handler(401, lambda error: (seen.append(error), error)[1])
    client = app.test_client()
    tokens = client.login("7", delivery="body")
    with app.app_context():
        auth.service.end_session(tokens.session.id, reason="disabled")
    client.get("/api/v1/hello")
    assert (seen[0].error, seen[0].reason) == ("session_ended", "disabled")


def test_it_is_raised_by_the_service_too() -> None:
    app, auth = protected()
    with app.app_context(), pytest.raises(errors.Unauthorized, match="the token is not valid"):
        auth.service.verify("a.b.c")
    with app.app_context():
        auth.service.create_user("ada", PASSWORD)
        with pytest.raises(errors.Conflict):
            auth.service.create_user("ada", PASSWORD)
        with pytest.raises(errors.PasswordTooWeak):
            auth.service.create_user("bob", "short")


def restful(app: Flask, auth: Doorward) -> None:
    api = flask_restful.Api(app)

    class Hello(flask_restful.Resource):  # type: ignore[misc]
        method_decorators = [auth.required]

        def get(self) -> dict[str, str]:
            return {"id": auth.current_session.user_id}

    api.add_resource(Hello, "/rest")


def restx(app: Flask, auth: Doorward) -> None:
    api = flask_restx.Api(app)

    @api.route("/rest")
    class Hello(flask_restx.Resource):  # type: ignore[misc]
        @auth.required
        def get(self) -> dict[str, str]:
            return {"id": auth.current_session.user_id}


@pytest.mark.parametrize("framework", [restful, restx])
def test_a_framework_on_top_answers_401_with_our_body(framework: Any) -> None:
    app = bare()
    app.testing = False
    auth = Doorward(app)
    framework(app, auth)
    client = app.test_client()
    for headers in ({}, bearer("a.b.c")):
        answer = client.get("/rest", headers=headers)
        assert answer.status_code == 401 and answer.json["code"].startswith("token_")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.headers["Cache-Control"] == "no-store"
    client.login("7", delivery="body")
    assert client.get("/rest").json == {"id": "7"}


@pytest.mark.parametrize("framework", [restful, restx])
def test_a_framework_on_top_leaves_our_endpoints_alone(framework: Any) -> None:
    app = bare()
    framework(app, Doorward(app))
    answer = login(app.test_client())
    assert answer.status_code == 401 and answer.json["code"] == "invalid_credentials"
    assert answer.content_type == "application/problem+json"


def test_a_store_that_does_not_open_is_503_and_logged_once(tmp_path: Any, caplog: Any) -> None:
    (tmp_path / "doorward.db").write_text("this is no database, whatever its name says" * 100)
    app, _ = protected(DOORWARD_STORE=f"sqlite://{tmp_path}/doorward.db")
    for _ in range(2):
        answer = app.test_client().get("/api/v1/hello", headers=bearer("a.b.c"))
        assert answer.status_code == 503 and "Retry-After" in answer.headers
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
