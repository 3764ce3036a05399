"""INITIALIZATION: user sessions for Flask APIs.

    from flask import Flask
    from flask_doorward import Doorward, current_session

    app = Flask(__name__)
    auth = Doorward(app)

    @app.get("/api/v1/hello")
    @auth.required
    def hello():
        return {"hello": current_session.user_id}

The app has the endpoints of the API now (`flask routes`), accounts of its own (`flask auth user
add`), and a store in its instance folder. The engine is a native module: Python decides nothing
about tokens.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Flask

from . import signals
from ._native import Session, SessionRow, Tokens
from .config import ConfigError, Settings, read
from .errors import DoorwardError
from .guards import Guards, current_session, current_user, of, public, session_proxy, user_proxy
from .mounted import ENDPOINTS, Mounted
from .routes import blueprint
from .service import Attempt, Service
from .users import Callbacks, Refused, Users

__all__ = [
    "Attempt",
    "ConfigError",
    "Doorward",
    "DoorwardError",
    "Refused",
    "Service",
    "Session",
    "SessionRow",
    "Tokens",
    "current_session",
    "current_user",
    "public",
    "signals",
]


class Doorward(Guards, Users):
    """Sessions for an app, or for several.

    `name` names the blueprint, the logger, the command group and, unless it is `auth`, the audience
    of the tokens. `url_prefix` is where the API is mounted, `endpoints` which of it (by name;
    `None`: all). `config` is laid over `app.config`, so that an app can have several instances.

    What belongs to an app is in `app.extensions["doorward"][name]`.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        name: str = "auth",
        url_prefix: str | None = None,
        endpoints: Iterable[str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.url_prefix = name, url_prefix
        if isinstance(endpoints, str):
            raise TypeError(f'endpoints is a list of names: ["{endpoints}"]')
        self.endpoints = ENDPOINTS if endpoints is None else frozenset(endpoints)
        self.config = dict(config or {})
        self.callbacks = Callbacks()
        #: For handlers and hooks of the app's own; registered by `init_app`.
        self.blueprint = blueprint(name)
        self.service = Service(name)
        #: The session of the request.
        self.current_session = session_proxy(of(name))
        #: Its user, as `user_loader` says.
        self.current_user = user_proxy(of(name))
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Checks the settings, and mounts the endpoints. Opens nothing.

        Raises:
            ConfigError: a setting cannot be used; it says which, and what to change.
        """
        here: dict[str, Mounted] = app.extensions.setdefault("doorward", {})
        if self.name in app.blueprints:
            what = "an instance" if self.name in here else "a blueprint"
            raise ConfigError(f"the app has {what} {self.name!r} already: give this one a `name`")
        _check_endpoints(self.endpoints)
        settings = read(app, self.name, self.config, self.url_prefix)
        mounted = Mounted(app, self.name, settings, self.callbacks, self.endpoints)
        _check_beside(mounted, here)
        here[self.name] = mounted
        app.register_blueprint(self.blueprint, url_prefix=settings.url_prefix)


def _check_endpoints(endpoints: frozenset[str]) -> None:
    if unknown := endpoints - ENDPOINTS:
        known = ", ".join(sorted(ENDPOINTS))
        raise ConfigError(f"endpoints has {', '.join(sorted(unknown))}: there are only {known}")


def _check_beside(mounted: Mounted, others: Mapping[str, Mounted]) -> None:
    """Instances in one app share neither paths, nor cookies, nor a store."""
    store = mounted.make(mounted.callbacks.flags).store
    for other in others.values():
        _check_settings_beside(mounted.settings, other)
        if store == other.make(other.callbacks.flags).store and not store.startswith("memory:"):
            raise ConfigError(
                f"DOORWARD_STORE is the store of the instance {other.name!r} too: "
                "give each its own, by `config`"
            )


def _check_settings_beside(settings: Settings, other: Mounted) -> None:
    if settings.url_prefix == other.settings.url_prefix:
        raise ConfigError(
            f"DOORWARD_URL_PREFIX is {settings.url_prefix}, where the instance {other.name!r} is: "
            "mount this one elsewhere"
        )
    theirs = other.settings.cookies()
    for cookie in settings.cookies():
        if any(cookie.overlaps(their) for their in theirs):
            raise ConfigError(
                f"the cookie {cookie.name} at {cookie.path} would be taken for that of the instance "
                f"{other.name!r}: give it another name or path, by `config`"
            )
