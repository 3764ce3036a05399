"""Settings: what the app's configuration means to the engine.

Each option of the engine is read from a key `DOORWARD_*`, else from the `JWT_*` key of
Flask-JWT-Extended that means it. A key that is `None` is not set.
"""

import difflib
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask

#: The longest that a session may last.
TEN_YEARS = 3650 * 24 * 3600.0
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
TOKENS = ("access", "refresh")
LOCATIONS = ("cookies", "headers", "query_string", "json")


class ConfigError(ValueError):
    """A setting that cannot be used, in words that say what to change."""


def seconds(value: Any) -> float:
    """A duration: a `timedelta`, a number of seconds, a text such as "15m", or whatever else can be
    added to a time."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return _seconds_of(value)
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, (int, float)):
        return float(value)
    now = datetime.now(timezone.utc)
    later: datetime = now + value
    return (later - now).total_seconds()


def _seconds_of(text: str) -> float:
    parts = re.fullmatch(r"\s*([0-9]+)\s*([smhd]?)\s*", text)
    if parts is None:
        raise ValueError
    return float(int(parts[1]) * UNITS[parts[2]])


def ten_years_if_false(value: Any) -> float:
    """A lifetime; `False` is as long as there is."""
    return TEN_YEARS if value is False else seconds(value)


def switch(value: Any) -> bool:
    """True or false, or a text that says so."""
    texts = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
    if isinstance(value, str):
        return texts[value.strip().lower()]
    if value not in (True, False):
        raise ValueError
    return bool(value)


def number(value: Any) -> int:
    """A whole number."""
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError
    return int(value)


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise TypeError
    return value


def path_text(value: Any) -> str:
    """A path."""
    return text(str(value) if isinstance(value, Path) else value)


def key_text(value: Any) -> str | bytes:
    """A key, as text or bytes."""
    return value if isinstance(value, bytes) else text(value)


def key_texts(value: Any) -> list[str | bytes]:
    """Keys, or one."""
    return [key_text(item) for item in ([value] if isinstance(value, (str, bytes)) else value)]


def texts(value: Any) -> list[str]:
    """A list, or a text with commas."""
    if isinstance(value, str):
        value = [item.strip() for item in value.split(",") if item.strip()]
    return [text(item) for item in value]


def one_text(value: Any) -> str:
    """A text, or a list of one."""
    (only,) = [value] if isinstance(value, str) else value
    return text(only)


def locations(value: Any) -> list[str]:
    """Where tokens are looked for, in order."""
    found = texts(value)
    if not found or any(location not in LOCATIONS for location in found):
        raise ValueError
    return found


def methods(value: Any) -> list[str]:
    """Methods of HTTP."""
    found = texts(value)
    if not all(re.fullmatch("[A-Za-z]+", method) for method in found):
        raise ValueError
    return found


def same_site(value: Any) -> str:
    """The attribute, in any case."""
    word = text(value).capitalize()
    if word not in ("Strict", "Lax", "None"):
        raise ValueError
    return word


def moment(value: Any) -> str:
    """A date, or a time."""
    return value.isoformat() if isinstance(value, date) else text(value)


#: What each reader takes, in words.
WANTED: dict[Callable[[Any], Any], str] = {
    seconds: 'a timedelta, a number of seconds, or a text such as "15m" or "30d"',
    ten_years_if_false: 'a timedelta, a number of seconds, a text such as "30d", or False',
    switch: "True or False",
    number: "a whole number",
    text: "a text",
    path_text: "a path",
    key_text: "a text or bytes",
    key_texts: "a text or bytes, or a list of them",
    texts: "a list of texts, or one text with commas",
    one_text: "one text",
    locations: 'some of "cookies", "headers", "query_string" and "json"',
    methods: 'methods of HTTP, such as ["POST", "PUT"]',
    same_site: '"Strict", "Lax" or "None"',
    moment: 'a date, such as "2027-03-31"',
}


class Setting(NamedTuple):
    """A line of the table."""

    option: str
    doorward: str | None
    jwt: str | None
    read: Callable[[Any], Any] = text


SETTINGS = (
    Setting("store", "DOORWARD_STORE", None),
    Setting("store_next", "DOORWARD_STORE_NEXT", None),
    Setting("url_prefix", "DOORWARD_URL_PREFIX", None),
    Setting("delivery", "DOORWARD_DELIVERY", None, texts),
    Setting("docs", "DOORWARD_DOCS", None, switch),
    # Lifetimes
    Setting("access_ttl", "DOORWARD_ACCESS_TTL", "JWT_ACCESS_TOKEN_EXPIRES", seconds),
    Setting("refresh_ttl", "DOORWARD_REFRESH_TTL", "JWT_REFRESH_TOKEN_EXPIRES", ten_years_if_false),
    Setting("session_ttl", "DOORWARD_SESSION_TTL", "JWT_REFRESH_TOKEN_EXPIRES", ten_years_if_false),
    Setting("browser_refresh_ttl", "DOORWARD_BROWSER_REFRESH_TTL", None, seconds),
    Setting("browser_session_ttl", "DOORWARD_BROWSER_SESSION_TTL", None, seconds),
    Setting("privileged_refresh_ttl", "DOORWARD_PRIVILEGED_REFRESH_TTL", None, seconds),
    Setting("privileged_session_ttl", "DOORWARD_PRIVILEGED_SESSION_TTL", None, seconds),
    Setting("sessions_per_user", "DOORWARD_SESSIONS_PER_USER", None, number),
    Setting("sessions_over_cap", "DOORWARD_SESSIONS_OVER_CAP", None),
    Setting("refresh_window", "DOORWARD_REFRESH_WINDOW", None, seconds),
    Setting("fresh_ttl", "DOORWARD_FRESH_TTL", None, seconds),
    Setting("fresh_needed_for", "DOORWARD_FRESH_NEEDED_FOR", None, texts),
    Setting("assurance", "DOORWARD_ASSURANCE", None),
    Setting("reset_ttl", "DOORWARD_RESET_TTL", None, seconds),
    Setting("clock_skew", "DOORWARD_CLOCK_SKEW", None, seconds),
    Setting("revocation_allowance", "DOORWARD_REVOCATION_ALLOWANCE", None, seconds),
    Setting("expiry_jitter_percent", "DOORWARD_EXPIRY_JITTER_PERCENT", None, number),
    # Access tokens
    Setting("algorithm", "DOORWARD_ALGORITHM", "JWT_ALGORITHM"),
    Setting("secret", "DOORWARD_SECRET", "JWT_SECRET_KEY", key_text),
    Setting("private_key", "DOORWARD_PRIVATE_KEY", "JWT_PRIVATE_KEY", key_text),
    Setting("seal_secret", "DOORWARD_SEAL_SECRET", None, key_text),
    Setting("seal_secret_previous", "DOORWARD_SEAL_SECRET_PREVIOUS", None, key_texts),
    Setting("issuer", "DOORWARD_ISSUER", "JWT_ENCODE_ISSUER"),
    Setting("audience", "DOORWARD_AUDIENCE", "JWT_ENCODE_AUDIENCE", one_text),
    Setting("exp_leeway", None, "JWT_DECODE_LEEWAY", seconds),
    Setting("nbf", None, "JWT_ENCODE_NBF", switch),
    Setting("identity_claim", None, "JWT_IDENTITY_CLAIM"),
    # Where they are found
    Setting("locations", None, "JWT_TOKEN_LOCATION", locations),
    Setting("header_name", None, "JWT_HEADER_NAME"),
    Setting("header_type", None, "JWT_HEADER_TYPE"),
    Setting("query_name", None, "JWT_QUERY_STRING_NAME"),
    Setting("query_value_prefix", None, "JWT_QUERY_STRING_VALUE_PREFIX"),
    Setting("json_key", None, "JWT_JSON_KEY"),
    Setting("refresh_json_key", None, "JWT_REFRESH_JSON_KEY"),
    Setting("message_key", None, "JWT_ERROR_MESSAGE_KEY"),
    # Cookies
    Setting("access_cookie_name", None, "JWT_ACCESS_COOKIE_NAME"),
    Setting("access_cookie_path", "DOORWARD_ACCESS_COOKIE_PATH", "JWT_ACCESS_COOKIE_PATH"),
    Setting("refresh_cookie_name", None, "JWT_REFRESH_COOKIE_NAME"),
    Setting("refresh_cookie_path", None, "JWT_REFRESH_COOKIE_PATH"),
    Setting("cookie_secure", "DOORWARD_COOKIE_SECURE", "JWT_COOKIE_SECURE", switch),
    Setting("cookie_domain", "DOORWARD_COOKIE_DOMAIN", "JWT_COOKIE_DOMAIN"),
    Setting("host_cookies", "DOORWARD_HOST_COOKIES", None, switch),
    Setting("same_site", None, "JWT_COOKIE_SAMESITE", same_site),
    Setting("session_cookie", None, "JWT_SESSION_COOKIE", switch),
    # Other sites
    Setting("allowed_origins", "DOORWARD_ALLOWED_ORIGINS", None, texts),
    Setting("allow_same_site", "DOORWARD_ALLOW_SAME_SITE", None, switch),
    Setting("csrf_strict", "DOORWARD_CSRF_STRICT", None, switch),
    Setting("trusted_proxies", "DOORWARD_TRUSTED_PROXIES", None, texts),
    # Adoption
    Setting("adopt_until", "DOORWARD_ADOPT_UNTIL", None, moment),
    Setting("adopt_secret", "DOORWARD_ADOPT_SECRET", "JWT_SECRET_KEY", key_text),
    Setting("adopt_key", "DOORWARD_ADOPT_KEY", "JWT_PUBLIC_KEY", key_text),
    Setting("adopt_algorithm", "DOORWARD_ADOPT_ALGORITHM", "JWT_ALGORITHM"),
    Setting("adopt_issuer", "DOORWARD_ADOPT_ISSUER", "JWT_DECODE_ISSUER", texts),
    Setting("adopt_audience", "DOORWARD_ADOPT_AUDIENCE", "JWT_DECODE_AUDIENCE", texts),
    Setting("adopt_names", "DOORWARD_ADOPT_NAMES", None),
    # Accounts
    Setting("register", "DOORWARD_REGISTER", None, switch),
    Setting("throttle", "DOORWARD_THROTTLE", None, switch),
    Setting("throttle_account", "DOORWARD_THROTTLE_ACCOUNT", None),
    Setting("throttle_network", "DOORWARD_THROTTLE_NETWORK", None),
    Setting("throttle_overall", "DOORWARD_THROTTLE_OVERALL", None),
    Setting("throttle_device", "DOORWARD_THROTTLE_DEVICE", None),
    Setting("device_ttl", "DOORWARD_DEVICE_TTL", None, seconds),
    Setting("device_cookie_path", "DOORWARD_DEVICE_COOKIE_PATH", None),
    Setting("password_memory_kib", "DOORWARD_PASSWORD_MEMORY_KIB", None, number),
    Setting("password_iterations", "DOORWARD_PASSWORD_ITERATIONS", None, number),
    Setting("password_parallelism", "DOORWARD_PASSWORD_PARALLELISM", None, number),
    Setting("password_threads", "DOORWARD_PASSWORD_THREADS", None, number),
    Setting("password_queue", "DOORWARD_PASSWORD_QUEUE", None, number),
    Setting("password_min_length", "DOORWARD_PASSWORD_MIN_LENGTH", None, number),
    Setting("service_name", "DOORWARD_SERVICE_NAME", None),
    Setting("breached_passwords_file", "DOORWARD_BREACHED_PASSWORDS_FILE", None, path_text),
    # The log of events
    Setting("event_log", "DOORWARD_EVENT_LOG", None, switch),
    Setting("event_network", "DOORWARD_EVENT_NETWORK", None),
    Setting("event_retention", "DOORWARD_EVENT_RETENTION", None, seconds),
    Setting("event_refreshes", "DOORWARD_EVENT_REFRESHES", None, seconds),
    Setting("webhook_urls", "DOORWARD_WEBHOOK_URLS", None, texts),
    Setting("webhook_secrets", "DOORWARD_WEBHOOK_SECRETS", None, texts),
    Setting("webhook_events", "DOORWARD_WEBHOOK_EVENTS", None, texts),
)

#: The double submit of a token against CSRF: the option `double_submit` has these, where
#: JWT_COOKIE_CSRF_PROTECT is true.
DOUBLE_SUBMIT = (
    Setting("methods", None, "JWT_CSRF_METHODS", methods),
    Setting("in_cookies", None, "JWT_CSRF_IN_COOKIES", switch),
    Setting("check_form", None, "JWT_CSRF_CHECK_FORM", switch),
    Setting("access_header", None, "JWT_ACCESS_CSRF_HEADER_NAME"),
    Setting("refresh_header", None, "JWT_REFRESH_CSRF_HEADER_NAME"),
    Setting("access_field", None, "JWT_ACCESS_CSRF_FIELD_NAME"),
    Setting("refresh_field", None, "JWT_REFRESH_CSRF_FIELD_NAME"),
    Setting("access_cookie_name", None, "JWT_ACCESS_CSRF_COOKIE_NAME"),
    Setting("refresh_cookie_name", None, "JWT_REFRESH_CSRF_COOKIE_NAME"),
    Setting("access_cookie_path", None, "JWT_ACCESS_CSRF_COOKIE_PATH"),
    Setting("refresh_cookie_path", None, "JWT_REFRESH_CSRF_COOKIE_PATH"),
)

#: Not options of the engine: they switch others on, or must agree with others.
CHECKED = (
    Setting("double_submit", None, "JWT_COOKIE_CSRF_PROTECT", switch),
    Setting("algorithms", None, "JWT_DECODE_ALGORITHMS", texts),
    Setting("audiences", None, "JWT_DECODE_AUDIENCE", texts),
    Setting("issuers", None, "JWT_DECODE_ISSUER", texts),
    Setting("public_key", None, "JWT_PUBLIC_KEY", key_text),
    # Every `sub` made here is a text: both answers are kept.
    Setting("verify_sub", None, "JWT_VERIFY_SUB", switch),
)


@dataclass(frozen=True)
class Cookie:
    """What browsers tell cookies apart by."""

    name: str
    domain: str | None
    path: str

    def overlaps(self, other: "Cookie") -> bool:
        """Whether some request would carry both, or one replace the other."""
        same = (self.name, self.domain) == (other.name, other.domain)
        return same and (covers(self.path, other.path) or covers(other.path, self.path))


@dataclass(frozen=True)
class Settings:
    """The settings of an instance in an app."""

    #: Not shown: secrets are among them.
    options: dict[str, Any] = field(repr=False)
    #: The keys that the app set.
    set_by: dict[str, str]
    #: Where the API is mounted in the app, and what lies before the app's own paths.
    url_prefix: str
    root: str

    @property
    def access_cookie_path(self) -> str:
        """Empty where there is no access cookie."""
        path: str = self.options["access_cookie_path"]
        return path if "cookie" in self.options["delivery"] else ""

    @property
    def token_key(self) -> str | None:
        """The field of a JSON body that may hold a token."""
        key: str = self.options.get("json_key", "access_token")
        return key if "json" in self.options.get("locations", ()) else None

    @property
    def csrf_field(self) -> str | None:
        """The field of a form that may hold the token against CSRF."""
        submit = self.options.get("double_submit", {})
        field: str = submit.get("access_field", "csrf_token")
        return field if submit.get("check_form") else None

    @property
    def file(self) -> Path | None:
        """The database."""
        place, _, path = self.options["store"].partition("://")
        return Path(path) if place == "sqlite" else None

    def cookies(self) -> list[Cookie]:
        """The cookies that are set."""
        if not self.access_cookie_path:
            return []
        found = [self._cookie(self.options, token, f"{token}_token_cookie") for token in TOKENS]
        secure = "__Secure-" if self.options.get("cookie_secure", True) else ""
        found.append(self._cookie(self.options, "device", f"{secure}device_token_cookie"))
        submit = self.options.get("double_submit")
        if submit is not None and submit.get("in_cookies", True):
            found += [self._cookie(submit, token, f"csrf_{token}_token") for token in TOKENS]
        return found

    def _cookie(self, options: Mapping[str, Any], token: str, name: str) -> Cookie:
        name = options.get(f"{token}_cookie_name", name)
        path = options.get(f"{token}_cookie_path", "/")
        return Cookie(name, self.options.get("cookie_domain"), path)

    def key(self, option: str) -> str:
        """The app's own key of an option."""
        return self.set_by.get(option) or KEYS.get(option, option)

    def in_own_words(self, words: str) -> str:
        """A text of the engine's about options, about the app's keys."""
        for phrase, key in PHRASES.items():
            words = words.replace(phrase, key)
        first = re.match(r"[a-z_]*", words)
        begin = first[0] if first and first[0] in KEYS else ""
        rest = re.sub(r"\b[a-z]+_[a-z_]+\b", lambda word: self.key(word[0]), words[len(begin) :])
        return (self.key(begin) if begin else "") + rest


