"""The app's callbacks: asked as the original asks them; and where that is unsafe, safely."""

import asyncio
import json
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import flask_doorward.jwt_extended as ours
import jwt
import pytest
from flask import Blueprint, Flask, g, jsonify, render_template_string
from flask_doorward.jwt_extended import exceptions, view_decorators
from twins import OURS, SECRET, THEIRS, Twins, answer, build
from werkzeug.local import LocalProxy

NOW = int(time.time())
CLAIMS: dict[str, Any] = {
    "sub": "ada",
    "type": "access",
    "fresh": False,
    "jti": "1",
    "exp": NOW + 3600,
}


def bearer(**claims: Any) -> dict[str, str]:
    return {"Authorization": "Bearer " + jwt.encode({**CLAIMS, **claims}, SECRET)}


def refuse(name: str) -> Any:
    def callback(*arguments: Any) -> Any:
        return jsonify(callback=name, arguments=arguments), 418

    return callback


ANSWERS = [
    "expired_token",
    "invalid_token",
    "needs_fresh_token",
    "revoked_token",
    "unauthorized",
    "token_verification_failed",
    "user_lookup_error",
]


def with_callbacks(app: Flask, extension: Any, manager: Any) -> None:
    for name in ANSWERS:
        getattr(manager, f"{name}_loader")(refuse(name))
    manager.token_in_blocklist_loader(lambda header, claims: claims["jti"] == "revoked")
    manager.token_verification_loader(lambda header, claims: claims["jti"] != "unverified")
    manager.user_lookup_loader(
        lambda header, claims: None if claims["sub"] == "eve" else claims["sub"].title()
    )

    @app.get("/me")
    @extension.jwt_required(optional=True)
    def me() -> Any:
        return jsonify(user=extension.current_user and extension.get_current_user())


REQUESTS: dict[str, dict[str, str]] = {
    "good": bearer(),
    "expired": bearer(exp=NOW - 9),
    "no text": bearer(sub=7),
    "revoked": bearer(jti="revoked"),
    "unverified": bearer(jti="unverified"),
    "unknown": bearer(sub="eve"),
    "missing": {},
    "malformed": {"Authorization": "Bearer x"},
    "refresh": bearer(type="refresh"),
    "revoked and expired": bearer(jti="revoked", exp=1),
    "revoked refresh": bearer(jti="revoked", type="refresh"),
}


@pytest.mark.parametrize("prepare", [None, with_callbacks])
@pytest.mark.parametrize("name", REQUESTS)
def test_callbacks_are_asked_alike(prepare: Any, name: str) -> None:
    twins = Twins(prepare)
    for path in ("protected", "optional", "fresh", "refresh", "any", "me"):
        twins.agree(path, headers=REQUESTS[name])


def test_the_revocation_check_can_be_skipped() -> None:
    def prepare(app: Flask, extension: Any, manager: Any) -> None:
        manager.token_in_blocklist_loader(lambda *_: True)
        view = extension.jwt_required(skip_revocation_check=True)(lambda: "passed")
        app.add_url_rule("/skip", view_func=view)

    twins = Twins(prepare)
    assert twins.agree("skip", headers=bearer()).status == 200
    assert twins.agree("protected", headers=bearer()).status == 401


def test_a_user_may_be_a_proxy() -> None:
    def prepare(app: Flask, extension: Any, manager: Any) -> None:
        manager.user_lookup_loader(lambda _, claims: LocalProxy(lambda: {"name": claims["sub"]}))
        view = extension.jwt_required()(lambda: jsonify(extension.current_user["name"]))
        app.add_url_rule("/name", "name", view)

    assert Twins(prepare).agree("/name", headers=bearer()).body == b'"ada"\n'


def test_a_user_that_is_false_is_a_user() -> None:
    def prepare(app: Flask, extension: Any, manager: Any) -> None:
        manager.user_lookup_loader(lambda *_: 0)
        view = extension.jwt_required()(lambda: {"user": extension.get_current_user()})
        app.add_url_rule("/zero", view_func=view)

    assert Twins(prepare).agree("zero", headers=bearer()).body == b'{"user":0}\n'


def test_templates_know_the_current_user() -> None:
    app = Flask(__name__)
    app.config["JWT_SECRET_KEY"] = SECRET
    manager = ours.JWTManager(app, add_context_processor=True)
    manager.user_lookup_loader(lambda header, claims: SimpleNamespace(name=claims["sub"]))
    app.add_url_rule(
        "/",
        view_func=ours.jwt_required()(lambda: render_template_string("{{ current_user.name }}")),
    )
    assert answer(app, "/", headers=bearer()).body == b"ada"


