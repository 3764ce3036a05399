"""Refresh tokens of the real Flask-JWT-Extended, presented to the real binary."""

import pathlib
from datetime import timedelta

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from flask import Flask
from flask_jwt_extended import JWTManager, create_access_token, create_refresh_token

from conftest import Server, bearer, command

SECRET = "9b1d5c7e02f84a63b7c1e0d94f5a6238"
ADOPT = ["--adopt-until", "2099-01-01", "--adopt-names", "username"]
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


class Old:
    """The app from before."""

    def __init__(self, **config: object) -> None:
        self.app = Flask("old")
        self.app.config.update({"JWT_SECRET_KEY": SECRET, **config})
        JWTManager(self.app)

    def refresh_token(self, name: str = "ada", **more: object) -> str:
        with self.app.app_context():
            return create_refresh_token(name, **more)

    def access_token(self) -> str:
        with self.app.app_context():
            return create_access_token("ada")


@pytest.fixture
def old() -> Old:
    return Old()


@pytest.fixture
def adopting(start) -> Server:
    return start(*ADOPT, "--adopt-secret", SECRET)


def by_cookie(server: Server, cookie: str, headers: dict[str, str] = SAME_ORIGIN, path: str = "/refresh") -> httpx.Response:
    return httpx.post(f"{server.url}{path}", headers={"Cookie": cookie, **headers})


def in_header(server: Server, token: str, path: str = "/refresh") -> httpx.Response:
    return httpx.post(f"{server.url}{path}", headers=bearer(token))


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


@pytest.mark.parametrize("present", [in_header, lambda server, token: server.refresh(token)])
def test_a_token_becomes_one_session(adopting: Server, old: Old, present) -> None:
    token = old.refresh_token()
    first, again = present(adopting, token).json(), present(adopting, token).json()
    assert first["user"]["username"] == "ada"
    assert (first["session"]["id"], first["refresh_token"]) == (again["session"]["id"], again["refresh_token"])
    session = adopting.session(first["access_token"])
    assert session.status_code == 200 and session.json()["user"]["id"] == first["user"]["id"]
    assert session.json()["session"]["fresh_until"] <= session.json()["server_time"]
    aged = httpx.get(f"{adopting.url}/verify?max_age=999999999", headers=bearer(first["access_token"]))
    assert code(aged) == (401, "fresh_login_required")
    sessions = httpx.get(f"{adopting.url}/sessions", headers=bearer(first["access_token"])).json()["sessions"]
    assert len(sessions) == 1
    assert adopting.refresh(first["refresh_token"]).status_code == 200


def test_a_cookie_is_replaced_by_ours(adopting: Server, old: Old) -> None:
    cookie = f"refresh_token_cookie={old.refresh_token()}"
    assert code(by_cookie(adopting, cookie, {"Sec-Fetch-Site": "cross-site"})) == (403, "csrf_failed")
    adopted = by_cookie(adopting, cookie)
    assert adopted.status_code == 200 and "refresh_token" not in adopted.json()
    cookies = adopted.headers.get_list("set-cookie")
    names = [line.split("=")[0] for line in cookies]
    assert names == ["__Secure-access_token_cookie", "__Secure-refresh_token_cookie", "refresh_token_cookie"]
    assert cookies[2].startswith("refresh_token_cookie=; Max-Age=0; Path=/;")
    ours = cookies[1].split(";")[0]
    assert by_cookie(adopting, f"{cookie}; {ours}").status_code == 200
    assert by_cookie(adopting, f"{cookie}; {ours}", path="/refresh/logout").status_code == 204
    assert code(by_cookie(adopting, cookie)) == (401, "session_ended")


def test_what_is_no_good_refresh_token_is_refused(adopting: Server, old: Old) -> None:
    other, expired = Old(JWT_SECRET_KEY="x" + SECRET[1:]), timedelta(seconds=-1)
    for token in (old.access_token(), other.refresh_token(), old.refresh_token("nobody"), old.refresh_token()[:-1]):
        assert code(adopting.refresh(token)) == (401, "token_invalid")
    assert code(adopting.refresh(old.refresh_token(expires_delta=expired))) == (401, "session_ended")
    assert code(in_header(adopting, old.access_token())) == (401, "token_missing")
    assert httpx.get(f"{adopting.url}/session", headers=bearer(old.refresh_token())).status_code == 401


