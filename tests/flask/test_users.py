"""The app's own users: what the callbacks answer, at once or awaited."""

import functools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash

from flask_doorward import Doorward, Refused
from flask_doorward.users import text_of

from apps import PASSWORD, add_ada, bare, bearer, login, protected


class Table:
    """A user table: id and hash by name."""

    def __init__(self) -> None:
        app, auth = protected()
        with app.app_context():
            self.rows: dict[str, tuple[int, str]] = {"ada": (7, auth.service.hash_password(PASSWORD))}

    def by_name(self, name: str) -> tuple[int, str] | None:
        return self.rows.get(name)

    def by_id(self, user_id: str) -> tuple[int, str] | None:
        return next((row for row in self.rows.values() if str(row[0]) == user_id), None)

    def save(self, user_id: str, password_hash: str) -> None:
        name = next(name for name, row in self.rows.items() if str(row[0]) == user_id)
        self.rows[name] = (int(user_id), password_hash)

    def add(self, name: str, password_hash: str) -> int | None:
        if name in self.rows:
            return None
        self.rows[name] = (len(self.rows) + 7, password_hash)
        return self.rows[name][0]


def awaited(callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    async def later(*args: Any) -> Any:
        return callback(*args)

    return later


@pytest.fixture(params=["at once", "awaited", "partial"])
def own(request: pytest.FixtureRequest) -> tuple[FlaskClient, Table]:
    ways: dict[str, Callable[..., Any]] = {
        "at once": lambda callback: callback,
        "awaited": awaited,
        "partial": lambda callback: functools.partial(awaited(callback)),
    }
    way = ways[request.param]
    app = bare(DOORWARD_REGISTER=True)
    auth = Doorward(app)
    table = Table()
    auth.find_user(way(table.by_name))
    auth.find_user_by_id(way(table.by_id))
    auth.save_password_hash(way(table.save))
    auth.register_user(way(table.add))
    return app.test_client(), table


def test_a_hash_of_the_apps_is_checked(own: tuple[FlaskClient, Table]) -> None:
    client, _ = own
    assert login(client).json["user"] == {"id": "7", "username": "ada"}
    assert login(client, password="wrong wrong").json["code"] == "invalid_credentials"
    assert login(client, username="eve").json["code"] == "invalid_credentials"


def test_a_password_is_confirmed_and_changed(own: tuple[FlaskClient, Table]) -> None:
    client, table = own
    login(client)
    again = client.post("/api/v1/reauthenticate", json={"password": PASSWORD})
    assert again.status_code == 200
    wrong = client.post("/api/v1/reauthenticate", json={"password": "wrong wrong"})
    assert wrong.json["code"] == "invalid_credentials" and wrong.status_code == 403
    before = table.rows["ada"]
    weak = client.post("/api/v1/password", json={"current": PASSWORD, "new": "short"})
    assert weak.status_code == 422 and table.rows["ada"] == before
    new = {"current": PASSWORD, "new": "a new correct horse"}
    assert client.post("/api/v1/password", json=new).status_code == 200
    assert login(client).status_code == 401
    assert login(client, password="a new correct horse").status_code == 200


def test_somebody_registers(own: tuple[FlaskClient, Table]) -> None:
    client, _ = own
    asked = {"username": "bob", "password": PASSWORD}
    assert client.post("/api/v1/register", json=asked).status_code == 201
    assert client.post("/api/v1/register", json=asked).json["code"] == "username_taken"
    assert login(client, username="bob").json["user"]["id"] == "8"


def test_a_hash_of_another_cost_is_made_anew() -> None:
    app = bare(DOORWARD_PASSWORD_ITERATIONS=2)
    auth, table = Doorward(app), Table()
    auth.find_user(table.by_name)
    auth.save_password_hash(table.save)
    before = table.rows["ada"]
    assert login(app.test_client(), password="wrong wrong").status_code == 401
    assert table.rows["ada"] == before
    assert login(app.test_client()).status_code == 200
    assert table.rows["ada"] != before and "t=2" in table.rows["ada"][1]


@pytest.mark.parametrize(
    "made",
    [
        # Werkzeug 3.1.9, Django 5.2.19 (twice), bcrypt 5.0.0.
        "pbkdf2:sha256:1000$NTihigPWPcPfvIgB$9da9384b4c1b782df16a441cf659d88a2570909b703b82f258c8acf33efc5983",
        "pbkdf2_sha256$1000$saltsalt$2vLrmxK8YFROnGTL6oinO4bfT02gvTppeFbz7HWz5X0=",
        "argon2$argon2id$v=19$m=64,t=2,p=2$c2FsdHNhbHRzYWx0$/yNDM406JuBl3/Cw6EKTful1e3hfuf9CiAThEdCtfX4",
        "$2b$04$70ZbdaGUYOSwW45/xL6WHu94GB2oNpkE7YzVXXN3JjwXzG0XU5ZHq",
        generate_password_hash(PASSWORD),
    ],
)
def test_a_hash_of_other_making_is_replaced_once(made: str, caplog: pytest.LogCaptureFixture) -> None:
    app = bare()
    auth, table = Doorward(app), Table()
    table.rows["ada"] = (7, made)
    auth.find_user(table.by_name)
    auth.save_password_hash(table.save)
    assert login(app.test_client(), password="wrong wrong").status_code == 401
    assert table.rows["ada"] == (7, made)
    assert login(app.test_client()).status_code == 200
    replaced = table.rows["ada"]
    assert replaced[1].startswith("$argon2id$v=19$")
    assert login(app.test_client()).status_code == 200
    assert table.rows["ada"] == replaced and "no known form" not in caplog.text


def elsewhere(database: Path, sql: str) -> str:
    """What another process reads or writes: in this one SQLite's locks would be lost."""
    code = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); print(*db.execute(sys.argv[2])); db.commit()"
    command = [sys.executable, "-c", code, database, sql]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_built_in_account_that_was_brought_along_gets_a_hash_of_ours(tmp_path: Path) -> None:
    database = tmp_path / "doorward.db"
    app = bare(DOORWARD_STORE=f"sqlite://{database}")
    add_ada(app, Doorward(app))
    elsewhere(database, f"UPDATE accounts SET password_hash = '{generate_password_hash(PASSWORD)}'")
    assert [login(app.test_client()).status_code for _ in range(2)] == [200, 200]
    assert "$argon2id$" in elsewhere(database, "SELECT password_hash FROM accounts")


