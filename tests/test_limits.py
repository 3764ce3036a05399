"""Limits of sessions, and resets of passwords: through the binary, also at once and in two processes."""

import concurrent.futures
import pathlib
import re
import time

import httpx
import pytest

from conftest import PASSWORD, Server, add_user, bearer, command

NEW = "a much better passphrase"


def at_once(number: int, do) -> list[httpx.Response]:
    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        return list(pool.map(do, range(number)))


def live(server: Server) -> list[str]:
    listed = command(server.directory, "session", "list", "ada", *server.flags)
    assert listed.returncode == 0, listed.stderr
    return listed.stdout.splitlines()


def token_for(directory: pathlib.Path, name: str = "ada") -> str:
    started = command(directory, "user", "reset", name)
    found = re.fullmatch(
        r"token: (dwp_[\w-]{43})\ngood until \S+Z, once, for POST /api/v1/password/reset\n", started.stdout
    )
    assert found, started.stdout + started.stderr
    return found[1]


def test_an_account_is_made_whose_user_sets_the_password(start) -> None:
    server = start()
    added = command(server.directory, "user", "add", "bob", "--reset-token")
    found = re.fullmatch(r"added bob, id \S+\ntoken: (dwp_[\w-]{43})\ngood until .*\n", added.stdout)
    assert found, added.stdout + added.stderr
    assert reset(server, found[1]).status_code == 204
    assert server.login(username="bob", password=NEW).status_code == 200
    assert reset(server, found[1]).status_code == 400
    both = command(server.directory, "user", "add", "eve", "--reset-token", "--generate-password")
    assert both.returncode != 0 and "--reset-token" in both.stderr


def reset(server: Server, token: str, new: str = NEW) -> httpx.Response:
    return httpx.post(f"{server.url}/password/reset", json={"token": token, "new": new})


@pytest.mark.parametrize("over", ["end_oldest", "refuse"])
def test_many_logins_at_once_in_two_processes_stay_within_the_cap(start, over: str) -> None:
    flags = ["--sessions-per-user", "3", "--sessions-over-cap", over]
    servers = [start(*flags), start(*flags)]
    answers = at_once(24, lambda number: servers[number % 2].login())
    statuses = sorted(answer.status_code for answer in answers)
    assert len(live(servers[0])) == 3
    assert statuses == ([200] * 24 if over == "end_oldest" else [200] * 3 + [409] * 21)
    refused = [server.session(answer.json()["access_token"]).json().get("reason")
               for answer in answers if answer.status_code == 200 for server in servers]
    assert refused.count(None) == 3 * 2
    assert set(refused) <= {None, "session_limit"}


def test_a_cap_that_is_lowered_holds_at_the_next_login(start) -> None:
    server = start()
    for _ in range(4):
        assert server.login().status_code == 200
    server.stop()
    server = start("--sessions-per-user", "2")
    assert len(live(server)) == 4
    assert server.login().status_code == 200
    assert len(live(server)) == 2


def test_a_shorter_absolute_limit_holds_for_open_sessions(start) -> None:
    server = start()
    granted = server.login().json()
    server.stop()
    server = start("--access-ttl", "1s", "--refresh-ttl", "2s", "--session-ttl", "2s", "--fresh-ttl", "1s")
    time.sleep(2)
    over = server.refresh(granted["refresh_token"])
    assert (over.status_code, over.json()["reason"]) == (401, "absolute")


def test_a_token_of_a_reset_is_good_once_also_when_it_is_sent_at_once_to_two_processes(start) -> None:
    servers = [start(), start()]
    granted = servers[0].login().json()
    token = token_for(servers[0].directory)
    answers = at_once(12, lambda number: reset(servers[number % 2], token, f"{NEW} of number {number}"))
    assert sorted(answer.status_code for answer in answers) == [204] + [400] * 11
    assert {answer.json()["code"] for answer in answers if answer.content} == {"reset_token_invalid"}
    number = [answer.status_code for answer in answers].index(204)
    for server in servers:
        assert server.session(granted["access_token"]).json()["reason"] == "password_changed"
        assert server.login().status_code == 401
        assert server.login(password=f"{NEW} of number {number}").status_code == 200


