"""The whole life of a session, by a real client on the real binary."""

import concurrent.futures
import contextlib
import pathlib
import sqlite3
import time

import httpx
import pytest

from conftest import PASSWORD, Server, add_user, bearer, command


def test_a_session_from_login_to_logout(server: Server) -> None:
    granted = server.login(device="laptop")
    assert granted.status_code == 200
    first = granted.json()
    assert first["user"]["username"] == "ada"
    assert server.session(first["access_token"]).json()["session"]["id"] == first["session"]["id"]

    second = server.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    listed = httpx.get(f"{server.url}/sessions", headers=bearer(second["access_token"])).json()
    assert [(s["device"], s["current"]) for s in listed["sessions"]] == [("laptop", True)]

    logout = httpx.post(f"{server.url}/logout", json={"refresh_token": second["refresh_token"]})
    assert logout.status_code == 204
    for token in (first["access_token"], second["access_token"]):
        refused = server.session(token)
        assert (refused.status_code, refused.json()["code"]) == (401, "session_ended")
        assert refused.json()["reason"] == "logout"
    assert server.refresh(second["refresh_token"]).json()["code"] == "session_ended"


def cookie(answer: httpx.Response, name: str) -> str:
    return next(line for line in answer.headers.get_list("set-cookie") if line.startswith(name))


def test_cookies_travel_and_are_cleared(server: Server) -> None:
    answer = server.login(delivery="cookie", remember=True)
    assert "access_token" not in answer.json()
    access, refresh = cookie(answer, "__Secure-access"), cookie(answer, "__Secure-refresh")
    assert "HttpOnly; Secure; SameSite=Lax" in access and "Path=/api/v1;" in access
    assert "HttpOnly; Secure; SameSite=Strict" in refresh and "Path=/api/v1/refresh;" in refresh
    assert "Max-Age=2592000" in access and "Max-Age=2592000" in refresh

    sent = {"Cookie": "; ".join(line.split(";")[0] for line in (access, refresh))}
    assert httpx.get(f"{server.url}/session", headers=sent).status_code == 200
    cross = {**sent, "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    assert httpx.post(f"{server.url}/refresh", headers=cross).json()["code"] == "csrf_failed"
    rotated = httpx.post(f"{server.url}/refresh", headers=sent)
    assert rotated.status_code == 200 and cookie(rotated, "__Secure-refresh") != refresh
    gone = httpx.post(f"{server.url}/refresh/logout", headers=sent)
    assert gone.status_code == 204
    assert all("Max-Age=0" in line for line in gone.headers.get_list("set-cookie"))
    assert httpx.get(f"{server.url}/session", headers=sent).json()["code"] == "session_ended"


def test_64_parallel_refreshes_of_one_token_give_one_successor(server: Server) -> None:
    token = server.login().json()["refresh_token"]
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: server.refresh(token), range(64)))
    assert {answer.status_code for answer in answers} == {200}
    successors = {answer.json()["refresh_token"] for answer in answers}
    assert len(successors) == 1
    assert server.refresh(successors.pop()).status_code == 200


def test_an_account_that_was_brought_along_logs_in_and_gets_a_hash_of_ours(server: Server) -> None:
    def stored() -> str:
        with contextlib.closing(sqlite3.connect(server.directory / "doorward.db")) as db:
            return db.execute("SELECT password_hash FROM accounts").fetchone()[0]

    # Werkzeug 3.1.9, Django 5.2.19, passlib 1.7.4 and bcrypt 5.0.0 wrote them.
    for made in (
        "scrypt:1024:8:1$mZ2dX1NiGbi1Tqhy$b52ad8698172033712a57cb5d6821d90193ed4a19b1887276665f7523a48da79"
        "25657643d3e8acacdc4fed4bd68384d1c1c4f2bede07ba6d121a4d0c7db3a4b0",
        "pbkdf2_sha256$1000$saltsalt$2vLrmxK8YFROnGTL6oinO4bfT02gvTppeFbz7HWz5X0=",
        "$bcrypt-sha256$v=2,t=2b,r=4$YDYxJENKg2Y87p6sNwsofO$ETjLBAnVUflyms5e5xtVexshPQqOkNa",
        "$2b$04$70ZbdaGUYOSwW45/xL6WHu94GB2oNpkE7YzVXXN3JjwXzG0XU5ZHq",
    ):
        with contextlib.closing(sqlite3.connect(server.directory / "doorward.db")) as db, db:
            db.execute("UPDATE accounts SET password_hash = ?", [made])
        assert server.login(password="wrong horse battery").status_code == 401
        assert stored() == made
        assert server.login().status_code == 200
        ours = stored()
        assert ours.startswith("$argon2id$v=19$m=8,t=1,p=1$")
        assert server.login().status_code == 200 and stored() == ours


