"""Failed logins cost: the real binary under attack, while the owner of the account goes on logging in."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from conftest import PASSWORD, Server, bearer, command

#: Attackers at once, and what each tries.
ATTACKERS, TRIES = 16, 8


def guess(server: Server, username: str = "ada", **headers: str) -> httpx.Response:
    body = {"username": username, "password": f"guess {random.random()}", "delivery": "body"}
    # Without the certificates, which take longer to load than the answer to come.
    return httpx.post(f"{server.url}/login", json=body, headers=headers, timeout=30, verify=False)


def attack(servers: Iterable[Server], beside: Callable[[], None] = lambda: None) -> Counter[int]:
    """The answers to all guesses, made at full rate while `beside` goes on."""
    servers = list(servers)
    with ThreadPoolExecutor(ATTACKERS + 1) as threads:
        work = [servers[n % len(servers)] for n in range(ATTACKERS * TRIES)]
        guesses = threads.map(lambda server: guess(server).status_code, work)
        beside()
        return Counter(guesses)


def test_an_attack_gets_its_budget_and_the_owner_gets_in(start) -> None:
    server = start()
    device = server.login().json()["device_token"]
    owner = []

    def log_in() -> None:
        nonlocal device
        for _ in range(20):
            answer = server.login(device_token=device)
            owner.append(answer.status_code)
            device = answer.json()["device_token"]

    began = time.monotonic()
    answers = attack([server], log_in)
    # 10 at once, and one for each 90 seconds.
    most = 10 + int((time.monotonic() - began) / 90) + 1
    assert 10 <= answers[401] <= most and answers[401] + answers[429] == ATTACKERS * TRIES, answers
    assert owner == [200] * 20
    # A device that nobody knows waits, even with the right password.
    assert server.login().status_code == 429


def test_neither_a_restart_nor_another_process_forgets(start) -> None:
    server = start()
    device = server.login().json()["device_token"]
    attack([server])
    server.stop()
    again, other = server.start(), start()
    for process in (again, other):
        answer = guess(process)
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_attempts")
        assert 0 < int(answer.headers["Retry-After"]) <= 90
        assert process.login(device_token=device).status_code == 200


def test_processes_share_one_budget(start) -> None:
    servers = [start(), start()]
    answers = attack(servers)
    assert 10 <= answers[401] <= 11, answers


def test_right_passwords_at_once_are_not_throttled(server: Server) -> None:
    with ThreadPoolExecutor(48) as threads:
        answers = Counter(threads.map(lambda _: server.login().status_code, range(200)))
    assert answers == {200: 200}


def test_the_answer_does_not_tell_who_exists(start) -> None:
    server = start("--throttle-account", "3/15m")
    added = command(server.directory, "user", "add", "bob", "--password-stdin", text=PASSWORD)
    assert added.returncode == 0, added.stderr
    command(server.directory, "user", "disable", "bob")
    seen = []
    for username in ("ada", "bob", "nobody", "no name\u200b"):
        answers = [guess(server, username) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [401] * 3 + [429] * 2
        headers = [sorted(answer.headers.keys()) for answer in answers]
        seen.append([(answer.text, names) for answer, names in zip(answers, headers, strict=True)])
    assert all(answers == seen[0] for answers in seen)


def test_every_name_costs_one_hash_and_a_throttled_one_none(start) -> None:
    server = start("--throttle-account", "3/15m")
    command(server.directory, "user", "add", "bob", "--password-stdin", text=PASSWORD)
    command(server.directory, "user", "disable", "bob")
    for username in ("ada", "bob", "nobody"):
        before = hashes(server)
        answers = [guess(server, username).status_code for _ in range(6)]
        assert (answers, hashes(server) - before) == ([401] * 3 + [429] * 3, 3)


def hashes(server: Server) -> int:
    lines = httpx.get(f"{server.operator_url}/metrics").text.splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("doorward_password_hashes_total "))


@pytest.mark.parametrize("trusted", [False, True])
def test_only_a_trusted_proxy_says_which_network_it_is(start, trusted: bool) -> None:
    flags = ["--trusted-proxies", "127.0.0.1"] if trusted else []
    server = start("--throttle-network", "4/15m", *flags)

    def spoofed(number: int) -> int:
        address = f"198.51.100.{number}"
        headers = {"X-Forwarded-For": address, "X-Real-IP": address, "Forwarded": f"for={address}"}
        return guess(server, f"user{number}", **headers).status_code

    answers = Counter(spoofed(number) for number in range(10))
    assert answers == ({401: 10} if trusted else {401: 4, 429: 6})


def test_a_stolen_access_token_is_no_oracle_and_others_do_not_stand_in_its_way(start) -> None:
    server = start()
    granted = server.login().json()
    attack([server])
    asked = {"url": f"{server.url}/reauthenticate", "headers": bearer(granted["access_token"])}
    assert httpx.post(json={"password": PASSWORD}, **asked).status_code == 200
    with ThreadPoolExecutor(16) as threads:
        guesses = threads.map(lambda n: httpx.post(json={"password": f"guess {n}"}, **asked), range(32))
        answers = Counter(answer.status_code for answer in guesses)
    assert answers[403] in (5, 6) and answers[403] + answers[429] == 32, answers


def test_it_can_be_switched_off_and_that_is_pointed_out(start) -> None:
    server = start("--throttle", "off")
    assert "throttle is off" in server.logged()
    assert Counter(guess(server).status_code for _ in range(30)) == {401: 30}
    assert "device_token" not in server.login().json()
