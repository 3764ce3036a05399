"""The service: what the endpoints do, for views written by hand."""

import datetime
import pathlib
from pathlib import Path

import pytest
from flask import Flask, Response, jsonify
from werkzeug.test import Client

from flask_doorward import Doorward, DoorwardError
from flask_doorward.errors import PasswordTooWeak

from apps import PASSWORD, bare, bearer, protected


@pytest.fixture
def app() -> Flask:
    app, auth = protected()

    @app.post("/api/v1/enter")
    def enter() -> Response:
        return auth.service.response(auth.service.login("7", username="ada", remember=True))

    @app.post("/api/v1/slip")
    def slip() -> Response:
        response = jsonify(slipped=True)
        auth.service.set_cookies(response, auth.service.login(7))
        return response

    @app.post("/api/v1/leave")
    @auth.required
    def leave() -> Response:
        auth.service.end_session(auth.current_session.id, reason="logout")
        return auth.service.logged_out_response()

    return app


@pytest.fixture
def auth(app: Flask) -> Doorward:
    return Doorward()


def test_a_view_logs_in_as_the_endpoint_does(app: Flask) -> None:
    client = app.test_client()
    answer = client.post("/api/v1/enter")
    assert answer.json["user"] == {"id": "7", "username": "ada"}
    assert "Max-Age" in answer.headers["Set-Cookie"]
    assert client.get("/api/v1/session").status_code == 200


def test_a_view_puts_cookies_on_an_answer_of_its_own(app: Flask) -> None:
    client = app.test_client()
    assert client.post("/api/v1/slip").json == {"slipped": True}
    assert client.get("/api/v1/hello").json == {"id": "7"}
    assert client.post("/api/v1/refresh").status_code == 200


def test_a_view_logs_out_as_the_endpoint_does(app: Flask) -> None:
    client = app.test_client()
    client.post("/api/v1/enter")
    answer = client.post("/api/v1/leave")
    assert answer.status_code == 204 and len(answer.headers.getlist("Set-Cookie")) == 2
    assert client.get("/api/v1/hello").status_code == 401


def test_the_device_of_the_request_is_kept(app: Flask) -> None:
    client = app.test_client()
    client.post("/api/v1/enter", headers={"User-Agent": "a browser"})
    (session,) = client.get("/api/v1/sessions").json["sessions"]
    assert session["agent"] == "a browser" and session["address"] == "127.0.0.1"


def test_sessions_of_a_user_are_listed_and_ended(app: Flask, auth: Doorward) -> None:
    with app.app_context():
        first, second = (auth.service.login(7, delivery="body") for _ in range(2))
        ids = {row.id for row in auth.service.sessions_of(7)}
        assert ids == {first.session.id, second.session.id}
        auth.service.end_user(7, except_session=second.session.id)
        assert [row.id for row in auth.service.sessions_of("7")] == [second.session.id]
        with pytest.raises(DoorwardError) as refused:
            auth.service.verify(first.access_token)
    assert refused.value.reason == "ended_by_operator"


def test_a_refresh_by_hand_rotates(app: Flask, auth: Doorward) -> None:
    with app.app_context():
        tokens = auth.service.login(7, delivery="body")
        after = auth.service.refresh(tokens.refresh_token)
        assert after.session.id == tokens.session.id and after.refresh_token != tokens.refresh_token
        with pytest.raises(DoorwardError):
            auth.service.refresh(after.refresh_token, delivery="cookie")


def test_passwords_are_hashed_and_verified(app: Flask, auth: Doorward) -> None:
    with app.app_context():
        made = auth.service.hash_password(PASSWORD)
        assert auth.service.verify_password(PASSWORD, made) == (True, None)
        assert auth.service.verify_password("wrong", made)[0] is False
        assert auth.service.verify_password(PASSWORD, None)[0] is False


