"""`flask auth`: the operator's commands, in the words of the server's."""

import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from click import ClickException
from click.testing import Result
from flask import Flask

from flask_doorward import Doorward
from flask_doorward.cli import shown

from apps import PASSWORD, bare, login

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
Run = Callable[..., Result]


@pytest.fixture
def app(tmp_path: pathlib.Path) -> Flask:
    app = bare(DOORWARD_STORE=f"sqlite://{tmp_path}/doorward.db")
    Doorward(app)
    return app


@pytest.fixture
def run(app: Flask) -> Run:
    def run(*words: str, text: str = "") -> Result:
        return app.test_cli_runner().invoke(args=["auth", *words], input=text)

    return run


@pytest.fixture
def ada(run: Run) -> str:
    added = run("user", "add", "ada", "--password-stdin", text=PASSWORD + "\n")
    found = re.fullmatch(r"added ada, id ([0-9a-f-]{36})\n", added.output)
    assert found, added.output
    return found[1]


def test_a_user_who_was_added_logs_in(app: Flask, ada: str) -> None:
    assert login(app.test_client()).json["user"] == {"id": ada, "username": "ada"}


def test_a_generated_password_is_shown_and_works(app: Flask, run: Run) -> None:
    output = run("user", "add", "bob", "--generate-password").output
    password = re.match(r"password: ((?:[a-z2-9]{4}-){6}[a-z2-9]{4})\n", output)
    assert password
    assert login(app.test_client(), username="bob", password=password[1]).status_code == 200


def test_users_are_listed(run: Run, ada: str) -> None:
    assert re.fullmatch(rf"ada\t{ada}\tenabled\t{TIME}\n", run("user", "list").output)


def test_a_disabled_user_is_out_until_enabled_again(app: Flask, run: Run, ada: str) -> None:
    client = app.test_client()
    login(client)
    assert run("user", "disable", "ada").output == "ada: done\n"
    assert client.post("/api/v1/refresh").json["reason"] == "disabled"
    assert login(client).status_code == 401
    assert "\tdisabled\t" in run("user", "list").output
    run("user", "enable", "ada")
    assert login(client).status_code == 200


def test_a_new_password_ends_all_sessions(app: Flask, run: Run, ada: str) -> None:
    client = app.test_client()
    login(client)
    run("user", "set-password", "ada", "--password-stdin", text="another horse battery")
    assert client.post("/api/v1/refresh").status_code == 401
    assert login(client, password="another horse battery").status_code == 200


def test_a_user_is_removed(run: Run, ada: str) -> None:
    assert run("user", "remove", "ada").output == "ada: done\n"
    assert run("user", "list").output == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("user", "disable", "eve"), "there is no account named eve"),
        (("user", "add", "ada", "--generate-password"), "there is an account named ada already"),
        (("user", "add", "eve"), "say where the password comes from"),
        (("user", "add", "eve", "--password-stdin"), "the password is too weak"),
        (("session", "end", "x"), "no session id"),
        (("session", "end"), "say which sessions"),
        (("session", "end", "--all", "--user", "ada"), "say which sessions"),
        (("session", "end", "--user", "eve"), "there is no account named eve"),
        (("session", "list", "eve"), "there is no account named eve"),
        (("keys", "retire", "x"), "x is no key id"),
    ],
)
def test_what_cannot_be_done_is_said_in_words(
    run: Run, ada: str, words: tuple[str, ...], said: str
) -> None:
    failed = run(*words, text="short")
    assert failed.exit_code != 0 and said in failed.output and "Traceback" not in failed.output


def test_sessions_are_listed_ended_and_purged(app: Flask, run: Run, ada: str) -> None:
    client = app.test_client()
    session = login(client, device="Ada's telephone").json["session"]["id"]
    line = rf"{session}\t{ada}\t{TIME}\t{TIME}\tAda's telephone\n"
    assert re.fullmatch(line, run("session", "list").output)
    assert re.fullmatch(line, run("session", "list", "ada").output)
    assert run("session", "end", session).output == f"{session}: ended\n"
    assert client.post("/api/v1/refresh").json["reason"] == "ended_by_operator"
    assert run("session", "list").output == ""
    assert run("session", "purge").exit_code == 0


@pytest.mark.parametrize("which", ["user", "id", "everybody"])
def test_all_sessions_of_a_user_or_of_everybody_are_ended(
    app: Flask, run: Run, ada: str, which: str
) -> None:
    clients = [app.test_client() for _ in range(3)]
    run("user", "add", "bob", "--password-stdin", text=PASSWORD)
    for client, username in zip(clients, ("ada", "ada", "bob"), strict=True):
        login(client, username=username)
    words = {"user": ("--user", "ada"), "id": ("--user-id", ada), "everybody": ("--all",)}[which]
    said = {"user": "ada: 2", "id": f"{ada}: 2", "everybody": "everybody: 3"}[which]
    assert run("session", "end", *words).output == f"{said} ended\n"
    for client in clients[:2]:
        assert client.post("/api/v1/refresh").json["reason"] == "ended_by_operator"
    assert clients[2].post("/api/v1/refresh").status_code == (401 if which == "everybody" else 200)
    assert login(clients[0]).status_code == 200