def test_a_stolen_token_ends_the_session(start) -> None:
    server = start("--refresh-window", "0")
    stolen = server.login().json()["refresh_token"]
    mine = server.refresh(stolen).json()
    newer = server.refresh(mine["refresh_token"]).json()
    newest = server.refresh(newer["refresh_token"]).json()
    thief = server.refresh(stolen)
    assert (thief.status_code, thief.json()["code"]) == (401, "refresh_reused")
    refused = server.session(newest["access_token"])
    assert (refused.json()["code"], refused.json()["reason"]) == ("session_ended", "reuse")


def test_two_processes_share_a_file(start) -> None:
    one, two = start(), start()
    granted = one.login().json()
    assert two.session(granted["access_token"]).status_code == 200
    assert two.refresh(granted["refresh_token"]).status_code == 200
    for _ in range(15):
        granted = one.login().json()
        assert two.session(granted["access_token"]).status_code == 200
        out = httpx.post(f"{one.url}/logout", headers=bearer(granted["access_token"]))
        assert out.status_code == 204
        assert two.session(granted["access_token"]).json()["code"] == "session_ended"


def test_ending_sessions(server: Server) -> None:
    here, there, third = (server.login().json() for _ in range(3))
    mine = bearer(here["access_token"])
    url = f"{server.url}/sessions"
    assert httpx.delete(f"{url}/{there['session']['id']}", headers=mine).status_code == 204
    assert server.session(there["access_token"]).json()["reason"] == "ended_by_user"
    assert httpx.delete(f"{url}/01890a5d-ac96-774b-bcce-b302099a8057", headers=mine).status_code == 404
    assert httpx.delete(f"{url}/nonsense", headers=mine).status_code == 404
    ended = httpx.delete(f"{url}?except=current", headers=mine)
    assert ended.json() == {"ended": 1}
    assert server.session(third["access_token"]).status_code == 401
    assert server.session(here["access_token"]).status_code == 200
    assert httpx.delete(url, headers=mine).json() == {"ended": 1}
    assert server.session(here["access_token"]).status_code == 401


def test_anothers_session_cannot_be_told_from_none(server: Server) -> None:
    add_user(server.directory, "eve")
    ada, eve = server.login().json(), server.login(username="eve").json()
    answer = httpx.delete(
        f"{server.url}/sessions/{ada['session']['id']}", headers=bearer(eve["access_token"])
    )
    assert answer.json()["code"] == "not_found"
    assert server.session(ada["access_token"]).status_code == 200


def test_passwords(server: Server) -> None:
    granted, other = server.login().json(), server.login().json()
    mine = bearer(granted["access_token"])

    def post(path: str, body: dict[str, str]) -> httpx.Response:
        return httpx.post(f"{server.url}{path}", headers=mine, json=body)

    wrong = post("/reauthenticate", {"password": "not this one"})
    assert (wrong.status_code, wrong.json()["code"]) == (403, "invalid_credentials")
    assert "refresh_token" not in post("/reauthenticate", {"password": PASSWORD}).json()
    assert post("/password", {"current": PASSWORD, "new": "short"}).status_code == 422
    changed = post("/password", {"current": PASSWORD, "new": "a wholly new sentence"})
    assert changed.status_code == 200
    for old in (granted, other):
        assert server.session(old["access_token"]).json()["reason"] == "password_changed"
    assert server.session(changed.json()["access_token"]).status_code == 200
    assert server.login().status_code == 401
    assert server.login(password="a wholly new sentence").status_code == 200


