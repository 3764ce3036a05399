"""The app's callbacks, asked; what they return is awaited where they are asynchronous."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from . import current
from .exceptions import RevokedTokenError, UserClaimsVerificationError, WrongTokenError

if TYPE_CHECKING:
    from .jwt_manager import JWTManager


def get_jwt_manager() -> JWTManager:
    """The extension of the current app."""
    try:
        return cast("JWTManager", current.app().extensions["flask-jwt-extended"])
    except KeyError:
        raise RuntimeError(
            "You must initialize a JWTManager with this flask application before using this method"
        ) from None


def answer(callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a callback answers. A coroutine is awaited: on its own it would count as true."""
    answered = callback(*args, **kwargs)
    # The class that it says it has: a proxy could be awaited if what it stands for could.
    if not hasattr(answered.__class__, "__await__"):
        return answered

    async def awaited() -> Any:
        return await answered

    try:
        return current.app().async_to_sync(awaited)()
    finally:
        getattr(answered, "close", lambda: None)()


def has_user_lookup() -> bool:
    return get_jwt_manager()._user_lookup_callback is not None


def user_lookup(*args: Any, **kwargs: Any) -> Any:
    lookup = get_jwt_manager()._user_lookup_callback
    return lookup and answer(lookup, *args, **kwargs)


def verify_token_type(decoded_token: Any, refresh: bool) -> None:
    """Access or refresh, as asked for; a type that is neither is no access token."""
    is_right = decoded_token["type"] == ("refresh" if refresh else "access")
    if not is_right:
        kind = "refresh" if refresh else "non-refresh"
        raise WrongTokenError(f"Only {kind} tokens are allowed")


def verify_token_not_blocklisted(jwt_header: dict[str, Any], jwt_data: dict[str, Any]) -> None:
    if answer(get_jwt_manager()._token_in_blocklist_callback, jwt_header, jwt_data):
        raise RevokedTokenError(jwt_header, jwt_data)


def custom_verification_for_token(jwt_header: dict[str, Any], jwt_data: dict[str, Any]) -> None:
    if not answer(get_jwt_manager()._token_verification_callback, jwt_header, jwt_data):
        raise UserClaimsVerificationError("User claims verification failed", jwt_header, jwt_data)


class JSONEncoder(json.JSONEncoder):
    """Python's encoder, which asks the app's JSON provider about what it does not know."""

    def default(self, o: Any) -> Any:
        provider: Any = current.app().json_provider_class
        if provider is DefaultJSONProvider:
            provider = current.app().json
        return getattr(provider, "default", DefaultJSONProvider.default)(o)


def get_json_encoder(app: Flask) -> type[json.JSONEncoder]:
    """The encoder for the claims of an app's tokens."""
    return JSONEncoder
