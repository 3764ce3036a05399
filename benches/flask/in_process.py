"""What Doorward costs a Flask app within its process, beside what Flask-JWT-Extended costs.

Requests are calls of `app.wsgi_app` with environs that were made before.
"""

import gc
import pathlib
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import flask_doorward.jwt_extended as moved
import flask_jwt_extended as extended
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event

import apps

ROUNDS = 41
TOKENS = 256
MEMORY = pathlib.Path("/dev/shm")


def main() -> None:
    gc.disable()
    with tempfile.TemporaryDirectory() as folder:
        for location in ("cookies", "headers"):
            protecting(location, folder)
        making(folder)
        refreshing(pathlib.Path(folder))


def protecting(location: str, folder: str) -> None:
    """What a guard adds to a request: the same view protected and open, with the same tokens sent."""
    theirs = apps.flask_jwt_extended(location)
    with theirs.app_context():
        tokens = [extended.create_access_token(str(user)) for user in range(TOKENS)]
    added = {"Flask-JWT-Extended": Guarded(theirs, location, tokens)}
    ours = apps.doorward(location, folder)
    with ours.app_context():
        login = ours.extensions["doorward"]["auth"].door.login
        own = [login(str(user))[0].access_token for user in range(TOKENS)]
    added["Doorward"] = Guarded(ours, location, own)
    added["flask_doorward.jwt_extended"] = Guarded(apps.compatible(location, folder), location, tokens)
    for _ in range(ROUNDS):
        for guarded in added.values():
            guarded.round()
    print(f"\nprotecting a view, token in {location}")
    for name, guarded in added.items():
        print(f"  {name:<28} adds {guarded.median():6.1f} us to {statistics.median(guarded.open):.0f} us")
    base = added.pop("Flask-JWT-Extended")
    for name, guarded in added.items():
        judge(
            f"{name}, {location}: what a guard adds, of Flask-JWT-Extended's",
            ratio_of(guarded.added, base.added),
            1 / 12,
        )


class Guarded:
    """Microseconds of a view open, and of what its guard adds, round by round."""

    def __init__(self, app: Flask, location: str, tokens: list[str]) -> None:
        header = {"cookies": ("HTTP_COOKIE", "access_token_cookie="), "headers": ("HTTP_AUTHORIZATION", "Bearer ")}
        name, before = header[location]
        sent = [{name: before + token} for token in tokens]
        self.call = {
            path: Requests(app, [environ("GET", f"/api/v1/{path}", **more) for more in sent])
            for path in ("open", "protected")
        }
        self.open: list[float] = []
        self.added: list[float] = []
        for call in (*self.call.values(), *self.call.values(), *self.call.values()):
            call.all()

    def round(self) -> None:
        # Open, protected, protected, open: what drifts, drifts for both.
        first = micros_each(TOKENS, self.call["open"].all)
        guarded = [micros_each(TOKENS, self.call["protected"].all) for _ in range(2)]
        open = (first + micros_each(TOKENS, self.call["open"].all)) / 2
        self.open.append(open)
        self.added.append(sum(guarded) / 2 - open)

    def median(self) -> float:
        return statistics.median(self.added)


class Requests:
    """Calls of an app, one for each environ."""

    def __init__(self, app: Flask, environs: list[dict[str, Any]]) -> None:
        self.app, self.environs, self.status = app.wsgi_app, environs, ""

    def all(self) -> None:
        for environ in self.environs:
            answer = self.app(environ.copy(), self.started)
            b"".join(answer)
            answer.close()
        assert self.status == "200 OK", self.status

    def started(self, status: str, headers: list[tuple[str, str]], error: Any = None) -> None:
        self.status = status


