"""The engine, as Python sees it. Times are aware datetimes in UTC, durations are seconds."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from json import JSONEncoder
from typing import Any, final

__all__ = [
    "Account",
    "Answer",
    "Attempt",
    "Door",
    "Event",
    "EventFilter",
    "FORMATS",
    "Identity",
    "Jws",
    "Key",
    "MAX_BODY",
    "PUBLISH_DELAY",
    "Operator",
    "Question",
    "ROUTES",
    "Refreshed",
    "Rules",
    "Session",
    "SessionRow",
    "Token",
    "Tokens",
    "after_fork",
    "before_fork",
    "cookie",
    "credential",
    "format_of",
    "generated_password",
    "knows_hash",
    "unverified_claims",
    "unverified_header",
    "uuid4",
    "uuid4s",
]

#: Method, path below the prefix (`{id}` is a segment) and name of each endpoint.
ROUTES: list[tuple[str, str, str]]
#: The largest body that is read, in bytes.
MAX_BODY: int
#: How the file of an import may be written.
FORMATS: list[str]
#: How long a new key is known before it signs, in seconds.
PUBLISH_DELAY: int

_Environ = dict[str, Any]

def before_fork(close: Callable[[], None], /) -> None:
    """A fork is about to happen: `close` closes all doors. Waits until they are, and holds back
    whoever wants to open one."""

def after_fork() -> None:
    """It is over, in the parent."""

def generated_password() -> str:
    """One for somebody who has none yet: 140 random bits."""

def format_of(name: str, /) -> str | None:
    """How an import's file is written, by its name."""

def knows_hash(password_hash: str) -> bool:
    """Whether a hash is of a form that passwords are checked against, within the ceilings."""

@final
class Event:
    """What happened: ids and reasons, never a token or a password."""

    @property
    def name(self) -> str: ...
    @property
    def user_id(self) -> str | None: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def count(self) -> int | None: ...

@final
class Answer:
    """A finished answer, and what happened on the way."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def events(self) -> list[Event]: ...

@final
class Session:
    """The claims of a verified access token."""

    @property
    def id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def issued_at(self) -> datetime: ...
    @property
    def expires_at(self) -> datetime: ...
    @property
    def auth_time(self) -> datetime: ...
    @property
    def fresh_until(self) -> datetime: ...
    @property
    def claims(self) -> dict[str, Any]: ...
    @property
    def token(self) -> str: ...

@final
class SessionRow:
    """A session as the store has it."""

    @property
    def id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def last_used_at(self) -> datetime: ...
    @property
    def expires_at(self) -> datetime: ...
    @property
    def fresh_until(self) -> datetime: ...
    @property
    def delivery(self) -> str: ...
    @property
    def remember(self) -> bool: ...
    @property
    def privileged(self) -> bool: ...
    @property
    def device(self) -> str | None: ...
    @property
    def address(self) -> str | None: ...
    @property
    def agent(self) -> str | None: ...
    @property
    def claims(self) -> dict[str, Any]: ...

@final
class Refreshed:
    """A refresh that was decided: its tokens are still to be made."""

    @property
    def user_id(self) -> str: ...
    @property
    def session_id(self) -> str: ...

@final
class Attempt:
    """A login by a view of the app's own, admitted before its password is looked at."""

@final
class Tokens:
    """What a login or a refresh hands out."""

    @property
    def access_token(self) -> str: ...
    @property
    def refresh_token(self) -> str: ...
    @property
    def device_token(self) -> str | None:
        """By which the device is known at its next login, where there was an attempt."""
    @property
    def access_expires_at(self) -> datetime: ...
    @property
    def session(self) -> SessionRow: ...
    @property
    def answer(self) -> Answer:
        """The answer to a login, in the session's own delivery."""

@final
class Identity:
    """Somebody whose credentials were checked."""

    @property
    def user_id(self) -> str: ...
    @property
    def username(self) -> str | None: ...
    @property
    def privileged(self) -> bool: ...

