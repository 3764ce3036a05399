"""Signals and the log: what happened, and to whom."""

import logging
from typing import Any

import pytest
from flask import Flask

from flask_doorward import Doorward, DoorwardError, Service, signals

from apps import PASSWORD, add_ada, bare, login, protected

NAMES = ("logged_in", "login_failed", "refreshed", "reuse_detected", "logged_out", "session_ended")


@pytest.fixture
def app() -> Flask:
    app, auth = protected(DOORWARD_REFRESH_WINDOW=0)
    add_ada(app, auth)
    return app


@pytest.fixture
def heard(app: Flask) -> Any:
    """Names and reasons of the app's signals, in order."""
    heard: list[tuple[str, str | None]] = []
    receivers = []
    for name in NAMES:

        def receiver(sender: Flask, *, reason: str | None, name: str = name, **told: Any) -> None:
            assert sender is app and told["instance"] == "auth"
            heard.append((name, reason))

        receivers.append(receiver)
        getattr(signals, name).connect(receiver, sender=app)
    yield heard


def test_a_session_is_heard_of_from_login_to_logout(app: Flask, heard: list[Any]) -> None:
    client = app.test_client()
    login(client, password="wrong wrong")
    login(client)
    client.post("/api/v1/refresh")
    client.post("/api/v1/refresh/logout")
    assert heard == [
        ("login_failed", "wrong_password"), ("logged_in", None), ("refreshed", None),
        ("session_ended", "logout"), ("logged_out", "logout"),
    ]  # fmt: skip


def test_a_token_of_two_holders_is_heard_of(app: Flask, heard: list[Any]) -> None:
    client = app.test_client()

    def refresh(token: str) -> dict[str, Any]:
        answer: dict[str, Any] = client.post("/api/v1/refresh", json={"refresh_token": token}).json
        return answer

    first = login(client, delivery="body").json["refresh_token"]
    refresh(refresh(first)["refresh_token"])
    assert refresh(first)["code"] == "refresh_reused"
    assert ("reuse_detected", "reuse") in heard and ("session_ended", "reuse") in heard


def test_what_a_view_does_by_hand_is_heard_of(app: Flask, heard: list[Any]) -> None:
    with app.app_context():
        service = Service("auth")
        tokens = service.login("7")
        service.refresh(tokens.refresh_token, delivery="cookie")
        service.end_user("7")
    assert [name for name, _ in heard] == ["logged_in", "refreshed", "session_ended"]


def test_a_reuse_found_by_hand_is_heard_of(app: Flask, heard: list[Any]) -> None:
    with app.app_context():
        service = Service("auth")
        first = service.login("7", delivery="body").refresh_token
        second = service.refresh(first).refresh_token
        service.refresh(second)
        with pytest.raises(DoorwardError, match="used"):
            service.refresh(first)
    assert ("reuse_detected", "reuse") in heard


def test_an_async_receiver_is_awaited() -> None:
    app = bare()
    auth, heard = Doorward(app), []

    async def receiver(sender: Flask, **told: Any) -> None:
        heard.append(told["user_id"])

    with signals.logged_in.connected_to(receiver, app), app.app_context():
        auth.service.login("7")
    assert heard == ["7"]


def test_the_log_has_ids_and_reasons_and_no_secrets(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client = app.test_client()
        login(client, password="wrong wrong")
        tokens = login(client, delivery="body").json
        client.post("/api/v1/refresh", json={"refresh_token": tokens["refresh_token"]})
    lines = [record for record in caplog.records if record.name == f"{app.logger.name}.auth"]
    text = "\n".join(record.getMessage() for record in lines)
    assert f"logged_in user={tokens['user']['id']} session={tokens['session']['id']}" in text
    assert "login_failed" in text and "refreshed user=" in text
    for secret in (PASSWORD, "wrong wrong", tokens["access_token"], tokens["refresh_token"]):
        assert secret not in caplog.text
