"""SERVICE: access and refresh tokens, and sessions, for views written by hand."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from flask import Response, has_request_context, request

from ._native import Attempt as Admitted
from ._native import Event, Identity, Session, SessionRow, Tokens
from .errors import DoorwardError, response_of
from .mounted import Mounted, mounted_as
from .processes import blocking
from .signals import dispatch
from .users import Claims, Refused, UserId, claims_text, text_of

P = ParamSpec("P")
T = TypeVar("T")


class Service:
    """What the endpoints do, as methods. They work in the app's context; what is refused is raised
    as an exception of `flask_doorward.errors`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def login(
        self,
        user_id: UserId,
        *,
        username: str | None = None,
        claims: Claims | None = None,
        remember: bool = False,
        delivery: str | None = None,
        device: str | None = None,
        privileged: bool | None = None,
        attempt: "Attempt | None" = None,
    ) -> Tokens:
        """Opens a session for somebody whom the app knows. Without `claims` those of the
        `claims_loader`, which may refuse; without `privileged` as the `privilege_loader` says. A
        built-in account that is marked is privileged anyway. `attempt`: the password was asked for,
        and is right."""
        user = text_of(user_id)
        if privileged is None:
            privileged = self._mounted.callbacks.is_privileged(user)
        return self._told(
            self._mounted.door.login, user, username, self._claims(user, claims),
            remember, delivery, device, _environ(), privileged, attempt.taken() if attempt else None,
        )  # fmt: skip

    def attempt(self, username: str, *, device_token: str | None = None) -> "Attempt":
        """Admits a login by a view of the app's own, before it looks at the password:

            with auth.service.attempt(username) as attempt:
                ...  # check the password; return a 401 where it is wrong
                tokens = auth.service.login(user.id, attempt=attempt)

        What leaves the block without a login has failed. Too many failures are refused, with a 429.
        A device that is known has a budget of its own: by its cookie, or by `device_token`."""
        admitted = self._call(self._mounted.door.attempt, username, device_token, _environ())
        return Attempt(self._settle, admitted)

    def refresh(self, refresh_token: str, *, delivery: str = "body") -> Tokens:
        """A new access token and a rotated refresh token. The `claims_loader` may refuse, which
        ends the session."""
        mounted = self._mounted
        refreshed = self._told(mounted.door.refresh, _sound(refresh_token), delivery, _environ())
        try:
            claims = mounted.callbacks.claims_of(refreshed.user_id)
        except Refused:
            self.end_session(refreshed.session_id, reason="disabled")
            # Decides again, and says so.
            refreshed = self._told(mounted.door.refresh, _sound(refresh_token), delivery, _environ())
            claims = None
        return mounted.door.grant(refreshed, claims)

    def verify(self, token: str) -> Session:
        """The session of an access token."""
        return self._mounted.door.verify(_sound(token))

    def sessions_of(self, user_id: UserId) -> list[SessionRow]:
        """The live sessions of a user."""
        return self._call(self._mounted.door.sessions_of, text_of(user_id))

    def end_session(self, session_id: str, *, reason: str = "ended_by_operator") -> None:
        """Ends a session, which every process hears of."""
        end = self._mounted.door.end
        dispatch(self._mounted, self._call(end, session_id, reason, _environ()))

    def end_user(
        self,
        user_id: UserId,
        *,
        reason: str = "ended_by_operator",
        except_session: str | None = None,
    ) -> None:
        """Ends the sessions of a user, such as one who was disabled."""
        end = self._mounted.door.end_user
        user = text_of(user_id)
        dispatch(self._mounted, self._call(end, user, reason, except_session, _environ()))

    def export(self, user_id: UserId) -> dict[str, Any]:
        """All that is kept of a user's sessions: the built-in account without its hash, where there
        is one, the sessions, ended ones too, and the events."""
        exported: dict[str, Any] = json.loads(self._call(self._mounted.door.export, text_of(user_id)))
        return exported

    def erase(self, user_id: UserId) -> int:
        """Ends the sessions of a user and removes all that is kept of them; an account stays.
        Returns how many there were."""
        return self._call(self._mounted.door.erase, text_of(user_id))

    def hash_new_password(self, username: str, password: str) -> str:
        """An Argon2id hash of a password that its user has just chosen, for a user table of the
        app's own. One that is guessed first is refused: `PasswordTooWeak`, with the reason."""
        return self._call(self._mounted.door.hash_new_password, username, password)

    def hash_password(self, password: str) -> str:
        """An Argon2id hash of any password, for accounts that move in."""
        return self._call(self._mounted.door.hash_password, password)

    def verify_password(
        self, password: str, password_hash: str | None
    ) -> tuple[bool, str | None]:  # fmt: skip
        """Whether a password is the one behind a hash, and a new hash where that was of other making
        or cost. Without a hash: the same work, and no."""
        return self._call(self._mounted.door.verify_password, password, password_hash)

    def create_user(self, username: str, password: str) -> str:
        """Makes a built-in account, and returns its id."""
        return self._call(self._mounted.door.register, username, password, _environ())

    def start_password_reset(self, username: str) -> tuple[str, datetime]:
        """A token by which a built-in account's password can be set anew, once, by
        POST /password/reset, and until when. It voids the one before."""
        return self._call(self._mounted.door.start_password_reset, username, _environ())

    def identify(self, username: str, password: str) -> Identity:
        """Whose built-in account these are the credentials of."""
        return self._call(self._mounted.door.identify, username, password, _environ())

    def unready(self) -> str | None:
        """Why some requests cannot be served now, for a health check. None: all can."""
        return blocking(self._mounted.door.unready)

    def metrics(self) -> str:
        """What this process counts of its store, of ended sessions and of verification, in the text
        format of Prometheus, version 0.0.4."""
        return self._call(self._mounted.door.metrics)

    def jwks(self) -> dict[str, Any]:
        """The public keys."""
        return self._mounted.door.jwks()

    def response(self, tokens: Tokens) -> Response:
        """The answer that POST /login would give."""
        return response_of(tokens.answer, self._mounted.app.response_class)

    def logged_out_response(self) -> Response:
        """The answer that POST /logout would give: it clears the cookies."""
        mounted = self._mounted
        return response_of(mounted.door.logged_out(), mounted.app.response_class)

    def set_cookies(self, response: Response, tokens: Tokens) -> None:
        """Puts a session's cookies on a response of the app's own."""
        _copy_cookies(tokens.answer.headers, response)

    def clear_cookies(self, response: Response) -> None:
        """Clears them."""
        _copy_cookies(self._mounted.door.logged_out().headers, response)

    def _settle(self, admitted: Admitted, succeeded: bool) -> str | None:
        return self._call(self._mounted.door.settle, admitted, succeeded)

    @property
    def _mounted(self) -> Mounted:
        return mounted_as(self.name)

    def _claims(self, user_id: str, claims: Claims | None) -> str | None:
        if claims is None:
            return self._mounted.callbacks.claims_of(user_id)
        return claims_text(claims)

    def _told(
        self, call: Callable[P, tuple[T, list[Event]]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        done, events = self._call(call, *args, **kwargs)
        dispatch(self._mounted, events)
        return done

    def _call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return blocking(call, *args, **kwargs)
        except DoorwardError as error:
            self._mounted.tell_cause(error)
            dispatch(self._mounted, error.events)
            raise


class Attempt:
    """A login that is under way: see `Service.attempt`."""

    def __init__(self, settle: Callable[[Admitted, bool], str | None], admitted: Admitted) -> None:
        self._settle, self._admitted, self._settled = settle, admitted, False

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._settled:
            self.failed()

    def failed(self) -> None:
        """The password was wrong, or the login ends without it."""
        self._settle(self.taken(), False)

    def succeeded(self) -> str | None:
        """The password was right, and `Service.login` is not called: the app makes tokens of its
        own. The device's new token, for whoever is to send it as `device_token`."""
        return self._settle(self.taken(), True)

    def taken(self) -> Admitted:
        """For what settles it."""
        self._settled = True
        return self._admitted


def _environ() -> dict[str, Any] | None:
    """Of the request that is answered, for the log of events."""
    return request.environ if has_request_context() else None


def _sound(token: str) -> str:
    """A lone surrogate is in no token: JSON can hold one, and UTF-8 cannot."""
    return token.encode(errors="replace").decode()


def _copy_cookies(headers: list[tuple[str, str]], response: Response) -> None:
    for name, value in headers:
        if name.lower() == "set-cookie":
            response.headers.add(name, value)
