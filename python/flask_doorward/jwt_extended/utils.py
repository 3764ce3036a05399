"""What views call: tokens made and read, the current user, cookies set and cleared."""

from __future__ import annotations

from time import time
from typing import Any, Literal

from flask import Response
from werkzeug.local import LocalProxy

from .._native import Token, unverified_claims, unverified_header
from . import current
from .config import config
from .internal_utils import get_jwt_manager
from .sessions import SessionToken
from .token_errors import DecodeError
from .typing import ExpiresDelta, Fresh

#: A token is kept as it came; apps put dictionaries there in their tests.
_Kept = dict[str, Any] | Token | SessionToken
#: The current user, in a protected view.
current_user: Any = LocalProxy(lambda: get_current_user())


def get_jwt() -> dict[str, Any]:
    """The claims of the token that this request came with; empty where it was optional."""
    claims: _Kept = _of_request("_jwt_extended_jwt")
    return claims.payload if isinstance(claims, (Token, SessionToken)) else claims


def get_jwt_header() -> dict[str, Any]:
    """The header of the token that this request came with; empty where it was optional."""
    header: _Kept = _of_request("_jwt_extended_jwt_header")
    return header.header if isinstance(header, (Token, SessionToken)) else header


def get_jwt_identity() -> Any:
    """Whom the token is for; `None` where it was optional."""
    claims: _Kept = _of_request("_jwt_extended_jwt")
    return claims.get(config.identity_claim_key, None)


def get_jwt_request_location() -> str | None:
    """Where the token was found: "headers", "cookies", "query_string" or "json"."""
    location: str | None = current.g().get("_jwt_extended_jwt_location")
    return location


def get_current_user() -> Any:
    """What the user lookup found; `None` where a token was optional."""
    _of_request("_jwt_extended_jwt")
    user = current.g().get("_jwt_extended_jwt_user")
    if user is None:
        raise RuntimeError(
            "You must provide a `@jwt.user_lookup_loader` callback to use this method"
        )
    return user["loaded_user"]


def _of_request(name: str) -> Any:
    value = current.g().get(name)
    if value is None:
        raise RuntimeError(
            "You must call `@jwt_required()` or `verify_jwt_in_request()` before using this method"
        )
    return value


def decode_token(
    encoded_token: str, csrf_value: str | None = None, allow_expired: bool = False
) -> dict[str, Any]:
    """The claims of a token that is good: signature, times, issuer, audience, double submit.

    Neither its type nor whether it was revoked is asked.
    """
    return get_jwt_manager()._decode_jwt_from_config(encoded_token, csrf_value, allow_expired)


def create_access_token(
    identity: Any,
    fresh: Fresh = False,
    expires_delta: ExpiresDelta | None = None,
    additional_claims: dict[str, Any] | None = None,
    additional_headers: dict[str, Any] | None = None,
) -> str:
    """A new access token.

    Args:
        identity: whom it is for: a text, or what `user_identity_loader` makes one of.
        fresh: whether it opens views with `fresh=True`; a timedelta: for how long.
        expires_delta: how long it lives; `False`: for ever; `None`: `JWT_ACCESS_TOKEN_EXPIRES`.
        additional_claims: before those of `additional_claims_loader`.
        additional_headers: before those of `additional_headers_loader`.
    """
    return get_jwt_manager()._encode_jwt_from_config(
        identity=identity,
        token_type="access",
        claims=additional_claims,
        fresh=fresh,
        expires_delta=expires_delta,
        headers=additional_headers,
    )


def create_refresh_token(
    identity: Any,
    expires_delta: ExpiresDelta | None = None,
    additional_claims: dict[str, Any] | None = None,
    additional_headers: dict[str, Any] | None = None,
) -> str:
    """A new refresh token; the arguments are those of `create_access_token`."""
    return get_jwt_manager()._encode_jwt_from_config(
        identity=identity,
        token_type="refresh",
        claims=additional_claims,
        fresh=False,
        expires_delta=expires_delta,
        headers=additional_headers,
    )


def get_unverified_jwt_headers(encoded_token: str) -> dict[str, Any]:
    """The header of a token, whoever signed it."""
    return unverified_header(encoded_token)


def get_jti(encoded_token: str) -> str | None:
    """The id of a token that is good."""
    return decode_token(encoded_token).get("jti")


def get_csrf_token(encoded_token: str) -> str:
    """The double-submit value of a token that is good."""
    csrf: str = decode_token(encoded_token)["csrf"]
    return csrf


def set_access_cookies(
    response: Response,
    encoded_access_token: str,
    max_age: int | None = None,
    domain: str | None = None,
) -> None:
    """Sets the cookie of an access token, and the one of its double-submit value.

    Args:
        max_age: seconds, 0 too; `None`: as long as the token, or the session
            (`JWT_SESSION_COOKIE`).
        domain: instead of `JWT_COOKIE_DOMAIN`.
    """
    _set_cookies(response, "access", encoded_access_token, max_age, domain)


def set_refresh_cookies(
    response: Response,
    encoded_refresh_token: str,
    max_age: int | None = None,
    domain: str | None = None,
) -> None:
    """Sets the cookies of a refresh token; see `set_access_cookies`."""
    _set_cookies(response, "refresh", encoded_refresh_token, max_age, domain)


def unset_jwt_cookies(response: Response, domain: str | None = None) -> None:
    """Deletes the cookies of both tokens."""
    unset_access_cookies(response, domain)
    unset_refresh_cookies(response, domain)


def unset_access_cookies(response: Response, domain: str | None = None) -> None:
    """Deletes the cookies of an access token."""
    _unset_cookies(response, "access", domain)


def unset_refresh_cookies(response: Response, domain: str | None = None) -> None:
    """Deletes the cookies of a refresh token."""
    _unset_cookies(response, "refresh", domain)


_Kind = Literal["access", "refresh"]


def _set_cookies(
    response: Response, kind: _Kind, token: str, max_age: int | None, domain: str | None
) -> None:
    lifetime = _lifetime(token) if max_age is None else max_age
    _cookie(response, kind, "", token, domain, max_age=lifetime)
    if config.cookie_csrf_protect and config.csrf_in_cookies:
        _cookie(response, kind, "csrf_", get_csrf_token(token), domain, max_age=lifetime)


def _unset_cookies(response: Response, kind: _Kind, domain: str | None) -> None:
    _cookie(response, kind, "", "", domain, expires=0)
    if config.cookie_csrf_protect and config.csrf_in_cookies:
        _cookie(response, kind, "csrf_", "", domain, expires=0)


def _cookie(
    response: Response,
    kind: _Kind,
    part: Literal["", "csrf_"],
    value: str,
    domain: str | None,
    max_age: int | None = None,
    expires: int | None = None,
) -> None:
    response.set_cookie(
        getattr(config, f"{kind}_{part}cookie_name"),
        value=value,
        max_age=max_age,
        expires=expires,
        secure=config.cookie_secure,
        httponly=not part,
        domain=domain or config.cookie_domain,
        path=getattr(config, f"{kind}_{part}cookie_path"),
        samesite=config.cookie_samesite,
    )


def _lifetime(token: str) -> int | None:
    """Seconds that a token has left: its cookie is of no use for longer."""
    try:
        expires = None if config.session_cookie else unverified_claims(token).get("exp")
    except DecodeError:
        expires = None
    return config.cookie_max_age if expires is None else max(0, int(expires - time()))


def current_user_context_processor() -> dict[str, Any]:
    return {"current_user": get_current_user()}
