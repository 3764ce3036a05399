"""What the log says of each request, and what it never says."""

import json
import re

import httpx

from conftest import PASSWORD, Server, bearer

NEW = "a wholly new sentence"


def whole_life(server: Server) -> list[str]:
    """Every secret that occurs in a life with mistakes."""
    wrong = "a wrong password, typed in haste"
    server.login(password=wrong)
    server.login(username=wrong)
    cookies = server.login(delivery="cookie", remember=True)
    secrets = [line.split(";")[0].split("=")[1] for line in cookies.headers.get_list("set-cookie")]
    sent = {"Cookie": "; ".join(line.split(";")[0] for line in cookies.headers.get_list("set-cookie"))}
    granted = server.login().json()
    refreshed = server.refresh(granted["refresh_token"]).json()
    access, refresh = refreshed["access_token"], refreshed["refresh_token"]
    for place in (f"/session?token={access}", f"/{refresh}", f"/sessions/{access}"):
        httpx.request("GET", f"{server.url}{place}", headers=bearer(access))
        httpx.request("DELETE", f"{server.url}{place}", headers=sent)
    httpx.post(f"{server.url}/{refresh}", headers={"X-Request-Id": access, "User-Agent": refresh})
    httpx.post(f"{server.url}/refresh", json={"refresh_token": access, "token": refresh})
    httpx.post(f"{server.url}/login", content=f'{{"username": "{wrong}", "password"', headers=sent)
    changed = httpx.post(
        f"{server.url}/password", json={"current": PASSWORD, "new": NEW}, headers=bearer(access)
    ).json()
    httpx.post(f"{server.url}/reauthenticate", json={"password": wrong}, headers=bearer(changed["access_token"]))
    httpx.post(f"{server.url}/logout", json={"refresh_token": changed["refresh_token"]})
    secrets += [granted["access_token"], granted["refresh_token"], access, refresh]
    secrets += [changed["access_token"], changed["refresh_token"], wrong, PASSWORD, NEW]
    return secrets


def test_no_secret_is_ever_logged(start) -> None:
    for level in ("info", "trace"):
        server = start("--log-level", level, "--log-format", "json")
        if level == "trace":
            answer = server.login(password=NEW)
            httpx.post(
                f"{server.url}/password", json={"current": NEW, "new": PASSWORD},
                headers=bearer(answer.json()["access_token"]),
            )
        secrets = whole_life(server)
        server.stop()
        logged = server.logged()
        assert "password_changed" in logged and "login_failed" in logged
        for secret in secrets:
            assert secret not in logged, f"at {level}: {secret}"
            # Neither a part of it: the signature of a token, the end of its identifiers.
            assert secret[-24:] not in logged, f"at {level}: the end of {secret}"


def test_a_request_is_one_line_that_an_operator_can_use(start) -> None:
    server: Server = start("--log-format", "json")
    answer = httpx.get(f"{server.url}/session", headers={"X-Request-Id": 'forged"', "X-Forwarded-For": "1.2.3.4"})
    httpx.get(f"{server.url}/nothing/of/ours")
    server.stop()
    lines = [json.loads(line) for line in server.logged().splitlines()]
    answered = [line for line in lines if line.get("message") == "answered"]
    first, second = answered
    span = first["span"]
    assert (span["method"], span["route"], first["status"]) == ("GET", "/api/v1/session", 401)
    assert span["id"] == answer.headers["x-request-id"] and re.fullmatch("[0-9a-f]{16}", span["id"])
    assert span["client"] == "127.0.0.1" and first["micros"] > 0 and first["level"] == "INFO"
    assert (second["span"]["route"], second["status"]) == ("unmatched", 404)
    assert "forged" not in server.logged()


def test_a_trusted_proxy_tells_the_client(start) -> None:
    server: Server = start("--log-format", "json", "--trusted-proxies", "127.0.0.1")
    httpx.get(f"{server.url}/session", headers={"X-Forwarded-For": "6.6.6.6, 1.2.3.4"})
    server.stop()
    assert '"client":"1.2.3.4"' in server.logged() and "6.6.6.6" not in server.logged()
