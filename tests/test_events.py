"""The log of events: each is produced and read back, and nothing secret is in it."""

import contextlib
import json
import pathlib
import secrets
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from conftest import BINARY, ENVIRONMENT, PASSWORD, Server, bearer, command


def records(directory: pathlib.Path, *arguments: str) -> list[dict[str, Any]]:
    shown = command(directory, "events", "--format", "json", "--limit", "10000", *arguments)
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


def names(directory: pathlib.Path, *arguments: str) -> list[str]:
    return [record["event"] for record in records(directory, *arguments)]


def metrics(server: Server) -> dict[str, float]:
    lines = httpx.get(f"{server.operator_url}/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def delete(server: Server, path: str, token: str) -> httpx.Response:
    return httpx.delete(f"{server.url}{path}", headers=bearer(token))


def soon(holds: Any) -> None:
    for _ in range(500):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come about")


def test_a_session_is_told_of_from_login_to_logout(server: Server) -> None:
    assert server.login(password="wrong wrong wrong wrong").status_code == 401
    assert server.login(username="nobody").status_code == 401
    opened = server.login(device="laptop").json()
    session, token = opened["session"]["id"], opened["access_token"]
    confirmed = httpx.post(f"{server.url}/reauthenticate", headers=bearer(token), json={"password": PASSWORD})
    assert confirmed.status_code == 200
    wrong = httpx.post(f"{server.url}/reauthenticate", headers=bearer(token), json={"password": "wrong"})
    assert wrong.status_code == 403
    assert httpx.post(f"{server.url}/logout", headers=bearer(token)).status_code == 204
    assert server.refresh(opened["refresh_token"]).json()["reason"] == "logout"
    soon(lambda: "refresh_refused" in names(server.directory))
    told = [(record["event"], record["reason"], record["session"]) for record in records(server.directory)]
    assert told == [
        ("account_added", None, None),
        ("login_failed", "wrong_password", None),
        ("login_failed", "unknown_user", None),
        ("logged_in", None, session),
        ("reauthenticated", None, session),
        ("login_failed", "wrong_password", session),
        ("session_ended", "logout", session),
        ("refresh_refused", "logout", session),
    ]
    added, _, unknown, login, *_ = records(server.directory)
    assert (added["actor"], added["network"], unknown["user"]) == ("operator", None, None)
    assert login["user"] == opened["user"]["id"] == added["user"]
    assert (login["network"], login["device"], login["actor"]) == ("127.0.0.0/24", "laptop", "user")
    assert login["agent"].startswith("python-httpx")
    counted = metrics(server)
    assert counted['doorward_events_total{event="login_failed"}'] == 3
    assert counted['doorward_sessions_ended_total{reason="logout"}'] == 1


def test_what_operators_do_is_told_of(server: Server) -> None:
    session = server.login().json()["session"]["id"]
    server.login()
    run = lambda *words, text="": command(server.directory, *words, text=text)  # noqa: E731
    assert run("session", "end", session).returncode == 0
    key = run("keys", "rotate").stdout.split(":")[0]
    for words in (["disable"], ["enable"], ["set-password", "--password-stdin"], ["remove"]):
        assert run("user", words[0], "ada", *words[1:], text=PASSWORD + "x\n").returncode == 0
    assert run("keys", "retire", key).returncode == 0
    told = records(server.directory, "--since", "1h")
    assert [(record["event"], record["reason"]) for record in told if record["actor"] == "operator"] == [
        ("account_added", None), ("session_ended", "ended_by_operator"), ("key_rotated", "access"),
        ("account_disabled", None), ("session_ended", "disabled"), ("account_enabled", None), ("password_set", None),
        ("account_removed", None), ("key_retired", None),
    ]  # fmt: skip
    assert {record["detail"] for record in told} == {None, key}


def test_why_a_session_ended_has_an_answer_in_words(server: Server) -> None:
    first, second = server.login().json(), server.login().json()
    why = lambda session: command(server.directory, "session", "why", session["session"]["id"]).stdout  # noqa: E731
    assert "it is live: last used at" in why(first)
    assert delete(server, "/sessions?except=current", second["access_token"]).json() == {"ended": 1}
    *chain, words = why(first).splitlines()
    assert [line.split()[1] for line in chain] == ["logged_in", "session_ended"]
    assert "(ended_by_user): the user ended it" in words
    assert "count=" not in chain[1] and names(server.directory, "--event", "sessions_ended") == ["sessions_ended"]
    stranger = command(server.directory, "session", "why", "01890a5d-ac96-774b-bcce-b302099a8057")
    assert "nothing is known of it" in stranger.stdout


def test_a_token_of_two_holders_is_an_alarm(start) -> None:
    server = start("--refresh-window", "0")
    first = server.login().json()
    second = server.refresh(first["refresh_token"]).json()
    server.refresh(second["refresh_token"])
    assert server.refresh(first["refresh_token"]).json()["code"] == "refresh_reused"
    [alarm] = records(server.directory, "--event", "reuse_detected")
    assert (alarm["outcome"], alarm["reason"], alarm["session"]) == ("alarm", "reuse", first["session"]["id"])
    words = command(server.directory, "session", "why", first["session"]["id"]).stdout.splitlines()[-1]
    assert "(reuse)" in words and "two holders" in words
    assert metrics(server)['doorward_sessions_ended_total{reason="reuse"}'] == 1


def test_a_session_that_ran_out_is_told_of_once(start) -> None:
    lifetimes = ["--access-ttl", "1s", "--fresh-ttl", "1s", "--refresh-window", "0", "--clock-skew", "0"]
    idle = start(*lifetimes, "--refresh-ttl", "2s")
    opened = idle.login().json()
    time.sleep(2.1)
    assert idle.refresh(opened["refresh_token"]).json()["reason"] == "idle"
    assert idle.refresh(opened["refresh_token"]).json()["reason"] == "idle"
    session = ("--session", opened["session"]["id"])
    ends = records(idle.directory, *session, "--event", "session_ended")
    assert [(end["reason"], end["actor"]) for end in ends] == [("idle", "system")]
    absolute = start(*lifetimes, "--session-ttl", "2s", "--refresh-ttl", "2s")
    opened = absolute.login().json()
    time.sleep(2.1)
    assert absolute.refresh(opened["refresh_token"]).json()["reason"] == "absolute"
    [end] = records(absolute.directory, "--session", opened["session"]["id"], "--event", "session_ended")
    assert end["reason"] == "absolute"


@pytest.mark.parametrize("end", ["logout", "all"])
def test_an_end_that_was_answered_has_its_record_after_a_kill(server: Server, end: str) -> None:
    opened = server.login().json()
    if end == "logout":
        assert httpx.post(f"{server.url}/logout", headers=bearer(opened["access_token"])).status_code == 204
    else:
        assert delete(server, "/sessions", opened["access_token"]).status_code == 200
    server.stop(signal.SIGKILL)
    ended = records(server.directory, "--event", "session_ended")
    assert [record["session"] for record in ended] == [opened["session"]["id"]]


def test_a_refresh_is_on_disk_a_second_later_and_when_the_server_stops(start) -> None:
    server = start("--event-refreshes", "0")
    opened = server.login().json()
    opened = server.refresh(opened["refresh_token"]).json()
    soon(lambda: names(server.directory, "--event", "refreshed"))
    server.refresh(opened["refresh_token"])
    server.stop()
    assert sum(record["count"] for record in records(server.directory, "--event", "refreshed")) == 2


@contextlib.contextmanager
def following(directory: pathlib.Path, *arguments: str) -> Iterator[Any]:
    process = subprocess.Popen(
        [BINARY, "events", "--follow", "--format", "json", *arguments], cwd=directory, env=ENVIRONMENT,
        stdout=subprocess.PIPE, text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def test_whoever_follows_sees_what_happens(server: Server) -> None:
    with following(server.directory, "--limit", "1") as lines:
        assert json.loads(lines.readline())["event"] == "account_added"
        session = server.login().json()["session"]["id"]
        assert json.loads(lines.readline())["session"] == session


def test_nothing_secret_is_in_the_database(start) -> None:
    server = start("--event-refreshes", "0")
    secret = "a passphrase that was typed in the wrong field"
    assert server.login(username=secret).status_code == 401
    assert server.login(username="ada", password=secret).status_code == 401
    opened = server.login().json()
    refreshed = server.refresh(opened["refresh_token"]).json()
    soon(lambda: names(server.directory, "--event", "refreshed"))
    server.stop(signal.SIGKILL)
    files = [path.read_bytes() for path in server.directory.glob("doorward.db*")]
    tokens = [answer[kind] for answer in (opened, refreshed) for kind in ("access_token", "refresh_token")]
    for text in [secret, PASSWORD, *tokens]:
        assert not any(text.encode() in file for file in files)
    assert any(b"wrong_password" in file for file in files)


@pytest.mark.parametrize(
    ("form", "network"),
    [("full", "127.0.0.1"), ("none", None), ("truncated", "127.0.0.0/24"), ("hashed", "#")],
)
def test_a_network_is_kept_as_was_chosen(start, form: str, network: str | None) -> None:
    server = start("--event-network", form, "--seal-secret", secrets.token_hex(32))
    server.login()
    [login] = records(server.directory, "--event", "logged_in")
    if form == "hashed":
        assert login["network"].startswith("#") and len(login["network"]) == 17
    else:
        assert login["network"] == network


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--event-network", "hashed"], "event_network: hashed needs seal_secret"),
        (["--event-network", "all"], "event_network: must be truncated"),
        (["--event-retention", "1h"], "event_retention must be 1 to 3660 days"),
        (["--event-refreshes", "100d"], "event_refreshes must not be longer"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: pathlib.Path, flags: list[str], words: str) -> None:
    refused = command(tmp_path, "check-config", *flags)
    assert refused.returncode == 1 and words in refused.stderr


def test_a_log_that_is_off_keeps_nothing(start) -> None:
    server = start("--event-log", "off")
    opened = server.login().json()
    assert httpx.post(f"{server.url}/logout", headers=bearer(opened["access_token"])).status_code == 204
    assert names(server.directory) == ["account_added"]
    assert metrics(server)['doorward_events_total{event="logged_in"}'] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--event", "logged_off"], "no event of this name"),
        (["--session", "1"], "no session id"),
        (["--since", "yesterday"], "a time is written 2h"),
    ],
)
def test_what_cannot_be_looked_for_is_said(server: Server, arguments: list[str], words: str) -> None:
    refused = command(server.directory, "events", *arguments)
    assert refused.returncode == 1 and words in refused.stderr