@pytest.mark.parametrize(
    ("config", "password", "reason"),
    [
        ({}, "correct horse", "too short"),
        ({}, "P4ssw0rdP4ssw0rd", "common passwords"),
        ({}, "lovelace-lovelace-1815", "the username"),
        ({"DOORWARD_SERVICE_NAME": "Polar Bank"}, "polarbank-polarbank", "name of this service"),
        ({"DOORWARD_ISSUER": "https://polarbank.example"}, "polarbank-polarbank", "name of this service"),
        ({"DOORWARD_BREACHED_PASSWORDS_FILE": "breached"}, "correct horse battery staple", "data breach"),
    ],
)
def test_a_new_password_that_is_guessed_first_is_refused_with_the_reason(
    config: dict[str, str], password: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breached").write_text("ABF7AAD6438836DBE526AA231ABDE2D0EEF74D42:384\n")
    monkeypatch.chdir(tmp_path)
    app, auth = protected(**config)
    with app.app_context():
        for new in (auth.service.hash_new_password, auth.service.create_user):
            with pytest.raises(PasswordTooWeak, match=reason):
                new("lovelace", password)
        made = auth.service.hash_new_password("lovelace", PASSWORD)
        assert auth.service.verify_password(PASSWORD, made) == (True, None)


def test_accounts_are_made_and_identified(app: Flask, auth: Doorward) -> None:
    with app.app_context():
        made = auth.service.create_user("Ada", PASSWORD)
        who = auth.service.identify("ada", PASSWORD)
        assert (who.user_id, who.username) == (made, "ada")


def test_the_public_keys_are_those_of_the_endpoint(app: Flask, auth: Doorward) -> None:
    with app.app_context():
        keys = auth.service.jwks()
    assert keys == Client(app).get("/api/v1/jwks.json").json


def test_claims_come_from_the_loader_unless_given() -> None:
    app = bare()
    auth = Doorward(app)
    auth.claims_loader(lambda user_id: {"role": "loaded"})
    app.add_url_rule("/x", "x", auth.required(lambda: auth.current_session.claims["role"]))
    with app.app_context():
        loaded, given = auth.service.login(7), auth.service.login(7, claims={"role": "given"})
    client = app.test_client()
    assert client.get("/x", headers=bearer(loaded.access_token)).text == "loaded"
    assert client.get("/x", headers=bearer(given.access_token)).text == "given"


def test_claims_are_written_by_the_apps_json() -> None:
    app = bare()
    auth = Doorward(app)
    with app.app_context():
        token = auth.service.login(7, claims={"born": datetime.date(1815, 12, 10)}).access_token
        assert auth.service.verify(token).claims["born"].startswith("Sun, 10 Dec 1815")


def test_a_token_that_no_text_can_be_is_refused() -> None:
    app, auth = protected()
    with app.app_context():
        for use in (auth.service.verify, auth.service.refresh):
            with pytest.raises(DoorwardError) as refused:
                use("dwr_\ud800")
            assert refused.value.error == "token_invalid"


def test_a_health_check_is_told_what_keeps_requests_from_being_served(tmp_path: pathlib.Path) -> None:
    app, auth = protected()
    with app.app_context():
        assert auth.service.unready() is None
    app, auth = protected(DOORWARD_STORE=f"sqlite://{tmp_path}/not-there/doorward.db")
    with app.app_context():
        assert "not-there" in (auth.service.unready() or "")


def test_what_a_process_counts_is_told_in_the_words_of_prometheus() -> None:
    app, auth = protected()
    client = app.test_client()
    client.login("7", delivery="body")
    assert client.get("/api/v1/hello").status_code == 200
    with app.app_context():
        lines = auth.service.metrics().splitlines()
    assert "doorward_ready 1" in lines and "doorward_verifies 1" in lines
    assert 'doorward_store_operation_seconds_count{operation="open"} 1' in lines
    assert not any("7" in line for line in lines if "user" in line)
