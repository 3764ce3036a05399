"""The extension: settings get their defaults, refusals their answers, the app its callbacks."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from datetime import timedelta
from operator import itemgetter
from time import time
from typing import Any, TypeVar

from flask import Flask
from flask.typing import ResponseReturnValue

from .._native import Rules, Token, unverified_claims, unverified_header
from . import current, exceptions, token_errors
from .config import config, duration, find_key
from .cryptography_keys import text_of
from .default_callbacks import (
    default_additional_claims_callback,
    default_blocklist_callback,
    default_decode_key_callback,
    default_encode_key_callback,
    default_expired_token_callback,
    default_invalid_token_callback,
    default_jwt_headers_callback,
    default_needs_fresh_token_callback,
    default_revoked_token_callback,
    default_token_verification_callback,
    default_token_verification_failed_callback,
    default_unauthorized_callback,
    default_user_identity_callback,
    default_user_lookup_error_callback,
)
from .internal_utils import JSONEncoder, answer
from .tokens import _encode_jwt, jws, rules_of
from .typing import ExpiresDelta, Fresh
from .utils import current_user_context_processor

_Callback = TypeVar("_Callback", bound=Callable[..., Any])
_READ = itemgetter(
    "JWT_ALGORITHM",
    "JWT_PUBLIC_KEY",
    "JWT_SECRET_KEY",
    "SECRET_KEY",
    "JWT_DECODE_ALGORITHMS",
    "JWT_DECODE_AUDIENCE",
    "JWT_DECODE_ISSUER",
    "JWT_DECODE_LEEWAY",
    "JWT_VERIFY_SUB",
    "JWT_IDENTITY_CLAIM",
)
_MADE_OF = itemgetter(
    "JWT_ALGORITHM",
    "JWT_ENCODE_AUDIENCE",
    "JWT_COOKIE_CSRF_PROTECT",
    "JWT_IDENTITY_CLAIM",
    "JWT_ENCODE_ISSUER",
    "JWT_ENCODE_NBF",
)


_LIFETIME = ("JWT_REFRESH_TOKEN_EXPIRES", "JWT_ACCESS_TOKEN_EXPIRES")

#: The keys that the app did not set, with their defaults: `Doorward` has others.
DEFAULTS = "flask-jwt-extended-defaults"


class JWTManager:
    """The extension; one may serve several apps.

    Each `..._loader` decorates the callback that the extension asks in its place. Any of them may
    be asynchronous.
    """

    def __init__(self, app: Flask | None = None, add_context_processor: bool = False) -> None:
        self._decode_key_callback: Callable[..., Any] = default_decode_key_callback
        self._encode_key_callback: Callable[..., Any] = default_encode_key_callback
        self._expired_token_callback: Callable[..., Any] = default_expired_token_callback
        self._invalid_token_callback: Callable[..., Any] = default_invalid_token_callback
        self._jwt_additional_header_callback: Callable[..., Any] = default_jwt_headers_callback
        self._needs_fresh_token_callback: Callable[..., Any] = default_needs_fresh_token_callback
        self._revoked_token_callback: Callable[..., Any] = default_revoked_token_callback
        self._token_in_blocklist_callback: Callable[..., Any] = default_blocklist_callback
        self._token_verification_callback: Callable[..., Any] = default_token_verification_callback
        self._token_verification_failed_callback: Callable[..., Any] = (
            default_token_verification_failed_callback
        )
        self._unauthorized_callback: Callable[..., Any] = default_unauthorized_callback
        self._user_claims_callback: Callable[..., Any] = default_additional_claims_callback
        self._user_identity_callback: Callable[..., Any] = default_user_identity_callback
        self._user_lookup_callback: Callable[..., Any] | None = None
        self._user_lookup_error_callback: Callable[..., Any] = default_user_lookup_error_callback
        self._read: tuple[tuple[Any, ...], Rules, Any] | None = None
        if app is not None:
            self.init_app(app, add_context_processor)

    def init_app(self, app: Flask, add_context_processor: bool = False) -> None:
        """Registers the extension with an app.

        Args:
            add_context_processor: whether templates know `current_user`.
        """
        app.extensions["flask-jwt-extended"] = self
        if add_context_processor:
            app.context_processor(current_user_context_processor)
        self._set_default_configuration_options(app)
        self._set_error_handler_callbacks(app)

    @staticmethod
    def _set_default_configuration_options(app: Flask) -> None:
        defaults = {
            "JWT_ACCESS_COOKIE_NAME": "access_token_cookie",
            "JWT_ACCESS_COOKIE_PATH": "/",
            "JWT_ACCESS_CSRF_COOKIE_NAME": "csrf_access_token",
            "JWT_ACCESS_CSRF_COOKIE_PATH": "/",
            "JWT_ACCESS_CSRF_FIELD_NAME": "csrf_token",
            "JWT_ACCESS_CSRF_HEADER_NAME": "X-CSRF-TOKEN",
            "JWT_ACCESS_TOKEN_EXPIRES": timedelta(minutes=15),
            "JWT_ALGORITHM": "HS256",
            "JWT_COOKIE_CSRF_PROTECT": True,
            "JWT_COOKIE_DOMAIN": None,
            "JWT_COOKIE_SAMESITE": None,
            "JWT_COOKIE_SECURE": False,
            "JWT_CSRF_CHECK_FORM": False,
            "JWT_CSRF_IN_COOKIES": True,
            "JWT_CSRF_METHODS": ["POST", "PUT", "PATCH", "DELETE"],
            "JWT_DECODE_ALGORITHMS": None,
            "JWT_DECODE_AUDIENCE": None,
            "JWT_DECODE_ISSUER": None,
            "JWT_DECODE_LEEWAY": 0,
            "JWT_ENCODE_AUDIENCE": None,
            "JWT_ENCODE_ISSUER": None,
            "JWT_ENCODE_NBF": True,
            "JWT_ERROR_MESSAGE_KEY": "msg",
            "JWT_HEADER_NAME": "Authorization",
            "JWT_HEADER_TYPE": "Bearer",
            "JWT_IDENTITY_CLAIM": "sub",
            "JWT_JSON_KEY": "access_token",
            "JWT_PRIVATE_KEY": None,
            "JWT_PUBLIC_KEY": None,
            "JWT_QUERY_STRING_NAME": "jwt",
            "JWT_QUERY_STRING_VALUE_PREFIX": "",
            "JWT_REFRESH_COOKIE_NAME": "refresh_token_cookie",
            "JWT_REFRESH_COOKIE_PATH": "/",
            "JWT_REFRESH_CSRF_COOKIE_NAME": "csrf_refresh_token",
            "JWT_REFRESH_CSRF_COOKIE_PATH": "/",
            "JWT_REFRESH_CSRF_FIELD_NAME": "csrf_token",
            "JWT_REFRESH_CSRF_HEADER_NAME": "X-CSRF-TOKEN",
            "JWT_REFRESH_JSON_KEY": "refresh_token",
            "JWT_REFRESH_TOKEN_EXPIRES": timedelta(days=30),
            "JWT_SECRET_KEY": None,
            "JWT_SESSION_COOKIE": True,
            "JWT_TOKEN_LOCATION": ("headers",),
            "JWT_VERIFY_SUB": True,
        }
        missing = {key: value for key, value in defaults.items() if key not in app.config}
        app.config.update(missing)
        app.extensions.setdefault(DEFAULTS, {}).update(missing)

    def _set_error_handler_callbacks(self, app: Flask) -> None:
        def unauthorized(error: Exception) -> ResponseReturnValue:
            return _response(self._unauthorized_callback, str(error))

        def invalid(error: Exception) -> ResponseReturnValue:
            return _response(self._invalid_token_callback, str(error))

        def expired(error: Any) -> ResponseReturnValue:
            # A token that the app decoded by itself is none of a login.
            if not hasattr(error, "jwt_data"):
                return invalid(error)
            return _response(self._expired_token_callback, error.jwt_header, error.jwt_data)

        def with_token(name: str) -> Callable[[Any], ResponseReturnValue]:
            return lambda error: _response(getattr(self, name), error.jwt_header, error.jwt_data)

        handlers: dict[type[Exception], Callable[[Any], ResponseReturnValue]] = {
            exceptions.CSRFError: unauthorized,
            exceptions.NoAuthorizationError: unauthorized,
            exceptions.InvalidHeaderError: invalid,
            exceptions.InvalidQueryParamError: invalid,
            exceptions.JWTDecodeError: invalid,
            exceptions.WrongTokenError: invalid,
            exceptions.FreshTokenRequired: with_token("_needs_fresh_token_callback"),
            exceptions.RevokedTokenError: with_token("_revoked_token_callback"),
            exceptions.UserClaimsVerificationError: with_token(
                "_token_verification_failed_callback"
            ),
            exceptions.UserLookupError: with_token("_user_lookup_error_callback"),
            token_errors.DecodeError: invalid,
            token_errors.InvalidAudienceError: invalid,
            token_errors.InvalidIssuerError: invalid,
            token_errors.InvalidTokenError: invalid,
            token_errors.MissingRequiredClaimError: invalid,
            token_errors.ExpiredSignatureError: expired,
        }
        for error, handler in handlers.items():
            app.register_error_handler(error, handler)

    def additional_claims_loader(self, callback: _Callback) -> _Callback:
        """Identity -> claims to add to a new token."""
        self._user_claims_callback = callback
        return callback

    def additional_headers_loader(self, callback: _Callback) -> _Callback:
        """Identity -> header fields to add to a new token."""
        self._jwt_additional_header_callback = callback
        return callback

    def decode_key_loader(self, callback: _Callback) -> _Callback:
        """Header and claims, **unverified** -> the key that verifies the token."""
        self._decode_key_callback = callback
        return callback

    def encode_key_loader(self, callback: _Callback) -> _Callback:
        """Identity -> the key that signs a new token."""
        self._encode_key_callback = callback
        return callback

    def expired_token_loader(self, callback: _Callback) -> _Callback:
        """Header and claims of an expired token -> the answer."""
        self._expired_token_callback = callback
        return callback

    def invalid_token_loader(self, callback: _Callback) -> _Callback:
        """Why a token is bad, in words -> the answer."""
        self._invalid_token_callback = callback
        return callback

    def needs_fresh_token_loader(self, callback: _Callback) -> _Callback:
        """Header and claims of a token that is not fresh -> the answer."""
        self._needs_fresh_token_callback = callback
        return callback

    def revoked_token_loader(self, callback: _Callback) -> _Callback:
        """Header and claims of a revoked token -> the answer."""
        self._revoked_token_callback = callback
        return callback

    def token_in_blocklist_loader(self, callback: _Callback) -> _Callback:
        """Header and claims -> whether the token has been revoked."""
        self._token_in_blocklist_callback = callback
        return callback

    def token_verification_failed_loader(self, callback: _Callback) -> _Callback:
        """Header and claims that `token_verification_loader` refused -> the answer."""
        self._token_verification_failed_callback = callback
        return callback

    def token_verification_loader(self, callback: _Callback) -> _Callback:
        """Header and claims -> whether the app accepts them."""
        self._token_verification_callback = callback
        return callback

    def unauthorized_loader(self, callback: _Callback) -> _Callback:
        """Why no token was found, in words -> the answer."""
        self._unauthorized_callback = callback
        return callback

    def user_identity_loader(self, callback: _Callback) -> _Callback:
        """Identity, such as a user object -> the text that goes into the token."""
        self._user_identity_callback = callback
        return callback

    def user_lookup_loader(self, callback: _Callback) -> _Callback:
        """Header and claims -> the current user; `None`: there is none; the token is refused."""
        self._user_lookup_callback = callback
        return callback

    def user_lookup_error_loader(self, callback: _Callback) -> _Callback:
        """Header and claims for which no user was found -> the answer."""
        self._user_lookup_error_callback = callback
        return callback

    def _encode_jwt_from_config(
        self,
        identity: Any,
        token_type: str,
        claims: dict[str, Any] | None = None,
        fresh: Fresh = False,
        expires_delta: ExpiresDelta | None = None,
        headers: dict[str, Any] | None = None,
    ) -> str:
        settings = current.app().config
        # The defaults need no call and no waiting; they are what most apps have.
        more_headers: dict[str, Any] = {}
        if self._jwt_additional_header_callback is not default_jwt_headers_callback:
            more_headers = answer(self._jwt_additional_header_callback, identity)
        more_claims: dict[str, Any] = {}
        if self._user_claims_callback is not default_additional_claims_callback:
            more_claims = answer(self._user_claims_callback, identity)
        subject = identity
        if self._user_identity_callback is not default_user_identity_callback:
            subject = answer(self._user_identity_callback, identity)
        if self._encode_key_callback is default_encode_key_callback:
            secret: Any = find_key(settings, "JWT_PRIVATE_KEY") or config.encode_key
        else:
            secret = answer(self._encode_key_callback, identity)
        if expires_delta is None:
            name = _LIFETIME[token_type == "access"]
            expires_delta = settings[name]
            if type(expires_delta) is not timedelta:
                expires_delta = duration(settings, name)
        algorithm, audience, csrf, claim, issuer, nbf = _MADE_OF(settings)
        return _encode_jwt(
            algorithm,
            audience,
            # New dictionaries: a callback may hand out the same one every time.
            {**more_claims, **claims} if claims else more_claims,
            csrf,
            expires_delta,
            fresh,
            {**more_headers, **headers} if headers else more_headers,
            subject,
            claim,
            issuer,
            JSONEncoder,
            secret,
            token_type,
            nbf,
        )

    def _decode_jwt_from_config(
        self, encoded_token: str, csrf_value: str | None = None, allow_expired: bool = False
    ) -> dict[str, Any]:
        return self._verified(encoded_token, csrf_value, allow_expired).payload

    def _verified(self, encoded_token: Any, csrf_value: str | None, allow_expired: bool) -> Token:
        rules, key = self._reading()
        if self._decode_key_callback is not default_decode_key_callback:
            claims = unverified_claims(encoded_token)
            header = unverified_header(encoded_token)
            key = text_of(answer(self._decode_key_callback, header, claims))
        elif not key:
            key = config.decode_key  # Says what is missing.
        return jws.verify(encoded_token, key, rules, time(), csrf_value or None, allow_expired)

    def _reading(self) -> tuple[Rules, Any]:
        """Rules and key, made anew when a setting has changed."""
        settings = _READ(current.app().config)
        read = self._read
        if read is None or read[0] != settings:
            rules = rules_of(config.decode_algorithms, *settings[5:])
            key = text_of(find_key(current.app().config, "JWT_PUBLIC_KEY"))
            _warn_of_short_secret(config.algorithm, key)
            # Lists are copied, since apps may change them.
            read = self._read = tuple(map(_copied, settings)), rules, key
        return read[1], read[2]


def _warn_of_short_secret(algorithm: str, key: Any) -> None:
    # RFC 7518, 3.2: as long as the hash.
    if algorithm in ("HS256", "HS384", "HS512") and key and len(key) * 8 < int(algorithm[2:]):
        text = "JWT_SECRET_KEY has %d bytes, which can be guessed: openssl rand -hex 64 makes one"
        current.app().logger.warning(text, len(key))


def _copied(setting: Any) -> Any:
    return copy(setting) if isinstance(setting, (list, set)) else setting


def _response(callback: Callable[..., Any], *args: Any) -> ResponseReturnValue:
    response: ResponseReturnValue = answer(callback, *args)
    return response
