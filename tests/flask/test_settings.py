"""Settings: what the app's configuration means, and what is refused in which words."""

import logging
import pathlib
import secrets
import stat
from datetime import timedelta
from typing import Any

import pytest
from dateutil.relativedelta import relativedelta
from flask import Flask

from flask_doorward import ConfigError, Doorward
from flask_doorward.config import CHECKED, DOUBLE_SUBMIT, SETTINGS, covers
from flask_doorward.jwt_extended import JWTManager

from apps import add_ada, bare, login, protected

VERBATIM = {
    "JWT_COOKIE_SECURE": True,
    "JWT_TOKEN_LOCATION": ["cookies"],
    "JWT_ACCESS_TOKEN_EXPIRES": timedelta(hours=1),
    "JWT_ACCESS_COOKIE_PATH": "/api/v2",
    "JWT_REFRESH_TOKEN_EXPIRES": timedelta(days=30),
    "JWT_REFRESH_COOKIE_PATH": "/api/v2/refresh",
    "JWT_COOKIE_CSRF_PROTECT": False,
}


def options(**config: Any) -> dict[str, Any]:
    app = bare(**config)
    Doorward(app)
    found: dict[str, Any] = app.extensions["doorward"]["auth"].settings.options
    return found


def refusal(**config: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        Doorward(bare(**config))
    return str(refused.value)


def test_the_documented_settings_are_a_complete_set_up() -> None:
    app = bare(**VERBATIM, JWT_SECRET_KEY=secrets.token_hex(16))
    auth = Doorward(app)
    add_ada(app, auth)
    client = app.test_client()
    answer = client.post("/api/v2/login", json={"username": "ada", "password": "correct horse battery"})
    access, refresh, device = answer.headers.getlist("Set-Cookie")
    assert access.startswith("access_token_cookie=") and "Path=/api/v2;" in access
    assert refresh.startswith("refresh_token_cookie=") and "Path=/api/v2/refresh;" in refresh
    assert device.startswith("__Secure-device_token_cookie=") and "Path=/api/v2/login;" in device
    assert "SameSite=Lax" in access and "SameSite=Strict" in refresh
    assert "access_token" not in answer.json
    assert client.post("/api/v2/refresh").status_code == 200


def test_all_43_keys_of_flask_jwt_extended_have_a_meaning() -> None:
    table = [*SETTINGS, *DOUBLE_SUBMIT, *CHECKED]
    assert len({line.jwt for line in table if line.jwt}) == 43


@pytest.mark.parametrize(
    "value", [900, 900.0, "900", "900s", "15m", timedelta(minutes=15), relativedelta(minutes=15)]
)
def test_a_duration_may_be_written_in_many_ways(value: object) -> None:
    assert options(DOORWARD_ACCESS_TTL=value)["access_ttl"] == 900


def test_a_key_of_doorward_goes_before_a_jwt_key() -> None:
    found = options(DOORWARD_ACCESS_TTL="5m", JWT_ACCESS_TOKEN_EXPIRES=timedelta(hours=1))
    assert found["access_ttl"] == 300


def test_none_is_not_set() -> None:
    assert "secret" not in options(JWT_SECRET_KEY=None)


def test_the_refresh_lifetime_is_the_absolute_limit_too() -> None:
    found = options(JWT_REFRESH_TOKEN_EXPIRES=timedelta(days=7))
    assert found["refresh_ttl"] == found["session_ttl"] == 7 * 86400
    found = options(JWT_REFRESH_TOKEN_EXPIRES=timedelta(days=7), DOORWARD_SESSION_TTL="60d")
    assert found["session_ttl"] == 60 * 86400


def test_a_refresh_token_without_end_lasts_ten_years() -> None:
    assert options(JWT_REFRESH_TOKEN_EXPIRES=False)["session_ttl"] == 3650 * 86400


def test_a_short_session_is_fresh_no_longer_than_it_lasts() -> None:
    found = options(JWT_REFRESH_TOKEN_EXPIRES=60, JWT_ACCESS_TOKEN_EXPIRES=5)
    assert found["fresh_ttl"] == 60


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"DOORWARD_ACCESS_TTL": "soon"}, "DOORWARD_ACCESS_TTL must be a timedelta"),
        ({"JWT_ACCESS_TOKEN_EXPIRES": False}, "JWT_ACCESS_TOKEN_EXPIRES must not be False"),
        ({"JWT_ACCESS_TOKEN_EXPIRES": timedelta(days=2)}, "JWT_ACCESS_TOKEN_EXPIRES must lie"),
        ({"DOORWARD_REFRESH_TTL": 60}, "DOORWARD_REFRESH_TTL must be longer than DOORWARD_ACCESS_TTL"),
        ({"DOORWARD_ACESS_TTL": 60}, "DOORWARD_ACESS_TTL is no setting: did you mean DOORWARD_ACCESS_TTL?"),
        ({"DOORWARD_COOKIE_SECURE": "maybe"}, "DOORWARD_COOKIE_SECURE must be True or False"),
        ({"JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY"),
        ({"DOORWARD_SECRET": "super-secret"}, "DOORWARD_SECRET"),
        ({"JWT_ALGORITHM": "HS999"}, "JWT_ALGORITHM"),
        ({"JWT_PRIVATE_KEY": "no key"}, "JWT_PRIVATE_KEY"),
        ({"JWT_PUBLIC_KEY": "a key"}, "JWT_PUBLIC_KEY is set without JWT_PRIVATE_KEY"),
        ({"JWT_TOKEN_LOCATION": "pockets"}, "JWT_TOKEN_LOCATION must be some of"),
        ({"JWT_TOKEN_LOCATION": "headers", "DOORWARD_DELIVERY": "cookie"}, "JWT_TOKEN_LOCATION must name"),
        ({"JWT_ACCESS_COOKIE_PATH": "/other"}, "JWT_ACCESS_COOKIE_PATH must be DOORWARD_URL_PREFIX"),
        ({"JWT_REFRESH_COOKIE_PATH": "/other"}, "JWT_REFRESH_COOKIE_PATH must be /refresh under"),
        (
            {"JWT_COOKIE_SAMESITE": "None", "JWT_COOKIE_SECURE": False},
            "JWT_COOKIE_SAMESITE None needs JWT_COOKIE_SECURE",
        ),
        ({"JWT_DECODE_ALGORITHMS": ["RS256"]}, "JWT_DECODE_ALGORITHMS does not accept"),
        ({"JWT_DECODE_AUDIENCE": "me"}, "JWT_DECODE_AUDIENCE is set, and DOORWARD_AUDIENCE is not"),
        (
            {"JWT_DECODE_ISSUER": "me", "JWT_ENCODE_ISSUER": "you"},
            "JWT_DECODE_ISSUER does not accept the tokens that are made here: it must include you",
        ),
        (
            {"JWT_COOKIE_CSRF_PROTECT": True, "JWT_ACCESS_CSRF_HEADER_NAME": "no header"},
            "JWT_ACCESS_CSRF_HEADER_NAME",
        ),
        (
            {"JWT_COOKIE_CSRF_PROTECT": True, "JWT_CSRF_METHODS": ["NO METHOD"]},
            "JWT_CSRF_METHODS must be methods of HTTP",
        ),
        ({"JWT_REFRESH_COOKIE_NAME": "no name"}, "JWT_ACCESS_COOKIE_NAME and the other names of cookies"),
        ({"DOORWARD_STORE": "mysql://db"}, "DOORWARD_STORE"),
        ({"DOORWARD_STORE": "sqlite://:memory:"}, 'DOORWARD_STORE: without a file it is "memory:"'),
        ({"DOORWARD_URL_PREFIX": "api"}, "DOORWARD_URL_PREFIX must look like /api/v1"),
        ({"JWT_ERROR_MESSAGE_KEY": "code"}, "JWT_ERROR_MESSAGE_KEY must not be"),
        ({"DOORWARD_TRUSTED_PROXIES": ["nowhere"]}, "DOORWARD_TRUSTED_PROXIES"),
        ({"DOORWARD_PASSWORD_MIN_LENGTH": 7}, "DOORWARD_PASSWORD_MIN_LENGTH"),
        (
            {"DOORWARD_BREACHED_PASSWORDS_FILE": pathlib.Path("/there/is/none")},
            "DOORWARD_BREACHED_PASSWORDS_FILE: /there/is/none: No such file",
        ),
        ({"DOORWARD_BREACHED_PASSWORDS_FILE": 1}, "DOORWARD_BREACHED_PASSWORDS_FILE must be a path"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_key(config: dict[str, Any], words: str) -> None:
    assert refusal(**config).startswith(words)


def test_a_refused_secret_is_not_shown() -> None:
    assert "hunter2" not in refusal(JWT_SECRET_KEY="hunter2")


def test_an_endpoint_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="endpoints has logn"):
        Doorward(bare(), endpoints=["logn"])


@pytest.mark.parametrize(
    ("argument", "config", "prefix"),
    [
        ("/a", {"DOORWARD_URL_PREFIX": "/b"}, "/a"),
        (None, {"DOORWARD_URL_PREFIX": "/b"}, "/b"),
        (None, {"JWT_REFRESH_COOKIE_PATH": "/c/refresh"}, "/c"),
        (None, {"JWT_REFRESH_COOKIE_PATH": "/root/c/refresh", "APPLICATION_ROOT": "/root"}, "/c"),
        (None, {"JWT_REFRESH_COOKIE_PATH": "/"}, "/api/v1"),
        (None, {}, "/api/v1"),
    ],
)
def test_the_prefix_comes_from_the_argument_the_key_or_the_cookies_path(
    argument: str | None, config: dict[str, Any], prefix: str
) -> None:
    app = bare(**config)
    Doorward(app, url_prefix=argument)
    assert f"{prefix}/login" in {rule.rule for rule in app.url_map.iter_rules()}


def test_the_application_root_is_before_the_cookies_paths() -> None:
    app, auth = protected(APPLICATION_ROOT="/shop")
    add_ada(app, auth)
    access, refresh, device = login(app.test_client()).headers.getlist("Set-Cookie")
    assert "Path=/shop/api/v1;" in access and "Path=/shop/api/v1/refresh;" in refresh
    assert "Path=/shop/api/v1/login;" in device


def test_the_store_is_a_file_in_the_instance_folder(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "instance"
    app = Flask(__name__, instance_path=str(folder))
    auth = Doorward(app)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with app.app_context():
        auth.service.login("7")
    assert (folder / "doorward.db").exists()


def test_a_relative_store_is_in_the_instance_folder(tmp_path: pathlib.Path) -> None:
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config["DOORWARD_STORE"] = "sqlite://sessions.db"
    Doorward(app)
    assert app.extensions["doorward"]["auth"].settings.file == tmp_path / "sessions.db"


def test_of_two_keys_the_algorithm_says_which_counts() -> None:
    found = options(JWT_SECRET_KEY=secrets.token_hex(16), JWT_PRIVATE_KEY="a pem")
    assert "private_key" not in found


def test_without_a_secret_the_flask_key_is_not_used() -> None:
    assert "secret" not in options(SECRET_KEY="x" * 40)


def test_a_guard_where_the_cookie_does_not_come_is_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    app, auth = protected()
    app.add_url_rule("/elsewhere", "elsewhere", auth.required(lambda: "x"))
    with caplog.at_level(logging.WARNING), app.app_context():
        auth.service.login("7")
    assert "/elsewhere, which is guarded" in caplog.text and "/hello" not in caplog.text


def test_a_cookie_path_covers_as_browsers_say() -> None:
    assert covers("/", "/a") and covers("/a", "/a") and covers("/a", "/a/b") and covers("/a/", "/a/b")
    assert not covers("/a", "/ab") and not covers("/a/", "/a") and not covers("/a/b", "/a")


def test_each_jwt_key_that_is_taken_is_taken_by_the_engine() -> None:
    Doorward(
        bare(
            JWT_HEADER_NAME="X-Token", JWT_HEADER_TYPE="", JWT_QUERY_STRING_NAME="t",
            JWT_QUERY_STRING_VALUE_PREFIX="p", JWT_JSON_KEY="a", JWT_REFRESH_JSON_KEY="r",
            JWT_ERROR_MESSAGE_KEY="message", JWT_SESSION_COOKIE=False, JWT_DECODE_LEEWAY=3,
            JWT_ENCODE_NBF=False, JWT_IDENTITY_CLAIM="who", JWT_VERIFY_SUB=False,
            JWT_TOKEN_LOCATION=["headers", "cookies", "query_string", "json"],
            JWT_COOKIE_CSRF_PROTECT=True, JWT_CSRF_METHODS=["POST"], JWT_CSRF_IN_COOKIES=True,
            JWT_CSRF_CHECK_FORM=True, JWT_ACCESS_CSRF_COOKIE_NAME="c1", JWT_REFRESH_CSRF_COOKIE_NAME="c2",
            JWT_ENCODE_AUDIENCE=["me"], JWT_DECODE_AUDIENCE="me", JWT_COOKIE_SAMESITE="Lax",
            JWT_ACCESS_CSRF_FIELD_NAME="f", JWT_ACCESS_CSRF_HEADER_NAME="X-C",
        )
    )  # fmt: skip


def test_the_defaults_of_the_compatibility_layer_are_not_the_apps(tmp_path: pathlib.Path) -> None:
    app = bare(JWT_SECRET_KEY="5f1c0fb8a7d04b8ee2bd53ab1c3e6a94", JWT_HEADER_TYPE="Bearer")
    JWTManager(app)
    Doorward(app)
    options = app.extensions["doorward"]["auth"].settings.options
    assert "cookie_secure" not in options and "double_submit" not in options
    assert options["delivery"] == ["cookie", "body"] and options["header_type"] == "Bearer"


def test_an_instance_folder_that_cannot_be_made_is_said(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    app = Flask("app", instance_path=str(tmp_path / "file" / "instance"))
    with pytest.raises(ConfigError, match="DOORWARD_STORE lies in the instance folder"):
        Doorward(app)


def test_secrets_are_not_shown() -> None:
    secret = secrets.token_hex(16)
    app = bare(JWT_SECRET_KEY=secret)
    Doorward(app)
    assert secret not in repr(app.extensions["doorward"]["auth"].settings)


def test_the_name_of_flasks_own_cookie_is_taken() -> None:
    with pytest.raises(ConfigError, match="Flask's own session"):
        Doorward(bare(JWT_ACCESS_COOKIE_NAME="session"))


def test_one_endpoint_is_a_list_of_one() -> None:
    with pytest.raises(TypeError, match="list"):
        Doorward(bare(), endpoints="login")
