"""An old backup is restored: what ended since stays ended. Everyone logs in once, or an export of events tells who need not."""

import pathlib
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from cluster.fleet import kept
from cluster.network import Loopback, Namespaces
from cluster.nodes import Node, add_users, hosts, nodes
from cluster.postgres import Postgres, postgres
from conftest import bearer, command

SESSIONS = 12
Granted = dict[str, str]


@contextmanager
def gone_back(site: Namespaces | Loopback, directory: pathlib.Path) -> Iterator[tuple[Postgres, list[Granted], list[Granted]]]:
    """A database that a backup was restored to: half of the sessions in it have ended since."""
    with postgres(site, "postgres") as (server,):
        add_users(directory, server.url(), 3)
        with nodes(directory, hosts(site), [server.url()] * 3) as made:
            opened = [made[number % 3].login(username=f"user-{number % 3}").json() for number in range(SESSIONS)]
            server.backup(directory / "backup")
            for granted in opened[::2]:
                token = {"refresh_token": granted["refresh_token"]}
                assert httpx.post(f"{made[0].url}/logout", json=token).status_code == 204
        export = command(directory, "events", "--store", server.url(), "--since", "1h", "--format", "json")
        assert export.returncode == 0, export.stderr
        (directory / "events").write_text(export.stdout)
        server.restore(directory / "backup")
        assert server.ask("SELECT count(*) FROM doorward.sessions") == str(SESSIONS), "the backup has them all"
        yield server, opened[::2], opened[1::2]


def restored(directory: pathlib.Path, server: Postgres, *flags: object) -> None:
    done = command(directory, "store", "restored", "--store", server.url(), *map(str, flags))
    assert done.returncode == 0, done.stderr


def refreshed(node: Node, granted: Granted) -> int:
    return httpx.post(f"{node.url}/refresh", json={"refresh_token": granted["refresh_token"]}).status_code


def test_after_the_restore_of_a_backup_everyone_logs_in_once(site, tmp_path) -> None:
    with gone_back(site, tmp_path) as (server, ended, others):
        restored(tmp_path, server)
        with nodes(tmp_path, hosts(site), [server.url()] * 3) as made:
            everyone = [*ended, *others]
            assert {refreshed(node, granted) for node in made for granted in everyone} == {401}
            assert {node.session(granted["access_token"]).status_code for node in made for granted in everyone} == {401}
            again = made[0].login(username="user-0").json()
            assert refreshed(made[1], again) == 200
            verified = httpx.get(f"{made[2].url}/verify", headers=bearer(again["access_token"]))
            assert verified.status_code == 200
        kept({"fault": "an old backup restored", "effect": len(ended), "over": SESSIONS})


def test_an_export_of_events_ends_only_what_had_ended(site, tmp_path) -> None:
    with gone_back(site, tmp_path) as (server, ended, others):
        restored(tmp_path, server, "--from-events", tmp_path / "events")
        with nodes(tmp_path, hosts(site), [server.url()] * 3) as made:
            assert {refreshed(node, granted) for node in made for granted in ended} == {401}
            assert {refreshed(made[0], granted) for granted in others} == {200}
        kept({"fault": "an old backup restored, with events", "effect": len(ended), "over": len(ended)})