#: How the engine speaks of options within an option.
PHRASES = {
    "the header_name of a double_submit": "JWT_ACCESS_CSRF_HEADER_NAME, or JWT_REFRESH_...,",
    "the field_name of a double_submit": "JWT_ACCESS_CSRF_FIELD_NAME, or JWT_REFRESH_...,",
    "those of a double_submit": "JWT_ACCESS_CSRF_COOKIE_PATH and JWT_REFRESH_...",
    "a double_submit": "JWT_COOKIE_CSRF_PROTECT",
    "names of cookies": "JWT_ACCESS_COOKIE_NAME and the other names of cookies",
}
KEYS = {setting.option: setting.doorward or setting.jwt or "" for setting in SETTINGS}
KEYS["double_submit"] = "JWT_COOKIE_CSRF_PROTECT"


def read(app: Flask, name: str, config: Mapping[str, Any], url_prefix: str | None) -> Settings:
    """What the app's configuration says, with `config` laid over it."""
    _known(config)
    _known(app.config)
    given = Given(ChainMap(dict(config), _set_by_app(app)))
    options = given.options(SETTINGS)
    root = (app.config.get("APPLICATION_ROOT") or "/").rstrip("/")
    prefix = url_prefix or _prefix(options, given, root)
    # The engine sees paths as browsers do.
    options["url_prefix"] = root + prefix
    if given.value(CHECKED[0]):
        options["double_submit"] = given.options(DOUBLE_SUBMIT)
    settings = Settings(options, given.set_by, prefix, root)
    _defaults(settings, app, name)
    _check(settings, given)
    return settings