@final
class Question:
    """What only the host can answer. Each is answered once, by one of the methods that fit `kind`:

    - `identify` (username, password): `identified` or `refuse`
    - `confirm` (user_id, password): `confirmed` or `refuse`
    - `set_password` (user_id, password, new_password): `password_set` or `refuse`
    - `reset_password` (new_password): `settle`
    - `register` (username, password): `registered` or `taken`
    - `adopt` (user_id, as the token names the user; foreign): `identified` or `refuse`
    - `renew` (user_id): `renewed` or `refuse`, which ends the session
    """

    @property
    def kind(self) -> str: ...
    @property
    def username(self) -> str | None: ...
    @property
    def user_id(self) -> str | None: ...
    @property
    def password(self) -> str | None: ...
    @property
    def new_password(self) -> str | None: ...
    @property
    def foreign(self) -> tuple[str, str] | None:
        """For `adopt`: header and claims of the token, as JSON."""
    def named_by_accounts(self) -> Identity | Answer:
        """For `adopt`: whom the built-in accounts know. An `Answer` is the finished refusal."""
    def by_accounts(self) -> Identity | Answer:
        """For `identify`: as the built-in accounts say. An `Answer` is the finished refusal."""
    def check_claims(self, claims: str | None) -> None:
        """Raises what `password_set` would raise of these claims, for before the new hash is saved."""
    def settle(self, claims: str | None = None, privileged: bool = False) -> Answer:
        """Any question, as the built-in accounts answer it. `claims`, `privileged`: of a session
        that opens."""
    def verify(self, password_hash: str | None) -> tuple[bool, str | None] | Answer:
        """Whether `password` is the one behind a hash, and a new hash where that was of other making
        or cost. Without a hash it does the same work, and does not match. An `Answer` says that the
        machine is overloaded."""
    def hash(self) -> str | Answer:
        """A hash of `new_password`, or of `password` where a name registers. An `Answer` is the
        refusal of a weak one."""
    def identified(
        self,
        identity: Identity | str,
        username: str | None = None,
        claims: str | None = None,
        privileged: bool = False,
    ) -> Answer: ...
    def confirmed(self) -> Answer: ...
    def password_set(
        self, username: str | None = None, claims: str | None = None, privileged: bool = False
    ) -> Answer: ...
    def registered(self, user_id: str, username: str | None = None) -> Answer: ...
    def taken(self) -> Answer: ...
    def renewed(self, claims: str | None = None) -> Answer: ...
    def refuse(self, why: str | None = None, user_id: str | None = None) -> Answer:
        """`why` (unknown_user, wrong_password, disabled) and whose it was: for the log of events."""

