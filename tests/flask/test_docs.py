"""docs/flask.md: each of its snippets runs, its tables are those of the settings, its commands exist."""

import hmac
import re
import shlex
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

import flask_doorward
from flask_doorward import Doorward, config
from flask_doorward.testing import CONFIG, DoorwardClient

from conftest import PASSWORD, ROOT

PAGE = (ROOT / "docs/flask.md").read_text()
EXAMPLE = (ROOT / "examples/flask/app.py").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
LOGIN = {"username": "ada", "password": PASSWORD, "delivery": "body"}


def sections(text: str) -> dict[str, list[tuple[str, str]]]:
    """The snippets under each heading, with their language."""
    parts = re.split(r"^##+ (.*)$", text, flags=re.M)
    found = {heading: BLOCK.findall(body) for heading, body in zip(parts[1::2], parts[2::2], strict=True)}
    return {heading: blocks for heading, blocks in found.items() if blocks}


SECTIONS = sections(PAGE)
PYTHON = [heading for heading, blocks in SECTIONS.items() if "python" in dict(blocks)]


class User(SimpleNamespace):
    """The table of users that the snippets speak of."""

    rows: "list[User]" = []

    @classmethod
    def named(cls, name: str) -> "User | None":
        return next((row for row in cls.rows if row.name == name), None)

    @classmethod
    def with_id(cls, user_id: int) -> "User | None":
        return next((row for row in cls.rows if row.id == user_id), None)

    @classmethod
    def add(cls, name: str, password_hash: str) -> int | None:
        if cls.named(name):
            return None
        row = cls(id=len(cls.rows) + 7, name=name, password_hash=password_hash, role="admin", disabled=False)
        cls.rows.append(row)
        return row.id


async def fetch_user(user_id: str) -> User | None:
    return User.with_id(int(user_id))


class Ran:
    """A section's snippets, run one after the other in an app with the settings of the first."""

    def __init__(self, heading: str, folder: str, text: str = PAGE, **settings: Any) -> None:
        self.app = Flask("docs", instance_path=folder)
        self.app.config.update(CONFIG | {"DOORWARD_REGISTER": True, **settings})
        self.app.test_client_class = DoorwardClient
        self.auth = Doorward()
        self.names: dict[str, Any] = {
            "__name__": "docs", "app": self.app, "auth": self.auth, "User": User, "fetch_user": fetch_user,
            "Flask": Flask, "Doorward": Doorward, "current_session": flask_doorward.current_session,
            "current_user": flask_doorward.current_user,
        }
        User.rows = []
        for language, code in sections(text)[heading]:
            # The example is driven by a test of its own.
            if language == "python" and code not in EXAMPLE:
                exec(compile(code, heading, "exec"), self.names)
        if self.auth.name not in self.app.extensions.get("doorward", {}):
            self.auth.init_app(self.app)

    def client(self) -> Any:
        return self.app.test_client()

    def add_user(self, password_hash: str | None = None) -> User:
        with self.app.app_context():
            User.add("ada", password_hash or self.auth.service.hash_password(PASSWORD))
        return User.rows[-1]


@pytest.fixture
def run(tmp_path):
    def run(heading: str, **settings: Any) -> Ran:
        return Ran(heading, str(tmp_path), **settings)

    return run


@pytest.mark.parametrize("heading", [heading for heading in PYTHON if heading != "Five minutes"])
def test_the_snippets_of_each_section_run(run, heading: str) -> None:
    assert run(heading).client().get("/api/v1/session").status_code in (200, 401)