def _set_by_app(app: Flask) -> dict[str, Any]:
    """Without what `flask_doorward.jwt_extended` has put there where the app said nothing."""
    defaults = app.extensions.get("flask-jwt-extended-defaults", {})
    unset = object()
    return {k: v for k, v in app.config.items() if v is not defaults.get(k, unset)}


class Given:
    """What the app has set."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.set_by: dict[str, str] = {}

    def options(self, table: Iterable[Setting]) -> dict[str, Any]:
        """The options that are set, read."""
        values = ((setting.option, self.value(setting)) for setting in table)
        return {option: value for option, value in values if value is not None}

    def value(self, setting: Setting) -> Any:
        """A setting, or None."""
        for key in (setting.doorward, setting.jwt):
            if key and self.config.get(key) is not None:
                if setting in SETTINGS:
                    self.set_by[setting.option] = key
                return _read(key, self.config[key], setting.read)
        return None

    def is_set(self, key: str) -> bool:
        """Whether a key is set."""
        return self.config.get(key) is not None


def _read(key: str, value: Any, reader: Callable[[Any], Any]) -> Any:
    if key == "JWT_ACCESS_TOKEN_EXPIRES" and value is False:
        raise ConfigError(f"{key} must not be False: set a lifetime, such as timedelta(hours=1)")
    try:
        return reader(value)
    except (TypeError, ValueError, KeyError, OverflowError):
        # Without the value, which may be a secret.
        raise ConfigError(f"{key} must be {WANTED[reader]}") from None


def _known(config: Mapping[str, Any]) -> None:
    known = {setting.doorward for setting in SETTINGS if setting.doorward}
    for key in config:
        if key.startswith("DOORWARD_") and key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{key} is no setting{hint}")


def _prefix(options: Mapping[str, Any], given: Given, root: str) -> str:
    if "url_prefix" in options:
        return str(options["url_prefix"])
    path = options.get("refresh_cookie_path", "")
    before = path.removesuffix("/refresh") if path.endswith("/refresh") else ""
    if root and before.startswith(root + "/"):
        before = before.removeprefix(root)
    return before or "/api/v1"


def _defaults(settings: Settings, app: Flask, name: str) -> None:
    options, under = settings.options, settings.options["url_prefix"]
    options.setdefault("delivery", _delivery(options.get("locations")))
    hosts = options.get("host_cookies")
    options.setdefault("access_cookie_path", "/" if hosts else under)
    options.setdefault("refresh_cookie_path", "/" if hosts else f"{under}/refresh")
    options.setdefault("device_cookie_path", "/" if hosts else f"{under}/login")
    for token in TOKENS:
        cookie = f"{token}_token_cookie"
        options.setdefault(f"{token}_cookie_name", f"__Host-{cookie}" if hosts else cookie)
    if name != "auth":
        options.setdefault("audience", name)
    if "session_ttl" in options and "assurance" not in options:
        options.setdefault("fresh_ttl", min(600.0, options["session_ttl"]))
    _one_key(settings)
    _adoption(options)
    options["store"] = _store(options.get("store"), app, name)
    if following := options.get("store_next"):
        options["store_next"] = _store(following, app, name)


def _delivery(locations: list[str] | None) -> list[str]:
    if locations is None:
        return ["cookie", "body"]
    ways = ("cookie" if location == "cookies" else "body" for location in locations)
    return list(dict.fromkeys(ways))


def _one_key(settings: Settings) -> None:
    """Of Flask-JWT-Extended's two keys the algorithm says which counts."""
    options, set_by = settings.options, settings.set_by
    is_secret = options.get("algorithm", "HS256").startswith("HS")
    if "secret" in options and "private_key" in options:
        other = "private_key" if is_secret else "secret"
        if set_by[other].startswith("JWT_"):
            del options[other]