def test_a_disabled_account_is_out_at_once(server: Server) -> None:
    granted = server.login().json()
    assert command(server.directory, "user", "disable", "ada").returncode == 0
    assert server.session(granted["access_token"]).json()["reason"] == "disabled"
    refused, unknown = server.login(), server.login(username="nobody")
    assert refused.json() == unknown.json() and refused.status_code == 401
    assert command(server.directory, "user", "enable", "ada").returncode == 0
    assert server.login().status_code == 200


def test_keys_rotate_and_retire(server: Server) -> None:
    granted = server.login().json()
    keys = command(server.directory, "keys", "list").stdout.splitlines()
    access = next(line.split("\t")[0] for line in keys if "\taccess\t" in line)
    assert command(server.directory, "keys", "rotate").returncode == 0
    assert server.session(granted["access_token"]).status_code == 200
    assert command(server.directory, "keys", "retire", access).returncode == 0
    for _ in range(100):
        refused = server.session(granted["access_token"])
        if refused.status_code == 401:
            break
        time.sleep(0.05)
    assert refused.json()["code"] == "token_invalid"
    assert server.session(server.login().json()["access_token"]).status_code == 200


BAD = [
    (b"{", "bad_request", 400),
    (b"[]", "bad_request", 400),
    (b'["ada", "correct horse battery", false, null, null]', "bad_request", 400),
    (b'{"username": 1, "password": "x"}', "bad_request", 400),
    (b'{"username": "ada"}', "bad_request", 400),
    (b'{"username": "ada", "username": "eve", "password": "x"}', "bad_request", 400),
    (b'{"username": "ada", "password": "x", "admin": true}', "bad_request", 400),
    (b'{"username": "a\\u0000da", "password": "x"}', "bad_request", 400),
    (b'{"username": "ada", "password": "x\\u0000"}', "bad_request", 400),
    (b'{"username": "ada", "password": "x", "device": "a\\nb"}', "bad_request", 400),
    (b'{"username": "ada", "password": "x", "delivery": "pigeon"}', "bad_request", 400),
    (b'{"username": "\xff", "password": "x"}', "bad_request", 400),
    (b'{"username": "ada", "password": "' + b"x" * 10_000 + b'"}', "bad_request", 400),
    (b'{"username": "' + b"x" * 100_000 + b'"}', "payload_too_large", 413),
    (b"", "bad_request", 400),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    directory: pathlib.Path = tmp_path_factory.mktemp("bad")
    add_user(directory)
    server = Server(directory).start()
    yield server
    server.stop()


@pytest.mark.parametrize(("body", "code", "status"), BAD)
def test_bad_input_gets_a_clear_error(shared: Server, body: bytes, code: str, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{shared.url}/login", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_credentials_in_odd_places(shared: Server) -> None:
    token = shared.login().json()["refresh_token"]
    both = httpx.post(
        f"{shared.url}/refresh",
        json={"refresh_token": token},
        headers={"Cookie": f"__Secure-refresh_token_cookie={token}"},
    )
    assert both.json()["code"] == "bad_request"
    other_way = httpx.post(
        f"{shared.url}/refresh", headers={"Cookie": f"__Secure-refresh_token_cookie={token}"}
    )
    assert other_way.json()["code"] == "token_invalid"
    plain = httpx.post(f"{shared.url}/login", content=b"username=ada", headers={"Content-Type": "text/plain"})
    assert plain.json()["code"] == "unsupported_media_type"
    for credential in ("Bearer x", "Bearer " + "a" * 20_000, "Bearer a.b.c"):
        answer = httpx.get(f"{shared.url}/session", headers={"Authorization": credential})
        assert answer.json()["code"] == "token_invalid", credential
    basic = httpx.get(f"{shared.url}/session", headers={"Authorization": "Basic eDp5"})
    assert basic.json()["code"] == "token_missing"
    assert basic.headers["www-authenticate"] == "Bearer"


def test_proxies_may_ask(shared: Server) -> None:
    granted = shared.login().json()
    answer = httpx.get(f"{shared.url}/verify", headers=bearer(granted["access_token"]))
    assert answer.status_code == 200
    assert answer.headers["doorward-user"] == granted["user"]["id"]
    assert answer.headers["doorward-session"] == granted["session"]["id"]
    assert httpx.get(f"{shared.url}/verify").status_code == 401