@pytest.mark.parametrize("way", [lambda callback: callback, awaited])
def test_the_app_may_check_credentials_itself(way: Callable[..., Any]) -> None:
    app = bare()
    auth = Doorward(app)
    auth.check_credentials(way(lambda name, password: 0 if password == PASSWORD else None))
    auth.check_password(way(lambda user_id, password: password == PASSWORD))
    client = app.test_client()
    assert login(client).json["user"]["id"] == "0"
    assert login(client, password="wrong wrong").status_code == 401
    assert client.post("/api/v1/reauthenticate", json={"password": PASSWORD}).status_code == 200
    assert client.post("/api/v1/reauthenticate", json={"password": "no"}).status_code == 403


@pytest.mark.parametrize("answer", [True, 1.5, object(), ["7"]])
def test_what_is_no_id_is_nobodys(answer: object) -> None:
    app = bare()
    auth = Doorward(app)
    auth.check_credentials(lambda name, password: answer)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError):
        login(app.test_client())


def test_false_is_nobody() -> None:
    app = bare()
    auth = Doorward(app)
    auth.check_credentials(lambda name, password: False)
    assert login(app.test_client()).status_code == 401


def test_an_id_is_a_text_or_a_number() -> None:
    assert text_of(7) == "7" and text_of("ada") == "ada"


def test_what_no_callback_answers_is_not_there() -> None:
    app = bare(DOORWARD_REGISTER=True)
    auth = Doorward(app)
    auth.find_user(lambda name: None)
    client = app.test_client()
    for path in ("reauthenticate", "password", "register"):
        answer = client.post(f"/api/v1/{path}", json={"password": "x"})
        assert (path, answer.status_code) == (path, 404)
    described = client.get("/api/v1/openapi.json").json["paths"]
    assert "/login" in described and not {"/reauthenticate", "/password", "/register"} & set(described)


def test_claims_are_asked_for_at_login_and_at_each_refresh() -> None:
    app, auth = protected()
    roles = ["admin", "guest"]
    auth.claims_loader(lambda user_id: {"role": roles.pop(0)})
    add_ada(app, auth)
    client = app.test_client()
    tokens = login(client, delivery="body").json
    renewed = client.post("/api/v1/refresh", json={"refresh_token": tokens["refresh_token"]}).json
    with app.app_context():
        claims = [auth.service.verify(t["access_token"]).claims["role"] for t in (tokens, renewed)]
    assert claims == ["admin", "guest"]


def test_claims_that_are_gone_are_gone_from_the_next_token() -> None:
    app, auth = protected()
    answers: list[dict[str, str] | None] = [{"role": "admin"}, None]
    auth.claims_loader(lambda user_id: answers.pop(0))
    add_ada(app, auth)
    client = app.test_client()
    tokens = login(client, delivery="body").json
    renewed = client.post("/api/v1/refresh", json={"refresh_token": tokens["refresh_token"]}).json
    with app.app_context():
        assert "role" not in auth.service.verify(renewed["access_token"]).claims


