"""From one store to another while nodes serve: no session is lost, none comes back, nobody logs in again."""

import pathlib
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from cluster.network import Loopback
from cluster.postgres import postgres
from cluster.redis import single
from conftest import BINARY, CHEAP, ENVIRONMENT, PASSWORD, Server, add_user, bearer, command

FIRST, SECOND = "sqlite://doorward.db", "sqlite://second.db"


class Client:
    """One browser: it refreshes, verifies, and at times logs out and in again. What is busy is tried again."""

    def __init__(self, servers: list[Server], seed: int) -> None:
        self.servers, self.dice = servers, random.Random(seed)
        self.http = httpx.Client(timeout=30)
        self.wrong: list[str] = []
        self.ended: list[dict[str, str]] = []
        self.waited = 0.0
        self.done = 0
        self.tokens = self.log_in()

    def ask(self, method: str, path: str, access: str = "", body: object = None) -> httpx.Response:
        headers = bearer(access) if access else {}
        begun = time.monotonic()
        while True:
            server = self.dice.choice(self.servers)
            answer = self.http.request(method, f"{server.url}/{path}", headers=headers, json=body)
            if answer.status_code != 503:
                self.waited = max(self.waited, time.monotonic() - begun)
                return answer
            assert "retry-after" in answer.headers
            time.sleep(0.05)

    def log_in(self) -> dict[str, str]:
        body = {"username": "ada", "password": "correct horse battery", "delivery": "body"}
        answer = self.ask("POST", "login", body=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def step(self) -> None:
        self.done += 1
        what = self.dice.random()
        if what < 0.5:
            body = {"refresh_token": self.tokens["refresh_token"]}
            self.expect(answer := self.ask("POST", "refresh", body=body), 200)
            if answer.status_code == 200:
                self.tokens = answer.json()
        elif what < 0.9:
            self.expect(self.ask("GET", "session", self.tokens["access_token"]), 200)
        else:
            self.expect(self.ask("POST", "logout", self.tokens["access_token"]), 204)
            self.ended.append(self.tokens)
            self.tokens = self.log_in()

    def expect(self, answer: httpx.Response, status: int) -> None:
        if answer.status_code != status:
            self.wrong.append(f"{answer.request.url}: {answer.status_code} {answer.text}")


class Fleet:
    """Clients that go on until they are told to stop."""

    def __init__(self, servers: list[Server], count: int) -> None:
        self.clients = [Client(servers, seed) for seed in range(count)]
        self.at(servers)

    def at(self, servers: list[Server]) -> None:
        """From now on by these servers."""
        for client in self.clients:
            client.servers = servers
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.go_on, args=[client]) for client in self.clients]
        for thread in self.threads:
            thread.start()

    def go_on(self, client: Client) -> None:
        while not self.stopped.is_set():
            client.step()

    def some(self, steps: int = 3) -> None:
        """Until each client has done some more."""
        wanted = [client.done + steps for client in self.clients]
        deadline = time.monotonic() + 60
        while any(client.done < more for client, more in zip(self.clients, wanted, strict=True)):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def check(self, closing: bool = True) -> None:
        for client in self.clients:
            assert client.wrong == []
            body = {"refresh_token": client.tokens["refresh_token"]}
            client.expect(answer := client.ask("POST", "refresh", body=body), 200)
            assert client.wrong == []
            client.tokens = answer.json()
            for tokens in client.ended[:5] + client.ended[-5:]:
                body = {"refresh_token": tokens["refresh_token"]}
                assert client.ask("POST", "refresh", body=body).status_code == 401
                assert client.ask("GET", "session", tokens["access_token"]).status_code == 401
            if closing:
                client.http.close()


@contextmanager
def serving(directory: pathlib.Path, store: str, following: str) -> Iterator[list[Server]]:
    flags = ["--store", store, "--store-next", following, "--throttle", "off"]
    servers = [Server(directory, *flags) for _ in range(2)]
    try:
        yield [server.start() for server in servers]
    finally:
        for server in servers:
            if server.process and server.process.poll() is None:
                server.stop()


