"""What the commands do, what they leave alone, and how they fail."""

import contextlib
import hashlib
import os
import pathlib
import re
import sqlite3
import subprocess
import time

import httpx
import pytest

from conftest import BINARY, CHEAP, ENVIRONMENT, PASSWORD, Server, add_user, bearer, command

LOOKS = [["user", "list"], ["session", "list"], ["session", "list", "ada"], ["keys", "list"], ["check-config"]]
#: Lifetimes much shorter than the server's.
SHORT = ["--access-ttl", "1s", "--refresh-ttl", "2s", "--session-ttl", "2s", "--fresh-ttl", "2s", "--refresh-window", "0",
         "--clock-skew", "0"]


def to(output: str, directory: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command with its output into a file, or with none (`>&-`)."""
    shell = f'exec "$@" {output}'
    return subprocess.run(["sh", "-c", shell, "sh", BINARY, *arguments, *CHEAP], cwd=directory, env=ENVIRONMENT,
                          stderr=subprocess.PIPE, text=True, timeout=60)


def rows(directory: pathlib.Path, table: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(directory / "doorward.db")) as db:
        return db.execute(f"SELECT * FROM {table}").fetchall()


@pytest.mark.parametrize("output", [">/dev/full", ">&-", ">/dev/null"])
def test_nothing_is_done_with_a_password_that_nobody_saw(tmp_path: pathlib.Path, output: str) -> None:
    add_user(tmp_path)
    before = rows(tmp_path, "accounts")
    for arguments in (["user", "add", "eve"], ["user", "set-password", "ada"]):
        failed = to(output, tmp_path, *arguments, "--generate-password")
        assert failed.returncode == 1 and "nothing was changed" in failed.stderr
        assert rows(tmp_path, "accounts") == before


def test_a_generated_password_logs_in(server: Server) -> None:
    made = command(server.directory, "user", "add", "eve", "--generate-password")
    password = next(line for line in made.stdout.splitlines() if line.startswith("password: "))
    assert made.returncode == 0 and "added eve" in made.stdout
    assert re.fullmatch("password: (?:[a-z2-9]{4}-){6}[a-z2-9]{4}", password)
    assert server.login(username="eve", password=password.removeprefix("password: ")).status_code == 200
    again = command(server.directory, "user", "add", "eve", "--generate-password")
    assert again.returncode == 1 and "already" in again.stderr and "password" not in again.stdout


def test_output_that_cannot_be_written_is_a_failure(tmp_path: pathlib.Path) -> None:
    add_user(tmp_path)
    listed = to(">/dev/full", tmp_path, "user", "list")
    assert listed.returncode == 1 and "standard output" in listed.stderr and "panic" not in listed.stderr
    done = to(">/dev/full", tmp_path, "user", "disable", "ada")
    assert done.returncode == 1 and "ada: done, but" in done.stderr


def test_a_closed_pipe_ends_quietly(tmp_path: pathlib.Path) -> None:
    add_user(tmp_path)
    read_end, write_end = os.pipe()
    os.close(read_end)
    listed = subprocess.run([BINARY, "user", "list"], cwd=tmp_path, env=ENVIRONMENT, stdout=write_end,
                            stderr=subprocess.PIPE)
    os.close(write_end)
    assert (listed.returncode, listed.stderr) == (0, b"")


@pytest.mark.parametrize("arguments", LOOKS)
def test_a_look_makes_no_database(tmp_path: pathlib.Path, arguments: list[str]) -> None:
    looked = command(tmp_path, *arguments)
    assert "there is no database" in looked.stdout + looked.stderr
    assert looked.returncode == (0 if arguments == ["check-config"] else 1)
    assert list(tmp_path.iterdir()) == []


def test_commands_make_no_keys(tmp_path: pathlib.Path) -> None:
    add_user(tmp_path)
    for arguments in LOOKS:
        looked = command(tmp_path, *arguments, "--algorithm", "ES256")
        assert looked.returncode == 0, looked.stderr
    assert command(tmp_path, "user", "disable", "ada").returncode == 0
    assert rows(tmp_path, "keys") == []


def test_a_command_with_other_lifetimes_forgets_nothing(server: Server) -> None:
    granted, out = server.login().json(), server.login().json()
    assert httpx.post(f"{server.url}/logout", json={"refresh_token": out["refresh_token"]}).status_code == 204
    server.stop()
    with contextlib.closing(sqlite3.connect(server.directory / "doorward.db")) as db:
        # Longer ago than the command's lifetimes, not than the server's.
        assert db.execute("UPDATE ended SET at = at - 60000").rowcount == 1
        db.commit()
    before = [rows(server.directory, table) for table in ("sessions", "keys", "ended")]
    for arguments in LOOKS:
        looked = command(server.directory, *arguments, *SHORT)
        assert looked.returncode == 0, looked.stderr
    assert [rows(server.directory, table) for table in ("sessions", "keys", "ended")] == before
    server.start()
    assert server.session(out["access_token"]).json()["code"] == "session_ended"
    ended = command(server.directory, "session", "end", granted["session"]["id"], *SHORT)
    assert ended.returncode == 0, ended.stderr
    assert server.session(granted["access_token"]).json()["code"] == "session_ended"


def test_all_sessions_of_a_user_or_of_everybody_are_ended_at_once(server: Server) -> None:
    add_user(server.directory, "bob")

    def opened() -> list[dict]:
        return [server.login(username=name).json() for name in ("ada", "ada", "bob")]

    for words, said, left in ((["--user", "ada"], "ada: 2 ended", 1), (["--all"], "everybody: 4 ended", 0)):
        granted = opened()
        ended = command(server.directory, "session", "end", *words)
        assert (ended.returncode, ended.stdout.strip()) == (0, said), ended.stderr
        statuses = [server.session(one["access_token"]).status_code for one in granted]
        assert statuses == [401, 401, 200 if left else 401]
        assert server.refresh(granted[0]["refresh_token"]).json()["reason"] == "ended_by_operator"
    one = opened()[0]
    ended = command(server.directory, "session", "end", "--user-id", one["user"]["id"])
    assert ended.stdout == f"{one['user']['id']}: 2 ended\n"
    for words in ([], ["--all", "--user", "ada"], ["--user", "eve"], ["--user-id", ""]):
        assert command(server.directory, "session", "end", *words).returncode != 0, words


def test_the_successor_of_a_retired_key_has_its_algorithm(start) -> None:
    server: Server = start("--algorithm", "ES256")
    keys = command(server.directory, "keys", "list").stdout.splitlines()
    access = [line.split("\t") for line in keys if "\taccess\t" in line]
    assert [key[2] for key in access] == ["ES256"]
    assert command(server.directory, "keys", "retire", access[0][0]).returncode == 0
    keys = command(server.directory, "keys", "list").stdout.splitlines()
    live = [line.split("\t")[2] for line in keys if "\taccess\t" in line and "\tlive\t" in line]
    assert live == ["ES256"]


def test_expired_sessions_are_not_listed(server: Server) -> None:
    kept = server.login(remember=True).json()["session"]["id"]
    shown = command(server.directory, "session", "list")
    assert [line.split("\t")[0] for line in shown.stdout.splitlines()] == [kept]
    for arguments in (["session", "list"], ["session", "list", "ada"]):
        for _ in range(100):
            shown = command(server.directory, *arguments, *SHORT)
            if not shown.stdout:
                break
            time.sleep(0.05)
        assert (shown.returncode, shown.stdout) == (0, "")


def test_names_cannot_act_on_the_terminal(server: Server) -> None:
    odd = "eve\u202e\u200bmoc"
    added = command(server.directory, "user", "add", odd, "--password-stdin", text=PASSWORD + "\n")
    if added.returncode == 0:
        listed = command(server.directory, "user", "list").stdout
        assert "\\u{202e}\\u{200b}" in listed and "\u202e" not in listed and "\u200b" not in listed
    assert "\u202e" not in added.stdout + added.stderr
    server.login(device="lap\u202etop")
    assert "\u202e" not in command(server.directory, "session", "list").stdout


def test_a_name_that_is_too_long_is_refused_for_its_length(tmp_path: pathlib.Path) -> None:
    refused = command(tmp_path, "user", "add", "a" * 129, "--password-stdin", text=PASSWORD)
    assert refused.returncode == 1 and "128 characters" in refused.stderr


@pytest.mark.parametrize(("flags", "password", "reason"), [
    ([], "correct horse", "too short"),
    ([], "Password!2024-12", "most common passwords"),
    ([], "qwertyuiop[]asdf", "rows of keys"),
    (["--service-name", "Polar Bank"], "PolarBankPolarBank", "name of this service"),
    (["--password-min-length", "20"], "a wholly new sentence"[:19], "too short"),
])
def test_a_new_password_that_is_guessed_first_is_refused_with_the_reason(
    server: Server, flags: list[str], password: str, reason: str
) -> None:
    for verb, name in (("add", "eve"), ("set-password", "ada")):
        refused = command(server.directory, "user", verb, name, "--password-stdin", *flags, text=password)
        assert refused.returncode == 1 and "the password is too weak: " in refused.stderr
        assert reason in refused.stderr
    assert server.login().status_code == 200


def test_no_new_password_passes_while_the_breached_ones_cannot_be_read(tmp_path: pathlib.Path, start) -> None:
    ranges = tmp_path / "ranges"
    ranges.mkdir()
    new, known = "a wholly new sentence", "correct horse battery staple"
    for text in (new, known):
        (ranges / hashlib.sha1(text.encode()).hexdigest()[:5].upper()).write_text(f"{'0' * 35}:0\r\n")
    for end in ("00000", "FFFFF"):
        (ranges / end).write_text(f"{'0' * 35}:0\r\n")
    digest = hashlib.sha1(known.encode()).hexdigest().upper()
    (ranges / digest[:5]).write_text(f"{digest[5:]}:384\r\n{'F' * 35}:1")
    server = start("--breached-passwords-file", str(ranges))

    def change(password: str) -> httpx.Response:
        token = server.login().json()["access_token"]
        body = {"current": PASSWORD, "new": password}
        return httpx.post(f"{server.url}/password", json=body, headers=bearer(token))

    breached = change(known)
    assert breached.status_code == 422 and "data breach" in breached.json()["detail"]
    ranges.rename(tmp_path / "elsewhere")
    unchecked = change(new)
    assert (unchecked.status_code, unchecked.json()["code"]) == (503, "store_unavailable")
    refused = command(tmp_path, "check-config", "--breached-passwords-file", str(ranges))
    assert refused.returncode == 1 and "breached_passwords_file: " in refused.stderr
    (tmp_path / "elsewhere").rename(ranges)
    assert change(new).status_code == 200


@pytest.mark.parametrize(("kind", "word"), [
    ("directory", "name a file in it"), ("fifo", "no regular file"), ("nowhere", "no such directory"),
])
def test_what_is_no_database_file_is_refused_with_a_remedy(tmp_path: pathlib.Path, kind: str, word: str) -> None:
    place = tmp_path / "place"
    if kind == "directory":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place = place / "doorward.db"
    for arguments in (["check-config"], ["user", "list"], ["serve", "--listen", "127.0.0.1:0", "--operator-listen", "off"]):
        refused = command(tmp_path, *arguments, "--store", f"sqlite://{place}")
        assert refused.returncode == 1 and word in refused.stderr, refused.stderr


def test_a_file_of_others_is_refused_with_a_remedy(tmp_path: pathlib.Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    add_user(tmp_path)
    (tmp_path / "doorward.db").chmod(0)
    refused = command(tmp_path, "user", "list")
    assert refused.returncode == 1 and "the user that the file belongs to" in refused.stderr


def test_an_empty_name_of_the_settings_file_is_none(tmp_path: pathlib.Path) -> None:
    checked = subprocess.run([BINARY, "check-config"], cwd=tmp_path, env={**ENVIRONMENT, "DOORWARD_CONFIG": ""},
                             capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    flagged = command(tmp_path, "check-config", "--config", "")
    assert flagged.returncode == 1