def test_a_loader_that_refuses_fails_the_login_and_ends_the_session() -> None:
    app, auth = protected()
    refuses = [False]

    @auth.claims_loader
    async def claims(user_id: str) -> dict[str, str]:
        if refuses[0]:
            raise Refused
        return {}

    add_ada(app, auth)
    client = app.test_client()
    tokens = login(client, delivery="body").json
    refuses[0] = True
    renewed = client.post("/api/v1/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert (renewed.status_code, renewed.json["reason"]) == (401, "disabled")
    assert login(client).json["code"] == "invalid_credentials"


@pytest.mark.parametrize("accounts", ["built in", "own"])
def test_a_new_password_comes_with_the_claims(accounts: str) -> None:
    app, auth = protected()
    if accounts == "own":
        table = Table()
        auth.find_user(table.by_name)
        auth.find_user_by_id(table.by_id)
        auth.save_password_hash(table.save)
    auth.claims_loader(lambda user_id: {"role": "guest"})
    if accounts == "built in":
        add_ada(app, auth)
    client = app.test_client()
    tokens = login(client, delivery="body").json
    asked = {"current": PASSWORD, "new": "a new correct horse"}
    changed = client.post("/api/v1/password", json=asked, headers=bearer(tokens["access_token"])).json
    with app.app_context():
        assert auth.service.verify(changed["access_token"]).claims["role"] == "guest"


def test_claims_that_cannot_be_used_leave_the_password_as_it_was(own: tuple[FlaskClient, Table]) -> None:
    client, table = own
    login(client)
    auth = client.application.extensions["doorward"]["auth"]
    auth.callbacks.claims_loader = lambda user_id: {"sub": "somebody else"}
    before = table.rows["ada"]
    with pytest.raises(ValueError, match="registered name"):
        client.post("/api/v1/password", json={"current": PASSWORD, "new": "a new correct horse"})
    assert table.rows["ada"] == before and client.get("/api/v1/session").status_code == 200


def test_claims_that_are_no_dict_are_a_mistake() -> None:
    app, auth = protected()
    auth.claims_loader(lambda user_id: ["admin"])  # type: ignore[arg-type, return-value]
    add_ada(app, auth)
    with pytest.raises(TypeError, match="claims are a dict"):
        login(app.test_client())


def test_a_password_check_that_says_neither_is_a_mistake() -> None:
    app = bare()
    auth = Doorward(app)
    auth.check_password(lambda user_id, password: "yes")  # type: ignore[arg-type, return-value]
    client = app.test_client()
    client.login("7")
    with pytest.raises(TypeError):
        client.post("/api/v1/reauthenticate", json={"password": "x"})


def test_a_late_callback_counts_but_not_where_it_would_lose_what_is_in_memory(tmp_path: Path) -> None:
    app, auth = protected(DOORWARD_STORE=f"sqlite://{tmp_path}/doorward.db")
    add_ada(app, auth)
    auth.claims_loader(lambda user_id: {})
    assert login(app.test_client()).status_code == 200
    app, auth = protected()
    add_ada(app, auth)
    auth.claims_loader(lambda user_id: {})
    with pytest.raises(RuntimeError, match="before the first use"):
        login(app.test_client())


def test_a_user_may_be_refused_by_any_callback() -> None:
    app = bare()
    auth = Doorward(app)

    @auth.check_credentials
    def check(username: str, password: str) -> str:
        raise Refused

    assert login(app.test_client()).json["code"] == "invalid_credentials"


def test_the_time_does_not_tell_whom_the_app_refuses() -> None:
    app = bare(DOORWARD_PASSWORD_ITERATIONS=4, DOORWARD_PASSWORD_MEMORY_KIB=19_456)
    auth = Doorward(app)

    @auth.find_user
    def find_user(username: str) -> None:
        if username == "eve":
            raise Refused

    client = app.test_client()
    login(client)
    assert quickest(client, "eve") > quickest(client, "nobody") / 4


def quickest(client: FlaskClient, username: str) -> float:
    def seconds() -> float:
        start = time.perf_counter()
        login(client, username=username)
        return time.perf_counter() - start

    return min(seconds() for _ in range(3))


def test_a_hash_that_no_password_matches_is_pointed_out_once(caplog: pytest.LogCaptureFixture) -> None:
    app = bare()
    auth = Doorward(app)
    auth.find_user(lambda username: ("7", "sha256$x$y"))
    client = app.test_client()
    assert [login(client).status_code for _ in range(3)] == [401] * 3
    assert caplog.text.count("no known form") == 1
