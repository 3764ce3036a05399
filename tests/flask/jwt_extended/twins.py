"""One app, twice: on Doorward's names, and on Flask-JWT-Extended itself. The same request must get
the same answer."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from flask import Flask, jsonify

OURS, THEIRS = "flask_doorward.jwt_extended", "flask_jwt_extended"
SECRET = "b9a1d5f3c7e84b60a2d4f6081c3e5a7990b1d2f3a4c5e6f708192a3b4c5d6e7f"


@dataclass
class Answer:
    status: int
    body: bytes
    headers: list[tuple[str, str]]


class Twins:
    """Two apps that differ in the import alone."""

    def __init__(self, prepare: Any = None, **settings: Any) -> None:
        self.apps = [build(name, settings, prepare) for name in (OURS, THEIRS)]

    def answers(self, path: str, **request: Any) -> list[Answer]:
        return [answer(app, path, **request) for app in self.apps]

    def agree(self, path: str, **request: Any) -> Answer:
        ours, theirs = self.answers(path, **request)
        assert ours == theirs, (path, request)
        return ours


def answer(app: Flask, path: str, **request: Any) -> Answer:
    cookies = request.pop("cookies", {})
    client = app.test_client()
    for name, value in cookies.items():
        client.set_cookie(name, value)
    response = client.open(path, **request)
    return Answer(response.status_code, response.data, list(response.headers))


def build(name: str, settings: dict[str, Any], prepare: Any = None) -> Flask:
    extension = importlib.import_module(name)
    app = Flask(__name__)
    app.config.update({"JWT_SECRET_KEY": SECRET, **settings})
    manager = extension.JWTManager(app)
    mount(app, extension)
    if prepare:
        prepare(app, extension, manager)
    return app


def mount(app: Flask, extension: ModuleType) -> None:
    def told() -> Any:
        return jsonify(
            identity=extension.get_jwt_identity(),
            claims=extension.get_jwt(),
            header=extension.get_jwt_header(),
            location=extension.get_jwt_request_location(),
        )

    guards: dict[str, dict[str, Any]] = {
        "protected": {},
        "optional": {"optional": True},
        "fresh": {"fresh": True},
        "refresh": {"refresh": True},
        "any": {"verify_type": False},
        "anywhere": {"locations": ["headers", "cookies", "query_string", "json"]},
        "backwards": {"locations": ["json", "query_string", "cookies", "headers"]},
        "query": {"locations": "query_string"},
    }
    for name, arguments in guards.items():
        view = extension.jwt_required(**arguments)(lambda: told())
        app.add_url_rule(f"/{name}", name, view, methods=["GET", "POST", "PUT", "OPTIONS"])