def test_a_user_who_is_disabled_is_not_let_in(adopting: Server, old: Old) -> None:
    token = old.refresh_token()
    assert command(adopting.directory, "user", "disable", "ada").returncode == 0
    assert code(adopting.refresh(token)) == (401, "token_invalid")
    assert command(adopting.directory, "user", "enable", "ada").returncode == 0
    # All sessions from before have ended, those that were not adopted too.
    assert code(adopting.refresh(token)) == (401, "token_invalid")


@pytest.mark.parametrize("adopts_first", [True, False])
def test_after_a_logout_the_token_opens_nothing(adopting: Server, old: Old, adopts_first: bool) -> None:
    token = old.refresh_token()
    if adopts_first:
        assert adopting.refresh(token).status_code == 200
    out = httpx.post(f"{adopting.url}/logout", json={"refresh_token": token})
    assert out.status_code == 204
    refused = adopting.refresh(token)
    assert code(refused) == (401, "session_ended") and refused.json()["reason"] == "logout"


def test_a_login_in_the_same_browser_leaves_no_way_back(adopting: Server, old: Old) -> None:
    cookie = f"refresh_token_cookie={old.refresh_token()}"
    body = {"username": "ada", "password": "correct horse battery", "delivery": "cookie"}
    login = httpx.post(f"{adopting.url}/login", json=body, headers={"Cookie": cookie, **SAME_ORIGIN})
    assert login.status_code == 200
    refused = by_cookie(adopting, cookie)
    assert code(refused) == (401, "session_ended") and refused.json()["reason"] == "replaced"


def test_adoption_outlives_a_restart_and_is_off_without_a_date(start, old: Old) -> None:
    token = old.refresh_token()
    server = start()
    assert code(server.refresh(token)) == (401, "token_invalid")
    assert code(in_header(server, token)) == (401, "token_missing")
    server.stop()
    server = start(*ADOPT, "--adopt-secret", SECRET)
    adopted = server.refresh(token).json()
    server.stop()
    server = start(*ADOPT, "--adopt-secret", SECRET)
    assert server.refresh(token).json()["session"]["id"] == adopted["session"]["id"]
    server.stop()
    server = start(*ADOPT[2:], "--adopt-until", "2020-01-01", "--adopt-secret", SECRET)
    assert code(server.refresh(token)) == (401, "token_invalid")
    assert "adopt_until has passed" in server.logged()
    assert server.refresh(adopted["refresh_token"]).status_code == 200


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_weak_secret_is_pointed_out_and_not_shown(start) -> None:
    server = start(*ADOPT, "--adopt-secret", "old-secret")
    token = Old(JWT_SECRET_KEY="old-secret").refresh_token()
    assert server.refresh(token).status_code == 200
    logged = server.logged()
    assert "adopt_secret lets others make tokens" in logged and "old-secret" not in logged and token not in logged


def test_a_public_key_verifies_and_signs_nothing(start, tmp_path: pathlib.Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    (tmp_path / "old.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    claims = {"JWT_ENCODE_ISSUER": "old", "JWT_ENCODE_AUDIENCE": "app"}
    old = Old(JWT_ALGORITHM="RS256", JWT_PRIVATE_KEY=private, **claims)
    asks = ["--adopt-algorithm", "RS256", "--adopt-key-file", "old.pem", "--adopt-issuer", "old", "--adopt-audience", "app"]
    server = start(*ADOPT, *asks)
    assert server.refresh(old.refresh_token()).status_code == 200
    other = Old(JWT_ALGORITHM="RS256", JWT_PRIVATE_KEY=private, JWT_ENCODE_ISSUER="old")
    assert code(server.refresh(other.refresh_token())) == (401, "token_invalid")
