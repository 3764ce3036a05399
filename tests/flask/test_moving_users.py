"""Moving in: `flask auth user import`, which is the server's."""

import json
import pathlib
import subprocess
import sys

import pytest
from flask import Flask
from werkzeug.security import generate_password_hash

from flask_doorward import Doorward

from apps import PASSWORD, bare, login

APP = """
from flask import Flask
from flask_doorward import Doorward
app = Flask(__name__)
app.config["DOORWARD_STORE"] = "sqlite://{directory}/doorward.db"
Doorward(app)
"""


@pytest.fixture
def app(tmp_path: pathlib.Path) -> Flask:
    app = bare(DOORWARD_STORE=f"sqlite://{tmp_path}/doorward.db")
    Doorward(app)
    return app


def lines() -> str:
    ada = {"username": "ada", "password_hash": generate_password_hash(PASSWORD, "scrypt:1024:8:1")}
    return "\n".join(json.dumps(line) for line in (ada, {"username": "bob", "password_hash": "secret"}))


def test_users_of_an_old_app_log_in(app: Flask, tmp_path: pathlib.Path) -> None:
    (tmp_path / "users.jsonl").write_text(lines())
    run = app.test_cli_runner().invoke
    done = run(args=["auth", "user", "import", f"{tmp_path}/users.jsonl"])
    assert (done.exit_code, done.stdout) == (3, "added 1, there already 0, skipped 0, refused 1\n")
    assert done.stderr.startswith("line 2 (bob): the hash is refused: ") and "secret" not in done.output
    assert login(app.test_client()).status_code == 200
    again = run(args=["auth", "user", "import", f"{tmp_path}/users.jsonl", "--on-conflict", "skip",
                      "--report", f"{tmp_path}/refused.jsonl"])
    # The login has renewed the hash.
    assert (again.exit_code, again.stdout) == (3, "added 0, there already 0, skipped 1, refused 1\n")
    report = json.loads((tmp_path / "refused.jsonl").read_text())
    assert (report["line"], report["username"], report["code"]) == (2, "bob", "hash_refused")


def test_a_dry_run_changes_nothing(app: Flask, tmp_path: pathlib.Path) -> None:
    with app.app_context():
        app.extensions["doorward"]["auth"].door.unready()
    (tmp_path / "users.jsonl").write_text(lines())
    done = app.test_cli_runner().invoke(args=["auth", "user", "import", f"{tmp_path}/users.jsonl", "--dry-run"])
    assert done.exit_code == 3 and "dry run, nothing was changed: added 1," in done.stdout
    assert login(app.test_client()).status_code == 401


@pytest.mark.parametrize("arguments", [["none.csv"], ["users.txt"], ["-"]])
def test_what_cannot_be_read_is_said(app: Flask, arguments: list[str]) -> None:
    done = app.test_cli_runner().invoke(args=["auth", "user", "import", *arguments])
    assert done.exit_code in (1, 2) and "Error: " in done.output and "Traceback" not in done.output


def test_standard_input_is_read(tmp_path: pathlib.Path) -> None:
    (tmp_path / "app.py").write_text(APP.format(directory=tmp_path))
    words = [sys.executable, "-m", "flask", "auth", "user", "import", "-", "--format", "jsonl"]
    done = subprocess.run(words, cwd=tmp_path, input=lines(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "added 1, there already 0, skipped 0, refused 1\n"), done.stderr