def test_what_a_client_calls_itself_neither_hides_nor_acts(server: Server) -> None:
    odd = "x\u202ey \x1b[2J\"z"
    httpx.post(
        f"{server.url}/login", json={"username": "ada", "password": PASSWORD},
        headers={b"user-agent": odd.encode("utf-8").replace(b"\x1b", b"")},
    )
    shown = command(server.directory, "events", "--event", "logged_in").stdout
    assert "\u202e" not in shown and "\\u{202e}" in shown


def test_an_export_has_all_and_an_erasure_leaves_nothing(server: Server) -> None:
    ended = server.login().json()
    httpx.post(f"{server.url}/logout", headers=bearer(ended["access_token"]))
    live = server.login(device="ada's own laptop").json()
    user = live["user"]["id"]
    exported = json.loads(command(server.directory, "user", "export", "ada").stdout)
    assert exported["account"]["username"] == "ada" and "password_hash" not in str(exported)
    assert [row["ended_reason"] for row in exported["sessions"]] == ["logout", None]
    assert [record["event"] for record in exported["events"]] == [
        "account_added", "logged_in", "session_ended", "logged_in", "user_exported",
    ]
    assert json.loads(command(server.directory, "user", "export", "--id", user).stdout)["user"] == user
    erased = command(server.directory, "user", "erase", "ada", "--account")
    assert erased.stdout == "erased: 2 sessions, and all events\n", erased.stderr
    assert server.session(live["access_token"]).json()["reason"] in ("disabled", "ended_by_operator")
    for opened in (ended, live):
        assert server.refresh(opened["refresh_token"]).json()["code"] == "token_invalid"
    assert server.login().status_code == 401
    time.sleep(1.2)
    assert {record["user"] for record in records(server.directory)} == {None}
    assert records(server.directory, "--event", "user_erased")[0]["actor"] == "operator"
    server.stop()
    with contextlib.closing(sqlite3.connect(server.directory / "doorward.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file = (server.directory / "doorward.db").read_bytes()
    assert b"ada's own laptop" not in file
