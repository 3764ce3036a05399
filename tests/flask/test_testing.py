"""What apps test themselves with."""

import pytest

from flask_doorward import Doorward

from apps import bare, protected


@pytest.mark.parametrize("delivery", ["cookie", "body"])
def test_a_client_is_logged_in_and_out(delivery: str) -> None:
    app, _ = protected()
    client = app.test_client()
    client.login("7", delivery=delivery)
    assert client.get("/api/v1/hello").json == {"id": "7"}
    assert client.get("/api/v1/session").status_code == 200
    client.logout()
    assert client.get("/api/v1/hello").json["code"] == "token_missing"


def test_logout_ends_the_session() -> None:
    app, auth = protected()
    client = app.test_client()
    tokens = client.login("7", delivery="body")
    client.logout()
    with app.app_context():
        assert auth.service.sessions_of("7") == []
        with pytest.raises(Exception, match="ended"):
            auth.service.verify(tokens.access_token)


def test_claims_are_given_as_keywords() -> None:
    app, auth = protected()
    client = app.test_client()
    tokens = client.login(7, role="admin")
    with app.app_context():
        assert auth.service.verify(tokens.access_token).claims["role"] == "admin"


def test_cookies_of_a_client_refresh() -> None:
    app, _ = protected()
    client = app.test_client()
    client.login("7")
    assert client.post("/api/v1/refresh").status_code == 200


def test_a_client_is_logged_in_by_the_header_that_is_configured() -> None:
    app, _ = protected(JWT_HEADER_NAME="X-Token", JWT_HEADER_TYPE="", JWT_TOKEN_LOCATION="headers")
    client = app.test_client()
    client.login("7")
    assert client.get("/api/v1/hello").status_code == 200


def test_a_client_is_logged_in_at_several_instances() -> None:
    app = bare()
    auth = Doorward(app)
    other = {"JWT_ACCESS_COOKIE_NAME": "a", "JWT_REFRESH_COOKIE_NAME": "r"}
    admin = Doorward(app, name="admin", url_prefix="/admin", config=other)
    app.add_url_rule("/admin/x", "x", admin.required(lambda: admin.current_session.user_id))
    app.add_url_rule("/api/v1/y", "y", auth.required(lambda: auth.current_session.user_id))
    client = app.test_client()
    client.login("7")
    client.login("1", instance="admin")
    assert client.get("/admin/x").text == "1" and client.get("/api/v1/y").text == "7"
    client.logout(instance="admin")
    assert client.get("/admin/x").status_code == 401 and client.get("/api/v1/y").text == "7"


def test_the_last_login_counts_however_it_is_delivered() -> None:
    client = protected()[0].test_client()
    for user, delivery in [("1", "cookie"), ("2", "body"), ("3", "cookie")]:
        client.login(user, delivery=delivery)
        assert client.get("/api/v1/session").json["user"]["id"] == user