def test_a_token_is_good_for_its_time_and_a_new_one_voids_it(start) -> None:
    server = start("--reset-ttl", "1s")
    first = token_for(server.directory)
    second = token_for(server.directory)
    assert reset(server, first).status_code == 400
    assert reset(server, second).status_code == 204
    expired = command(server.directory, "user", "reset", "ada", "--reset-ttl", "1s").stdout.split()[1]
    time.sleep(1.1)
    assert reset(server, expired).json()["code"] == "reset_token_invalid"
    assert command(server.directory, "check-config", "--reset-ttl", "21m").returncode == 1


def test_the_database_has_no_token_that_could_be_used(start) -> None:
    server = start()
    token = token_for(server.directory)
    server.stop()
    files = b"".join(path.read_bytes() for path in server.directory.glob("doorward.db*"))
    assert token.encode() not in files and token.removeprefix("dwp_").encode() not in files


def test_no_reset_starts_for_nobody_or_for_one_who_is_disabled(tmp_path: pathlib.Path) -> None:
    add_user(tmp_path)
    unknown = command(tmp_path, "user", "reset", "eve")
    assert unknown.returncode == 1 and "no account named eve" in unknown.stderr
    command(tmp_path, "user", "disable", "ada")
    disabled = command(tmp_path, "user", "reset", "ada")
    assert disabled.returncode == 1 and "enable the account first" in disabled.stderr
    assert "dwp_" not in disabled.stdout + unknown.stdout


def test_the_log_has_no_token_and_no_password(start) -> None:
    server = start("--log-level", "trace")
    token = token_for(server.directory)
    assert reset(server, token, "short").status_code == 422
    assert reset(server, token).status_code == 204
    assert token not in server.logged() and NEW not in server.logged()


def test_the_command_line_sets_a_password_and_ends_the_sessions(start) -> None:
    server = start()
    granted = server.login().json()
    done = command(server.directory, "user", "set-password", "ada", "--password-stdin", text=NEW + "\n")
    assert done.returncode == 0, done.stderr
    assert server.session(granted["access_token"]).json()["reason"] == "password_changed"
    assert (server.login().status_code, server.login(password=NEW).status_code) == (401, 200)


def test_an_account_is_privileged_from_its_next_login_on(start) -> None:
    server = start("--privileged-session-ttl", "1h")
    granted = server.login(remember=True).json()
    done = command(server.directory, "user", "privilege", "ada", "on")
    assert done.stdout == "ada: done\n"
    assert "\tenabled,privileged\t" in command(server.directory, "user", "list").stdout
    assert server.session(granted["access_token"]).json()["reason"] == "ended_by_operator"
    before = time.time()
    session = server.login(remember=True).json()["session"]
    ends = httpx.get(f"{server.url}/docs").status_code and session["expires_at"]
    ends = time.mktime(time.strptime(ends, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert 3590 < ends - before < 3610
    assert command(server.directory, "user", "privilege", "ada", "maybe").returncode == 2


def test_reauthentication_makes_a_session_fresh_again(start) -> None:
    server = start("--fresh-ttl", "4s", "--fresh-needed-for", "change_password,end_sessions")
    granted = server.login().json()
    time.sleep(5.1)

    def change(access: str) -> httpx.Response:
        body = {"current": PASSWORD, "new": NEW}
        return httpx.post(f"{server.url}/password", json=body, headers=bearer(access))

    def verify(access: str, age: int) -> int:
        headers = {**bearer(access), "X-Original-Method": "GET"}
        return httpx.get(f"{server.url}/verify?max_age={age}", headers=headers).status_code

    refreshed = server.refresh(granted["refresh_token"]).json()["access_token"]
    stale = change(refreshed)
    assert (stale.status_code, stale.json()["code"]) == (401, "fresh_login_required")
    assert (verify(refreshed, 5), verify(refreshed, 600)) == (401, 200)
    again = httpx.post(f"{server.url}/reauthenticate", json={"password": PASSWORD}, headers=bearer(refreshed))
    fresh = again.json()["access_token"]
    assert verify(fresh, 5) == 200
    assert change(fresh).status_code == 200


def test_a_level_of_assurance_is_a_bound(start) -> None:
    server = start("--assurance", "aal3")
    granted = server.login(remember=True).json()
    assert 200 < granted["expires_in"] <= 300
    looser = command(server.directory, "check-config", "--assurance", "aal2", "--session-ttl", "25h")
    assert looser.returncode == 1 and "session_ttl must be at most what assurance allows" in looser.stderr
    unknown = command(server.directory, "check-config", "--assurance", "aal4")
    assert unknown.returncode == 1 and "aal1, aal2 or aal3" in unknown.stderr