def quick_start(code: str, folder, monkeypatch) -> Flask:
    """The app of a snippet, and a user in it."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "quick_start"}
    exec(code, names)
    app: Flask = names["app"]
    added = app.test_cli_runner().invoke(args="auth user add ada --password-stdin".split(), input=PASSWORD)
    assert added.exit_code == 0, added.output
    return app


def test_the_five_minutes_end_with_a_protected_view(tmp_path, monkeypatch) -> None:
    app = quick_start(dict(SECTIONS["Five minutes"])["python"], tmp_path, monkeypatch)
    client = app.test_client()
    assert client.get("/api/v1/hello").status_code == 401
    user = client.post("/api/v1/login", json=LOGIN | {"delivery": "cookie"}).json["user"]
    assert client.get("/api/v1/hello", base_url="https://localhost").json == {"hello": user["id"]}
    assert (tmp_path / "instance/doorward.db").exists()


def test_the_quick_start_of_the_read_me_ends_with_a_protected_view(tmp_path, monkeypatch) -> None:
    pasted = dict(sections((ROOT / "README.md").read_text())["The Flask door"])["sh"]
    app = quick_start(pasted.split("<<'EOF'\n")[1].split("EOF\n")[0], tmp_path, monkeypatch)
    client = app.test_client()
    assert client.get("/api/v1/hello").status_code == 401
    token = client.post("/api/v1/login", json=LOGIN).json["access_token"]
    hello = client.get("/api/v1/hello", headers={"Authorization": f"Bearer {token}"})
    assert hello.status_code == 200 and "hello" in hello.json


def rows(heading: str) -> list[list[str]]:
    """The tables under a heading: cells without their backquotes, of rows whose first is a setting."""
    body = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in body.splitlines() if re.match(r"\| `(DOORWARD|JWT)_", line)]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def settings() -> list[config.Setting]:
    return [*config.SETTINGS, *config.DOUBLE_SUBMIT, *config.CHECKED]


def test_the_tables_have_every_setting() -> None:
    documented = [(row[0], row[1] or None) for row in rows("Settings") if row[0].startswith("DOORWARD")]
    assert documented == [(each.doorward, each.jwt) for each in settings() if each.doorward]
    theirs = {cell for row in rows("Settings") for cell in row[:2] if cell.startswith("JWT_")}
    assert theirs == {each.jwt for each in settings() if each.jwt} and len(theirs) == 43


def test_the_defaults_are_those_of_the_server() -> None:
    lines = re.findall(r"^\| `(\w+)` \| `?(.*?)`? \|", (ROOT / "docs/settings.md").read_text(), re.M)
    servers = {f"DOORWARD_{key.upper()}": default for key, default in lines}
    own = {"DOORWARD_ALGORITHM", "DOORWARD_REFRESH_WINDOW", "DOORWARD_ACCESS_COOKIE_PATH"}
    for row in rows("Settings"):
        if row[0] in servers and row[0] not in own:
            assert row[2] == servers[row[0]], row[0]


def test_the_commands_do_what_they_say(tmp_path) -> None:
    app = Flask("docs", instance_path=str(tmp_path))
    app.config.update(CONFIG, DOORWARD_STORE=None)
    Doorward(app)
    app.test_client_class = DoorwardClient
    client, session = app.test_client(), None
    for line in SECTIONS["Commands"][0][1].splitlines():
        words = shlex.split(line)[1:]
        if words[1:] == ["session", "list"]:
            session = client.login("somebody").session.id
        if words[1:3] == ["session", "end"] and not words[3].startswith("--"):
            words[3] = str(session)
        if words[1:3] == ["keys", "retire"]:
            words[3] = app.test_cli_runner().invoke(args=["auth", "keys", "list"]).output.split()[0]
        done = app.test_cli_runner().invoke(args=words, input=PASSWORD)
        assert done.exit_code == 0, (line, done.output)
        if words[1:3] == ["session", "end"]:
            assert client.get("/api/v1/session", base_url="https://localhost").json["reason"] == "ended_by_operator"


def test_hooks_of_the_blueprint_run(run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        run("The blueprint").client().get("/api/v1/session")
    assert "127.0.0.1 asks for auth.session" in caplog.messages


def test_own_users_log_in_change_their_password_and_register(run) -> None:
    ran = run("Accounts")
    user, client = ran.add_user(), ran.client()
    tokens = client.post("/api/v1/login", json=LOGIN).json
    assert tokens["user"] == {"id": "7", "username": "ada"}
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    before = user.password_hash
    new = {"current": PASSWORD, "new": "another horse battery"}
    assert client.post("/api/v1/password", json=new, headers=bearer).status_code == 200
    assert user.password_hash != before
    assert client.post("/api/v1/login", json=LOGIN).status_code == 401
    registered = client.post("/api/v1/register", json={"username": "bob", "password": PASSWORD})
    assert registered.status_code == 201 and User.named("bob")
    taken = client.post("/api/v1/register", json={"username": "bob", "password": PASSWORD})
    assert taken.status_code == 409


def test_a_disabled_user_is_logged_out(run) -> None:
    ran = run("Accounts")
    user, client = ran.add_user(), ran.client()
    client.login(user.id, delivery="body")
    with ran.app.app_context():
        ran.names["disable"](user)
    assert client.get("/api/v1/session").json["reason"] == "disabled"


def test_hashes_of_another_kind_are_replaced_at_login(run) -> None:
    from werkzeug.security import generate_password_hash

    ran = run("Accounts")
    user, client = ran.add_user(generate_password_hash(PASSWORD)), ran.client()
    assert client.post("/api/v1/login", json=LOGIN | {"password": "wrong horse"}).status_code == 401
    assert client.post("/api/v1/login", json=LOGIN | {"username": "nobody"}).status_code == 401
    assert not user.password_hash.startswith("$argon2")
    for _ in range(2):
        answer = client.post("/api/v1/login", json=LOGIN)
        assert answer.status_code == 200 and user.password_hash.startswith("$argon2")
    bearer = {"Authorization": f"Bearer {answer.json['access_token']}"}
    again = client.post("/api/v1/reauthenticate", json={"password": PASSWORD}, headers=bearer)
    assert again.status_code == 200


def test_hashes_that_only_the_app_knows_are_replaced_at_login(run) -> None:
    old = hmac.digest(b"salt", PASSWORD.encode(), "sha256").hex()
    ran = run("Checks of your own")
    user, client = ran.add_user(f"sha256$salt${old}"), ran.client()
    assert client.post("/api/v1/login", json=LOGIN | {"password": "wrong horse"}).status_code == 401
    assert client.post("/api/v1/login", json=LOGIN | {"username": "nobody"}).status_code == 401
    assert not user.password_hash.startswith("$argon2")
    for _ in range(2):
        answer = client.post("/api/v1/login", json=LOGIN)
        assert answer.status_code == 200 and user.password_hash.startswith("$argon2")
    bearer = {"Authorization": f"Bearer {answer.json['access_token']}"}
    again = client.post("/api/v1/reauthenticate", json={"password": PASSWORD}, headers=bearer)
    assert again.status_code == 200


def test_a_claims_loader_refuses(run) -> None:
    ran = run("Claims")
    user = ran.add_user()
    client = ran.client()
    tokens = client.login(user.id, delivery="body")
    refreshed = client.post("/api/v1/refresh", json={"refresh_token": tokens.refresh_token})
    assert refreshed.status_code == 200
    with ran.app.app_context():
        assert ran.auth.service.verify(refreshed.json["access_token"]).claims["role"] == "admin"
    user.disabled = True
    refused = client.post("/api/v1/refresh", json={"refresh_token": refreshed.json["refresh_token"]})
    assert (refused.json["code"], refused.json["reason"]) == ("session_ended", "disabled")


def test_guards_ask_for_what_they_say(run) -> None:
    client = run("Protecting").client()
    assert client.get("/api/v1/me").status_code == 401
    assert client.get("/api/v1/greeting").json == {"hello": "stranger"}
    client.login("7", delivery="body")
    assert client.get("/api/v1/me").json["user"] == "7"
    assert client.get("/api/v1/greeting").json == {"hello": "7"}
    assert client.get("/api/v1/notes").json == {"notes": []}
    assert client.delete("/api/v1/account").status_code == 200
    assert client.get("/api/v1/greeting", headers={"Authorization": "Bearer x"}).status_code == 401


def test_what_is_closed_by_default_opens_where_it_says_so(run) -> None:
    client = run("Closed by default").client()
    assert client.get("/about").data == b"open"
    assert client.get("/nowhere").status_code == 404
    assert client.get("/api/v1/closed").status_code == 401
    client.login("7", delivery="body")
    assert client.get("/api/v1/closed").json == {"user": "7"}


@pytest.mark.parametrize("heading, path", [("The user", "/api/v1/name"), ("Async", "/api/v1/later")])
def test_the_user_is_loaded(run, heading: str, path: str) -> None:
    ran = run(heading)
    client = ran.client()
    client.login(ran.add_user().id, delivery="body")
    assert client.get(path).json in ({"name": "ada"}, {"user": "7"})


def test_handlers_answer_for_the_refusals(run) -> None:
    client = run("Errors").client()
    refused = client.get("/api/v1/session")
    assert refused.status_code == 401 and refused.json["code"] == "token_missing"
    assert client.get("/api/v1/session", headers={"Accept": "text/html"}).location == "/login"
    unread = client.post("/api/v1/login", data="no JSON")
    assert unread.status_code == 415 and unread.json == {"error": "unsupported_media_type", "reason": None}


def test_signals_tell_who_logged_in(run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        run("Signals").client().login("7")
    assert "7 is here" in caplog.messages


def test_instances_know_nothing_of_each_others_tokens(run) -> None:
    ran = run(
        "Several apps and instances", JWT_ACCESS_COOKIE_PATH="/api/v1", JWT_REFRESH_COOKIE_PATH="/api/v1/refresh",
        JWT_SECRET_KEY="4f1c6f4fb2c94b6dbd8e1be5a2ae3dd7",
    )
    client = ran.client()
    tokens = client.login("7", delivery="body")
    assert client.get("/staff/api/orders").status_code == 401
    client.login("9", instance="staff", delivery="body")
    assert client.get("/staff/api/orders").json == {"clerk": "9"}
    assert ran.names["create_app"](**CONFIG).test_client().get(
        "/api/v1/session", headers={"Authorization": f"Bearer {tokens.access_token}"}
    ).status_code == 401


def test_forms_log_in_and_out_by_hand(run) -> None:
    ran = run("Views by hand", JWT_ACCESS_COOKIE_PATH="/", JWT_COOKIE_SECURE=False)
    with ran.app.app_context():
        ran.auth.service.create_user("ada", PASSWORD)
    client = ran.client()
    wrong = client.post("/login", data={"name": "ada", "password": "wrong horse battery"})
    assert wrong.location == "/login?wrong"
    assert client.post("/login", data={"name": "ada", "password": PASSWORD}).location == "/"
    assert client.get("/api/v1/session").status_code == 200
    assert client.post("/logout").location == "/"
    assert client.get("/api/v1/session").json["code"] == "token_missing"


def test_the_methods_of_the_service_are_those_of_the_table() -> None:
    table = PAGE.split("\n## Views by hand\n")[1].split("\n## ")[0]
    lines = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    documented = {name for line in lines for name in re.findall(r"`(\w+)\(", line)}
    assert documented == {name for name in vars(flask_doorward.Service) if not name.startswith("_")}


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists() or target == "jwt-extended.md", target
