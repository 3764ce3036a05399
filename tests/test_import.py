"""Moving in: `doorward user import` on the real binary."""

import base64
import contextlib
import hashlib
import json
import pathlib
import signal
import sqlite3
import subprocess
import time
import uuid

import pytest
from werkzeug.security import generate_password_hash

from conftest import BINARY, CHEAP, ENVIRONMENT, PASSWORD, Server, command

HASH = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
#: Written by bcrypt and argon2-cffi, of PASSWORD.
BCRYPT = "$2b$04$HKKe0zCKFG7LH7s6Oluxs.9tkY0KIhJsJjILPr9MgD0PHmaPJU1J."
ARGON2 = "$argon2id$v=19$m=64,t=2,p=2$M0boHaOUUgrBWKuVkpJSyg$qlzvipU2v+gQrcPGuDwfCy1je58PS57J8JjrWctTkJo"


def django(password: str) -> str:
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), b"saltsalt", 1000)
    return f"pbkdf2_sha256$1000$saltsalt${base64.b64encode(digest).decode()}"


def accounts(directory: pathlib.Path) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(directory / "doorward.db")) as db:
        return db.execute("SELECT id, username, password_hash, disabled FROM accounts").fetchall()


def write_many(path: pathlib.Path, count: int) -> None:
    lines = (f"{uuid.uuid5(uuid.NAMESPACE_OID, str(i))},user{i},{HASH}\n" for i in range(count))
    path.write_text("id,username,password_hash\n" + "".join(lines))


def test_imported_users_log_in_and_their_hashes_are_renewed(start) -> None:
    server: Server = start()
    hashes = {
        "werkzeug": generate_password_hash(PASSWORD, "scrypt:1024:8:1"),
        "werkzeug2": generate_password_hash(PASSWORD, "pbkdf2:sha256:1000"),
        "django": django(PASSWORD),
        "bcrypt": BCRYPT,
        "argon2": ARGON2,
    }
    lines = [json.dumps({"username": name, "password_hash": value}) for name, value in hashes.items()]
    lines.append(json.dumps({"username": "gone", "password_hash": BCRYPT, "is_active": False}))
    done = command(server.directory, "user", "import", "-", "--format", "jsonl", text="\n".join(lines))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "added 6, there already 0, skipped 0, refused 0\n" and done.stderr == ""
    for name in hashes:
        assert server.login(username=name).status_code == 200, name
        assert server.login(username=name, password=PASSWORD + "!").status_code == 401
    assert server.login(username="gone").status_code == 401
    kept = {row[1]: row[2] for row in accounts(server.directory)}
    assert all(kept[name].startswith("$argon2id$v=19$m=8,t=1,p=1$") for name in hashes)


def test_what_is_refused_is_reported_by_line_and_the_rest_is_taken(tmp_path: pathlib.Path) -> None:
    text = f"username,password_hash\r\nada,{HASH}\r\nbob,secret\r\nada,{HASH[:-1]}e\r\n\u202e,{HASH}\r\n"
    (tmp_path / "users.csv").write_text(text, encoding="utf-8-sig", newline="")
    (tmp_path / "refused.jsonl").write_text("of an earlier run")
    (tmp_path / "refused.jsonl").chmod(0o644)
    done = command(tmp_path, "user", "import", "users.csv", "--report", "refused.jsonl")
    assert (done.returncode, done.stdout) == (3, "added 1, there already 0, skipped 0, refused 3\n")
    assert done.stderr == "doorward: 3 refused\n"
    report = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    told = [(line["line"], line.get("username"), line["code"]) for line in report]
    assert told == [(3, "bob", "hash_refused"), (4, "ada", "username_taken"), (5, None, "username_invalid")]
    assert (tmp_path / "refused.jsonl").stat().st_mode & 0o777 == 0o600
    again = command(tmp_path, "user", "import", "users.csv", "--on-conflict", "skip")
    assert (again.returncode, again.stdout) == (3, "added 0, there already 1, skipped 1, refused 2\n")
    for shown in (again.stderr, str(report)):
        assert "secret" not in shown and HASH not in shown and "\u202e" not in shown


def test_a_dry_run_changes_nothing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "users.csv").write_text(f"username,password_hash\nada,{HASH}\nAda,{HASH[:-1]}e\n")
    done = command(tmp_path, "user", "import", "users.csv", "--dry-run")
    assert done.returncode == 3 and "username_taken" in done.stderr
    assert done.stdout == "dry run, nothing was changed: added 1, there already 0, skipped 0, refused 1\n"
    assert not (tmp_path / "doorward.db").exists()


def test_passwords_are_hashed_where_that_is_asked_for(start) -> None:
    server: Server = start()
    (server.directory / "users.csv").write_text(f"username,password\nbob,{PASSWORD}\n")
    refused = command(server.directory, "user", "import", "users.csv")
    assert refused.returncode == 1 and "--passwords" in refused.stderr and PASSWORD not in refused.stderr
    for added, there in ((1, 0), (0, 1)):
        done = command(server.directory, "user", "import", "users.csv", "--passwords")
        assert done.stdout == f"added {added}, there already {there}, skipped 0, refused 0\n"
    assert server.login(username="bob").status_code == 200


@pytest.mark.parametrize("arguments", [["none.csv"], ["users.txt"], ["."], ["empty.csv"], ["users.csv", "--format", "xml"]])
def test_what_cannot_be_read_is_said(tmp_path: pathlib.Path, arguments: list[str]) -> None:
    (tmp_path / "empty.csv").touch()
    done = command(tmp_path, "user", "import", *arguments)
    assert done.returncode in (1, 2) and done.stderr and "panic" not in done.stderr


def test_a_hundred_thousand_users_take_seconds(tmp_path: pathlib.Path) -> None:
    write_many(tmp_path / "users.csv", 100_000)
    begin = time.monotonic()
    done = command(tmp_path, "user", "import", "users.csv")
    # Of a debug build, on a busy machine.
    assert done.returncode == 0 and time.monotonic() - begin < 45, done.stderr
    assert len(accounts(tmp_path)) == 100_000


def test_whoever_runs_it_again_after_a_kill_gets_the_outcome_of_one_run(tmp_path: pathlib.Path) -> None:
    write_many(tmp_path / "users.csv", 20_000)
    kills = 0
    while kills < 50:
        process = subprocess.Popen([BINARY, "user", "import", "users.csv", *CHEAP], cwd=tmp_path, env=ENVIRONMENT,
                                   stdout=subprocess.DEVNULL)
        before = count(tmp_path)
        while process.poll() is None and count(tmp_path) < before + 3_000:
            time.sleep(0.002)
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        # Whole batches, or nothing of them.
        assert count(tmp_path) % 500 == 0
        kills += 1
    assert kills >= 2 and count(tmp_path) == 20_000
    once = tmp_path / "once"
    once.mkdir()
    assert command(once, "user", "import", "../users.csv").returncode == 0
    assert sorted(accounts(once)) == sorted(accounts(tmp_path))


def count(directory: pathlib.Path) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{directory}/doorward.db?mode=ro", uri=True)) as db:
            return db.execute("SELECT count(*) FROM accounts").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
