"""The log of events: what the endpoints, the app's own calls and the commands leave in it."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from flask_doorward import Doorward, errors

from apps import PASSWORD, bare, bearer, login

Run = Callable[..., Result]


@pytest.fixture
def auth() -> Doorward:
    return Doorward()


@pytest.fixture
def app(tmp_path: pathlib.Path, auth: Doorward) -> Flask:
    app = bare(DOORWARD_STORE=f"sqlite://{tmp_path}/doorward.db", DOORWARD_EVENT_REFRESHES=0)
    auth.init_app(app)
    return app


@pytest.fixture
def run(app: Flask) -> Run:
    def run(*words: str, text: str = "") -> Result:
        return app.test_cli_runner().invoke(args=["auth", *words], input=text)

    return run


@pytest.fixture
def ada(run: Run) -> str:
    added = run("user", "add", "ada", "--password-stdin", text=PASSWORD + "\n")
    return added.output.strip().removeprefix("added ada, id ")


def records(run: Run, *arguments: str) -> list[dict[str, Any]]:
    shown = run("events", "--format", "json", *arguments)
    assert shown.exit_code == 0, shown.output
    return [json.loads(line) for line in shown.output.splitlines()]


def told(run: Run, *arguments: str) -> list[tuple[str, str | None, str]]:
    return [(record["event"], record["reason"], record["actor"]) for record in records(run, *arguments)]


def close(auth: Doorward, app: Flask) -> None:
    """As at a fork: what waits is written."""
    app.extensions["doorward"]["auth"].close()


def test_the_endpoints_leave_records(app: Flask, auth: Doorward, run: Run, ada: str) -> None:
    client = app.test_client()
    login(client, password="wrong wrong")
    login(client, username="my secret passphrase")
    opened = login(client, delivery="body", device="laptop").json
    client.post("/api/v1/refresh", json={"refresh_token": opened["refresh_token"]})
    client.post("/api/v1/logout", headers=bearer(opened["access_token"]))
    close(auth, app)
    # The last two may be of one millisecond, and the first of them waits for the tick.
    *first, refresh, end = told(run)
    assert first == [
        ("account_added", None, "operator"), ("login_failed", "wrong_password", "user"),
        ("login_failed", "unknown_user", "user"), ("logged_in", None, "user"),
    ]  # fmt: skip
    assert {refresh, end} == {("refreshed", None, "user"), ("session_ended", "logout", "user")}
    [opening] = records(run, "--event", "logged_in", "--user", "ada")
    assert (opening["user"], opening["device"], opening["network"]) == (ada, "laptop", "127.0.0.0/24")
    assert opening["agent"].startswith("Werkzeug")
    assert "my secret passphrase" not in str(records(run))


def test_the_apps_own_calls_leave_records(app: Flask, auth: Doorward, run: Run) -> None:
    @app.get("/in")
    def enter() -> dict[str, str]:
        try:
            auth.service.identify("nobody", "wrong")
        except errors.Unauthorized:
            pass
        return {"id": auth.service.login("7", device="d").session.id}

    session = app.test_client().get("/in").json["id"]
    with app.app_context():
        auth.service.login("7")
        auth.service.end_session(session)
        auth.service.end_user("7", reason="disabled")
        auth.service.create_user("eve", PASSWORD)
    close(auth, app)
    assert told(run) == [
        ("login_failed", "unknown_user", "user"), ("logged_in", None, "user"), ("logged_in", None, "user"),
        ("session_ended", "ended_by_operator", "operator"), ("sessions_ended", "disabled", "operator"),
        ("session_ended", "disabled", "operator"), ("account_added", None, "operator"),
    ]  # fmt: skip
    networks = [record["network"] for record in records(run, "--user", "7")]
    assert networks[:2] == ["127.0.0.0/24", None]


def test_users_of_the_apps_own_fail_for_a_reason_too(tmp_path: pathlib.Path) -> None:
    app = bare(DOORWARD_STORE=f"sqlite://{tmp_path}/doorward.db")
    auth = Doorward(app)
    with app.app_context():
        password_hash = auth.service.hash_password(PASSWORD)
    auth.find_user(lambda name: (7, password_hash) if name == "ada" else None)
    client = app.test_client()
    login(client, password="wrong wrong")
    login(client, username="bob")
    assert login(client).status_code == 200
    close(auth, app)
    shown = app.test_cli_runner().invoke(args=["auth", "events", "--format", "json"])
    found = [json.loads(line) for line in shown.output.splitlines()]
    assert [(record["event"], record["reason"], record["user"]) for record in found] == [
        ("login_failed", "wrong_password", "7"), ("login_failed", "unknown_user", None), ("logged_in", None, "7"),
    ]  # fmt: skip


def test_a_user_reads_the_own_history_only(app: Flask, auth: Doorward, ada: str) -> None:
    client = app.test_client()
    token = login(client, delivery="body").json["access_token"]
    with app.app_context():
        auth.service.login("7")
    history = client.get("/api/v1/events", headers=bearer(token)).json
    assert [event["event"] for event in history["events"]] == ["logged_in", "account_added"]
    assert history["events"][0]["current"] is True and "next" not in history


def test_commands_say_why_and_follow_filters(app: Flask, run: Run, ada: str) -> None:
    session = login(app.test_client()).json["session"]["id"]
    assert run("session", "end", session).exit_code == 0
    words = run("session", "why", session).output.splitlines()
    assert len(words) == 3 and "(ended_by_operator)" in words[2]
    assert run("keys", "rotate").exit_code == 0
    assert [name for name, *_ in told(run, "--limit", "1")] == ["key_rotated"]
    refused = run("events", "--event", "x")
    assert refused.exit_code == 1 and "no event of this name" in refused.output


def test_an_export_has_all_and_an_erasure_leaves_nothing(app: Flask, auth: Doorward, run: Run, ada: str) -> None:
    client = app.test_client()
    opened = login(client, delivery="body").json
    with app.app_context():
        exported = auth.service.export(ada)
    assert exported["account"]["username"] == "ada" and "argon2" not in str(exported)
    assert [row["id"] for row in exported["sessions"]] == [opened["session"]["id"]]
    assert json.loads(run("user", "export", "ada").output)["user"] == ada
    with app.app_context():
        assert auth.service.erase(ada) == 1
        assert auth.service.sessions_of(ada) == []
    assert client.get("/api/v1/session", headers=bearer(opened["access_token"])).json["code"] == "session_ended"
    refused = client.post("/api/v1/refresh", json={"refresh_token": opened["refresh_token"]})
    assert refused.json["code"] == "token_invalid"
    close(auth, app)
    assert {record["user"] for record in records(run)} == {None}
    assert run("user", "erase", "--id", "nobody").output == "erased: 0 sessions, and all events\n"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"DOORWARD_EVENT_NETWORK": "hashed"}, "DOORWARD_EVENT_NETWORK: hashed needs"),
        ({"DOORWARD_EVENT_RETENTION": "1h"}, "must be 1 to 3660 days"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config: dict[str, Any], words: str) -> None:
    app = bare(**config)
    with pytest.raises(Exception, match=words):
        auth = Doorward(app)
        auth.service  # noqa: B018
        app.test_client().get("/api/v1/session")
