"""An instance of the extension in one app: what `app.extensions["doorward"][name]` holds."""

import logging
from functools import partial
from itertools import count

from flask import Flask, Response, current_app

from ._native import ROUTES, Answer, Door
from .config import ConfigError, Settings, as_bytes, covers
from .errors import DoorwardError, refusal, response_of
from .processes import mounted_here
from .signals import dispatch
from .users import Callbacks, Flags

ENDPOINTS = frozenset(name for _, _, name in ROUTES)
#: Marks a view that needs no guard of `protect`: `public`, or one that has its own.
MARK = "_doorward"
_numbers = count()


class Mounted:
    """The engine as one app uses it. It is opened at the first use, in each process for itself."""

    def __init__(
        self,
        app: Flask,
        name: str,
        settings: Settings,
        callbacks: Callbacks,
        endpoints: frozenset[str],
    ) -> None:
        self.app, self.name, self.settings = app, name, settings
        self.callbacks, self.endpoints = callbacks, endpoints
        self.logger = app.logger.getChild(name)
        #: Where a request keeps its session and its user. An app may hand its environ on to another.
        key = f"doorward.{name}.{next(_numbers)}"
        self.session_key, self.user_key = f"{key}.session", f"{key}.user"
        #: Whether a token may be in a body.
        self.reads_bodies = bool(settings.token_key or settings.csrf_field)
        self.doors: dict[Flags, Door] = {}
        #: Why the store did not open, as the log has it.
        self.told_cause = ""
        mounted_here.add(self)

    @property
    def door(self) -> Door:
        """The engine, for what the callbacks answer now."""
        flags = self.callbacks.flags
        return self.doors.get(flags) or self._first_use(flags)

    def make(self, flags: Flags) -> Door:
        """Checks the settings; opens nothing."""
        unmounted = [name for name in ENDPOINTS if not (self.mounts(name) and flags.answers(name))]
        options = self.settings.options | flags.options() | {"unmounted": unmounted}
        refused = partial(refusal, response_class=self.app.response_class)
        try:
            return Door(options, refused, partial(note, self.logger))
        except ValueError as error:
            raise ConfigError(self.settings.in_own_words(str(error))) from None

    def mounts(self, endpoint: str) -> bool:
        """Whether an endpoint has a route."""
        off = endpoint == "register" and not self.settings.options.get("register")
        return endpoint in self.endpoints and not off

    def finished(self, answer: Answer) -> Response:
        """Tells what happened, and returns the answer, or raises the refusal."""
        dispatch(self, answer.events)
        if answer.status >= 400:
            raise refusal(answer, self.app.response_class)
        return response_of(answer, self.app.response_class)

    def tell_cause(self, error: DoorwardError) -> None:
        """Why the store does not open, once."""
        cause = error.__cause__
        if cause is not None and str(cause) != self.told_cause:
            self.told_cause = str(cause)
            self.logger.error("%s", cause)

    def close(self) -> None:
        """Until the next use."""
        for door in tuple(self.doors.values()):
            door.close()

    def _first_use(self, flags: Flags) -> Door:
        earlier = [door for known, door in tuple(self.doors.items()) if known != flags]
        if earlier and self.settings.options["store"] == "memory:":
            # What the first one has in memory would be lost.
            raise RuntimeError("with a store in memory, register callbacks before the first use")
        self._warn_of_guards_without_cookie()
        door = self.doors.setdefault(flags, self.make(flags))
        if not (earlier or self.app.debug or self.app.testing):
            self._advise(door)
        for other in earlier:
            other.close()
        return door

    def _advise(self, door: Door) -> None:
        """Tells of settings that may be right but seldom are."""
        for advice in door.advice:
            self.logger.warning("%s", self.settings.in_own_words(advice))
        secret = as_bytes(self.settings.options.get("secret"))
        if secret and secret == as_bytes(self.app.config.get("SECRET_KEY")):
            key = self.settings.key("secret")
            self.logger.warning(
                "%s is SECRET_KEY too: whoever learns it from one use has the other; "
                "give each its own, or set none: the store makes and keeps one",
                key,
            )

    def _warn_of_guards_without_cookie(self) -> None:
        path = self.settings.access_cookie_path
        for rule in self.app.url_map.iter_rules() if path else ():
            mark = getattr(self.app.view_functions.get(rule.endpoint), MARK, None)
            if mark == self.name and not covers(path, self.settings.root + rule.rule):
                key = self.settings.key("access_cookie_path")
                self.logger.warning(
                    "browsers do not send the access cookie to %s, which is guarded: "
                    "its path is %s; set %s to a path that covers both",
                    rule.rule, path, key,
                )  # fmt: skip


def note(logger: logging.Logger, level: str, text: str) -> None:
    """What an operator should know. Knows no app: what a door holds is not seen by the collector."""
    logger.log(LEVELS[level], "%s", text)


LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def mounted_as(name: str) -> Mounted:
    """The instance of this name in the current app."""
    try:
        mounted: Mounted = current_app.extensions["doorward"][name]
    except KeyError:
        text = f"Doorward is not set up in this app as {name!r}: call init_app(app)"
        raise RuntimeError(text) from None
    return mounted


def the_mounted() -> Mounted:
    """The instance `auth`, or the only one."""
    here: dict[str, Mounted] = current_app.extensions.get("doorward", {})
    if "auth" in here or not here:
        return mounted_as("auth")
    if len(here) > 1:
        names = ", ".join(sorted(here))
        raise RuntimeError(f"which one? This app has several instances of Doorward: {names}")
    return next(iter(here.values()))


