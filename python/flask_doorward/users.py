"""Accounts: the app's callbacks, and how they settle what only the app can answer.

Without callbacks the built-in accounts answer everything. A callback is a function or a coroutine
function; whatever it returns is awaited if it can be.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from inspect import isawaitable
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar
from uuid import UUID

from flask import current_app

from ._native import Answer, Identity, Question, knows_hash
from .processes import blocking

P = ParamSpec("P")
T = TypeVar("T")

#: Whatever becomes a text: an id of the app's own users.
UserId: TypeAlias = str | int | UUID
Claims: TypeAlias = Mapping[str, Any]
#: At once, or awaited.
Soon: TypeAlias = T | Awaitable[T]

FindUser = Callable[[str], Soon[tuple[UserId, str] | None]]
CheckCredentials = Callable[[str, str], Soon[UserId | None]]
CheckPassword = Callable[[str, str], Soon[bool]]
SavePasswordHash = Callable[[str, str], Soon[object]]
RegisterUser = Callable[[str, str], Soon[UserId | None]]
ClaimsLoader = Callable[[str], Soon[Claims | None]]
PrivilegeLoader = Callable[[str], Soon[bool]]
AdoptUser = Callable[[Claims], Soon[UserId | None]]
UserLoader = Callable[[str], Soon[Any]]

FindUserF = TypeVar("FindUserF", bound=FindUser)
CheckCredentialsF = TypeVar("CheckCredentialsF", bound=CheckCredentials)
CheckPasswordF = TypeVar("CheckPasswordF", bound=CheckPassword)
SavePasswordHashF = TypeVar("SavePasswordHashF", bound=SavePasswordHash)
RegisterUserF = TypeVar("RegisterUserF", bound=RegisterUser)
ClaimsLoaderF = TypeVar("ClaimsLoaderF", bound=ClaimsLoader)
PrivilegeLoaderF = TypeVar("PrivilegeLoaderF", bound=PrivilegeLoader)
AdoptUserF = TypeVar("AdoptUserF", bound=AdoptUser)
UserLoaderF = TypeVar("UserLoaderF", bound=UserLoader)


class Refused(Exception):
    """Raised by a callback: this user may not. A login fails as with a wrong password; at a refresh
    the session ends, as disabled."""


class Flags(NamedTuple):
    """What the callbacks can answer."""

    settles: bool
    renew: bool
    login: bool
    change_password: bool
    reset_password: bool
    reauthenticate: bool
    register: bool

    def answers(self, endpoint: str) -> bool:
        """Whether an endpoint's question can be answered."""
        return bool(getattr(self, endpoint, True))

    def options(self) -> dict[str, bool]:
        """For the engine."""
        return {"settles": self.settles, "renew": self.renew}


class Callbacks:
    """What the app registered."""

    find_user: FindUser | None = None
    find_user_by_id: FindUser | None = None
    check_credentials: CheckCredentials | None = None
    check_password: CheckPassword | None = None
    save_password_hash: SavePasswordHash | None = None
    register_user: RegisterUser | None = None
    claims_loader: ClaimsLoader | None = None
    privilege_loader: PrivilegeLoader | None = None
    adopt_user: AdoptUser | None = None
    user_loader: UserLoader | None = None

    def __init__(self) -> None:
        #: Asked for at every request, so it is worked out here.
        self.flags = self._flags()

    def add(self, name: str, callback: T) -> T:
        """Registers a callback."""
        setattr(self, name, callback)
        self.flags = self._flags()
        return callback

    @property
    def own_users(self) -> bool:
        """Whether users are the app's."""
        own = (self.find_user, self.find_user_by_id, self.check_credentials)
        return any((*own, self.check_password, self.save_password_hash, self.register_user))

    def _flags(self) -> Flags:
        own = self.own_users
        confirms = bool(self.find_user_by_id or self.check_password)
        return Flags(
            settles=not own and self.claims_loader is None and self.privilege_loader is None,
            renew=self.claims_loader is not None,
            login=not own or bool(self.find_user or self.check_credentials),
            change_password=not own or bool(confirms and self.save_password_hash),
            reset_password=not own,
            reauthenticate=not own or confirms,
            register=not own or self.register_user is not None,
        )

    def settle(self, question: Question) -> Answer:
        """What the app answers."""
        try:
            return SETTLED[question.kind](self, question)
        except Refused:
            is_name = question.kind == "register"
            return question.taken() if is_name else blocking(question.refuse)

    def claims_of(self, user_id: str) -> str | None:
        """The user's claims now, as JSON."""
        if self.claims_loader is None:
            return None
        return claims_text(called(self.claims_loader, user_id) or {})

    def is_privileged(self, user_id: str) -> bool:
        """Whether the user's next session is privileged."""
        if self.privilege_loader is None:
            return False
        return _truth("privilege_loader", called(self.privilege_loader, user_id))