def test_outside_of_a_protected_view_there_is_no_token() -> None:
    with build(OURS, {}).test_request_context():
        for ask in (
            ours.get_jwt,
            ours.get_jwt_header,
            ours.get_jwt_identity,
            ours.get_current_user,
        ):
            with pytest.raises(RuntimeError, match="jwt_required"):
                ask()
        assert ours.get_jwt_request_location() is None


def test_without_a_lookup_there_is_no_current_user() -> None:
    with build(OURS, {}).test_request_context(headers=bearer()):
        ours.verify_jwt_in_request()
        with pytest.raises(RuntimeError, match="user_lookup_loader"):
            ours.get_current_user()


def test_an_app_without_the_extension_is_told_so() -> None:
    app = Flask(__name__)
    with app.app_context(), pytest.raises(RuntimeError, match="JWTManager"):
        ours.create_access_token("ada")


def test_header_and_claims_are_returned_and_kept() -> None:
    with build(OURS, {}).test_request_context(headers=bearer()):
        header, claims = ours.verify_jwt_in_request()
        assert (header, claims) == ({"alg": "HS256", "typ": "JWT"}, CLAIMS)
        assert ours.get_jwt() is claims and ours.get_jwt_header() is header
        claims["sub"] = "changed"
        assert ours.get_jwt_identity() == "changed"


def test_apps_replace_the_verification_in_their_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    app = build(OURS, {})
    monkeypatch.setattr(
        view_decorators,
        "verify_jwt_in_request",
        lambda *_, **__: setattr(g, "_jwt_extended_jwt", {"sub": "bob"}),
    )
    app.add_url_rule("/who", view_func=ours.jwt_required()(lambda: ours.get_jwt_identity()))
    assert answer(app, "who").body == b"bob"


class Suspicious(ours.JWTManager):
    """Refuses more than a signature tells."""

    def _decode_jwt_from_config(
        self, encoded_token: str, csrf_value: str | None = None, allow_expired: bool = False
    ) -> dict[str, Any]:
        claims = super()._decode_jwt_from_config(encoded_token, csrf_value, allow_expired)
        if claims["sub"] == "mallory":
            raise exceptions.JWTDecodeError("Not you")
        return {**claims, "looked_at": True}


def test_a_manager_that_decodes_in_its_own_way_is_asked() -> None:
    app = build(OURS, {})
    Suspicious(app)
    refused = answer(app, "/protected", headers=bearer(sub="mallory"))
    assert (refused.status, refused.body) == (422, b'{"msg":"Not you"}\n')
    opened = answer(app, "/protected", headers=bearer())
    assert json.loads(opened.body)["claims"]["looked_at"]
    assert json.loads(opened.body)["header"] == {"alg": "HS256", "typ": "JWT"}


def test_a_manager_that_encodes_in_its_own_way_is_asked_by_keywords() -> None:
    class Stamping(ours.JWTManager):
        def _encode_jwt_from_config(self, *, claims: Any, **more: Any) -> str:
            return super()._encode_jwt_from_config(claims={**(claims or {}), "stamp": 1}, **more)

    app = Flask(__name__)
    app.config["JWT_SECRET_KEY"] = SECRET
    Stamping(app)
    with app.app_context():
        for make in (ours.create_access_token, ours.create_refresh_token):
            assert ours.decode_token(make("ada"))["stamp"] == 1


