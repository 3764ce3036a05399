"""A backup is restored: what ended since is over again, whichever way, and everyone logs in once."""

import json
import pathlib
import shutil
import sqlite3
from contextlib import closing

import pytest

from conftest import PASSWORD, Server, add_user, bearer, command

NEW = "another horse, another battery"


def back_up(directory: pathlib.Path) -> None:
    """And closes the file: who has it open still when it is restored writes what came since into it as he closes it."""
    with closing(sqlite3.connect(directory / "doorward.db")) as source:
        with closing(sqlite3.connect(directory / "backup.db")) as copy:
            source.backup(copy)


def restore(directory: pathlib.Path) -> None:
    for suffix in ["-wal", "-shm", "-ring"]:
        (directory / f"doorward.db{suffix}").unlink(missing_ok=True)
    shutil.copy(directory / "backup.db", directory / "doorward.db")


class Past:
    """Sessions and what became of them, before and after the backup."""

    def __init__(self, server: Server) -> None:
        self.server, self.directory = server, server.directory
        for name in ["eve", "bob"]:
            add_user(self.directory, name)
        self.kept, self.logged_out, self.changed = self.log_in("ada"), self.log_in("ada"), self.log_in("eve")
        back_up(self.directory)
        self.later, self.later_out = self.log_in("bob"), self.log_in("bob")
        for tokens in [self.logged_out, self.later_out]:
            self.log_out(tokens)
        body = {"current": PASSWORD, "new": NEW}
        changed = self.post("password", self.changed, body)
        assert changed.status_code == 200, changed.text
        self.by_new_password = changed.json()
        self.exported = command(self.directory, "events", "--format", "json", "--limit", "100000").stdout
        server.stop()

    def log_in(self, name: str) -> dict[str, str]:
        answer = self.server.login(username=name)
        assert answer.status_code == 200, self.server.logged()
        return answer.json()

    def log_out(self, tokens: dict[str, str]) -> None:
        body = {"refresh_token": tokens["refresh_token"]}
        assert self.post("logout", tokens, body).status_code == 204

    def post(self, path: str, tokens: dict[str, str], body: dict[str, str]):
        import httpx

        return httpx.post(f"{self.server.url}/{path}", json=body, headers=bearer(tokens["access_token"]))

    def works(self, tokens: dict[str, str]) -> tuple[int, int]:
        verified = self.server.session(tokens["access_token"]).status_code
        return verified, self.server.refresh(tokens["refresh_token"]).status_code


@pytest.fixture
def past(server: Server) -> Past:
    return Past(server)


def test_after_a_restore_everyone_logs_in_once(past: Past) -> None:
    restore(past.directory)
    done = command(past.directory, "store", "restored")
    assert done.returncode == 0, done.stderr
    assert "every session" in done.stdout and "keys retired" in done.stdout
    for server in [past.server.start(), Server(past.directory).start()]:
        past.server = server
        for tokens in [past.kept, past.logged_out, past.changed, past.later, past.later_out, past.by_new_password]:
            assert past.works(tokens) == (401, 401)
        for name in ["ada", "eve", "bob"]:
            tokens = past.log_in(name)
            assert past.works(tokens) == (200, 200)
    listed = command(past.directory, "session", "list").stdout.splitlines()
    assert len(listed) == 6
    for server in [past.server]:
        server.stop()


def test_a_running_node_refuses_old_sessions_within_a_poll(server: Server) -> None:
    import time

    before = server.login().json()
    assert server.session(before["access_token"]).status_code == 200
    assert command(server.directory, "store", "restored").returncode == 0
    deadline = time.monotonic() + 3
    while server.session(before["access_token"]).status_code == 200:
        assert time.monotonic() < deadline
    told = server.refresh(before["refresh_token"])
    assert told.status_code == 401
    after = server.login().json()
    assert server.session(after["access_token"]).status_code == 200
    assert server.refresh(after["refresh_token"]).status_code == 200


def test_what_an_export_tells_of_ends_again_and_nothing_else(past: Past) -> None:
    restore(past.directory)
    (past.directory / "events.jsonl").write_text(past.exported)
    replay = ["store", "restored", "--from-events", "events.jsonl"]
    done = command(past.directory, *replay)
    assert done.returncode == 0, done.stderr
    assert "3 sessions ended again" in done.stdout and "eve: has the password of the backup" in done.stdout
    again = command(past.directory, *replay)
    assert "0 sessions ended again" in again.stdout
    past.server.start()
    assert past.works(past.kept) == (200, 200)
    for tokens in [past.logged_out, past.changed, past.later_out]:
        assert past.works(tokens) == (401, 401)


def test_a_file_that_is_no_export_changes_nothing(past: Past) -> None:
    (past.directory / "events.jsonl").write_text(past.exported + "not an event\n")
    refused = command(past.directory, "store", "restored", "--from-events", "events.jsonl")
    line = len(past.exported.splitlines()) + 1
    assert refused.returncode == 1 and f"events.jsonl:{line}:" in refused.stderr
    (past.directory / "events.jsonl").write_text("\n")
    empty = command(past.directory, "store", "restored", "--from-events", "events.jsonl")
    assert empty.returncode == 1 and "holds no events" in empty.stderr
    events = command(past.directory, "events", "--format", "json", "--limit", "100000").stdout.splitlines()
    assert "store_restored" not in [json.loads(line)["event"] for line in events]
