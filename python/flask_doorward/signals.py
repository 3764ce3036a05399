"""What happened, for those who want to know: blinker signals and a line in the log.

The sender is the app. Receivers get `instance` (the name of the extension's instance), `user_id`,
`session_id`, `reason` and `count`, `None` where there is none. They run after the store has it, in
the context of who caused it; what nobody asked for, as a session that ran out, is in the log of
events only.
"""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from blinker import NamedSignal, Namespace

from ._native import Event

if TYPE_CHECKING:
    from .mounted import Mounted

_signals = Namespace()

#: A session opened.
logged_in = _signals.signal("doorward.logged_in")
#: Credentials were refused. Neither the name nor the password is told.
login_failed = _signals.signal("doorward.login_failed")
#: A session was refreshed.
refreshed = _signals.signal("doorward.refreshed")
#: A refresh token was used by two holders, and its session ended.
reuse_detected = _signals.signal("doorward.reuse_detected")
#: A user ended the session that asked for it.
logged_out = _signals.signal("doorward.logged_out")
#: A session ended, whatever the `reason`; or several of a user, with their `count`.
session_ended = _signals.signal("doorward.session_ended")

SIGNALS = {
    "logged_in": [logged_in],
    "login_failed": [login_failed],
    "refreshed": [refreshed],
    "reuse_detected": [reuse_detected, session_ended],
    "session_ended": [session_ended],
    "sessions_ended": [session_ended],
}
LEVELS = {
    "refreshed": logging.DEBUG,
    "fork_suspected": logging.WARNING,
    "store_behind": logging.WARNING,
    "reuse_detected": logging.WARNING,
    "events_dropped": logging.WARNING,
}


def dispatch(mounted: "Mounted", events: Iterable[Event]) -> None:
    """Logs what happened, and tells those who listen."""
    for event in events:
        mounted.logger.log(LEVELS.get(event.name, logging.INFO), "%s", line(event))
        _send(mounted, event)


def line(event: Event) -> str:
    """An event as the log has it: ids, never a token or a password."""
    fields = {
        "user": event.user_id,
        "session": event.session_id,
        "reason": event.reason,
        "count": event.count,
    }
    told = (f" {name}={value}" for name, value in fields.items() if value is not None)
    return event.name + "".join(told)


def _signals_of(event: Event) -> list[NamedSignal]:
    is_logout = event.name == "session_ended" and event.reason == "logout"
    return SIGNALS.get(event.name, []) + ([logged_out] if is_logout else [])


def _send(mounted: "Mounted", event: Event) -> None:
    reason = "reuse" if event.name == "reuse_detected" else event.reason
    for signal in _signals_of(event):
        signal.send(
            mounted.app,
            _async_wrapper=mounted.app.ensure_sync,
            instance=mounted.name,
            user_id=event.user_id,
            session_id=event.session_id,
            reason=reason,
            count=event.count,
        )
