"""Tokens of Doorward's own, in an app that has both: there the session decides.

An access token is refused when its session has ended, whichever key signed it. The opaque refresh
token opens views with `refresh=True`; it is decided on as at `/refresh`, but not rotated. A session's
cookie counts only where no other site can have sent it, whatever JWT_COOKIE_CSRF_PROTECT says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, TypeVar

from .._native import SessionRow, unverified_claims, unverified_header
from ..signals import dispatch
from . import current
from .config import config
from .exceptions import CSRFError, JWTDecodeError, RevokedTokenError
from .token_errors import ExpiredSignatureError, InvalidSignatureError

if TYPE_CHECKING:
    from ..mounted import Mounted

T = TypeVar("T")
_KEY_ID = re.compile("[0-9a-f]{16}")


class SessionToken:
    """A token of Doorward's, or one that the app decodes by itself, as this extension reads tokens."""

    def __init__(self, header: dict[str, Any], payload: dict[str, Any]) -> None:
        self.header, self.payload = header, payload

    def __getitem__(self, name: str) -> Any:
        return self.payload[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.payload.get(name, default)


def doorward_token(
    instances: Mapping[str, Mounted],
    encoded_token: Any,
    refresh: bool,
    location: str,
    csrf_value: str | None,
) -> SessionToken | None:
    """`None`: the token is none of a session's."""
    if not (isinstance(encoded_token, str) and encoded_token.isascii()):
        return None
    if refresh and encoded_token.startswith("dwr_"):
        return _refresh_token(instances.values(), encoded_token, location, csrf_value)
    if refresh and any("adopt_until" in own.settings.options for own in instances.values()):
        return _adopted_token(instances.values(), encoded_token, location, csrf_value)
    return _access_token(instances.values(), encoded_token, location, csrf_value)


def _access_token(
    instances: Iterable[Mounted], encoded_token: str, location: str, csrf_value: str | None
) -> SessionToken | None:
    header = unverified_header(encoded_token)
    if not _KEY_ID.fullmatch(header.get("kid", "")):
        return None
    for mounted in instances:
        session = _asked(mounted, lambda door: door.verify(encoded_token), encoded_token)
        if session is not None:
            _check_origin(mounted, location)
            claims = dict(session.claims)
            if csrf_value:
                _check_csrf(claims.get("csrf"), csrf_value)
            claims.setdefault(config.identity_claim_key, session.user_id)
            return SessionToken(header, claims)
    if "sid" in unverified_claims(encoded_token):
        # Not for the configured key to say: only the instances know whether the session goes on.
        raise InvalidSignatureError("Signature verification failed")
    return None


def _refresh_token(
    instances: Iterable[Mounted], encoded_token: str, location: str, csrf_value: str | None
) -> SessionToken | None:
    delivery = "cookie" if location == "cookies" else "body"
    for mounted in instances:
        # First: another site must not make a token look used.
        csrf = _asked(mounted, lambda door: door.refresh_csrf(encoded_token))
        if csrf is None:
            continue
        _check_origin(mounted, location)
        if csrf_value:
            _check_csrf(csrf, csrf_value)
        decided = _asked(mounted, lambda door: door.check_refresh(encoded_token, delivery))
        if decided is not None:
            row, events = decided
            dispatch(mounted, events)
            return SessionToken({"typ": "refresh"}, _claims_of(row, csrf))
    return None


def _adopted_token(
    instances: Iterable[Mounted], encoded_token: str, location: str, csrf_value: str | None
) -> SessionToken | None:
    """A token from before that became a session: what it opens, the session decides from then on."""
    delivery = "cookie" if location == "cookies" else "body"
    for mounted in instances:
        csrf = _asked(mounted, lambda door: door.adopted(encoded_token))
        if csrf is None:
            continue
        _check_origin(mounted, location)
        if csrf_value:
            _check_csrf(csrf or None, csrf_value)
        decided = _asked(mounted, lambda door: door.check_refresh(encoded_token, delivery))
        if decided is None:
            raise RevokedTokenError(unverified_header(encoded_token), unverified_claims(encoded_token))
        row, events = decided
        dispatch(mounted, events)
        return SessionToken({"typ": "refresh"}, _claims_of(row, csrf))
    return None


def _claims_of(row: SessionRow, csrf: str) -> dict[str, Any]:
    return {
        **row.claims,
        config.identity_claim_key: row.user_id,
        "type": "refresh",
        "fresh": False,
        "jti": row.id,
        "sid": row.id,
        "iat": int(row.last_used_at.timestamp()),
        "exp": int(row.expires_at.timestamp()),
        "csrf": csrf,
    }


def _check_origin(mounted: Mounted, location: str) -> None:
    from ..errors import DoorwardError

    if location != "cookies":
        return
    try:
        mounted.door.check_origin(current.request().environ)
    except DoorwardError as error:
        raise CSRFError(error.description) from error


def _check_csrf(own: str | None, value: str) -> None:
    if own is None:
        raise JWTDecodeError("Missing claim: csrf")
    if not compare_digest(own.encode(), value.encode()):
        raise CSRFError("CSRF double submit tokens do not match")


def _asked(mounted: Mounted, ask: Callable[[Any], T], access_token: str | None = None) -> T | None:
    """`None`: the instance does not know the token. Its refusals become this extension's."""
    from ..errors import DoorwardError
    from ..processes import blocking

    try:
        return blocking(ask, mounted.door)
    except DoorwardError as error:
        mounted.tell_cause(error)
        dispatch(mounted, error.events)
        if error.error == "token_invalid":
            return None
        header: dict[str, Any] = {}
        claims: dict[str, Any] = {}
        if access_token:
            header, claims = unverified_header(access_token), unverified_claims(access_token)
        if error.error in ("session_ended", "refresh_reused"):
            raise RevokedTokenError(header, claims) from error
        if error.error == "token_expired":
            expired: Any = ExpiredSignatureError("Signature has expired")
            expired.jwt_header, expired.jwt_data = header, claims
            raise expired from error
        raise