@final
class Door:
    """The engine over one store. It opens at the first use, in each process for itself."""

    def __new__(
        cls,
        options: Mapping[str, Any],
        refused: Callable[[Answer], BaseException],
        tell: Callable[[str, str], None],
    ) -> Door:
        """Checks the options; opens nothing.

        `refused` makes the exceptions that the methods below raise for a refusal. `tell` is called
        with level and text of what an operator should know, each once.

        Raises:
            ValueError: an option cannot be used; its text begins with the option's name.
        """
    @property
    def store(self) -> str:
        """What identifies the store: doors that share it must differ in nothing but the process."""
    @property
    def advice(self) -> list[str]:
        """What may be right but seldom is, in words about options."""
    def close(self) -> None:
        """Closes the store, and ends the threads. The next use opens it again."""
    def unready(self) -> str | None:
        """Why some requests cannot be served now. `None`: all can."""
    def call(self, endpoint: str, environ: _Environ, body: bytes) -> Answer | Question: ...
    def too_large(self, environ: _Environ) -> Answer: ...
    def unreadable(self, environ: _Environ) -> Answer: ...
    def gone(self, environ: _Environ) -> Answer:
        """The refusal of a session whose user the app no longer has."""
    def preflight(self, environ: _Environ) -> Answer: ...
    def guard(
        self,
        environ: _Environ,
        optional: bool = False,
        fresh: bool | float | None = None,
        token: str | None = None,
        csrf: str | None = None,
    ) -> Session | None:
        """The session that sent a request. `fresh`: within `fresh_ttl`, or at most so many seconds
        ago. `token` and `csrf`: what was found in the body. Touches no store."""
    def check_in_store(self, environ: _Environ, session: Session) -> None:
        """Asks the store whether a session that a guard let pass is over."""
    def metrics(self) -> str:
        """What is counted, as Prometheus reads it."""
    def check_origin(self, environ: _Environ) -> None:
        """Refuses what another site may have sent."""
    def verify(self, token: str) -> Session:
        """The session of an access token."""
    def attempt(
        self,
        username: str,
        device_token: str | None = None,
        environ: _Environ | None = None,
    ) -> Attempt:
        """Admits a login by a view of the app's own, before it looks at the password."""
    def hashes(self) -> int:
        """How many passwords this process has hashed."""
    def settle(self, attempt: Attempt, succeeded: bool) -> str | None:
        """How it ended; after a success the device's new token."""
    def login(
        self,
        user_id: str,
        username: str | None = None,
        claims: str | None = None,
        remember: bool = False,
        delivery: str | None = None,
        device: str | None = None,
        environ: _Environ | None = None,
        privileged: bool = False,
        attempt: Attempt | None = None,
    ) -> tuple[Tokens, list[Event]]:
        """Opens a session for somebody whose credentials were checked."""
    def refresh(
        self, refresh_token: str, delivery: str, environ: _Environ | None = None
    ) -> tuple[Refreshed, list[Event]]:
        """Decides what a refresh token that came in by `delivery` means, and carries it out."""
    def grant(self, refreshed: Refreshed, claims: str | None = None) -> Tokens:
        """The tokens of a refreshed session."""
    def check_refresh(self, refresh_token: str, delivery: str) -> tuple[SessionRow, list[Event]]:
        """Decides as `refresh` does, without rotating."""
    def adopted(self, token: str) -> str | None:
        """The double-submit value of a foreign refresh token that became a session; None: it did not."""
    def refresh_csrf(self, refresh_token: str) -> str:
        """The double-submit value that goes with a refresh token."""
    def sessions_of(self, user_id: str) -> list[SessionRow]: ...
    def end(
        self, session_id: str, reason: str, environ: _Environ | None = None
    ) -> list[Event]: ...
    def end_user(
        self,
        user_id: str,
        reason: str,
        except_: str | None = None,
        environ: _Environ | None = None,
    ) -> list[Event]: ...
    def export(self, user_id: str) -> str:
        """All that is kept of a user's sessions, as JSON."""
    def erase(self, user_id: str) -> int:
        """Ends the user's sessions and removes what is kept of them; returns how many."""
    def logged_out(self) -> Answer:
        """The answer to a logout: it clears the cookies."""
    def identify(
        self, username: str, password: str, environ: _Environ | None = None
    ) -> Identity: ...
    def start_password_reset(
        self, username: str, environ: _Environ | None = None
    ) -> tuple[str, datetime]:
        """Starts a reset of a built-in account's password: its token, and until when that is good."""
    def register(self, username: str, password: str, environ: _Environ | None = None) -> str:
        """Without a request it is the app's own doing."""
    def hash_new_password(self, username: str, password: str) -> str: ...
    def hash_password(self, password: str) -> str: ...
    def verify_password(self, password: str, password_hash: str | None) -> tuple[bool, str | None]: ...
    def jwks(self) -> dict[str, Any]: ...
    def operator(self) -> Operator:
        """The store for an operator's command: joins no key to the ring, starts no threads."""

@final
class Account:
    @property
    def id(self) -> str: ...
    @property
    def username(self) -> str: ...
    @property
    def disabled(self) -> bool: ...
    @property
    def privileged(self) -> bool: ...
    @property
    def created_at(self) -> datetime: ...

@final
class Key:
    @property
    def id(self) -> str: ...
    @property
    def purpose(self) -> str: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def signs_from(self) -> datetime: ...
    @property
    def state(self) -> str:
        """`live`, `logout only` or `retired`."""

@final
class EventFilter:
    """Which records are wanted."""

