"""What is never safe is refused by the app's own key; what may be right is in the log once."""

import logging
import pathlib
from typing import Any

import pytest
from flask import Flask

from flask_doorward import ConfigError, Doorward

from apps import add_ada, bare, bearer, login, protected

ONE = "7f0c3a9e51d24b86a1c9e3f05b7d2846"
OTHER = "b1946ac92492d2347c6235b4d2611184"
PRINTED = "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf"
RFC_8037 = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
"""


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"JWT_SECRET_KEY": PRINTED}, "JWT_SECRET_KEY: the secret is a sample"),
        ({"DOORWARD_SEAL_SECRET": "short"}, "DOORWARD_SEAL_SECRET: the secret is shorter than 32 bytes"),
        ({"DOORWARD_SEAL_SECRET": "changeme" * 5}, "DOORWARD_SEAL_SECRET: the secret is a sample"),
        (
            {"JWT_SECRET_KEY": ONE, "DOORWARD_SEAL_SECRET": ONE},
            "DOORWARD_SEAL_SECRET must differ from secret",
        ),
        (
            {"SECRET_KEY": ONE.encode(), "DOORWARD_SEAL_SECRET": ONE},
            "DOORWARD_SEAL_SECRET must differ from SECRET_KEY",
        ),
        (
            {"DOORWARD_SEAL_SECRET_PREVIOUS": ONE},
            "DOORWARD_SEAL_SECRET_PREVIOUS is set without DOORWARD_SEAL_SECRET",
        ),
        (
            {"DOORWARD_SEAL_SECRET": ONE, "DOORWARD_SEAL_SECRET_PREVIOUS": [OTHER, ONE]},
            "DOORWARD_SEAL_SECRET_PREVIOUS must differ from DOORWARD_SEAL_SECRET",
        ),
        (
            {"DOORWARD_SEAL_SECRET": ONE, "DOORWARD_SEAL_SECRET_PREVIOUS": 7},
            "DOORWARD_SEAL_SECRET_PREVIOUS must be a text or bytes, or a list of them",
        ),
        ({"JWT_PRIVATE_KEY": RFC_8037}, "the private key is printed in a documentation"),
        ({"JWT_PRIVATE_KEY": RFC_8037, "JWT_ALGORITHM": "HS256"}, "JWT_PRIVATE_KEY: HS256 takes a secret"),
        ({"DOORWARD_SECRET": ONE, "JWT_ALGORITHM": "EdDSA"}, "DOORWARD_SECRET: EdDSA takes a private key"),
        ({"DOORWARD_ALLOWED_ORIGINS": "*"}, "DOORWARD_ALLOWED_ORIGINS must look like https://app.example"),
        ({"DOORWARD_ALLOWED_ORIGINS": "null"}, "DOORWARD_ALLOWED_ORIGINS must look like"),
        ({"DOORWARD_ALLOWED_ORIGINS": ["http://app.example"]}, "DOORWARD_ALLOWED_ORIGINS must begin with https://"),
        ({"DOORWARD_TRUSTED_PROXIES": "0.0.0.0/0"}, "DOORWARD_TRUSTED_PROXIES must name the proxies alone"),
        ({"DOORWARD_TRUSTED_PROXIES": ["::/0"]}, "DOORWARD_TRUSTED_PROXIES must name the proxies alone"),
        (
            {"JWT_COOKIE_SAMESITE": "None", "JWT_COOKIE_SECURE": False},
            "JWT_COOKIE_SAMESITE None needs JWT_COOKIE_SECURE",
        ),
    ],
)
def test_what_is_never_safe_is_refused_by_its_key(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Doorward(bare(**config))
    said = str(refused.value)
    assert said.startswith(words)
    assert ONE not in said and PRINTED not in said


def told(caplog: pytest.LogCaptureFixture, **config: Any) -> list[str]:
    """What the log says at the first use and the second."""
    # The costs of the tests are pointed out too.
    costs = {"DOORWARD_PASSWORD_MEMORY_KIB": 19456, "DOORWARD_PASSWORD_ITERATIONS": 2}
    app, auth = protected(**{"TESTING": False, **costs, **config})
    with caplog.at_level(logging.WARNING), app.app_context():
        for _ in range(2):
            auth.service.login("7")
    return [record.message for record in caplog.records]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"JWT_COOKIE_SECURE": False}, ["JWT_COOKIE_SECURE is off"]),
        ({"JWT_ACCESS_TOKEN_EXPIRES": 7200}, ["JWT_ACCESS_TOKEN_EXPIRES is longer than an hour"]),
        (
            {"JWT_TOKEN_LOCATION": ["headers", "query_string"]},
            ["JWT_TOKEN_LOCATION has query_string, from where"],
        ),
        (
            {"JWT_COOKIE_SAMESITE": "None", "JWT_COOKIE_CSRF_PROTECT": False},
            [
                "JWT_COOKIE_SAMESITE None without DOORWARD_ALLOWED_ORIGINS",
                "JWT_COOKIE_SAMESITE None leaves it to the browser's word where a request is from: "
                "switch DOORWARD_CSRF_STRICT on, or JWT_COOKIE_CSRF_PROTECT",
            ],
        ),
        ({"JWT_SECRET_KEY": ONE, "SECRET_KEY": ONE}, ["JWT_SECRET_KEY is SECRET_KEY too"]),
        ({}, []),
    ],
)
def test_what_may_be_right_is_told_once(
    caplog: pytest.LogCaptureFixture, config: dict[str, Any], words: list[str]
) -> None:
    lines = told(caplog, **config)
    assert len(lines) == len(words), lines
    assert all(line.startswith(begin) for line, begin in zip(lines, words, strict=True))


@pytest.mark.parametrize("trial", ["DEBUG", "TESTING"])
def test_a_trial_is_not_told(caplog: pytest.LogCaptureFixture, trial: str) -> None:
    assert told(caplog, JWT_COOKIE_SECURE=False, **{trial: True}) == []


# ---- one store, whatever its name ----

OTHER_COOKIES = {"JWT_ACCESS_COOKIE_NAME": "a", "JWT_REFRESH_COOKIE_NAME": "r"}


def refused_beside(one: pathlib.Path, two: pathlib.Path) -> None:
    app = bare(DOORWARD_STORE=f"sqlite://{one}")
    Doorward(app)
    config = {**OTHER_COOKIES, "DOORWARD_STORE": f"sqlite://{two}"}
    with pytest.raises(ConfigError, match="DOORWARD_STORE is the store of the instance 'auth' too"):
        Doorward(app, name="admin", url_prefix="/admin", config=config)


def test_a_store_is_told_by_its_file_and_not_by_its_name(tmp_path: pathlib.Path) -> None:
    real, link = tmp_path / "real.db", tmp_path / "link.db"
    folder = tmp_path / "folder"
    link.symlink_to("real.db")
    folder.symlink_to(tmp_path)
    for is_there in (False, True):
        assert real.exists() == is_there
        refused_beside(real, link)
        refused_beside(link, folder / "real.db")
        refused_beside(real, folder / ".." / tmp_path.name / "real.db")
        real.touch()


def test_a_hard_link_is_the_same_store(tmp_path: pathlib.Path) -> None:
    app, auth = protected(DOORWARD_STORE=f"sqlite://{tmp_path}/one.db")
    add_ada(app, auth)
    (tmp_path / "two.db").hardlink_to(tmp_path / "one.db")
    refused_beside(tmp_path / "one.db", tmp_path / "two.db")


# ---- the seal secret ----


def started(folder: pathlib.Path, *, seal: str | None, previous: Any = None) -> tuple[Flask, Doorward]:
    return protected(
        DOORWARD_STORE=f"sqlite://{folder}/doorward.db",
        DOORWARD_SEAL_SECRET=seal,
        DOORWARD_SEAL_SECRET_PREVIOUS=previous,
    )


def app_on(folder: pathlib.Path, *, seal: str | None, previous: Any = None) -> Flask:
    return started(folder, seal=seal, previous=previous)[0]


def keys(app: Flask, command: str) -> str:
    return app.test_cli_runner().invoke(args=["auth", "keys", command]).output


@pytest.mark.parametrize("previous", [ONE, ONE.encode(), [OTHER + "0", ONE]])
def test_a_seal_secret_is_replaced_and_nobody_is_logged_out(tmp_path: pathlib.Path, previous: Any) -> None:
    old, auth = started(tmp_path, seal=ONE)
    add_ada(old, auth)
    token = login(old.test_client(), delivery="body").json["access_token"]
    moving = app_on(tmp_path, seal=OTHER, previous=previous)
    newer = login(moving.test_client(), delivery="body").json["access_token"]
    for app in (old, moving):
        for each in (token, newer):
            assert app.test_client().get("/api/v1/hello", headers=bearer(each)).status_code == 200
    assert keys(moving, "reseal") == "2 keys sealed by DOORWARD_SEAL_SECRET\n"
    assert keys(moving, "reseal") == "0 keys sealed by DOORWARD_SEAL_SECRET\n"
    moved = app_on(tmp_path, seal=OTHER)
    assert moved.test_client().get("/api/v1/hello", headers=bearer(newer)).status_code == 200
    gone = app_on(tmp_path, seal=ONE)
    assert gone.test_client().get("/api/v1/hello", headers=bearer(newer)).status_code == 503


def test_resealing_needs_a_secret(tmp_path: pathlib.Path) -> None:
    app, auth = started(tmp_path, seal=None)
    add_ada(app, auth)
    assert "seal_secret is missing" in keys(app, "reseal")


def test_the_cause_of_a_store_sealed_otherwise_is_in_the_log(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    sealed, auth = started(tmp_path, seal=ONE)
    add_ada(sealed, auth)
    assert app_on(tmp_path, seal=None).test_client().get("/api/v1/hello").status_code == 503
    assert "seal_secret is missing: the keys in the store are sealed" in caplog.text