@pytest.mark.parametrize("name", ["_decode_jwt_from_request", "decode_token"])
def test_apps_replace_the_decoding_in_their_tests(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = {**CLAIMS, "sub": "grace"}
    decided = claims if name == "decode_token" else (claims, {"alg": "HS256"}, "headers")
    twins = Twins()
    for library in (OURS, THEIRS):
        monkeypatch.setattr(f"{library}.view_decorators.{name}", lambda *_, **__: decided)
    assert b"grace" in twins.agree("/protected", headers=bearer()).body


def test_one_extension_serves_apps_with_other_settings() -> None:
    manager = ours.JWTManager()
    apps = []
    for algorithm in ("HS256", "HS512"):
        app = Flask(algorithm)
        app.config.update(JWT_SECRET_KEY=SECRET, JWT_ALGORITHM=algorithm)
        manager.init_app(app)
        app.add_url_rule("/", view_func=ours.jwt_required()(lambda: "passed"))
        apps.append(app)
    for _ in range(2):
        for app in apps:
            with app.app_context():
                token = ours.create_access_token("ada")
            statuses = [
                answer(each, "/", headers={"Authorization": f"Bearer {token}"}).status
                for each in apps
            ]
            assert statuses == [200 if each is app else 422 for each in apps]


def test_settings_are_read_when_they_are_used() -> None:
    twins = Twins()
    for chosen in (
        {"JWT_DECODE_LEEWAY": 60},
        {"JWT_DECODE_LEEWAY": timedelta(0)},
        {"JWT_DECODE_AUDIENCE": []},
    ):
        for app in twins.apps:
            app.config.update(chosen)
        twins.agree("protected", headers=bearer(exp=NOW - 9))
    for app in twins.apps:
        app.config["JWT_DECODE_AUDIENCE"].append("me")
    assert twins.agree("protected", headers=bearer(aud="me")).status == 200


# Where the original is unsafe.


def test_a_shared_dictionary_of_claims_is_not_changed() -> None:
    shared_claims, shared_headers = {"role": "user"}, {"x": 1}
    app = build(OURS, {})
    manager = app.extensions["flask-jwt-extended"]
    manager.additional_claims_loader(lambda _: shared_claims)
    manager.additional_headers_loader(lambda _: shared_headers)
    with app.app_context():
        ours.create_access_token(
            "ada", additional_claims={"role": "admin"}, additional_headers={"x": 2}
        )
        assert ours.decode_token(ours.create_access_token("bob"))["role"] == "user"
    assert (shared_claims, shared_headers) == ({"role": "user"}, {"x": 1})


def test_the_apps_list_of_algorithms_is_not_changed() -> None:
    chosen = ["HS512"]
    assert (
        answer(build(OURS, {"JWT_DECODE_ALGORITHMS": chosen}), "protected", headers=bearer()).status
        == 200
    )
    assert chosen == ["HS512"]


def asynchronous(answered: Any) -> Any:
    async def callback(*_: Any) -> Any:
        await asyncio.sleep(0)
        return answered

    return callback


class Callable:
    async def __call__(self, *_: Any) -> bool:
        return False


def test_asynchronous_callbacks_are_awaited() -> None:
    app = build(OURS, {})
    manager = app.extensions["flask-jwt-extended"]
    assert answer(app, "protected", headers=bearer()).status == 200
    manager.token_verification_loader(Callable())
    assert answer(app, "protected", headers=bearer()).status == 400
    manager.token_verification_loader(asynchronous(True))
    manager.token_in_blocklist_loader(asynchronous(True))
    assert answer(app, "protected", headers=bearer()).status == 401
    manager.token_in_blocklist_loader(asynchronous(False))
    manager.user_lookup_loader(asynchronous(None))
    assert answer(app, "protected", headers=bearer()).status == 401
    for name in ANSWERS:
        getattr(manager, f"{name}_loader")(asynchronous((name, 418)))
    assert answer(app, "protected", headers=bearer()).body == b"user_lookup_error"
    manager.decode_key_loader(asynchronous(SECRET[::-1]))
    assert answer(app, "protected", headers=bearer()).body == b"invalid_token"


def test_asynchronous_callbacks_make_tokens() -> None:
    app = build(OURS, {})
    manager = app.extensions["flask-jwt-extended"]
    manager.additional_claims_loader(asynchronous({"role": "user"}))
    manager.additional_headers_loader(asynchronous({"kid": "1"}))
    manager.user_identity_loader(asynchronous("ada"))
    manager.encode_key_loader(asynchronous(SECRET))
    with app.app_context():
        token = ours.create_access_token(object())
        assert ours.get_unverified_jwt_headers(token)["kid"] == "1"
        claims = ours.decode_token(token)
    assert (claims["sub"], claims["role"]) == ("ada", "user")


def test_asynchronous_views_are_awaited() -> None:
    def prepare(app: Flask, extension: Any, _: Any) -> None:
        @app.get("/async")
        @extension.jwt_required()
        async def view() -> Any:
            await asyncio.sleep(0)
            return {"user": extension.get_jwt_identity()}

    twins = Twins(prepare)
    assert twins.agree("async", headers=bearer()).body == b'{"user":"ada"}\n'
    assert twins.agree("async").status == 401


@pytest.mark.parametrize("kind", ["other", "", None, 7, ["access"], True])
def test_a_token_of_an_unknown_type_is_refused(kind: Any) -> None:
    app = build(OURS, {})
    for path in ("protected", "optional", "refresh", "fresh"):
        assert answer(app, path, headers=bearer(type=kind)).status == 422


@pytest.mark.parametrize("fresh", ["yes", None, [], "99999999999"])
def test_freshness_of_no_known_form_is_none(fresh: Any) -> None:
    assert answer(build(OURS, {}), "fresh", headers=bearer(fresh=fresh)).status == 401


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_read_in_any_case(scheme: str) -> None:
    headers = {"Authorization": bearer()["Authorization"].replace("Bearer", scheme)}
    assert answer(build(OURS, {}), "protected", headers=headers).status == 200


@pytest.mark.parametrize("csrf", [7, None, "", ["x"], "é"])
def test_a_double_submit_value_of_no_known_form_matches_nothing(csrf: Any) -> None:
    app = build(OURS, {"JWT_TOKEN_LOCATION": ["cookies"]})
    for value in ("x", "7", "None", "é".encode().decode("latin1")):
        given = answer(
            app,
            "protected",
            method="POST",
            headers={"X-CSRF-TOKEN": value},
            cookies={"access_token_cookie": bearer(csrf=csrf)["Authorization"].split()[1]},
        )
        assert given.status == 401


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"7", b"true", b'[{"access_token": "x"}]'])
def test_a_body_that_is_no_object_holds_no_token(body: bytes) -> None:
    given = answer(
        build(OURS, {}), "anywhere", method="POST", data=body, content_type="application/json"
    )
    assert given.status == 401


