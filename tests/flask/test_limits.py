"""Limits of sessions, freshness, and resets of passwords, in Flask. The recorded exchanges show the rest."""

import datetime
import pathlib
import time
from typing import Any

import pytest
from flask import Flask

from flask_doorward import ConfigError, Doorward
from flask_doorward.errors import Conflict, DoorwardError

from apps import PASSWORD, add_ada, bare, bearer, login, protected

NEW = "a much better passphrase"


def lasts(answer: Any) -> float:
    session = answer.json["session"]
    begin, end = (datetime.datetime.fromisoformat(session[key]) for key in ("created_at", "expires_at"))
    return (end - begin).total_seconds()


def test_each_class_has_its_limits() -> None:
    app, auth = protected(
        DOORWARD_BROWSER_REFRESH_TTL="12h", DOORWARD_PRIVILEGED_REFRESH_TTL="1h",
        DOORWARD_PRIVILEGED_SESSION_TTL=datetime.timedelta(minutes=40),
    )
    privileged: set[str] = set()
    auth.privilege_loader(lambda user_id: user_id in privileged)
    user = add_ada(app, auth)
    assert lasts(login(app.test_client(), remember=True)) == 30 * 24 * 3600
    assert lasts(login(app.test_client())) == 12 * 3600
    privileged.add(user)
    answer = login(app.test_client(), remember=True)
    assert lasts(answer) == 40 * 60
    assert "Max-Age=2400" in answer.headers.getlist("Set-Cookie")[0]
    with app.app_context():
        assert auth.service.login("7").session.privileged is False
        assert auth.service.login("7", privileged=True).session.privileged is True
        assert auth.service.login(user, privileged=False).session.privileged is False


def test_an_app_says_which_of_its_users_are_privileged() -> None:
    app, auth = protected(DOORWARD_PRIVILEGED_REFRESH_TTL="1h")
    hashes: dict[str, str] = {}

    @auth.find_user
    def find(name: str) -> tuple[str, str]:
        return name, hashes[name]

    @auth.find_user_by_id
    def by_id(user_id: str) -> tuple[str, str]:
        return user_id, hashes[user_id]

    @auth.save_password_hash
    def save(user_id: str, password_hash: str) -> None:
        hashes[user_id] = password_hash

    @auth.privilege_loader
    def privileged(user_id: str) -> bool:
        return user_id == "ada"

    with app.app_context():
        hashes.update(dict.fromkeys(("ada", "bob"), auth.service.hash_password(PASSWORD)))
    client = app.test_client()
    assert lasts(login(client, username="bob", remember=True)) == 30 * 24 * 3600
    assert lasts(login(client, remember=True)) == 3600
    changed = client.post("/api/v1/password", json={"current": PASSWORD, "new": NEW})
    assert lasts(changed) == 3600
    # An app with users of its own has no resets of ours.
    assert client.post("/api/v1/password/reset", json={"token": "x", "new": NEW}).status_code == 404


def test_a_loader_that_says_neither_is_a_mistake() -> None:
    app, auth = protected()
    auth.privilege_loader(lambda user_id: None)  # type: ignore[arg-type, return-value]
    with app.app_context(), pytest.raises(TypeError, match="privilege_loader returns True or False"):
        auth.service.login("7")


def test_a_marked_account_is_privileged_whoever_opens_its_session(tmp_path: pathlib.Path) -> None:
    app, auth = protected(DOORWARD_STORE=f"sqlite://{tmp_path}/a.db", DOORWARD_PRIVILEGED_REFRESH_TTL="1h")
    user = add_ada(app, auth)
    run = app.test_cli_runner()
    assert run.invoke(args=["auth", "user", "privilege", "ada", "on"]).output == "ada: done\n"
    assert "\tenabled,privileged\t" in run.invoke(args=["auth", "user", "list"]).output
    assert lasts(login(app.test_client(), remember=True)) == 3600
    with app.app_context():
        assert auth.service.identify("ada", PASSWORD).privileged is True
        assert auth.service.login(user).session.privileged is True


def test_a_cap_is_one_for_views_too() -> None:
    app, auth = protected(DOORWARD_SESSIONS_PER_USER=1, DOORWARD_SESSIONS_OVER_CAP="refuse")
    add_ada(app, auth)
    assert login(app.test_client()).status_code == 200
    refused = login(app.test_client())
    assert (refused.status_code, refused.json["code"]) == (409, "session_limit_reached")
    with app.app_context():
        auth.service.login("7")
        with pytest.raises(Conflict):
            auth.service.login("7")


def test_the_oldest_session_ends_and_is_told_of() -> None:
    from flask_doorward.signals import session_ended

    app, auth = protected(DOORWARD_SESSIONS_PER_USER=1)
    told: list[Any] = []
    session_ended.connect(lambda sender, **what: told.append(what), app, weak=False)
    with app.app_context():
        first, second = auth.service.login("7"), auth.service.login("7")
        assert [(what["session_id"], what["reason"]) for what in told] == [(first.session.id, "session_limit")]
        with pytest.raises(DoorwardError) as ended:
            auth.service.verify(first.access_token)
        assert ended.value.reason == "session_limit"
        auth.service.verify(second.access_token)


