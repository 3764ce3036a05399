"""Guards: which views need a session, and what they know of it."""

import contextlib
import pathlib
import sqlite3
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from flask import Blueprint, Flask, abort
from flask.views import MethodView
from werkzeug.test import create_environ

from flask_doorward import Doorward, Refused, current_session, current_user, public

from apps import bare, bearer


@pytest.fixture
def app() -> Flask:
    return bare()


@pytest.fixture
def auth(app: Flask) -> Doorward:
    return Doorward(app)


def test_a_view_that_requires_a_session_has_it(app: Flask, auth: Doorward) -> None:
    @app.get("/me")
    @auth.required
    def me() -> dict[str, Any]:
        return {"id": current_session.user_id, "claims": auth.current_session.claims["role"]}

    client = app.test_client()
    assert client.get("/me").status_code == 401
    client.login("7", delivery="body", role="admin")
    assert client.get("/me").json == {"id": "7", "claims": "admin"}


def test_a_guard_keeps_the_name_of_its_view(auth: Doorward) -> None:
    def me() -> str:
        """Mine."""
        return ""

    assert auth.required(me).__name__ == "me" and auth.required()(me).__doc__ == "Mine."


def test_an_optional_session_may_be_missing_but_not_be_false(app: Flask, auth: Doorward) -> None:
    @app.get("/me")
    @auth.optional
    def me() -> dict[str, Any]:
        return {"id": current_session.user_id if current_session else None}

    client = app.test_client()
    assert client.get("/me").json == {"id": None}
    assert client.get("/me", headers=bearer("a.b.c")).status_code == 401
    client.login("7", delivery="body")
    assert client.get("/me").json == {"id": "7"}


@pytest.mark.parametrize("fresh", [True, 60, 60.0, timedelta(minutes=1)])
def test_a_session_that_was_just_opened_is_fresh(app: Flask, auth: Doorward, fresh: Any) -> None:
    app.add_url_rule("/x", view_func=auth.required(fresh=fresh)(lambda: "x"), endpoint="x")
    client = app.test_client()
    client.login("7", delivery="body")
    assert client.get("/x").status_code == 200


@pytest.mark.parametrize("fresh", [-1, timedelta(days=-1), float("inf"), float("nan")])
def test_an_age_that_cannot_be_is_refused_at_once(auth: Doorward, fresh: Any) -> None:
    with pytest.raises(ValueError, match="not negative"):
        auth.required(fresh=fresh)


def test_an_age_of_nothing_counts(app: Flask, auth: Doorward) -> None:
    app.add_url_rule("/x", view_func=auth.required(fresh=0)(lambda: "x"), endpoint="x")
    client = app.test_client()
    client.login("7", delivery="body")
    time.sleep(1.1)  # Tokens count in seconds.
    assert client.get("/x").json["code"] == "fresh_login_required"


def test_a_strict_guard_asks_the_store_and_no_other_does(tmp_path: pathlib.Path) -> None:
    app = bare(DOORWARD_STORE=f"sqlite://{tmp_path}/a.db")
    auth = Doorward(app)
    add = app.add_url_rule
    add("/any", "any", auth.required(lambda: "any"))
    add("/strict", "strict", auth.required(strict=True)(lambda: "strict"))
    add("/maybe", "maybe", auth.optional(strict=True)(lambda: "maybe"))
    inner = Blueprint("inner", __name__)
    inner.add_url_rule("/inner", "inner", lambda: "inner")
    auth.protect(inner, strict=True)
    app.register_blueprint(inner)
    client = app.test_client()
    statuses = lambda: [client.get(path).status_code for path in ("/any", "/strict", "/maybe", "/inner")]
    assert statuses() == [401, 401, 200, 401]
    client.login("7", delivery="body")
    assert statuses() == [200, 200, 200, 200]
    # Behind the back of the app: nobody tells.
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as db:
        db.execute("ALTER TABLE sessions RENAME TO away")
        assert statuses() == [200, 503, 503, 503]
        db.execute("ALTER TABLE away RENAME TO sessions")
        assert statuses() == [200, 200, 200, 200]
        db.execute("DELETE FROM sessions")
        assert statuses() == [200, 401, 401, 401]


def test_an_async_view_is_awaited(app: Flask, auth: Doorward) -> None:
    @app.get("/me")
    @auth.required
    async def me() -> dict[str, Any]:
        return {"id": current_session.user_id}

    client = app.test_client()
    assert client.get("/me").status_code == 401
    client.login("7", delivery="body")
    assert client.get("/me").json == {"id": "7"}


