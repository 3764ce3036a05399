"""Keys that change from start to start, as `secrets.token_hex` at every start makes them."""

import pathlib
import secrets

import pytest
from flask import Flask

from apps import bearer, protected


def started(folder: pathlib.Path) -> Flask:
    return protected(
        DOORWARD_STORE=f"sqlite://{folder}/doorward.db", JWT_SECRET_KEY=secrets.token_hex(16)
    )[0]


def logged_in(app: Flask) -> str:
    with app.app_context():
        tokens = app.extensions["doorward"]["auth"].door.login("7", delivery="body")[0]
    return str(tokens.access_token)


def greeted(app: Flask, token: str) -> int:
    return app.test_client().get("/api/v1/hello", headers=bearer(token)).status_code


def test_processes_with_keys_of_their_own_accept_each_others_tokens(tmp_path: pathlib.Path) -> None:
    apps = [started(tmp_path) for _ in range(4)]
    tokens = [logged_in(app) for app in apps]
    assert {greeted(app, token) for app in apps for token in tokens} == {200}


def test_a_token_from_before_a_restart_is_good_after_it(tmp_path: pathlib.Path) -> None:
    token = logged_in(started(tmp_path))
    assert [greeted(started(tmp_path), token) for _ in range(5)] == [200] * 5


def test_a_key_that_changes_is_pointed_out_once_even_where_nothing_but_a_guard_runs(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        caplog.clear()
        app = started(tmp_path)
        assert [greeted(app, "no token") for _ in range(3)] == [401] * 3
    (warning,) = [record for record in caplog.records if "every start" in record.message]
    assert warning.name.endswith(".auth") and warning.levelname == "WARNING"
    assert "key ring" in warning.message


def test_a_key_that_stays_is_not(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"DOORWARD_STORE": f"sqlite://{tmp_path}/doorward.db", "JWT_SECRET_KEY": secrets.token_hex(32)}
    for _ in range(6):
        greeted(protected(**settings)[0], "no token")
    assert "every start" not in caplog.text


@pytest.mark.parametrize("sample", ["your-256-bit-secret", "super-secret", "x" * 40, "change-me" * 5])
def test_a_key_that_can_be_guessed_is_refused_by_the_apps_own_name(sample: str) -> None:
    with pytest.raises(ValueError, match="^JWT_SECRET_KEY: the secret is (shorter|a sample)"):
        protected(JWT_SECRET_KEY=sample)