def own(app: Flask, _: Any, __: Any) -> None:
    """The app reads a token of its own, of a mail or a link."""

    @app.get("/own")
    def own_token() -> Any:
        return jwt.decode(jwt.encode({"exp": 1}, SECRET), SECRET, algorithms=["HS256"])


def test_an_expired_token_of_the_apps_own_is_no_server_error() -> None:
    ours_, theirs = Twins(own).answers("own")
    assert (ours_.status, ours_.body) == (422, b'{"msg":"Signature has expired"}\n')
    assert theirs.status == 500


def test_the_apps_own_handler_for_it_is_asked_first() -> None:
    def prepare(app: Flask, extension: Any, manager: Any) -> None:
        own(app, extension, manager)
        app.register_error_handler(jwt.ExpiredSignatureError, lambda error: (f"own: {error}", 410))

    assert Twins(prepare).agree("own").body == b"own: Signature has expired"


def test_a_short_secret_is_pointed_out_once(caplog: pytest.LogCaptureFixture) -> None:
    app = build(OURS, {"JWT_SECRET_KEY": "short"})
    for _ in range(3):
        assert answer(app, "protected", headers=bearer()).status == 422
    assert [record.args for record in caplog.records] == [(5,)]


def test_a_set_of_locations_is_in_order_of_nothing_but_works() -> None:
    app = build(
        OURS, {"JWT_TOKEN_LOCATION": {"headers", "cookies"}, "JWT_COOKIE_CSRF_PROTECT": False}
    )
    assert answer(app, "protected", headers=bearer()).status == 200
    assert b"Missing JWT in " in answer(app, "protected").body


def test_blueprints_can_be_protected_as_a_whole() -> None:
    def prepare(app: Flask, extension: Any, _: Any) -> None:
        inner = Blueprint("inner", __name__, url_prefix="/inner")
        inner.before_request(lambda: extension.verify_jwt_in_request() and None)
        inner.add_url_rule("/", view_func=lambda: extension.get_jwt_identity())
        app.register_blueprint(inner)

    twins = Twins(prepare)
    assert twins.agree("inner/", headers=bearer()).body == b"ada"
    assert twins.agree("inner/").status == 401


def test_refusals_are_exceptions_that_apps_can_catch() -> None:
    app = build(OURS, {})
    with app.test_request_context(), pytest.raises(exceptions.NoAuthorizationError):
        ours.verify_jwt_in_request()
    with app.test_request_context(headers=bearer(exp=1)), pytest.raises(jwt.ExpiredSignatureError):
        ours.verify_jwt_in_request()
    with (
        app.test_request_context(headers=bearer(type="refresh")),
        pytest.raises(exceptions.WrongTokenError),
    ):
        ours.verify_jwt_in_request()
