"""The settings of the current app, read when they are used. `init_app` puts the defaults there."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from json import JSONEncoder
from typing import Any

from . import current
from .internal_utils import get_json_encoder
from .typing import ExpiresDelta

_ASYMMETRIC = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    + ("ES256", "ES256K", "ES384", "ES512", "ES521", "EdDSA")
)
_LOCATIONS = ("headers", "cookies", "query_string", "json")
_YEAR = 31540000


def _setting(key: str) -> Any:
    return property(lambda _: current.app().config[key], doc=f"`{key}`")


class _Config:
    """A property for each setting; change settings in `app.config`."""

    algorithm = _setting("JWT_ALGORITHM")
    header_type = _setting("JWT_HEADER_TYPE")
    query_string_name = _setting("JWT_QUERY_STRING_NAME")
    query_string_value_prefix = _setting("JWT_QUERY_STRING_VALUE_PREFIX")
    json_key = _setting("JWT_JSON_KEY")
    refresh_json_key = _setting("JWT_REFRESH_JSON_KEY")
    access_cookie_name = _setting("JWT_ACCESS_COOKIE_NAME")
    refresh_cookie_name = _setting("JWT_REFRESH_COOKIE_NAME")
    access_cookie_path = _setting("JWT_ACCESS_COOKIE_PATH")
    refresh_cookie_path = _setting("JWT_REFRESH_COOKIE_PATH")
    cookie_secure = _setting("JWT_COOKIE_SECURE")
    cookie_domain = _setting("JWT_COOKIE_DOMAIN")
    cookie_samesite = _setting("JWT_COOKIE_SAMESITE")
    session_cookie = _setting("JWT_SESSION_COOKIE")
    cookie_csrf_protect = _setting("JWT_COOKIE_CSRF_PROTECT")
    csrf_request_methods = _setting("JWT_CSRF_METHODS")
    csrf_in_cookies = _setting("JWT_CSRF_IN_COOKIES")
    csrf_check_form = _setting("JWT_CSRF_CHECK_FORM")
    access_csrf_cookie_name = _setting("JWT_ACCESS_CSRF_COOKIE_NAME")
    refresh_csrf_cookie_name = _setting("JWT_REFRESH_CSRF_COOKIE_NAME")
    access_csrf_cookie_path = _setting("JWT_ACCESS_CSRF_COOKIE_PATH")
    refresh_csrf_cookie_path = _setting("JWT_REFRESH_CSRF_COOKIE_PATH")
    access_csrf_header_name = _setting("JWT_ACCESS_CSRF_HEADER_NAME")
    refresh_csrf_header_name = _setting("JWT_REFRESH_CSRF_HEADER_NAME")
    access_csrf_field_name = _setting("JWT_ACCESS_CSRF_FIELD_NAME")
    refresh_csrf_field_name = _setting("JWT_REFRESH_CSRF_FIELD_NAME")
    identity_claim_key = _setting("JWT_IDENTITY_CLAIM")
    error_msg_key = _setting("JWT_ERROR_MESSAGE_KEY")
    decode_audience = _setting("JWT_DECODE_AUDIENCE")
    encode_audience = _setting("JWT_ENCODE_AUDIENCE")
    decode_issuer = _setting("JWT_DECODE_ISSUER")
    encode_issuer = _setting("JWT_ENCODE_ISSUER")
    leeway = _setting("JWT_DECODE_LEEWAY")
    verify_sub = _setting("JWT_VERIFY_SUB")
    encode_nbf = _setting("JWT_ENCODE_NBF")
    #: Methods that are never asked for a token: preflights carry none.
    exempt_methods: Iterable[str] = frozenset({"OPTIONS"})

    @property
    def token_location(self) -> Sequence[str]:
        """Where a token is looked for, in this order."""
        locations: str | Iterable[str] = current.app().config["JWT_TOKEN_LOCATION"]
        if isinstance(locations, str):
            locations = (locations,)
        elif not isinstance(locations, (tuple, list)):
            if not isinstance(locations, Iterable):
                raise RuntimeError("JWT_TOKEN_LOCATION must be a sequence or a set")
            locations = tuple(locations)
        if not locations:
            raise RuntimeError(
                "JWT_TOKEN_LOCATION must contain at least one "
                'of "headers", "cookies", "query_string", or "json"'
            )
        for location in locations:
            if location not in _LOCATIONS:
                raise RuntimeError(
                    "JWT_TOKEN_LOCATION can only contain "
                    '"headers", "cookies", "query_string", or "json"'
                )
        return locations

    @property
    def jwt_in_cookies(self) -> bool:
        return "cookies" in self.token_location

    @property
    def jwt_in_headers(self) -> bool:
        return "headers" in self.token_location

    @property
    def jwt_in_query_string(self) -> bool:
        return "query_string" in self.token_location

    @property
    def jwt_in_json(self) -> bool:
        return "json" in self.token_location

    @property
    def header_name(self) -> str:
        name: str = current.app().config["JWT_HEADER_NAME"]
        if not name:
            raise RuntimeError("JWT_ACCESS_HEADER_NAME cannot be empty")
        return name

    @property
    def cookie_max_age(self) -> int | None:
        """For a token that never expires: a year; `None` for a session cookie."""
        return None if self.session_cookie else _YEAR

    @property
    def access_expires(self) -> ExpiresDelta:
        return duration(current.app().config, "JWT_ACCESS_TOKEN_EXPIRES")

    @property
    def refresh_expires(self) -> ExpiresDelta:
        return duration(current.app().config, "JWT_REFRESH_TOKEN_EXPIRES")

    @property
    def decode_algorithms(self) -> list[str]:
        """The algorithms that are accepted; the one that signs is always among them."""
        algorithms = list(current.app().config["JWT_DECODE_ALGORITHMS"] or ())
        return algorithms if self.algorithm in algorithms else [*algorithms, self.algorithm]

    @property
    def is_asymmetric(self) -> bool:
        return self.algorithm in _ASYMMETRIC

    @property
    def encode_key(self) -> Any:
        return self._private_key if self.is_asymmetric else self._secret_key

    @property
    def decode_key(self) -> Any:
        return self._public_key if self.is_asymmetric else self._secret_key

    @property
    def _secret_key(self) -> Any:
        return _key("JWT_SECRET_KEY")

    @property
    def _public_key(self) -> Any:
        return _key("JWT_PUBLIC_KEY")

    @property
    def _private_key(self) -> Any:
        return _key("JWT_PRIVATE_KEY")

    @property
    def json_encoder(self) -> type[JSONEncoder]:
        return get_json_encoder(current.app())


def duration(settings: dict[str, Any], name: str) -> ExpiresDelta:
    """A setting that is seconds, `False`, or what can be added to a datetime."""
    span: Any = settings[name]
    if type(span) is int:
        return timedelta(seconds=span)
    if span is not False and type(span) is not timedelta:
        try:
            datetime.now(timezone.utc) + span
        except TypeError as error:
            raise RuntimeError(f"must be able to add {name} to datetime.datetime") from error
    return span  # type: ignore[no-any-return]


def find_key(settings: dict[str, Any], asymmetric: str) -> Any:
    """The secret, or where the algorithm has key pairs, the setting `asymmetric`."""
    if settings["JWT_ALGORITHM"] in _ASYMMETRIC:
        return settings[asymmetric]
    return settings["JWT_SECRET_KEY"] or settings.get("SECRET_KEY")


def _key(name: str) -> Any:
    """A key, or an error that says which setting it is."""
    settings = current.app().config
    key = settings[name]
    if name == "JWT_SECRET_KEY":
        key = key or settings.get("SECRET_KEY")
        missing = "JWT_SECRET_KEY or flask SECRET_KEY must be set when using symmetric algorithm"
    else:
        missing = f"{name} must be set to use asymmetric cryptography algorithm"
    if not key:
        raise RuntimeError(f'{missing} "{settings["JWT_ALGORITHM"]}"')
    return key


config = _Config()