def _adoption(options: dict[str, Any]) -> None:
    """Off without a date: the keys of the old app are those of this one, as often as not."""
    if "adopt_until" in options:
        options["adopt_claim"] = options.get("identity_claim", "sub")
        return
    for option in [option for option in options if option.startswith("adopt_")]:
        del options[option]


def _store(store: str | None, app: Flask, name: str) -> str:
    if store is None:
        store = "sqlite://doorward.db" if name == "auth" else f"sqlite://doorward-{name}.db"
    path = store.removeprefix("sqlite://")
    if path in (":memory:", "/:memory:"):
        raise ConfigError('DOORWARD_STORE: without a file it is "memory:"')
    if path == store or not path or Path(path).is_absolute():
        return store
    return f"sqlite://{_instance_folder(app) / path}"


def _instance_folder(app: Flask) -> Path:
    folder = Path(app.instance_path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"DOORWARD_STORE lies in the instance folder, which cannot be made ({error}): "
            "name a file elsewhere, such as sqlite:///var/lib/app/doorward.db"
        ) from None
    return folder


def as_bytes(key: Any) -> bytes | None:
    """A key, in one form."""
    return key.encode() if isinstance(key, str) else key


def covers(cookie_path: str, path: str) -> bool:
    """Whether a cookie's path covers a request's (RFC 6265, 5.1.4)."""
    under = cookie_path if cookie_path.endswith("/") else cookie_path + "/"
    return path == cookie_path or path.startswith(under)


