"""Failed logins cost through Flask: under gunicorn's workers, and in views written by hand."""

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask, Response, request

from apps import PASSWORD, PREFIX, add_ada, bare, login
from flask_doorward import ConfigError, Doorward, DoorwardError, Refused
from test_workers import GEVENT, GTHREAD, SYNC, Browser, Gunicorn, serve

__all__ = ["serve"]

WRONG = {"username": "ada", "password": "wrong wrong wrong"}


@pytest.mark.parametrize("model", [SYNC, GTHREAD, GEVENT], ids=["sync", "gthread", "gevent"])
def test_an_attack_on_all_workers_gets_one_budget_and_the_owner_gets_in(serve, model) -> None:
    server: Gunicorn = serve(*model)
    owner = Browser(server).login()
    answers = attacked(server, owner)
    assert answers[401] in (10, 11) and answers[401] + answers[429] == 120, answers
    # Nor does a restart of the workers help.
    server.reload()
    assert Browser(server).send("POST", f"{PREFIX}/login", WRONG).status == 429
    Browser(server, owner.cookies).login()


def attacked(server: Gunicorn, owner: Browser) -> Counter[int]:
    def guess(_: int) -> int:
        return Browser(server).send("POST", f"{PREFIX}/login", WRONG).status

    with ThreadPoolExecutor(13) as threads:
        guesses = threads.map(guess, range(120))
        for _ in range(10):
            owner.login()
        return Counter(guesses)


def by_hand(**config: object) -> tuple[Flask, Doorward]:
    """An app that logs in by a view of its own."""
    app = bare(DOORWARD_DEVICE_COOKIE_PATH="/", **config)
    auth = Doorward(app)

    @app.post("/sign-in")
    def sign_in() -> Response | tuple[str, int]:
        form = request.get_json()
        with auth.service.attempt(form["username"], device_token=form.get("device")) as attempt:
            if form["password"] != PASSWORD:
                return "wrong", 401
            if form.get("broken"):
                raise ZeroDivisionError
            tokens = auth.service.login("1", attempt=attempt, delivery=form.get("delivery"))
        assert tokens.device_token
        return auth.service.response(tokens)

    return app, auth


def sign_in(client, password: str = "wrong", **more: object):
    return client.post("/sign-in", json={"username": "ada", "password": password, **more})


def test_a_view_written_by_hand_admits_and_settles() -> None:
    app, _ = by_hand()
    owner, attacker = app.test_client(), app.test_client(use_cookies=False)
    granted = sign_in(owner, PASSWORD)
    assert "device_token_cookie=" in granted.headers.getlist("Set-Cookie")[2]
    answers = [sign_in(attacker) for _ in range(20)]
    assert Counter(answer.status_code for answer in answers) == {401: 10, 429: 10}
    assert answers[-1].json["code"] == "too_many_attempts" and int(answers[-1].headers["Retry-After"])
    assert sign_in(attacker, PASSWORD).status_code == 429
    assert sign_in(owner, PASSWORD).status_code == 200
    # The routes of the API count the same account.
    assert login(app.test_client()).status_code == 429


def test_a_device_token_may_come_in_the_body() -> None:
    app, _ = by_hand()
    client = app.test_client(use_cookies=False)
    device = sign_in(client, PASSWORD, delivery="body").json["device_token"]
    while sign_in(client).status_code == 401:
        pass
    assert sign_in(client, PASSWORD).status_code == 429
    assert sign_in(client, PASSWORD, device=device).status_code == 200


def test_right_passwords_cost_nothing_and_what_breaks_has_failed() -> None:
    app, _ = by_hand(PROPAGATE_EXCEPTIONS=False)
    client = app.test_client(use_cookies=False)
    assert {sign_in(client, PASSWORD).status_code for _ in range(30)} == {200}
    broken = [sign_in(client, PASSWORD, broken=True).status_code for _ in range(12)]
    assert Counter(broken) == {500: 10, 429: 2}


def test_an_attempt_is_settled_once() -> None:
    app, auth = by_hand()
    with app.app_context():
        with auth.service.attempt("ada") as attempt:
            attempt.failed()
        with pytest.raises(RuntimeError):
            attempt.failed()
        with pytest.raises(RuntimeError):
            auth.service.login("1", attempt=attempt)


def test_an_app_that_makes_tokens_of_its_own_settles_by_itself() -> None:
    app, auth = by_hand()
    with app.app_context():
        for _ in range(20):
            with auth.service.attempt("ada") as attempt:
                device = attempt.succeeded()
        for _ in range(10):
            auth.service.attempt("ada").failed()
        with pytest.raises(DoorwardError) as refused:
            auth.service.attempt("ada")
        assert refused.value.error == "too_many_attempts" and device
        auth.service.attempt("ada", device_token=device).succeeded()


def test_users_of_the_apps_own_are_throttled_too() -> None:
    app = bare()
    auth = Doorward(app)
    asked = []

    @auth.check_credentials
    def check(username: str, password: str) -> str | None:
        asked.append(username)
        return "1" if password == PASSWORD else None

    client = app.test_client()
    device = login(client, delivery="body").json["device_token"]
    answers = Counter(client.post(f"{PREFIX}/login", json=WRONG).status_code for _ in range(15))
    assert answers == {401: 10, 429: 5}
    assert len(asked) == 11
    assert login(client, device_token=device).status_code == 200


def test_known_unknown_and_refused_users_take_one_hash_each() -> None:
    app = bare()
    auth = Doorward(app)
    hashed = {}

    @auth.find_user
    def find_user(username: str) -> tuple[str, str] | None:
        if username == "refused":
            raise Refused
        return ("1", hashed["hash"]) if username == "ada" else None

    client, door = app.test_client(), app.extensions["doorward"]["auth"].door
    with app.app_context():
        hashed["hash"] = auth.service.hash_password(PASSWORD)
    for username in ("ada", "refused", "nobody"):
        before = door.hashes()
        answers = [client.post(f"{PREFIX}/login", json=WRONG | {"username": username}) for _ in range(12)]
        assert Counter(answer.status_code for answer in answers) == {401: 10, 429: 2}
        assert door.hashes() - before == 10, username


def test_it_can_be_switched_off_and_that_is_pointed_out(caplog) -> None:
    app = bare(DOORWARD_THROTTLE=False)
    auth = Doorward(app)
    client = app.test_client()
    with caplog.at_level(logging.WARNING):
        add_ada(app, auth)
        answers = Counter(client.post(f"{PREFIX}/login", json=WRONG).status_code for _ in range(20))
    assert answers == {401: 20} and "throttle is off" in caplog.text


def test_budgets_are_settings() -> None:
    app = bare(DOORWARD_THROTTLE_ACCOUNT="2/15m", DOORWARD_THROTTLE_NETWORK="off")
    add_ada(app, Doorward(app))
    client = app.test_client()
    assert [client.post(f"{PREFIX}/login", json=WRONG).status_code for _ in range(3)] == [401, 401, 429]
    for wrong in ("10", "off", "0/1m", "10/15x"):
        with pytest.raises(ConfigError, match="DOORWARD_THROTTLE_ACCOUNT"):
            Doorward(bare(DOORWARD_THROTTLE_ACCOUNT=wrong))
    with pytest.raises(ConfigError, match="DOORWARD_DEVICE_COOKIE_PATH"):
        Doorward(bare(DOORWARD_DEVICE_COOKIE_PATH="/elsewhere"))