def test_reauthentication_makes_a_session_fresh_again() -> None:
    app, auth = protected(DOORWARD_FRESH_TTL=1, DOORWARD_FRESH_NEEDED_FOR=["end_sessions"])
    add_ada(app, auth)

    @app.get("/api/v1/pay")
    @auth.required(fresh=datetime.timedelta(seconds=1))
    def pay() -> str:
        return "paid"

    client = app.test_client()
    access = login(client, delivery="body").json["access_token"]
    time.sleep(2.1)
    for stale in (client.get("/api/v1/pay", headers=bearer(access)),
                  client.delete("/api/v1/sessions", headers=bearer(access))):
        assert (stale.status_code, stale.json["code"]) == (401, "fresh_login_required")
        assert "insufficient_user_authentication" in stale.headers["WWW-Authenticate"]
    again = client.post("/api/v1/reauthenticate", json={"password": PASSWORD}, headers=bearer(access))
    fresh = bearer(again.json["access_token"])
    assert client.get("/api/v1/pay", headers=fresh).status_code == 200
    assert client.delete("/api/v1/sessions", headers=fresh).json == {"ended": 1}


@pytest.fixture
def app(tmp_path: pathlib.Path) -> Flask:
    app = bare(DOORWARD_STORE=f"sqlite://{tmp_path}/doorward.db")
    add_ada(app, Doorward(app))
    return app


@pytest.mark.parametrize("by", ["service", "command"])
def test_whoever_has_the_token_sets_a_password_once(app: Flask, by: str) -> None:
    if by == "service":
        with app.app_context():
            token, until = Doorward().service.start_password_reset("Ada")
        left = until - datetime.datetime.now(datetime.timezone.utc)
        assert datetime.timedelta(minutes=19) < left <= datetime.timedelta(minutes=20)
    else:
        token = app.test_cli_runner().invoke(args=["auth", "user", "reset", "ada"]).output.split()[1]
    client = app.test_client()
    assert login(client).status_code == 200

    def reset(new: str) -> Any:
        return app.test_client().post("/api/v1/password/reset", json={"token": token, "new": new})

    assert reset("short").json["code"] == "password_too_weak"
    done = reset(NEW)
    assert (done.status_code, done.data, done.headers.getlist("Set-Cookie")) == (204, b"", [])
    assert reset(NEW).json["code"] == "reset_token_invalid"
    assert client.get("/api/v1/session").json["reason"] == "password_changed"
    assert (login(client).status_code, login(client, password=NEW).status_code) == (401, 200)


def test_an_account_is_made_whose_user_sets_the_password(app: Flask) -> None:
    run = app.test_cli_runner().invoke(args=["auth", "user", "add", "bob", "--reset-token"])
    assert run.exit_code == 0 and run.output.startswith("added bob, id ")
    token = run.output.splitlines()[1].removeprefix("token: ")
    client = app.test_client()
    done = client.post("/api/v1/password/reset", json={"token": token, "new": NEW})
    assert done.status_code == 204
    body = {"username": "bob", "password": NEW}
    assert client.post("/api/v1/login", json=body).status_code == 200
    both = app.test_cli_runner().invoke(args=["auth", "user", "add", "eve", "--reset-token", "--password-stdin"])
    assert both.exit_code != 0 and "--reset-token" in both.output


def test_with_claims_of_the_apps_own_a_reset_is_the_accounts_still(app: Flask) -> None:
    auth = Doorward()
    app.extensions["doorward"]["auth"].callbacks.add("claims_loader", lambda user_id: {"role": "teacher"})
    with app.app_context():
        token, _ = auth.service.start_password_reset("ada")
    done = app.test_client().post("/api/v1/password/reset", json={"token": token, "new": NEW})
    assert done.status_code == 204
    assert login(app.test_client(), password=NEW).status_code == 200


def test_an_unknown_name_has_no_reset(app: Flask) -> None:
    with app.app_context(), pytest.raises(DoorwardError) as unknown:
        Doorward().service.start_password_reset("eve")
    assert unknown.value.error == "not_found"
    run = app.test_cli_runner().invoke(args=["auth", "user", "reset", "eve"])
    assert run.exit_code == 1 and "eve" in run.output and "dwp_" not in run.output


def refusal(**config: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        Doorward(bare(**config))
    return str(refused.value)


def test_a_level_of_assurance_sets_what_is_unset_and_bounds_what_is_set() -> None:
    app, auth = protected(DOORWARD_ASSURANCE="aal2")
    add_ada(app, auth)
    assert lasts(login(app.test_client(), remember=True)) == 3600
    Doorward(bare(DOORWARD_ASSURANCE="aal3", DOORWARD_SESSION_TTL="6h"))
    looser = refusal(DOORWARD_ASSURANCE="aal2", JWT_ACCESS_TOKEN_EXPIRES=datetime.timedelta(minutes=20))
    assert looser.startswith("JWT_ACCESS_TOKEN_EXPIRES must be at most what assurance allows")
    looser = refusal(DOORWARD_ASSURANCE="aal2", DOORWARD_FRESH_NEEDED_FOR=["end_sessions"])
    assert looser.startswith("DOORWARD_FRESH_NEEDED_FOR must name change_password and end_sessions")


@pytest.mark.parametrize(("key", "value"), [
    ("DOORWARD_ASSURANCE", "aal4"), ("DOORWARD_SESSIONS_PER_USER", 0), ("DOORWARD_SESSIONS_OVER_CAP", "refuse"),
    ("DOORWARD_FRESH_NEEDED_FOR", ["logout"]), ("DOORWARD_RESET_TTL", "21m"),
    ("DOORWARD_BROWSER_REFRESH_TTL", "31d"), ("DOORWARD_PRIVILEGED_SESSION_TTL", 1),
])  # fmt: skip
def test_what_cannot_be_used_is_refused_by_its_key(key: str, value: object) -> None:
    assert refusal(**{key: value}).startswith(key)
