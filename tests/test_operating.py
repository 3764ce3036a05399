"""What operators do, by the real binary, on each store."""

import json
import pathlib
import time
from collections.abc import Iterator

import pytest

from cluster.network import Loopback
from cluster.postgres import postgres
from cluster.redis import single
from conftest import PASSWORD, Server, command


@pytest.fixture(scope="module", params=["sqlite", "postgres", "redis"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    site = Loopback()
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path_factory.mktemp('operating')}/doorward.db"
    elif request.param == "postgres":
        with postgres(site, "postgres") as (server,):
            yield server.url()
    else:
        with single(site) as made:
            yield f"redis://{made.address[0]}:{made.address[1]}/"


class Place:
    """An operator's shell, and two nodes on the same store."""

    def __init__(self, directory: pathlib.Path, store: str) -> None:
        self.directory, self.store = directory, store
        self.nodes = [Server(directory, "--store", store, "--throttle", "off") for _ in range(2)]

    def run(self, *words: str, text: str = "", code: int = 0) -> str:
        done = command(self.directory, *words, "--store", self.store, text=text)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def add(self, name: str) -> None:
        self.run("user", "add", name, "--password-stdin", text=PASSWORD + "\n")

    def events(self, *words: str) -> list[dict[str, str]]:
        shown = self.run("events", "--format", "json", "--limit", "1000", *words)
        return [json.loads(line) for line in shown.splitlines()]

    def refused(self, access: str) -> None:
        """By every node, within a poll."""
        for node in self.nodes:
            deadline = time.monotonic() + 3
            while node.session(access).status_code != 401:
                assert time.monotonic() < deadline


@pytest.fixture(scope="module")
def place(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("place"), store)
    place.add("ada")
    try:
        for node in place.nodes:
            node.start()
        yield place
    finally:
        for node in place.nodes:
            if node.process and node.process.poll() is None:
                node.stop()


def test_sessions_are_listed_explained_and_ended(place: Place) -> None:
    first, other = place.nodes
    kept, gone = first.login().json(), other.login().json()
    listed = [line.split("\t")[0] for line in place.run("session", "list", "ada").splitlines()]
    assert {kept["session"]["id"], gone["session"]["id"]} <= set(listed)
    place.run("session", "end", gone["session"]["id"])
    place.refused(gone["access_token"])
    assert other.refresh(gone["refresh_token"]).json()["reason"] == "ended_by_operator"
    assert "ended_by_operator" in place.run("session", "why", gone["session"]["id"])
    assert first.session(kept["access_token"]).status_code == 200
    assert gone["session"]["id"] not in place.run("session", "list")
    assert place.run("session", "end", "00000000-0000-7000-8000-000000000000", code=1)
    ended = place.events("--session", gone["session"]["id"], "--event", "session_ended")
    assert [event["actor"] for event in ended] == ["operator"]
    place.run("session", "end", "--user", "ada")
    place.refused(kept["access_token"])


def test_all_sessions_of_many_users_are_ended(place: Place) -> None:
    for number in range(3):
        place.add(f"many{number}")
    granted = [place.nodes[number % 2].login(username=f"many{number % 3}").json() for number in range(6)]
    assert place.run("session", "end", "--all").startswith("everybody: 6 ended")
    for one in granted:
        place.refused(one["access_token"])
        assert place.nodes[0].refresh(one["refresh_token"]).status_code == 401
    assert place.run("session", "list") == ""


def test_accounts_are_made_reset_disabled_and_erased(place: Place) -> None:
    first, other = place.nodes
    place.add("eve")
    assert "already" in place.run("user", "add", "eve", "--generate-password", code=1)
    assert "eve" in place.run("user", "list")
    tokens = first.login(username="eve").json()
    assert place.run("user", "reset", "eve").strip()
    place.run("user", "disable", "eve")
    place.refused(tokens["access_token"])
    assert other.login(username="eve").status_code in (401, 403)
    place.run("user", "enable", "eve")
    tokens = other.login(username="eve").json()
    place.run("user", "privilege", "eve", "on")
    place.refused(tokens["access_token"])
    tokens = other.login(username="eve").json()
    told = json.loads(place.run("user", "export", "eve"))
    assert told["account"]["privileged"] and len(told["sessions"]) >= 3
    place.run("user", "erase", "eve")
    place.refused(tokens["access_token"])
    told = json.loads(place.run("user", "export", "eve"))
    assert told["sessions"] == []
    assert {event["event"] for event in told["events"]} <= {"user_exported"}
    place.run("user", "remove", "eve")
    assert "eve" not in place.run("user", "list")


def test_keys_are_rotated_and_retired_for_every_node(place: Place) -> None:
    first, other = place.nodes
    tokens = first.login().json()
    place.run("keys", "rotate")
    place.run("keys", "rotate", "--purpose", "refresh")
    keys = [line.split("\t") for line in place.run("keys", "list").splitlines()]
    assert len([key for key in keys if "access" in key]) >= 2
    for node in place.nodes:
        assert node.session(tokens["access_token"]).status_code == 200
    tokens = other.refresh(tokens["refresh_token"]).json()
    assert first.session(tokens["access_token"]).status_code == 200
    newest = [key[0] for key in keys if "access" in key][-1]
    place.run("keys", "retire", newest)
    assert place.events("--event", "key_retired")
    tokens = first.login().json()
    assert other.session(tokens["access_token"]).status_code == 200


def test_the_doctor_and_the_settings_find_nothing_wrong_with_the_store(place: Place) -> None:
    assert place.run("check-config")
    done = command(place.directory, "doctor", place.nodes[0].url, "--username", "ada", "--password-stdin",
                   "--format", "json", text=PASSWORD + "\n")
    found = {finding["code"] for finding in json.loads(done.stdout)["findings"]}
    assert not {code for code in found if "store" in code or "error" in code}, found
    assert place.nodes[0].session(place.nodes[0].login().json()["access_token"]).status_code == 200


def test_after_a_restore_everybody_logs_in_once(place: Place) -> None:
    tokens = place.nodes[0].login().json()
    place.run("store", "restored")
    place.refused(tokens["access_token"])
    assert place.nodes[1].refresh(tokens["refresh_token"]).status_code == 401
