"""For an app's own tests: no hashing cost, no file, and a client that is logged in.

    app.config.update(flask_doorward.testing.CONFIG)
    app.test_client_class = DoorwardClient

    def test_hello(app):
        client = app.test_client()
        client.login("7", role="admin")
        assert client.get("/api/v1/hello").status_code == 200
"""

from typing import Any

from flask.testing import FlaskClient

from ._native import Tokens
from .mounted import Mounted
from .service import Service
from .users import UserId

#: A store in memory, and hashing that protects nothing.
CONFIG = {
    "DOORWARD_STORE": "memory:",
    "DOORWARD_PASSWORD_MEMORY_KIB": 8,
    "DOORWARD_PASSWORD_ITERATIONS": 1,
    "DOORWARD_PASSWORD_PARALLELISM": 1,
}


class DoorwardClient(FlaskClient):
    """A test client that opens real sessions, without a password."""

    #: The sessions that this client opened, by instance.
    sessions: dict[str, Tokens]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sessions = {}

    def login(
        self,
        user_id: UserId,
        *,
        instance: str = "auth",
        delivery: str | None = None,
        **claims: Any,
    ) -> Tokens:
        """Logs a user in: the requests that follow carry the cookies, or the bearer token."""
        with self.application.app_context():
            tokens = Service(instance).login(user_id, claims=claims or None, delivery=delivery)
        mounted = self._mounted(instance)
        self._forget(mounted)
        self.sessions[instance] = tokens
        self._carry(mounted, tokens)
        return tokens

    def logout(self, *, instance: str = "auth") -> None:
        """Ends that session, and forgets its tokens."""
        tokens = self.sessions.pop(instance)
        with self.application.app_context():
            Service(instance).end_session(tokens.session.id, reason="logout")
        self._forget(self._mounted(instance))

    def _forget(self, mounted: Mounted) -> None:
        self.environ_base.pop(_header(mounted), None)
        for cookie in mounted.settings.cookies():
            self.delete_cookie(cookie.name, path=cookie.path, domain=cookie.domain or "localhost")

    def _mounted(self, instance: str) -> Mounted:
        mounted: Mounted = self.application.extensions["doorward"][instance]
        return mounted

    def _carry(self, mounted: Mounted, tokens: Tokens) -> None:
        if tokens.session.delivery == "body":
            kind = mounted.settings.options.get("header_type", "Bearer")
            self.environ_base[_header(mounted)] = f"{kind} {tokens.access_token}".strip()
        for name, value in tokens.answer.headers:
            if name.lower() == "set-cookie":
                self._keep(value)

    def _keep(self, cookie: str) -> None:
        (name, value), *attributes = (part.strip().partition("=")[::2] for part in cookie.split(";"))
        about = {key.lower(): text for key, text in attributes}
        domain = about.get("domain", "localhost")
        self.set_cookie(name, value, path=about.get("path", "/"), domain=domain)


def _header(mounted: Mounted) -> str:
    name: str = mounted.settings.options.get("header_name", "Authorization")
    return "HTTP_" + name.upper().replace("-", "_")