@final
class Operator:
    """Commands. Each raises ValueError, in words, for what cannot be done."""

    def add_user(self, username: str, password: str) -> str: ...
    def check_free(self, username: str) -> None:
        """Refuses a name that has an account."""
    def users(self, after: str | None = None, limit: int = 1000) -> list[Account]: ...
    def import_users(
        self,
        file: str,
        format: str,
        flags: list[str],
        report: str | None,
        refused: Callable[[str], None],
        read: Callable[[int], None],
    ) -> tuple[int, int, int, int]:
        """Takes accounts of another program (`-`: standard input). Returns how many were added, were
        there already, were skipped and were refused. Refusals go to the file `report`, or in words
        to `refused`; `read` is told the bytes that were read.

        Flags: passwords, ignore_others, dry_run, skip_conflicts."""
    def disable_user(self, username: str) -> None: ...
    def enable_user(self, username: str) -> None: ...
    def remove_user(self, username: str) -> None: ...
    def set_password(self, username: str, password: str) -> None: ...
    def set_privileged(self, username: str, privileged: bool) -> None: ...
    def start_reset(self, username: str) -> tuple[str, datetime]: ...
    def sessions(
        self, after: str | None = None, limit: int = 1000
    ) -> tuple[list[SessionRow], str | None]:
        """Of the next `limit` sessions after one the live ones, and where to go on; None: done."""
    def sessions_of(
        self, username: str | None = None, user_id: str | None = None
    ) -> list[SessionRow]:
        """Of an account by its name, or of a user of the app's own by its id."""
    def end_sessions_of(self, username: str | None = None, user_id: str | None = None) -> int:
        """As `sessions_of`; returns how many ended."""
    def end_all_sessions(self) -> int:
        """The sessions of everybody; returns how many ended."""
    def end_session(self, session_id: str) -> None: ...
    def events(
        self,
        user: str | None = None,
        session: str | None = None,
        event: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int = 100,
    ) -> tuple[list[tuple[str, str]], EventFilter, int]:
        """The last records that are wanted, each as a line and as JSON, and where to go on."""
    def events_since(
        self, place: int, filter: EventFilter
    ) -> tuple[list[tuple[str, str]], int]: ...
    def why(self, session_id: str) -> tuple[list[str], str]:
        """What happened to a session, a line each, and in words what became of it."""
    def export(self, username: str | None = None, user_id: str | None = None) -> str: ...
    def erase(
        self, username: str | None = None, user_id: str | None = None, account: bool = False
    ) -> int: ...
    def purge(self) -> int:
        """Removes everything that has expired; returns how many batches that took."""
    def keys(self) -> list[Key]: ...
    def restored(self, told: str | None = None) -> list[str]: ...
    def rotate_key(self, purpose: str) -> str: ...
    def reseal_keys(self) -> int: ...
    def retire_key(self, key_id: str) -> None: ...

# Foreign tokens, for `flask_doorward.jwt_extended`.

@final
class Rules:
    """What a token must say to be accepted. `leeway`: seconds."""

    def __new__(
        cls,
        algorithms: Sequence[str],
        audience: Sequence[str] | None,
        issuer: Sequence[str] | None,
        leeway: float,
        verify_sub: bool,
        identity_claim: str,
    ) -> Rules: ...

@final
class Token:
    """A token that was verified. Its dictionaries are filled when they are asked for, once."""

    @property
    def header(self) -> dict[str, Any]: ...
    @property
    def payload(self) -> dict[str, Any]: ...
    def __getitem__(self, name: str, /) -> Any: ...
    def get(self, name: str, default: Any = None) -> Any: ...

@final
class Jws:
    """Signs and verifies; remembers the keys that it has parsed."""

    def __new__(cls) -> Jws: ...
    def issue(
        self,
        key: str | bytes,
        algorithm: str,
        fresh: bool,
        issued: int,
        kind: str,
        name: str,
        identity: Any,
        expires: int,
        nbf: bool,
        csrf: bool,
    ) -> str | None:
        """A token of the claims that most have and no others, with ids that are made here: what `sign`
        makes of them in a dictionary. `None`: the identity is none of JSON's own types."""
    def sign(
        self,
        claims: dict[str, Any],
        key: str | bytes,
        algorithm: str,
        header: bytes | None = None,
        encoder: type[JSONEncoder] | None = None,
    ) -> str:
        """A token of these claims. `header`: its JSON, where it is more than algorithm and type.
        `encoder`: for values that JSON does not know."""
    def verify(
        self,
        token: str | bytes,
        key: str | bytes,
        rules: Rules,
        now: float,
        csrf: str | None = None,
        allow_expired: bool = False,
    ) -> Token:
        """A token that is signed by `key` and keeps the rules at `now`, in seconds."""

def unverified_header(token: str | bytes) -> dict[str, Any]: ...
def unverified_claims(token: str | bytes) -> dict[str, Any]: ...
def cookie(header: str, name: str) -> str | None:
    """The first cookie of a name in a `Cookie` header that has no quotes in it."""

def credential(header: str, scheme: str) -> str | None:
    """What follows a scheme that occurs once; empty: something else than one word follows."""

def uuid4() -> str: ...
def uuid4s() -> tuple[str, str]:
    """Two, for the randomness of one: most of what they cost."""
