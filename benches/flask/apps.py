"""The same app twice: behind Doorward, and behind Flask-JWT-Extended. HS256, the same lifetimes."""

import os
import secrets
from datetime import timedelta
from typing import Any

from flask import Flask

SECRET = os.environ.get("BENCH_SECRET") or secrets.token_hex(32)
LIFETIMES = {"JWT_ACCESS_TOKEN_EXPIRES": timedelta(hours=1), "JWT_REFRESH_TOKEN_EXPIRES": timedelta(days=30)}


def bare(location: str, folder: str | None = None, **settings: Any) -> Flask:
    """`location`: where tokens are looked for, `cookies` or `headers`."""
    app = Flask(__name__, instance_path=folder)
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_TOKEN_LOCATION=[location], **LIFETIMES)
    app.config.update(JWT_COOKIE_SECURE=True, JWT_COOKIE_CSRF_PROTECT=False, **settings)
    app.add_url_rule("/api/v1/open", "open", hello)
    return app


def hello() -> str:
    return "hello"


def doorward(location: str = "cookies", folder: str = "", **settings: Any) -> Flask:
    from flask_doorward import Doorward

    app = bare(location, folder or os.environ["BENCH_FOLDER"], **settings)
    auth = Doorward(app)
    app.add_url_rule("/api/v1/protected", "protected", auth.required(hello))
    return app


def flask_jwt_extended(location: str = "cookies", folder: str | None = None, **settings: Any) -> Flask:
    import flask_jwt_extended as extended

    app = bare(location, folder, **settings)
    extended.JWTManager(app)
    app.add_url_rule("/api/v1/protected", "protected", extended.jwt_required()(hello))
    return app


def compatible(location: str = "cookies", folder: str = "", **settings: Any) -> Flask:
    """An app that has moved by its import lines."""
    import flask_doorward.jwt_extended as extended

    app = bare(location, folder or os.environ["BENCH_FOLDER"], **settings)
    extended.JWTManager(app)
    app.add_url_rule("/api/v1/protected", "protected", extended.jwt_required()(hello))
    return app


def token(name: str) -> str:
    """An access token that the app of this name accepts."""
    app: Flask = globals()[name]()
    with app.app_context():
        if name == "doorward":
            access: str = app.extensions["doorward"]["auth"].door.login("7")[0].access_token
            return access
        import flask_jwt_extended

        return flask_jwt_extended.create_access_token("7")
