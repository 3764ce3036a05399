"""Views protected: the token of a request found, verified and kept for the view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import lru_cache, wraps
from inspect import iscoroutinefunction
from typing import Any

from flask import Request
from werkzeug.datastructures import EnvironHeaders
from werkzeug.exceptions import BadRequest

from .._native import Token, cookie, credential, unverified_header
from . import current
from .config import config
from .default_callbacks import default_blocklist_callback, default_token_verification_callback
from .exceptions import (
    CSRFError,
    FreshTokenRequired,
    InvalidHeaderError,
    InvalidQueryParamError,
    NoAuthorizationError,
    UserLookupError,
)
from .internal_utils import (
    custom_verification_for_token,
    get_jwt_manager,
    has_user_lookup,
    user_lookup,
    verify_token_not_blocklisted,
    verify_token_type,
)
from .jwt_manager import JWTManager
from .sessions import SessionToken, doorward_token
from .utils import decode_token

LocationType = str | Sequence[str] | None
_Claims = dict[str, Any]


def verify_jwt_in_request(
    optional: bool = False,
    fresh: bool = False,
    refresh: bool = False,
    locations: LocationType = None,
    verify_type: bool = True,
    skip_revocation_check: bool = False,
) -> tuple[_Claims, _Claims] | None:
    """Header and claims of the token of this request; an exception, if it has no good one.

    Args:
        optional: a request without a token passes, and `None` is returned. A bad one does not.
        fresh: the token must be fresh.
        refresh: a refresh token is asked for, instead of an access token.
        locations: where to look, instead of `JWT_TOKEN_LOCATION`.
        verify_type: `False`: access and refresh tokens both pass.
        skip_revocation_check: the blocklist is not asked.
    """
    token = _verify(optional, fresh, refresh, locations, verify_type, skip_revocation_check)
    return None if token is None else (token.header, token.payload)


#: Apps replace `verify_jwt_in_request` in their tests; then the decorator calls theirs.
_OWN = verify_jwt_in_request


def jwt_required(
    optional: bool = False,
    fresh: bool = False,
    refresh: bool = False,
    locations: LocationType = None,
    verify_type: bool = True,
    skip_revocation_check: bool = False,
) -> Any:
    """Protects a view; the arguments are those of `verify_jwt_in_request`."""
    arguments = (optional, fresh, refresh, locations, verify_type, skip_revocation_check)

    def wrapper(fn: Callable[..., Any]) -> Callable[..., Any]:
        is_async = iscoroutinefunction(fn)

        @wraps(fn)
        def decorator(*args: Any, **kwargs: Any) -> Any:
            if verify_jwt_in_request is _OWN:
                _verify(*arguments)
            else:
                verify_jwt_in_request(*arguments)
            if is_async:
                return current.app().ensure_sync(fn)(*args, **kwargs)
            return fn(*args, **kwargs)

        return decorator

    return wrapper


def _verify(
    optional: bool,
    fresh: bool,
    refresh: bool,
    locations: LocationType,
    verify_type: bool,
    skip_revocation_check: bool,
) -> Token | SessionToken | None:
    if current.request().method in config.exempt_methods:
        return None
    manager = get_jwt_manager()
    try:
        token, location = _decided(
            manager, locations, fresh, refresh, verify_type, skip_revocation_check
        )
    except NoAuthorizationError:
        if not optional:
            raise
        _keep({}, {}, {"loaded_user": None}, None)
        return None
    user = manager._user_lookup_callback and _load_user(token.header, token.payload)
    _keep(token, token, user, location)
    return token


def _keep(claims: Any, header: Any, user: dict[str, Any] | None, location: str | None) -> None:
    """A token is kept as it is: its dictionaries are filled when the view asks for them."""
    kept = current.g()
    kept._jwt_extended_jwt = claims
    kept._jwt_extended_jwt_header = header
    kept._jwt_extended_jwt_user = user
    kept._jwt_extended_jwt_location = location


def _load_user(jwt_header: _Claims, jwt_data: _Claims) -> dict[str, Any] | None:
    if not has_user_lookup():
        return None
    user = user_lookup(jwt_header, jwt_data)
    if user is None:
        identity = jwt_data[config.identity_claim_key]
        raise UserLookupError(f"user_lookup returned None for {identity}", jwt_header, jwt_data)
    return {"loaded_user": user}


def _decode_jwt_from_request(
    locations: LocationType,
    fresh: bool,
    refresh: bool = False,
    verify_type: bool = True,
    skip_revocation_check: bool = False,
) -> tuple[_Claims, _Claims, str]:
    token, location = _token_of_request(
        get_jwt_manager(), locations, fresh, refresh, verify_type, skip_revocation_check
    )
    return token.payload, token.header, location


#: Replaced in tests, too.
_OWN_DECISION = _decode_jwt_from_request


def _decided(
    manager: JWTManager,
    locations: LocationType,
    fresh: bool,
    refresh: bool,
    verify_type: bool,
    skip_revocation_check: bool,
) -> tuple[Token | SessionToken, str]:
    if _decode_jwt_from_request is _OWN_DECISION:
        return _token_of_request(
            manager, locations, fresh, refresh, verify_type, skip_revocation_check
        )
    claims, header, location = _decode_jwt_from_request(
        locations,
        fresh,
        refresh=refresh,
        verify_type=verify_type,
        skip_revocation_check=skip_revocation_check,
    )
    return SessionToken(header, claims), location


def _token_of_request(
    manager: JWTManager,
    locations: LocationType,
    fresh: bool,
    refresh: bool,
    verify_type: bool,
    skip_revocation_check: bool,
) -> tuple[Token | SessionToken, str]:
    token, location = _find_token(manager, locations, refresh)
    if verify_type:
        verify_token_type(token, refresh)
    if fresh:
        _verify_token_is_fresh(token.header, token.payload)
    if not skip_revocation_check:
        if manager._token_in_blocklist_callback is not default_blocklist_callback:
            verify_token_not_blocklisted(token.header, token.payload)
    if manager._token_verification_callback is not default_token_verification_callback:
        custom_verification_for_token(token.header, token.payload)
    return token, location


def _find_token(
    manager: JWTManager, locations: LocationType, refresh: bool
) -> tuple[Token | SessionToken, str]:
    """The first location that holds a token decides; it is verified there and then."""
    if isinstance(locations, str):
        locations = [locations]
    missing = []
    places = tuple(locations) if locations else config.token_location
    instances = current.app().extensions.get("doorward")
    for location in places:
        try:
            encoded_token, csrf_value = _look(location, refresh)
            if instances:
                own = doorward_token(instances, encoded_token, refresh, location, csrf_value)
                if own is not None:
                    return own, location
            return _decoded(manager, encoded_token, csrf_value), location
        except NoAuthorizationError as error:
            missing.append(str(error))
    if len(places) == 1:
        raise NoAuthorizationError(missing[0])
    raise NoAuthorizationError(
        f"Missing JWT in {', '.join(places[:-1])} or {places[-1]} ({'; '.join(missing)})"
    )


def _decoded(
    manager: JWTManager, encoded_token: Any, csrf_value: str | None
) -> Token | SessionToken:
    decoding = getattr(manager._decode_jwt_from_config, "__func__", None)
    if decoding is _OWN_DECODING and decode_token is _OWN_DECODE_TOKEN:
        return manager._verified(encoded_token, csrf_value, False)
    # The app decodes by itself, and what it refuses must not pass.
    claims = decode_token(encoded_token, csrf_value)
    return SessionToken(unverified_header(encoded_token), claims)


_OWN_DECODING = JWTManager._decode_jwt_from_config
_OWN_DECODE_TOKEN = decode_token


def _look(location: str, refresh: bool) -> tuple[Any, str | None]:
    if location == "headers":
        return _decode_jwt_from_headers()
    if location == "cookies":
        return _decode_jwt_from_cookies(refresh)
    if location == "query_string":
        return _decode_jwt_from_query_string()
    if location == "json":
        return _decode_jwt_from_json(refresh)
    raise RuntimeError(f"'{location}' is not a valid location")


def _decode_jwt_from_headers() -> tuple[str, None]:
    settings = current.app().config
    name = settings["JWT_HEADER_NAME"] or config.header_name
    kind = settings["JWT_HEADER_TYPE"]
    value = _header(name)
    token = credential(value, kind) if kind else None
    if token:
        return token, None
    words = value.strip().strip(",").split()
    if not words:
        raise NoAuthorizationError(f"Missing {name} Header")
    if not kind:
        if len(words) != 1:
            raise InvalidHeaderError(f"Bad {name} header. Expected '{name}: <JWT>'")
        return words[0], None
    if token is None:
        raise NoAuthorizationError(
            f"Missing '{kind}' type in '{name}' header. Expected '{name}: {kind} <JWT>'"
        )
    raise InvalidHeaderError(f"Bad {name} header. Expected '{name}: {kind} <JWT>'")


def _header(name: str) -> str:
    """From the WSGI environment, which is faster; unless the app put other headers in its place."""
    headers = current.request().headers
    if type(headers) is EnvironHeaders:
        value: str = headers.environ.get(_environ_key(name), "")
        return value
    return headers.get(name, "")


@lru_cache
def _environ_key(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def _decode_jwt_from_cookies(refresh: bool) -> tuple[str, str | None]:
    settings = current.app().config
    kind = "REFRESH" if refresh else "ACCESS"
    name = settings[f"JWT_{kind}_COOKIE_NAME"]
    request = current.request()
    value = _cookie(request, name)
    if not value:
        raise NoAuthorizationError(f'Missing cookie "{name}"')
    if (
        not settings["JWT_COOKIE_CSRF_PROTECT"]
        or request.method not in settings["JWT_CSRF_METHODS"]
    ):
        return value, None
    csrf_value = _header(settings[f"JWT_{kind}_CSRF_HEADER_NAME"])
    if not csrf_value and settings["JWT_CSRF_CHECK_FORM"]:
        csrf_value = request.form.get(settings[f"JWT_{kind}_CSRF_FIELD_NAME"], "")
    if not csrf_value:
        raise CSRFError("Missing CSRF token")
    return value, csrf_value


def _cookie(request: Request, name: str) -> str | None:
    """Reading all of them takes Werkzeug longer than everything else here. It has to where they are
    quoted, and where the app has its own idea of cookies."""
    header = _header("Cookie")
    are_plain = '"' not in header and "cookies" not in vars(request)
    if are_plain and type(request).cookies is Request.cookies:
        return cookie(header, name)
    return request.cookies.get(name)


def _decode_jwt_from_query_string() -> tuple[str, None]:
    name = config.query_string_name
    prefix = config.query_string_value_prefix
    value = current.request().args.get(name)
    if not value:
        raise NoAuthorizationError(f"Missing '{name}' query paramater")
    if not value.startswith(prefix):
        raise InvalidQueryParamError(
            f"Invalid value for query parameter '{name}'. "
            f"Expected the value to start with '{prefix}'"
        )
    return value.removeprefix(prefix), None


def _decode_jwt_from_json(refresh: bool) -> tuple[Any, None]:
    request = current.request()
    if not request.is_json:
        raise NoAuthorizationError("Invalid content-type. Must be application/json.")
    name = config.refresh_json_key if refresh else config.json_key
    try:
        body = request.json
    except (BadRequest, RecursionError):
        body = None
    token = body.get(name) if isinstance(body, dict) else None
    if not token:
        raise NoAuthorizationError(f'Missing "{name}" key in json data.')
    return token, None


def _verify_token_is_fresh(jwt_header: _Claims, jwt_data: _Claims) -> None:
    fresh = jwt_data["fresh"]
    if isinstance(fresh, bool):
        is_fresh = fresh
    else:
        now = datetime.now(timezone.utc).timestamp()
        is_fresh = isinstance(fresh, (int, float)) and fresh >= now
    if not is_fresh:
        raise FreshTokenRequired("Fresh token required", jwt_header, jwt_data)