def test_a_class_of_views_is_not_guarded_by_mistake(auth: Doorward) -> None:
    with pytest.raises(TypeError, match="decorators"):

        @auth.required
        class Me(MethodView):
            pass


def test_protect_denies_what_is_not_public(app: Flask, auth: Doorward) -> None:
    auth.protect(app)
    app.add_url_rule("/private", view_func=lambda: "x", endpoint="private")
    app.add_url_rule("/marked", view_func=public(lambda: "x"), endpoint="marked")
    app.add_url_rule("/own", view_func=auth.optional(lambda: "x"), endpoint="own")
    client = app.test_client()
    statuses = [client.get(path).status_code for path in ("/private", "/marked", "/own", "/static/x")]
    assert statuses == [401, 200, 200, 401]
    client.login("7", delivery="body")
    assert client.get("/private").status_code == 200


def test_protect_lets_404_405_options_and_the_api_pass(app: Flask, auth: Doorward) -> None:
    auth.protect(app)
    app.add_url_rule("/x", view_func=lambda: "x", endpoint="x")
    client = app.test_client()
    assert client.get("/nothing").status_code == 404
    assert client.post("/x").status_code == 405
    assert client.options("/x").status_code == 200
    assert client.get("/api/v1/jwks.json").status_code == 200


def test_a_view_that_answers_options_itself_is_denied(app: Flask, auth: Doorward) -> None:
    auth.protect(app)
    app.add_url_rule("/x", view_func=lambda: "x", endpoint="x", methods=["OPTIONS"])
    assert app.test_client().options("/x").status_code == 401


def test_static_files_may_be_made_public(app: Flask, auth: Doorward) -> None:
    auth.protect(app, public=["static"])
    assert app.test_client().get("/static/nothing").status_code == 404
    with pytest.raises(TypeError):
        auth.protect(app, public="static")


def test_protect_marks_a_class_but_not_its_heirs(app: Flask, auth: Doorward) -> None:
    @public
    class Open(MethodView):
        def get(self) -> str:
            return "x"

    class Heir(Open):
        pass

    auth.protect(app)
    app.add_url_rule("/open", view_func=Open.as_view("open"))
    app.add_url_rule("/heir", view_func=Heir.as_view("heir"))
    client = app.test_client()
    assert [client.get(path).status_code for path in ("/open", "/heir")] == [200, 401]


def test_protect_of_a_blueprint_holds_for_those_nested_in_it(app: Flask, auth: Doorward) -> None:
    outer, inner = Blueprint("outer", __name__, url_prefix="/outer"), Blueprint("inner", __name__)
    auth.protect(outer)
    outer.add_url_rule("/x", view_func=lambda: "x", endpoint="x")
    inner.add_url_rule("/y", view_func=lambda: "y", endpoint="y")
    outer.register_blueprint(inner, url_prefix="/inner")
    app.register_blueprint(outer)
    app.add_url_rule("/free", view_func=lambda: "x", endpoint="free")
    client = app.test_client()
    paths = ("/outer/x", "/outer/inner/y", "/free", "/outer/nothing")
    assert [client.get(path).status_code for path in paths] == [401, 401, 200, 404]


def test_protect_may_ask_for_a_fresh_session(app: Flask, auth: Doorward) -> None:
    auth.protect(app, fresh=True)
    app.add_url_rule("/x", view_func=lambda: "x", endpoint="x")
    client = app.test_client()
    client.login("7", delivery="body")
    assert client.get("/x").status_code == 200


def test_without_a_guard_nobody_knows_the_session(app: Flask, auth: Doorward) -> None:
    app.add_url_rule("/x", view_func=lambda: current_session.user_id, endpoint="x")
    with pytest.raises(RuntimeError, match="no guard has run"):
        app.test_client().get("/x")


def test_current_user_is_loaded_once_a_request(app: Flask, auth: Doorward) -> None:
    loaded = []

    @auth.user_loader
    async def load(user_id: str) -> dict[str, str]:
        loaded.append(user_id)
        return {"name": "ada"}

    @app.get("/me")
    @auth.required
    def me() -> dict[str, str]:
        return {"name": current_user["name"], "again": auth.current_user["name"]}

    client = app.test_client()
    client.login("7", delivery="body")
    assert client.get("/me").json == {"name": "ada", "again": "ada"} and loaded == ["7"]


def refuse(user_id: str) -> None:
    raise Refused


