"""Guards: which views need a session.

A guard verifies the access token in the process: it touches no store, unless it is `strict`. What it
refuses is raised as an exception of `flask_doorward.errors`.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial, wraps
from inspect import isclass, iscoroutinefunction
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast, overload

from flask import Blueprint, Flask, current_app, request
from werkzeug.local import LocalProxy

from ._native import Session
from .errors import DoorwardError
from .errors import refusal
from .mounted import MARK, Mounted, mounted_as, the_mounted
from .processes import blocking
from .users import Refused, called

#: Whether the password must have been checked lately: `True` means within `DOORWARD_FRESH_TTL`,
#: a duration that long ago at most.
Fresh: TypeAlias = bool | float | timedelta

View = TypeVar("View", bound=Callable[..., Any])
Marked = TypeVar("Marked", bound=Callable[..., Any])
PUBLIC = "public"
UNSEEN = object()


class Needs(NamedTuple):
    """What a view asks of a session."""

    optional: bool = False
    fresh: bool | float = False
    strict: bool = False


class Guards:
    """What an instance protects, and who is there."""

    name: str

    @overload
    def required(self, view: View) -> View: ...
    @overload
    def required(
        self, *, fresh: Fresh = False, strict: bool = False
    ) -> Callable[[View], View]: ...
    def required(
        self, view: View | None = None, *, fresh: Fresh = False, strict: bool = False
    ) -> View | Callable[[View], View]:
        """The view needs a session. `strict`: the store is asked too whether it is over, and where it
        does not answer the view is not called (503)."""
        needs = Needs(fresh=_age(fresh), strict=strict)
        guard = partial(_guarded, name=self.name, needs=needs)
        return guard if view is None else guard(view)

    @overload
    def optional(self, view: View) -> View: ...
    @overload
    def optional(self, *, strict: bool = False) -> Callable[[View], View]: ...
    def optional(
        self, view: View | None = None, *, strict: bool = False
    ) -> View | Callable[[View], View]:
        """The view takes a session where there is one. A bad credential is refused."""
        needs = Needs(optional=True, strict=strict)
        guard = partial(_guarded, name=self.name, needs=needs)
        return guard if view is None else guard(view)

    def protect(
        self,
        target: Flask | Blueprint,
        *,
        public: Iterable[str] = (),
        fresh: Fresh = False,
        strict: bool = False,
    ) -> None:
        """Every view of an app or a blueprint needs a session, but those that are marked `public`,
        have a guard of their own, or whose endpoint is named here (as `url_for` takes it)."""
        if isinstance(public, str):
            raise TypeError('public is a list of endpoints: public=["static"]')
        needs = Needs(fresh=_age(fresh), strict=strict)
        target.before_request(partial(_protect, self.name, frozenset(public), needs))

    @staticmethod
    def public(view: Marked) -> Marked:
        """Marks a view, or a class of views, that `protect` lets pass."""
        return public(view)


def public(view: Marked) -> Marked:
    """Marks a view, or a class of views, that `protect` lets pass."""
    setattr(view, MARK, PUBLIC)
    return view


def _age(fresh: Fresh) -> bool | float:
    if isinstance(fresh, bool):
        return fresh
    age = fresh.total_seconds() if isinstance(fresh, timedelta) else float(fresh)
    if not 0 <= age < float("inf"):
        raise ValueError("fresh is True, a timedelta or seconds, and not negative")
    return age


def _guarded(view: View, *, name: str, needs: Needs) -> View:
    if isclass(view):
        raise TypeError(f"guards are for views: give {view.__name__} `decorators = [...]`")
    if not callable(view):
        raise TypeError(f"guards are for views, not for {view!r}: options are keywords")
    wrapper = _guarded_async if iscoroutinefunction(view) else _guarded_sync
    guarded = wrapper(view, name, needs)
    setattr(guarded, MARK, name)
    return cast(View, guarded)


def _guarded_sync(view: Callable[..., Any], name: str, needs: Needs) -> Callable[..., Any]:
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        guard(name, needs)
        return view(*args, **kwargs)

    return guarded


def _guarded_async(view: Callable[..., Any], name: str, needs: Needs) -> Callable[..., Any]:
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        guard(name, needs)
        _load_before(name)
        return current_app.ensure_sync(view)(*args, **kwargs)

    return guarded


def guard(name: str, needs: Needs = Needs()) -> Session | None:
    """The session of this request, which is kept for it; or the refusal, raised."""
    mounted, environ = mounted_as(name), request.environ
    optional, fresh, strict = needs
    try:
        if mounted.reads_bodies:
            session = mounted.door.guard(environ, optional, fresh, *_in_body(mounted))
        else:
            session = mounted.door.guard(environ, optional, fresh)
        if strict and session is not None:
            blocking(mounted.door.check_in_store, environ, session)
    except DoorwardError as error:
        mounted.tell_cause(error)
        raise
    environ[mounted.session_key] = session
    return session


def _load_before(name: str) -> None:
    """A coroutine cannot be awaited from within an async view: `current_user` is loaded before."""
    mounted = mounted_as(name)
    if iscoroutinefunction(mounted.callbacks.user_loader):
        user_of(mounted)


def _in_body(mounted: Mounted) -> tuple[str | None, str | None]:
    settings = mounted.settings
    token = _in_json(settings.token_key) if settings.token_key and request.is_json else None
    csrf = request.form.get(settings.csrf_field) if settings.csrf_field else None
    return token, csrf


def _in_json(key: str) -> str | None:
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        return None
    token = body.get(key) if isinstance(body, dict) else None
    # JSON can name half a character, which is in no token and in no UTF-8.
    return token.encode(errors="replace").decode() if isinstance(token, str) else None


def _protect(name: str, public: frozenset[str], needs: Needs) -> None:
    if not _passes(public):
        guard(name, needs)
        if iscoroutinefunction(current_app.view_functions[request.endpoint or ""]):
            _load_before(name)


def _passes(public: frozenset[str]) -> bool:
    """Whether a request needs no session: there is no such view, or it says so itself."""
    rule = request.url_rule
    if rule is None or rule.endpoint in public:
        return True
    if request.method == "OPTIONS" and getattr(rule, "provide_automatic_options", False):
        return True
    return _is_marked(current_app.view_functions[rule.endpoint])


def _is_marked(view: Callable[..., Any]) -> bool:
    # A class is marked itself: not by the class that it is made from.
    of_class = MARK in vars(getattr(view, "view_class", object))
    return of_class or hasattr(view, MARK)


def session_of(mounted: Mounted) -> Session | None:
    """The session that the guard of this view found."""
    session = request.environ.get(mounted.session_key, UNSEEN)
    if session is UNSEEN:
        raise RuntimeError("no guard has run: decorate the view with `required` or `optional`")
    return cast("Session | None", session)


def user_of(mounted: Mounted) -> Any:
    """The user of that session, loaded once a request."""
    session = session_of(mounted)
    if session is None:
        return None
    user_id, user = request.environ.get(mounted.user_key, (None, None))
    if user_id != session.user_id:
        # An environ that goes through the app again may have another token.
        user = _load(mounted, session)
        request.environ[mounted.user_key] = (session.user_id, user)
    return user


def _load(mounted: Mounted, session: Session) -> Any:
    if mounted.callbacks.user_loader is None:
        raise RuntimeError("current_user needs a callback: decorate one with `user_loader`")
    try:
        user = called(mounted.callbacks.user_loader, session.user_id)
    except Refused:
        user = None
    if user is None:
        raise refusal(mounted.door.gone(request.environ), mounted.app.response_class)
    return user


def session_proxy(find: Callable[[], Mounted]) -> Session:
    """A proxy of the session of the request."""
    return cast(Session, LocalProxy(lambda: session_of(find())))


def user_proxy(find: Callable[[], Mounted]) -> Any:
    """A proxy of the user of the request."""
    return LocalProxy(lambda: user_of(find()))


def of(name: str) -> Callable[[], Mounted]:
    """Where the proxies of an instance look."""
    return partial(mounted_as, name)


#: The session of the request, of the instance `auth` or the only one.
current_session = session_proxy(the_mounted)
#: Its user, as `user_loader` says.
current_user: Any = user_proxy(the_mounted)
