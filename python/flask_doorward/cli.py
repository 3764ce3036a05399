"""`flask auth`: the operator's commands, in the words of the server's."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial, wraps
from typing import Any, ParamSpec, TextIO, TypeVar

import click
from flask.cli import AppGroup, with_appcontext

from ._native import (
    FORMATS,
    PUBLISH_DELAY,
    Account,
    Key,
    Operator,
    SessionRow,
    format_of,
    generated_password,
)
from .mounted import Mounted, mounted_as

P = ParamSpec("P")
T = TypeVar("T")

#: How often the store is asked for what is new, in seconds.
POLL = 0.25

def commands(name: str) -> list[click.Command]:
    """The commands of an instance."""
    mounted = partial(mounted_as, name)
    return [_user(mounted), _session(mounted), _keys(mounted), _store(mounted), _events(mounted)]


def _user(mounted: Callable[[], Mounted]) -> click.Group:
    group = AppGroup("user", help="Built-in accounts.")

    @group.command("add", help="Make an account.")
    @click.argument("name")
    @_password_options
    @click.option(
        "--reset-token", is_flag=True, help="Print a token by which the user sets a password, once."
    )
    @_in_words
    def add(name: str, password_stdin: bool, generate_password: bool, reset_token: bool) -> None:
        operator = _accounts(mounted(), makes=True)
        password = _first_password(password_stdin, generate_password, reset_token)
        operator.check_free(name)
        _show_generated(password, generate_password)
        added = operator.add_user(name, password)
        click.echo(f"added {shown(name)}, id {added}")
        if reset_token:
            _show_reset(mounted(), name)

    @group.command("list", help="Show accounts.")
    @_in_words
    def list_(**nothing: object) -> None:
        for account in _all_accounts(_accounts(mounted())):
            _show_account(account)

    def change(command: str, about: str, do: Callable[[Operator, str], None]) -> None:
        @group.command(command, help=about)
        @click.argument("name")
        @_in_words
        def changed(name: str) -> None:
            do(_accounts(mounted()), name)
            click.echo(f"{shown(name)}: done")

    change("disable", "Refuse logins and end all sessions.", Operator.disable_user)
    change("enable", "Allow logins again.", Operator.enable_user)
    change("remove", "Remove an account and end all sessions.", Operator.remove_user)

    @group.command("privilege", help="Say whether sessions are privileged, and end all of them.")
    @click.argument("name")
    @click.argument("switch", type=click.Choice(["on", "off"]))
    @_in_words
    def privilege(name: str, switch: str) -> None:
        _accounts(mounted()).set_privileged(name, switch == "on")
        click.echo(f"{shown(name)}: done")

    @group.command("reset", help="Print a token by which a new password can be set, once.")
    @click.argument("name")
    @_in_words
    def reset(name: str) -> None:
        _somebody_sees_the_token()
        _show_reset(mounted(), name)

    @group.command("set-password", help="Change a password and end all sessions.")
    @click.argument("name")
    @_password_options
    @_in_words
    def set_password(name: str, password_stdin: bool, generate_password: bool) -> None:
        operator = _accounts(mounted())
        password = _new_password(password_stdin, generate_password)
        _show_generated(password, generate_password)
        operator.set_password(name, password)
        click.echo(f"{shown(name)}: done")

    @group.command("export", help="Write all that is kept of a user's sessions, as JSON.")
    @_subject
    @_in_words
    def export(name: str | None, id: str | None) -> None:
        click.echo(_operator(mounted()).export(name, id))

    @group.command("erase", help="End a user's sessions and remove all that is kept of them.")
    @_subject
    @click.option("--account", is_flag=True, help="Remove the account too.")
    @_in_words
    def erase(name: str | None, id: str | None, account: bool) -> None:
        sessions = _operator(mounted()).erase(name, id, account)
        click.echo(f"erased: {sessions} sessions, and all events")

    _import_command(group, mounted)
    return group


def _import_command(group: click.Group, mounted: Callable[[], Mounted]) -> None:
    @group.command("import", help="Take accounts of another program, from CSV or JSON Lines.")
    @click.argument("file")
    @click.option("--format", type=click.Choice(FORMATS), help="[default: by the file's name]")
    @click.option("--passwords", is_flag=True, help="Hash plain-text passwords; slow.")
    @click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
    @click.option("--ignore-others", is_flag=True, help="Pass over columns of other names.")
    @click.option("--on-conflict", type=click.Choice(["refuse", "skip"]), default="refuse")
    @click.option("--report", metavar="PATH", help="Write refusals there, as JSON Lines.")
    @_in_words
    def import_(file: str, format: str | None, on_conflict: str, report: str | None, **flags: bool) -> None:
        how = format or format_of(file)
        if how is None:
            raise click.UsageError("say how it is written: --format csv or --format jsonl")
        given = [flag for flag, is_set in flags.items() if is_set]
        given += ["skip_conflicts"] if on_conflict == "skip" else []
        operator = _accounts(mounted(), makes=not flags["dry_run"])
        with _bar(file) as read:
            counts = operator.import_users(file, how, given, report, _say_refused, read)
        _show_tally(*counts, dry_run=flags["dry_run"])


@contextmanager
def _bar(file: str) -> Iterator[Callable[[int], None]]:
    """On a terminal only: takes the bytes that were read."""
    length = os.path.getsize(file) if os.path.isfile(file) else 0
    if not (length and sys.stderr is not None and sys.stderr.isatty()):
        yield lambda _: None
        return
    with click.progressbar(length=length, file=sys.stderr) as bar:
        yield lambda read: bar.update(read - bar.pos)


def _say_refused(words: str) -> None:
    click.echo(words, err=True)


def _show_tally(added: int, there: int, skipped: int, refused: int, dry_run: bool) -> None:
    prefix = "dry run, nothing was changed: " if dry_run else ""
    click.echo(f"{prefix}added {added}, there already {there}, skipped {skipped}, refused {refused}")
    if refused:
        raise SystemExit(3)


def _session(mounted: Callable[[], Mounted]) -> click.Group:
    group = AppGroup("session", help="Sessions.")

    @group.command("list", help="Show live sessions, or those of one user.")
    @click.argument("name", required=False)
    @_in_words
    def list_(name: str | None) -> None:
        for row in _sessions(mounted(), name):
            _show_session(row)

    @group.command("end", help="End a session, or all of a user, or all there are.")
    @click.argument("id", required=False)
    @click.option("--user", metavar="NAME", help="All sessions of an account, by its name.")
    @click.option("--user-id", metavar="ID", help="All sessions of a user, by id.")
    @click.option("--all", "everybody", is_flag=True, help="The sessions of everybody.")
    @_in_words
    def end(id: str | None, user: str | None, user_id: str | None, everybody: bool) -> None:
        if [id, user, user_id, everybody or None].count(None) != 3:
            raise click.UsageError("say which sessions: an id, --user, --user-id or --all")
        click.echo(_end(mounted(), id, user, user_id))

    @group.command("why", help="Show what happened to a session, and why it ended.")
    @click.argument("id")
    @_in_words
    def why(id: str) -> None:
        lines, words = _operator(mounted()).why(id)
        for line in [*lines, f"{id}: {words}"]:
            click.echo(line)

    @group.command("purge", help="Remove what has expired.")
    @_in_words
    def purge(**nothing: object) -> None:
        _operator(mounted()).purge()
        click.echo("purged")

    return group


def _keys(mounted: Callable[[], Mounted]) -> click.Group:
    group = AppGroup("keys", help="The key ring.")

    @group.command("list", help="Show keys.")
    @_in_words
    def list_(**nothing: object) -> None:
        for key in _operator(mounted()).keys():
            _show_key(key)

    @group.command("rotate", help="Make a new key that signs once all processes know it.")
    @click.option("--purpose", type=click.Choice(["access", "refresh"]), default="access")
    @_in_words
    def rotate(purpose: str) -> None:
        made = _operator(mounted()).rotate_key(purpose)
        click.echo(f"{made}: signs in {PUBLISH_DELAY} s")

    @group.command("reseal", help="Seal all keys by DOORWARD_SEAL_SECRET.")
    @_in_words
    def reseal(**nothing: object) -> None:
        count = _operator(mounted()).reseal_keys()
        click.echo(f"{count} keys sealed by DOORWARD_SEAL_SECRET")

    @group.command("retire", help="Drop a key at once, for logout too.")
    @click.argument("id")
    @_in_words
    def retire(id: str) -> None:
        _operator(mounted()).retire_key(id)
        click.echo(f"{id}: retired")

    return group


def _store(mounted: Callable[[], Mounted]) -> click.Group:
    group = AppGroup("store", help="The store as a whole.")

    @group.command(
        "restored",
        help="After the restore of a backup: end every session that was opened before now.",
    )
    @click.option(
        "--from-events",
        type=click.File(),
        help="End only what ended since, by an export of `events --format json`.",
    )
    @_in_words
    def restored(from_events: TextIO | None) -> None:
        told = from_events.read() if from_events else None
        for line in _operator(mounted()).restored(told):
            click.echo(line)

    return group


def _events(mounted: Callable[[], Mounted]) -> click.Command:
    @click.command("events", help="Show what happened to sessions and accounts, the last of it last.")
    @click.option("--user", metavar="NAME|ID", help="Of this user only.")
    @click.option("--session", metavar="ID", help="Of this session only.")
    @click.option("--event", metavar="NAME", help="Of this name only.")
    @click.option("--since", metavar="TIME", help="Not before: 2h, 30d, or 2026-11-26T09:00:00Z.")
    @click.option("--until", metavar="TIME", help="Before.")
    @click.option("--follow", is_flag=True, help="Go on with what happens from now on.")
    @click.option("--format", "form", type=click.Choice(["human", "json"]), default="human")
    @click.option("--limit", type=click.IntRange(0, 2**32 - 1), default=100)
    @with_appcontext
    @_in_words
    def events(follow: bool, form: str, **wanted: Any) -> None:
        operator, column = _operator(mounted()), ["human", "json"].index(form)
        lines, asked, place = operator.events(**wanted)
        _show_lines(lines, column)
        while follow:
            time.sleep(POLL)
            lines, place = operator.events_since(place, asked)
            _show_lines(lines, column)

    return events


def _show_lines(lines: list[tuple[str, str]], column: int) -> None:
    for line in lines:
        click.echo(line[column])
    sys.stdout.flush()


def _subject(command: Callable[P, T]) -> Callable[P, T]:
    name = click.argument("name", required=False)
    by_id = click.option("--id", metavar="ID", help="A user's id, for users of the app's own.")
    return name(by_id(command))


def _in_words(command: Callable[P, T]) -> Callable[P, T]:
    """What cannot be done is said, without a traceback."""

    @wraps(command)
    def worded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except ValueError as error:
            raise click.ClickException(str(error)) from None

    return worded


def _password_options(command: Callable[P, T]) -> Callable[P, T]:
    stdin = click.option(
        "--password-stdin", is_flag=True, help="Read the password from standard input."
    )
    generate = click.option(
        "--generate-password", is_flag=True, help="Make a password and print it."
    )
    return stdin(generate(command))


def _accounts(mounted: Mounted, makes: bool = False) -> Operator:
    if mounted.callbacks.own_users:
        raise click.ClickException("users are the app's own: there are no built-in accounts")
    return _operator(mounted, makes)


def _operator(mounted: Mounted, makes: bool = False) -> Operator:
    """The store. A mistyped name must not make a database."""
    file = mounted.settings.file
    if mounted.settings.options["store"].startswith("memory:"):
        key = mounted.settings.key("store")
        text = f"the store is memory: nothing outlives this command; name one by {key}"
        raise click.ClickException(text)
    if file is not None and not makes and not file.exists():
        maker = f"flask {mounted.name} user add"
        text = f"{file}: there is no database; the app and `{maker}` make one"
        raise click.ClickException(text)
    # Opens nothing else: a command joins no key to the ring.
    return mounted.make(mounted.callbacks.flags).operator()


def _all_accounts(operator: Operator) -> Iterator[Account]:
    page = operator.users()
    while page:
        yield from page
        page = operator.users(after=page[-1].username)


def _sessions(mounted: Mounted, name: str | None) -> Iterable[SessionRow]:
    operator = _operator(mounted)
    if name is None:
        return _all_sessions(operator)
    if mounted.callbacks.own_users:
        return operator.sessions_of(user_id=name)
    return operator.sessions_of(name)


def _end(mounted: Mounted, id: str | None, user: str | None, user_id: str | None) -> str:
    """What was ended; all there is where nothing is named."""
    if id is not None:
        _operator(mounted).end_session(id)
        return f"{id}: ended"
    if user is not None:
        return f"{shown(user)}: {_accounts(mounted).end_sessions_of(user)} ended"
    if user_id is not None:
        return f"{shown(user_id)}: {_operator(mounted).end_sessions_of(user_id=user_id)} ended"
    return f"everybody: {_operator(mounted).end_all_sessions()} ended"


def _all_sessions(operator: Operator) -> Iterator[SessionRow]:
    page, after = operator.sessions()
    yield from page
    while after is not None:
        page, after = operator.sessions(after=after)
        yield from page


def _show_reset(mounted: Mounted, name: str) -> None:
    token, until = _accounts(mounted).start_reset(name)
    click.echo(f"token: {token}")
    path = f"{mounted.settings.url_prefix}/password/reset"
    click.echo(f"good until {date(until)}, once, for POST {path}")


def _somebody_sees_the_token() -> None:
    if _is_discarded():
        raise click.ClickException(
            "nobody would see the token: standard output is closed, or /dev/null"
        )


def _first_password(from_stdin: bool, generate: bool, reset_token: bool) -> str:
    if not reset_token:
        return _new_password(from_stdin, generate)
    if from_stdin or generate:
        raise click.UsageError("with --reset-token the user sets the password")
    _somebody_sees_the_token()
    # Nobody's: the token is the way in.
    return generated_password()


def _new_password(from_stdin: bool, generate: bool) -> str:
    if from_stdin == generate:
        raise click.UsageError(
            "say where the password comes from: --password-stdin or --generate-password"
        )
    return _generated() if generate else _typed()


def _generated() -> str:
    if _is_discarded():
        raise click.ClickException(
            "nobody would see the password, so nothing was changed: "
            "standard output is closed, or /dev/null"
        )
    return generated_password()


def _is_discarded() -> bool:
    try:
        output = os.fstat(sys.stdout.fileno())
        return output.st_rdev != 0 and output.st_rdev == os.stat(os.devnull).st_rdev
    except (OSError, ValueError, AttributeError):
        return sys.stdout is None


def _typed() -> str:
    if sys.stdin is None:
        raise click.ClickException("there is no password to read: standard input is closed")
    text = sys.stdin.read(4096)
    return text.removesuffix("\n").removesuffix("\r")


def _show_generated(password: str, generated: bool) -> None:
    """Before anything is done with it: nobody could log in by a password that nobody has seen."""
    if not generated:
        return
    try:
        click.echo(f"password: {password}")
        sys.stdout.flush()
    except OSError as error:
        text = f"nobody would see the password, so nothing was changed: {error}"
        raise click.ClickException(text) from None


def _show_account(account: Account) -> None:
    state = "disabled" if account.disabled else "enabled"
    state += ",privileged" if account.privileged else ""
    click.echo(f"{shown(account.username)}\t{account.id}\t{state}\t{date(account.created_at)}")


def _show_session(row: SessionRow) -> None:
    created, used = date(row.created_at), date(row.last_used_at)
    device = "-" if row.device is None else shown(row.device)
    click.echo(f"{row.id}\t{shown(row.user_id)}\t{created}\t{used}\t{device}")


def _show_key(key: Key) -> None:
    start = date(key.signs_from)
    click.echo(f"{key.id}\t{key.purpose}\t{key.algorithm}\t{key.state}\tsigns from {start}")


def shown(text: str) -> str:
    """A text of users' own making, without what would act on a terminal or hide in it."""
    return "".join(_shown(char) for char in text)


SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def _shown(char: str) -> str:
    if char in SHORT:
        return SHORT[char]
    return char if char.isprintable() else f"\\u{{{ord(char):x}}}"


def date(time: datetime) -> str:
    """A time as people read it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