def _check(settings: Settings, given: Given) -> None:
    """What the engine cannot see; the rest is its own to check."""
    if given.is_set("JWT_PUBLIC_KEY") and "private_key" not in settings.options:
        raise ConfigError(
            "JWT_PUBLIC_KEY is set without JWT_PRIVATE_KEY, which signs: set that too, or neither"
        )
    _check_decoding(settings, given)
    flask_key = as_bytes(given.config.get("SECRET_KEY"))
    if flask_key and as_bytes(settings.options.get("seal_secret")) == flask_key:
        raise ConfigError("DOORWARD_SEAL_SECRET must differ from SECRET_KEY, which has another use")
    flasks = given.config.get("SESSION_COOKIE_NAME")
    if any(cookie.name == flasks for cookie in settings.cookies()):
        raise ConfigError(f"the cookie {flasks} is that of Flask's own session: give ours another name")


def _check_decoding(settings: Settings, given: Given) -> None:
    options = settings.options
    default = "HS256" if "secret" in options else "EdDSA"
    made = (options.get("algorithm", default), options.get("audience"), options.get("issuer"))
    for setting, value in zip(CHECKED[1:4], made, strict=True):
        accepted = given.value(setting)
        if accepted is not None and value not in accepted:
            key = settings.key({"algorithms": "algorithm"}.get(setting.option, setting.option[:-1]))
            raise ConfigError(
                f"{setting.jwt} does not accept the tokens that are made here: it must include "
                f"{value}, or {key} be one of it"
                if value is not None
                else f"{setting.jwt} is set, and {key} is not: set that too, or neither"
            )