def environ(method: str, path: str, **more: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", "SCRIPT_NAME": "",
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:8000", "HTTP_ACCEPT": "*/*",
        "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.multithread": False,
        "wsgi.multiprocess": True, "wsgi.run_once": False, "wsgi.errors": None, **more,
    }  # fmt: skip


def making(folder: str) -> None:
    """Making an access token by itself."""
    theirs, ours = apps.flask_jwt_extended("headers"), apps.compatible("headers", folder)
    theirs_took, ours_took = [], []
    for _ in range(ROUNDS):
        for app, make, took in (
            (theirs, extended.create_access_token, theirs_took),
            (ours, moved.create_access_token, ours_took),
        ):
            with app.app_context():
                took.append(micros_each(200, lambda: repeat(200, make, "7")))
    print("\nmaking an access token")
    print(f"  {statistics.median(ours_took):.1f} us; Flask-JWT-Extended {statistics.median(theirs_took):.1f} us")
    judge("create_access_token, of Flask-JWT-Extended's", ratio_of(ours_took, theirs_took), 1 / 10)


def refreshing(folder: pathlib.Path) -> None:
    """A refresh that writes, one client: POST /refresh, durable in all."""
    print("\na refresh that writes")
    of_mapped, by_hand = refreshes_beside_theirs(folder)
    judge("a refresh that writes, of Flask-JWT-Extended's with a table", of_mapped, 1 / 3)
    print(f"        of one that sqlite3 writes: {by_hand:.3f}")
    if MEMORY.is_dir():
        print("\nthe same where no disk is waited for")
        with tempfile.TemporaryDirectory(dir=MEMORY) as memory:
            of_mapped, by_hand = refreshes_beside_theirs(pathlib.Path(memory))
        print(f"        of Flask-JWT-Extended's: {of_mapped:.3f}, with sqlite3: {by_hand:.3f}")


def refreshes_beside_theirs(folder: pathlib.Path) -> tuple[float, float]:
    """Ours, of theirs by Flask-SQLAlchemy and by hand."""
    door = apps.doorward("headers", str(folder), DOORWARD_REFRESH_WINDOW=0)
    who = {
        "Doorward": Refreshes(door, opened_here),
        "a table, Flask-SQLAlchemy": Refreshes(with_a_model(folder / "mapped.db"), opened_there),
        "a table, sqlite3": Refreshes(with_a_table(folder / "theirs.db"), opened_there),
    }
    took: dict[str, list[float]] = {name: [] for name in who}
    for _ in range(ROUNDS):
        for name, refreshes in who.items():
            took[name].append(micros_each(20, lambda: repeat(20, refreshes.once)))
    for name, times in took.items():
        print(f"  {name:<26} {statistics.median(times):5.0f} us")
    ours, mapped, by_hand = took.values()
    return ratio_of(ours, mapped), ratio_of(ours, by_hand)


def ratio_of(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs))


class Refreshes:
    """One client of an app, which uses the refresh token that it was given last."""

    def __init__(self, app: Flask, opened: Callable[[Flask], str]) -> None:
        self.app, self.token = app, opened(app)

    def once(self) -> None:
        body = self.app.json.dumps({"refresh_token": self.token}).encode()
        sent = environ("POST", "/api/v1/refresh", CONTENT_TYPE="application/json", CONTENT_LENGTH=str(len(body)))
        if isinstance(self.app.extensions.get("flask-jwt-extended"), extended.JWTManager):
            sent["HTTP_AUTHORIZATION"] = f"Bearer {self.token}"
        answer = self.app.wsgi_app({**sent, "wsgi.input": Body(body)}, lambda *_: None)
        read = b"".join(answer)
        answer.close()
        before, self.token = self.token, self.app.json.loads(read)["refresh_token"]
        assert self.token != before


class Body:
    """A request's body, of known length."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def read(self, size: int = -1) -> bytes:
        body, self.body = (self.body, b"") if size < 0 else (self.body[:size], self.body[size:])
        return body


def opened_here(app: Flask) -> str:
    return app.extensions["doorward"]["auth"].door.login("7")[0].refresh_token


def opened_there(app: Flask) -> str:
    with app.app_context():
        token = extended.create_refresh_token("7")
        app.extensions["tokens"].rotate(None, extended.get_jti(token), "7")
    return token


class Table:
    """A row for each refresh token, as durable as Doorward's: the new one is added and the old one
    revoked in one transaction, on a connection that stays open."""

    def __init__(self, path: pathlib.Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("CREATE TABLE tokens (jti TEXT PRIMARY KEY, user TEXT, revoked INT) WITHOUT ROWID")

    def is_revoked(self, jti: str) -> bool:
        row = self.db.execute("SELECT revoked FROM tokens WHERE jti = ?", (jti,)).fetchone()
        return row is None or bool(row[0])

    def rotate(self, old: str | None, new: str, user: str) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute("INSERT INTO tokens VALUES (?, ?, 0)", (new, user))
        self.db.execute("UPDATE tokens SET revoked = 1 WHERE jti = ?", (old,))
        self.db.execute("COMMIT")


class Model:
    """The same by Flask-SQLAlchemy, as Flask-JWT-Extended's documentation has it."""

    def __init__(self, app: Flask, path: pathlib.Path) -> None:
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{path}"
        db = self.db = SQLAlchemy(app)

        class Token(db.Model):  # type: ignore[name-defined]
            jti = db.Column(db.String(36), primary_key=True)
            user = db.Column(db.String, nullable=False)
            revoked = db.Column(db.Boolean, nullable=False, default=False)

        self.token = Token
        with app.app_context():
            event.listen(db.engine, "connect", as_durable)
            db.create_all()

    def is_revoked(self, jti: str) -> bool:
        row = self.db.session.get(self.token, jti)
        return row is None or row.revoked

    def rotate(self, old: str | None, new: str, user: str) -> None:
        self.db.session.add(self.token(jti=new, user=user))
        if old:
            self.db.session.get(self.token, old).revoked = True
        self.db.session.commit()


def as_durable(connection: sqlite3.Connection, record: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def with_a_table(path: pathlib.Path) -> Flask:
    app = apps.flask_jwt_extended("headers")
    return rotating(app, Table(path))


def with_a_model(path: pathlib.Path) -> Flask:
    app = apps.flask_jwt_extended("headers")
    return rotating(app, Model(app, path))


def rotating(app: Flask, tokens: Table | Model) -> Flask:
    app.extensions["tokens"] = tokens

    @app.extensions["flask-jwt-extended"].token_in_blocklist_loader
    def is_revoked(header: dict[str, Any], claims: dict[str, Any]) -> bool:
        return claims["type"] == "refresh" and tokens.is_revoked(claims["jti"])

    @app.post("/api/v1/refresh")
    @extended.jwt_required(refresh=True)
    def refresh() -> dict[str, str]:
        user = extended.get_jwt_identity()
        new = extended.create_refresh_token(user)
        tokens.rotate(extended.get_jwt()["jti"], extended.get_jti(new), user)
        return {"access_token": extended.create_access_token(user), "refresh_token": new}

    return app


def repeat(times: int, call: Callable[..., object], *args: object) -> None:
    for _ in range(times):
        call(*args)


def micros_each(times: int, run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e6 / times


def judge(what: str, measured: float, limit: float) -> None:
    """The line that the summary of `make bench` is made of."""
    verdict = "ok" if measured <= limit else "MISSED"
    print(f"{verdict:<7} {what}: {measured:.3f} (at most {limit:.3f})", flush=True)


if __name__ == "__main__":
    main()