def test_keys_are_listed_rotated_and_retired(app: Flask, run: Run, ada: str) -> None:
    login(app.test_client())
    assert re.search(rf"\taccess\tEdDSA\tlive\tsigns from {TIME}\n", run("keys", "list").output)
    rotated = run("keys", "rotate").output
    made = re.match(r"(\S+): signs ", rotated)
    assert made, rotated
    assert run("keys", "retire", made[1]).output == f"{made[1]}: retired\n"
    assert re.search(rf"{made[1]}\taccess\tEdDSA\tretired\t", run("keys", "list").output)
    assert run("keys", "rotate", "--purpose", "refresh").exit_code == 0


def test_after_a_restore_everyone_logs_in_once(app: Flask, run: Run, ada: str, tmp_path: pathlib.Path) -> None:
    login(app.test_client())
    (tmp_path / "events.jsonl").write_text(run("events", "--format", "json").output)
    replayed = run("store", "restored", "--from-events", str(tmp_path / "events.jsonl"))
    assert replayed.exit_code == 0 and "0 sessions ended again" in replayed.output
    assert len(run("session", "list").output.splitlines()) == 1
    done = run("store", "restored")
    assert done.exit_code == 0 and "every session" in done.output
    assert run("session", "list").output == ""
    (tmp_path / "events.jsonl").write_text("no event\n")
    refused = run("store", "restored", "--from-events", str(tmp_path / "events.jsonl"))
    assert refused.exit_code == 1 and "line 1" in refused.output


def test_a_command_makes_no_database_by_mistake(app: Flask, run: Run, tmp_path: pathlib.Path) -> None:
    failed = run("user", "list")
    assert failed.exit_code == 1 and "there is no database" in failed.output
    assert not (tmp_path / "doorward.db").exists()


def test_a_store_in_memory_has_nothing_to_operate_on() -> None:
    app = bare()
    Doorward(app)
    failed = app.test_cli_runner().invoke(args=["auth", "user", "list"])
    assert "the store is memory" in failed.output


def test_users_of_the_app_are_not_operated_on(tmp_path: pathlib.Path) -> None:
    app = bare(DOORWARD_STORE=f"sqlite://{tmp_path}/doorward.db")
    auth = Doorward(app)
    auth.find_user(lambda name: None)
    with app.app_context():
        auth.service.login("7")
    run = app.test_cli_runner().invoke
    assert "users are the app's own" in run(args=["auth", "user", "list"]).output
    assert "\t7\t" in run(args=["auth", "session", "list", "7"]).output


def test_the_group_is_named_after_the_instance(tmp_path: pathlib.Path) -> None:
    app = bare(DOORWARD_STORE=f"sqlite://{tmp_path}/doorward.db")
    Doorward(app, name="admin")
    run = app.test_cli_runner().invoke
    added = run(args=["admin", "user", "add", "ada", "--password-stdin"], input=PASSWORD)
    assert added.exit_code == 0


def test_what_is_shown_neither_hides_nor_acts() -> None:
    assert shown("O'Brien Zo\u00eb \u674e") == "O'Brien Zo\u00eb \u674e"
    for odd in ("\u202e", "\u200b", "\x1b", "\n", "\t", "\ufeff", "\\"):
        assert odd not in shown(f"a{odd}b").replace("\\", "", 1) or odd == "\\"


def test_a_closed_standard_input_has_no_password(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ClickException, match="standard input is closed"), app.app_context():
        app.cli.main(["auth", "user", "add", "eve", "--password-stdin"], standalone_mode=False)


def test_a_password_that_nobody_can_see_is_not_made(tmp_path: pathlib.Path) -> None:
    app = f"from flask import Flask\nfrom flask_doorward import Doorward\napp = Flask(__name__, instance_path={str(tmp_path)!r})\nDoorward(app)\n"
    (tmp_path / "app.py").write_text(app)
    flask = [sys.executable, "-m", "flask", "--app", "app", "auth", "user"]
    with open("/dev/full", "w") as full:
        added = subprocess.run(
            [*flask, "add", "ada", "--generate-password"], cwd=tmp_path, stdout=full,
            stderr=subprocess.PIPE, text=True, check=False,
        )
    assert added.returncode != 0 and "nothing was changed" in added.stderr
    listed = subprocess.run([*flask, "list"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert listed.stdout == ""
