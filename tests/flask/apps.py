"""Small apps for the tests of the Flask door."""

from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_doorward import Doorward
from flask_doorward.testing import CONFIG, DoorwardClient

PASSWORD = "correct horse battery"
PREFIX = "/api/v1"


def bare(**config: Any) -> Flask:
    """An app without the extension."""
    app = Flask(__name__)
    app.config.update({"TESTING": True, **CONFIG, **config})
    app.test_client_class = DoorwardClient
    return app


def protected(**config: Any) -> tuple[Flask, Doorward]:
    """An app with a guarded view, and an account `ada`."""
    app = bare(**config)
    auth = Doorward(app)

    @app.get("/api/v1/hello")
    @auth.required
    def hello() -> dict[str, Any]:
        return {"id": auth.current_session.user_id}

    return app, auth


def add_ada(app: Flask, auth: Doorward) -> str:
    with app.app_context():
        return auth.service.create_user("ada", PASSWORD)


def login(client: FlaskClient, **more: Any) -> TestResponse:
    return client.post(f"{PREFIX}/login", json={"username": "ada", "password": PASSWORD, **more})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