class Users:
    """The decorators by which an app registers its callbacks."""

    callbacks: Callbacks

    def find_user(self, callback: FindUserF) -> FindUserF:
        """`(username) -> (id, password_hash) | None`. Doorward checks the password."""
        return self.callbacks.add("find_user", callback)

    def find_user_by_id(self, callback: FindUserF) -> FindUserF:
        """`(user_id) -> (id, password_hash) | None`, for /reauthenticate and /password."""
        return self.callbacks.add("find_user_by_id", callback)

    def check_credentials(self, callback: CheckCredentialsF) -> CheckCredentialsF:
        """`(username, password) -> id | None`. The app checks the password, and does the same work
        for unknown users."""
        return self.callbacks.add("check_credentials", callback)

    def check_password(self, callback: CheckPasswordF) -> CheckPasswordF:
        """`(user_id, password) -> bool`, for /reauthenticate and /password."""
        return self.callbacks.add("check_password", callback)

    def save_password_hash(self, callback: SavePasswordHashF) -> SavePasswordHashF:
        """`(user_id, new_hash)`: the password changed, or the old hash was of other making or cost."""
        return self.callbacks.add("save_password_hash", callback)

    def register_user(self, callback: RegisterUserF) -> RegisterUserF:
        """`(username, password_hash) -> id | None`. None: the name is taken."""
        return self.callbacks.add("register_user", callback)

    def claims_loader(self, callback: ClaimsLoaderF) -> ClaimsLoaderF:
        """`(user_id) -> dict | None`: claims for the access token, at login and at each refresh.
        Raises `Refused` for users who may not go on."""
        return self.callbacks.add("claims_loader", callback)

    def privilege_loader(self, callback: PrivilegeLoaderF) -> PrivilegeLoaderF:
        """`(user_id) -> bool`: whether a session that opens is privileged, and so has shorter limits."""
        return self.callbacks.add("privilege_loader", callback)

    def adopt_user(self, callback: AdoptUserF) -> AdoptUserF:
        """`(claims) -> id | None`: whose a refresh token of the app from before is, where
        DOORWARD_ADOPT_UNTIL is set. None: nobody's any more. Without it `find_user_by_id` is asked."""
        return self.callbacks.add("adopt_user", callback)

    def user_loader(self, callback: UserLoaderF) -> UserLoaderF:
        """`(user_id) -> user | None`: what `current_user` is."""
        return self.callbacks.add("user_loader", callback)