@pytest.fixture
def nodes(tmp_path: pathlib.Path) -> Iterator[list[Server]]:
    add_user(tmp_path)
    with serving(tmp_path, FIRST, SECOND) as servers:
        yield servers


def move(directory: pathlib.Path, *arguments: str) -> str:
    done = command(directory, "store", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def says(server: Server, words: str) -> None:
    deadline = time.monotonic() + 10
    while words not in server.logged():
        assert time.monotonic() < deadline, server.logged()
        time.sleep(0.05)


def test_clients_go_through_a_move_and_back(nodes: list[Server]) -> None:
    directory = nodes[0].directory
    fleet = Fleet(nodes, 8)
    try:
        fleet.some()
        assert "copied" in move(directory, "copy", FIRST, SECOND)
        fleet.some()
        assert "the same in both" in move(directory, "switch", FIRST, SECOND)
        fleet.some()
        refused = command(directory, "user", "add", "eve", "--generate-password", "--store", FIRST)
        assert refused.returncode == 1
        move(directory, "switch", "--undo", FIRST, SECOND)
        fleet.some()
        move(directory, "switch", FIRST, SECOND)
        fleet.some()
    finally:
        fleet.stop()
    fleet.check()
    listed = command(directory, "session", "list", "--store", SECOND).stdout
    assert len(listed.splitlines()) == 8
    # A node that comes later, by either setting.
    for flags in (["--store", SECOND], ["--store-next", SECOND]):
        late = Server(directory, *flags).start()
        for client in fleet.clients:
            assert late.session(client.tokens["access_token"]).status_code == 200
            for tokens in client.ended[-2:]:
                assert late.session(tokens["access_token"]).status_code == 401
        late.stop()


def test_a_copy_that_is_killed_goes_on(nodes: list[Server]) -> None:
    directory = nodes[0].directory
    fleet = Fleet(nodes, 4)
    try:
        for wait in (0.02, 0.05, 0.1, 0.2):
            process = subprocess.Popen([BINARY, "store", "copy", FIRST, SECOND, *CHEAP], cwd=directory,
                                       env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(wait)
            process.kill()
            process.wait()
        for wait in (2.4, 2.6, 2.65, 2.7):
            process = subprocess.Popen([BINARY, "store", "switch", FIRST, SECOND, *CHEAP], cwd=directory,
                                       env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(wait)
            process.kill()
            process.wait()
        command(directory, "store", "switch", FIRST, SECOND)
        fleet.some()
    finally:
        fleet.stop()
    fleet.check()
    assert command(directory, "session", "list", "--store", SECOND).stdout.count("\n") >= 4


def test_a_cut_over_can_be_given_up(nodes: list[Server]) -> None:
    directory = nodes[0].directory
    tokens = nodes[0].login().json()
    move(directory, "copy", FIRST, SECOND)
    import sqlite3

    # As it is while `switch` copies what changed last, had it been stopped there.
    with sqlite3.connect(directory / "doorward.db") as db, sqlite3.connect(directory / "second.db") as other:
        (mark,) = other.execute("SELECT value FROM marks WHERE name = 'left'").fetchone()
        leaving = mark.replace("filling", "leaving")
        db.execute("INSERT INTO marks VALUES ('left', ?)", [leaving])
        trigger = "BEGIN SELECT RAISE(ABORT, 'this store was left for another'); END"
        db.execute(f"CREATE TRIGGER left_rotations_INSERT BEFORE INSERT ON rotations {trigger}")
    db.close()
    other.close()
    refused = nodes[1].refresh(tokens["refresh_token"])
    assert refused.status_code == 503 and "retry-after" in refused.headers
    assert nodes[1].session(tokens["access_token"]).status_code == 200
    assert "given up" in move(directory, "switch", "--undo", FIRST, SECOND)
    assert nodes[1].refresh(tokens["refresh_token"]).status_code == 200


def test_the_wrong_pair_is_refused(nodes: list[Server]) -> None:
    directory = nodes[0].directory
    move(directory, "copy", FIRST, SECOND)
    copied = command(directory, "store", "copy", "sqlite://doorward.db", "sqlite://doorward.db")
    assert copied.returncode == 1 and "same store" in copied.stderr
    third = command(directory, "user", "add", "eve", "--generate-password", "--store", "sqlite://third.db")
    assert third.returncode == 0
    for pair in ([FIRST, "sqlite://third.db"], ["sqlite://third.db", SECOND], [SECOND, FIRST]):
        for what in ("copy", "switch"):
            refused = command(directory, "store", what, *pair)
            assert refused.returncode == 1 and refused.stderr, pair
    served = Server(directory, "--store", SECOND).start()
    assert served.login().status_code == 503
    says(served, "is being filled")
    served.stop()


def test_a_node_that_knows_no_other_store_says_what_to_do(nodes: list[Server]) -> None:
    directory = nodes[0].directory
    behind = Server(directory).start()
    tokens = behind.login().json()
    move(directory, "switch", FIRST, SECOND)
    refused = behind.refresh(tokens["refresh_token"])
    assert refused.status_code == 503 and "retry-after" in refused.headers
    assert behind.session(tokens["access_token"]).status_code == 200
    says(behind, "set `store` to")
    assert nodes[0].refresh(tokens["refresh_token"]).status_code == 200
    behind.stop()


def test_clients_go_by_postgres_and_on_to_another_file(tmp_path: pathlib.Path) -> None:
    add_user(tmp_path)
    with postgres(Loopback(), "postgres") as (database,):
        between = database.url()
        with serving(tmp_path, FIRST, between) as nodes:
            fleet = Fleet(nodes, 6)
            try:
                fleet.some()
                move(tmp_path, "copy", FIRST, between)
                fleet.some()
                move(tmp_path, "switch", FIRST, between)
                fleet.some()
            finally:
                fleet.stop()
            fleet.check(closing=False)
        with serving(tmp_path, between, SECOND) as nodes:
            fleet.at(nodes)
            try:
                fleet.some()
                move(tmp_path, "switch", between, SECOND)
                fleet.some()
                move(tmp_path, "switch", "--undo", between, SECOND)
                fleet.some()
                move(tmp_path, "switch", between, SECOND)
                fleet.some()
            finally:
                fleet.stop()
            fleet.check()


def test_clients_go_by_redis_to_postgres(tmp_path: pathlib.Path) -> None:
    add_user(tmp_path)
    site = Loopback()
    with single(site) as redis, postgres(site, "postgres") as (database,):
        between, last = f"redis://{redis.address[0]}:{redis.address[1]}/", database.url()
        fleet = None
        for store, following in ((FIRST, between), (between, last)):
            with serving(tmp_path, store, following) as nodes:
                if fleet is None:
                    fleet = Fleet(nodes, 6)
                else:
                    fleet.at(nodes)
                try:
                    fleet.some()
                    move(tmp_path, "switch", store, following)
                    fleet.some()
                finally:
                    fleet.stop()
                fleet.check(closing=following == last)
        listed = command(tmp_path, "session", "list", "--store", last).stdout
        assert len(listed.splitlines()) == len(fleet.clients)


def test_a_move_from_postgres_holds_under_many_writes(tmp_path: pathlib.Path) -> None:
    """The fence waits for who writes, and who writes for the fence: neither for ever."""
    add_user(tmp_path)
    with postgres(Loopback(), "postgres") as (database,):
        store = database.url()
        assert command(tmp_path, "user", "add", "ada", "--password-stdin", "--store", store,
                       text=PASSWORD + "\n").returncode == 0
        with serving(tmp_path, store, SECOND) as nodes:
            fleet = Fleet(nodes, 64)
            try:
                fleet.some(1)
                for _ in range(3):
                    move(tmp_path, "switch", store, SECOND)
                    fleet.some(1)
                    move(tmp_path, "switch", "--undo", store, SECOND)
                    fleet.some(1)
                move(tmp_path, "switch", store, SECOND)
                fleet.some(1)
            finally:
                fleet.stop()
            fleet.check()
            assert max(client.waited for client in fleet.clients) < 20
            assert "deadlock" not in database.process.logged()
            assert all("panicked" not in node.logged() for node in nodes)