def test_an_environ_that_comes_again_with_another_token_has_another_user(app: Flask, auth: Doorward) -> None:
    auth.user_loader(lambda user_id: f"user {user_id}")
    app.add_url_rule("/name", "name", auth.required(lambda: str(current_user)))
    with app.app_context():
        authorization = [f"Bearer {auth.service.login(user).access_token}" for user in ("7", "8")]
    environ = create_environ("/name")
    for asked, user in zip(authorization, (b"user 7", b"user 8"), strict=True):
        environ["HTTP_AUTHORIZATION"] = asked
        assert b"".join(app.wsgi_app(environ, lambda *answer: None)) == user


@pytest.mark.parametrize("loader", [lambda user_id: None, refuse])
def test_a_user_who_is_gone_is_refused(app: Flask, auth: Doorward, loader: Any) -> None:
    auth.user_loader(loader)
    app.add_url_rule("/me", view_func=auth.required(lambda: current_user.name), endpoint="me")
    client = app.test_client()
    client.login("7", delivery="body")
    refused = client.get("/me")
    assert (refused.status_code, refused.json["code"], refused.json["reason"]) == (401, "session_ended", "disabled")


@pytest.mark.parametrize("guarded", ["required", "protect"])
def test_an_async_view_has_a_user_that_is_loaded_asynchronously(
    app: Flask, auth: Doorward, guarded: str
) -> None:
    @auth.user_loader
    async def load(user_id: str) -> dict[str, str]:
        return {"name": user_id}

    async def me() -> dict[str, str]:
        return {"name": current_user["name"]}

    if guarded == "protect":
        auth.protect(app)
    view = auth.required(me) if guarded == "required" else me
    app.add_url_rule("/me", view_func=view, endpoint="me")
    client = app.test_client()
    client.login("7", delivery="body")
    assert client.get("/me").json == {"name": "7"}


def test_nobody_is_the_user_of_no_session(app: Flask, auth: Doorward) -> None:
    auth.user_loader(lambda user_id: user_id)
    view = auth.optional(lambda: "somebody" if current_user else "nobody")
    app.add_url_rule("/me", view_func=view, endpoint="me")
    assert app.test_client().get("/me").text == "nobody"


def test_an_error_handler_still_knows_the_session(app: Flask, auth: Doorward) -> None:
    app.register_error_handler(404, lambda error: (current_session.user_id, 404))
    app.add_url_rule("/x", view_func=auth.required(lambda: abort(404)), endpoint="x")
    client = app.test_client()
    client.login("7", delivery="body")
    assert client.get("/x").text == "7"


def test_a_token_may_be_in_a_query_or_in_json() -> None:
    app = bare(JWT_TOKEN_LOCATION=["headers", "query_string", "json"])
    auth = Doorward(app)
    view = auth.required(lambda: current_session.user_id)
    app.add_url_rule("/me", view_func=view, endpoint="me", methods=["GET", "POST"])
    with app.app_context():
        token = auth.service.login("7").access_token
    client = app.test_client()
    assert client.get(f"/me?jwt={token}").text == "7"
    assert client.post("/me", json={"access_token": token}).text == "7"
    assert client.post("/me", json={"access_token": 7}).status_code == 401
    assert client.post("/me", data="{", content_type="application/json").status_code == 401


@pytest.mark.parametrize("body", ["[" * 100_000, '{"access_token": "\\ud800"}'], ids=["deep", "half"])
def test_json_that_python_cannot_read_is_no_mistake_of_the_apps(body: str) -> None:
    app = bare(JWT_TOKEN_LOCATION="json")
    auth = Doorward(app)
    app.add_url_rule("/me", view_func=auth.required(lambda: "x"), endpoint="me", methods=["POST"])
    refused = app.test_client().post("/me", data=body, content_type="application/json")
    assert refused.status_code == 401


def test_a_form_may_carry_the_token_against_csrf() -> None:
    app = bare(
        JWT_COOKIE_CSRF_PROTECT=True, JWT_CSRF_CHECK_FORM=True, JWT_TOKEN_LOCATION="cookies",
        JWT_ACCESS_COOKIE_PATH="/",
    )  # fmt: skip
    auth = Doorward(app)
    app.add_url_rule("/me", view_func=auth.required(lambda: "x"), endpoint="me", methods=["POST"])
    client = app.test_client()
    client.login("7")
    csrf = client.get_cookie("csrf_access_token").value
    assert client.post("/me").json["code"] == "csrf_failed"
    assert client.post("/me", data={"csrf_token": csrf}).status_code == 200
    assert client.post("/me", headers={"X-CSRF-TOKEN": csrf}).status_code == 200


def test_threads_that_come_first_at_once_find_one_store(app: Flask, auth: Doorward) -> None:
    def login() -> None:
        with app.app_context():
            auth.service.login("7")

    threads = [threading.Thread(target=login) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with app.app_context():
        assert len(auth.service.sessions_of("7")) == 8
