"""An old backup is restored: what ended since stays ended, and everyone logs in once."""

import httpx

from cluster.fleet import kept
from cluster.nodes import Node, add_users, hosts, nodes
from cluster.postgres import postgres
from conftest import bearer, command

SESSIONS = 12


def refreshed(node: Node, granted: dict[str, str]) -> int:
    return httpx.post(f"{node.url}/refresh", json={"refresh_token": granted["refresh_token"]}).status_code


def test_no_session_outlives_the_restore_of_an_old_backup(site, tmp_path) -> None:
    with postgres(site, "postgres") as (server,):
        add_users(tmp_path, server.url(), 3)
        at = hosts(site)
        with nodes(tmp_path, at, [server.url()] * 3) as made:
            opened = [made[number % 3].login(username=f"user-{number % 3}").json() for number in range(SESSIONS)]
            server.backup(tmp_path / "backup")
            for granted in opened[::2]:
                token = {"refresh_token": granted["refresh_token"]}
                assert httpx.post(f"{made[0].url}/logout", json=token).status_code == 204
        server.restore(tmp_path / "backup")
        alive = server.ask("SELECT count(*) FROM doorward.sessions")
        assert int(alive) == SESSIONS, "the backup revives them"
        restored = command(tmp_path, "store", "restored", "--store", server.url())
        assert restored.returncode == 0, restored.stderr
        with nodes(tmp_path, at, [server.url()] * 3) as made:
            assert {refreshed(node, granted) for node in made for granted in opened} == {401}
            assert {node.session(granted["access_token"]).status_code for node in made for granted in opened} == {401}
            again = made[0].login(username="user-0").json()
            assert refreshed(made[1], again) == 200
            assert httpx.get(f"{made[2].url}/verify", headers=bearer(again["access_token"])).status_code == 200
        kept({"fault": "an old backup restored", "effect": int(alive), "ended_since": len(opened[::2])})
