"""Several apps in a process, and several instances in an app."""

import gc
import pathlib
import weakref
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, request

from flask_doorward import ConfigError, Doorward, current_session
from flask_doorward.mounted import Mounted

from apps import bare, bearer

OTHER = {"JWT_ACCESS_COOKIE_NAME": "a", "JWT_REFRESH_COOKIE_NAME": "r"}


def test_one_extension_serves_several_apps() -> None:
    auth, apps = Doorward(), [bare(), bare(DOORWARD_URL_PREFIX="/two")]
    for app in apps:
        auth.init_app(app)
        app.add_url_rule("/x", "x", auth.required(lambda: current_session.user_id))
    tokens = []
    for app in apps:
        with app.app_context():
            tokens.append(auth.service.login("7").access_token)
    statuses = [
        app.test_client().get("/x", headers=bearer(token)).status_code for app in apps for token in tokens
    ]
    assert statuses == [200, 401, 401, 200]
    assert apps[1].test_client().get("/two/jwks.json").status_code == 200


def test_an_app_that_is_gone_leaves_nothing_open() -> None:
    app = bare()
    mounted = weakref.ref(opened(app))
    del app
    gc.collect()
    assert mounted() is None


def opened(app: Flask) -> Mounted:
    auth = Doorward(app)
    with app.app_context():
        auth.service.login("7")
    mounted: Mounted = app.extensions["doorward"]["auth"]
    return mounted


def test_an_app_without_the_extension_is_told_so() -> None:
    app = bare()
    with app.app_context(), pytest.raises(RuntimeError, match="not set up in this app as 'auth'"):
        Doorward().service.login("7")


def test_instances_do_not_take_each_others_tokens() -> None:
    app = bare()
    auth, admin = Doorward(app), Doorward(app, name="admin", url_prefix="/admin", config=OTHER)
    app.add_url_rule("/x", "x", admin.required(lambda: admin.current_session.user_id))
    with app.app_context():
        ours, theirs = auth.service.login("7"), admin.service.login("1")
    client = app.test_client()
    assert client.get("/x", headers=bearer(theirs.access_token)).text == "1"
    assert client.get("/x", headers=bearer(ours.access_token)).status_code == 401


def test_an_app_that_another_hands_its_environ_to_sees_nobody_of_there() -> None:
    inner, outer = bare(), bare()
    Doorward(inner)
    there = Doorward(outer)
    inner.add_url_rule("/open", "open", lambda: str(bool(current_session)))
    outer.add_url_rule("/open", "open", there.required(lambda: Response.from_app(inner, request.environ)))
    client = outer.test_client()
    client.login("7", delivery="body")
    assert client.get("/open").text == "False"


def test_an_instance_has_an_audience_of_its_own() -> None:
    app = bare()
    Doorward(app)
    Doorward(app, name="admin", url_prefix="/admin", config=OTHER)
    options = {name: it.settings.options for name, it in app.extensions["doorward"].items()}
    assert "audience" not in options["auth"] and options["admin"]["audience"] == "admin"


def test_the_only_instance_is_meant_whatever_its_name() -> None:
    app = bare()
    admin = Doorward(app, name="admin")
    app.add_url_rule("/x", "x", admin.required(lambda: current_session.user_id))
    client = app.test_client()
    client.login("1", instance="admin", delivery="body")
    assert client.get("/x").text == "1"


def test_of_several_none_is_guessed() -> None:
    app = bare()
    one = Doorward(app, name="one", url_prefix="/one")
    Doorward(app, name="two", url_prefix="/two", config=OTHER)
    app.add_url_rule("/x", "x", one.required(lambda: current_session.user_id))
    client = app.test_client()
    client.login("1", instance="one", delivery="body")
    with pytest.raises(RuntimeError, match="which one"):
        client.get("/x")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "has an instance 'auth' already"),
        ({"name": "admin"}, "DOORWARD_URL_PREFIX is /api/v1, where the instance 'auth' is"),
        (
            {"name": "admin", "url_prefix": "/admin", "config": {"DOORWARD_ACCESS_COOKIE_PATH": "/"}},
            "the cookie access_token_cookie at / would be taken for that of the instance 'auth'",
        ),
        (
            {"name": "admin", "url_prefix": "/api/v1/admin"},
            "the cookie access_token_cookie at /api/v1/admin would be taken",
        ),
    ],
)
def test_instances_that_would_get_in_each_others_way_are_refused(more: dict[str, Any], words: str) -> None:
    app = bare()
    Doorward(app)
    with pytest.raises(ConfigError, match=words):
        Doorward(app, **more)


def test_instances_beside_each_other_are_accepted() -> None:
    app = bare()
    Doorward(app)
    Doorward(app, name="admin", url_prefix="/admin")


def test_instances_do_not_share_a_store(tmp_path: pathlib.Path) -> None:
    app = bare(DOORWARD_STORE=f"sqlite://{tmp_path}/doorward.db")
    Doorward(app)
    with pytest.raises(ConfigError, match="DOORWARD_STORE is the store of the instance 'auth' too"):
        Doorward(app, name="admin", url_prefix="/admin", config=OTHER)


def test_each_instance_has_a_file_of_its_own(tmp_path: pathlib.Path) -> None:
    app = Flask(__name__, instance_path=str(tmp_path))
    Doorward(app)
    Doorward(app, name="admin", url_prefix="/admin", config=OTHER)
    files = [it.settings.file.name for it in app.extensions["doorward"].values()]
    assert files == ["doorward.db", "doorward-admin.db"]


def test_a_refused_instance_leaves_nothing_behind() -> None:
    app = bare(DOORWARD_SECRET="short")
    with pytest.raises(ConfigError):
        Doorward(app)
    assert app.extensions["doorward"] == {} and "auth" not in app.blueprints


def test_a_blueprint_of_that_name_is_in_the_way() -> None:
    app = bare()
    app.register_blueprint(Blueprint("auth", __name__))
    with pytest.raises(ConfigError, match="has a blueprint 'auth' already"):
        Doorward(app)