def called(callback: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Any:
    """What a callback returns, awaited if it can be."""
    returned = callback(*args, **kwargs)
    if isawaitable(returned):
        return current_app.ensure_sync(_awaited)(returned)
    return returned


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


def text_of(user_id: object) -> str:
    """An id as tokens have it. Anything that is no id is a mistake of the app's: `True` would be
    everybody's."""
    if isinstance(user_id, bool) or not isinstance(user_id, (str, int, UUID)):
        raise TypeError(f"a user's id is a text or a number, not {type(user_id).__name__}")
    return str(user_id)


def claims_text(claims: Claims) -> str:
    """Claims as JSON, by the app's provider."""
    if not isinstance(claims, Mapping):
        raise TypeError(f"claims are a dict, not {type(claims).__name__}")
    return current_app.json.dumps(dict(claims))


def _identify(callbacks: Callbacks, question: Question) -> Answer:
    if not callbacks.own_users:
        return _by_accounts(callbacks, question)
    if callbacks.check_credentials:
        return _by_credentials(callbacks, question)
    return _by_hash(callbacks, question)


def _by_accounts(callbacks: Callbacks, question: Question) -> Answer:
    who = blocking(question.by_accounts)
    if not isinstance(who, Identity):
        return who
    claims, privileged = callbacks.claims_of(who.user_id), callbacks.is_privileged(who.user_id)
    return blocking(question.identified, who, claims=claims, privileged=privileged)


def _by_credentials(callbacks: Callbacks, question: Question) -> Answer:
    assert callbacks.check_credentials
    username, password = question.username or "", question.password or ""
    user_id = called(callbacks.check_credentials, username, password)
    if user_id is None or user_id is False:
        return blocking(question.refuse)
    return _identified(callbacks, question, text_of(user_id))


def _by_hash(callbacks: Callbacks, question: Question) -> Answer:
    assert callbacks.find_user
    found = _found(callbacks.find_user, question.username or "")
    matches = _matches(callbacks, question, found)
    if isinstance(matches, Answer):
        return matches
    if found is None:
        return blocking(question.refuse, "unknown_user")
    if not matches:
        return blocking(question.refuse, "wrong_password", text_of(found[0]))
    return _identified(callbacks, question, text_of(found[0]))


def _found(find: FindUser, username: str) -> tuple[UserId, str] | None:
    try:
        found: tuple[UserId, str] | None = called(find, username)
    except Refused:
        # Nobody: the time must not tell who is refused.
        return None
    return found


def _matches(
    callbacks: Callbacks, question: Question, found: tuple[UserId, str] | None
) -> bool | Answer:
    """Whether the password is the user's, after the same work for nobody."""
    verified = blocking(question.verify, found[1] if found else None)
    if isinstance(verified, Answer):
        return verified
    matches, new_hash = verified
    if found and not knows_hash(str(found[1])):
        _point_out_hash(current_app.logger)
    if matches and found and new_hash and callbacks.save_password_hash:
        called(callbacks.save_password_hash, text_of(found[0]), new_hash)
    return matches and found is not None


@lru_cache
def _point_out_hash(logger: logging.Logger) -> None:
    logger.warning(
        "find_user returned a hash of no known form or of too high a cost, which no password matches: "
        "check such hashes in a check_credentials of your own"
    )


def _identified(callbacks: Callbacks, question: Question, user_id: str) -> Answer:
    claims, privileged = callbacks.claims_of(user_id), callbacks.is_privileged(user_id)
    return blocking(question.identified, user_id, question.username, claims, privileged)


def _confirm(callbacks: Callbacks, question: Question) -> Answer:
    if not callbacks.own_users:
        return blocking(question.settle)
    confirmed = _confirmed(callbacks, question)
    if isinstance(confirmed, Answer):
        return confirmed
    if confirmed:
        return blocking(question.confirmed)
    return blocking(question.refuse, "wrong_password")


def _confirmed(callbacks: Callbacks, question: Question) -> bool | Answer:
    user_id = question.user_id or ""
    if callbacks.check_password:
        answer = called(callbacks.check_password, user_id, question.password or "")
        return _truth("check_password", answer)
    assert callbacks.find_user_by_id
    return _matches(callbacks, question, called(callbacks.find_user_by_id, user_id))


def _truth(callback: str, returned: object) -> bool:
    if not isinstance(returned, bool):
        raise TypeError(f"{callback} returns True or False, not {type(returned).__name__}")
    return returned


def _set_password(callbacks: Callbacks, question: Question) -> Answer:
    if not callbacks.own_users:
        return _set_by_accounts(callbacks, question)
    confirmed = _confirmed(callbacks, question)
    if isinstance(confirmed, Answer):
        return confirmed
    if confirmed:
        return _save_new(callbacks, question)
    return blocking(question.refuse, "wrong_password")


def _set_by_accounts(callbacks: Callbacks, question: Question) -> Answer:
    # A user who is refused keeps the password.
    user_id = question.user_id or ""
    claims, privileged = callbacks.claims_of(user_id), callbacks.is_privileged(user_id)
    return blocking(question.settle, claims, privileged)


def _reset_password(callbacks: Callbacks, question: Question) -> Answer:
    return blocking(question.settle)


def _save_new(callbacks: Callbacks, question: Question) -> Answer:
    assert callbacks.save_password_hash
    user_id = question.user_id or ""
    claims = callbacks.claims_of(user_id)
    question.check_claims(claims)
    privileged = callbacks.is_privileged(user_id)
    password_hash = blocking(question.hash)
    if isinstance(password_hash, Answer):
        return password_hash
    called(callbacks.save_password_hash, user_id, password_hash)
    return blocking(question.password_set, claims=claims, privileged=privileged)


def _register(callbacks: Callbacks, question: Question) -> Answer:
    if callbacks.register_user is None:
        return blocking(question.settle)
    password_hash = blocking(question.hash)
    if isinstance(password_hash, Answer):
        return password_hash
    user_id = called(callbacks.register_user, question.username or "", password_hash)
    if user_id is None or user_id is False:
        return question.taken()
    return blocking(question.registered, text_of(user_id), question.username)


def _adopt(callbacks: Callbacks, question: Question) -> Answer:
    assert question.foreign
    header, claims = map(json.loads, question.foreign)
    if _is_blocked(header, claims):
        return blocking(question.refuse)
    if callbacks.adopt_user is None and not callbacks.own_users:
        return _adopt_by_accounts(callbacks, question)
    found = _adopted_user(callbacks, question, claims)
    if found is None:
        return blocking(question.refuse)
    return _identified(callbacks, question, text_of(found))


def _is_blocked(header: Claims, claims: Claims) -> bool:
    """Whether the app from before had revoked it: Flask-JWT-Extended's blocklist, or that of
    `flask_doorward.jwt_extended`."""
    manager = current_app.extensions.get("flask-jwt-extended")
    blocklist = getattr(manager, "_token_in_blocklist_callback", None)
    return blocklist is not None and bool(called(blocklist, header, claims))


def _adopt_by_accounts(callbacks: Callbacks, question: Question) -> Answer:
    identity = blocking(question.named_by_accounts)
    if isinstance(identity, Answer):
        return identity
    claims, privileged = callbacks.claims_of(identity.user_id), callbacks.is_privileged(identity.user_id)
    return blocking(question.identified, identity, identity.username, claims, privileged)


def _adopted_user(callbacks: Callbacks, question: Question, claims: Claims) -> UserId | None:
    if callbacks.adopt_user:
        user_id: UserId | None = called(callbacks.adopt_user, claims)
        return user_id
    if callbacks.find_user_by_id is None:
        _point_out_adoption(current_app.logger)
        return None
    found: tuple[UserId, str] | None = called(callbacks.find_user_by_id, question.user_id or "")
    return found[0] if found else None


@lru_cache
def _point_out_adoption(logger: logging.Logger) -> None:
    logger.warning(
        "no refresh token is adopted: register adopt_user, or find_user_by_id, which says who there is"
    )


def _renew(callbacks: Callbacks, question: Question) -> Answer:
    return blocking(question.renewed, callbacks.claims_of(question.user_id or ""))


SETTLED: dict[str, Callable[[Callbacks, Question], Answer]] = {
    "identify": _identify,
    "confirm": _confirm,
    "set_password": _set_password,
    "reset_password": _reset_password,
    "register": _register,
    "renew": _renew,
    "adopt": _adopt,
}
