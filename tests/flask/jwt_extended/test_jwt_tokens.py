"""Tokens: what one library makes, the other accepts; what both make is the same, byte for byte."""

import base64
import decimal
import enum
import importlib
import json
import math
import uuid
from datetime import date, datetime, timedelta, timezone
from typing import Any

import flask_doorward.jwt_extended as ours
import flask_doorward.jwt_extended.token_errors as errors
import jwt
import pytest
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from dateutil.relativedelta import relativedelta
from flask import Flask
from flask.json.provider import DefaultJSONProvider
from hypothesis import given, settings
from hypothesis import strategies as st
from twins import OURS, SECRET, THEIRS, Twins, answer, build

RSA = rsa.generate_private_key(65537, 2048)
SHORT = rsa.generate_private_key(65537, 1024)
#: As many bytes as 2,048 bits.
SHORT_BY_A_BIT = rsa.generate_private_key(65537, 2047)
KEYS: dict[str, Any] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "ES521": ec.generate_private_key(ec.SECP521R1()),
    "ES256K": ec.generate_private_key(ec.SECP256K1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
PAIRS = [(OURS, THEIRS), (THEIRS, OURS), (OURS, OURS)]


def private_pem(key: Any, form: Any = forms.PrivateFormat.PKCS8) -> str:
    return key.private_bytes(forms.Encoding.PEM, form, forms.NoEncryption()).decode()


def public_pem(key: Any, form: Any = forms.PublicFormat.SubjectPublicKeyInfo) -> str:
    return key.public_key().public_bytes(forms.Encoding.PEM, form).decode()


def accepts(maker: str, reader: str, **chosen: Any) -> None:
    """A token by `maker` opens a view that `reader` protects; a forged one does not."""
    makes, reads = build(maker, chosen), build(reader, chosen)
    with makes.app_context():
        token = importlib.import_module(maker).create_access_token("ada")
    opened = answer(reads, "protected", headers={"Authorization": f"Bearer {token}"})
    assert opened.status == 200, opened.body
    signature = token.rsplit(".", 1)[1]
    forged = token.replace(signature, ("B" if signature[0] != "B" else "C") + signature[1:])
    refused = answer(reads, "protected", headers={"Authorization": f"Bearer {forged}"})
    assert (refused.status, json.loads(refused.body)["msg"]) == (
        422,
        "Signature verification failed",
    )


@pytest.mark.parametrize(("maker", "reader"), PAIRS)
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_secrets_interchange(maker: str, reader: str, algorithm: str) -> None:
    accepts(maker, reader, JWT_ALGORITHM=algorithm)


@pytest.mark.parametrize(("maker", "reader"), PAIRS)
@pytest.mark.parametrize("algorithm", KEYS)
def test_key_pairs_interchange(maker: str, reader: str, algorithm: str) -> None:
    key = KEYS[algorithm]
    pair = {"JWT_PRIVATE_KEY": private_pem(key), "JWT_PUBLIC_KEY": public_pem(key)}
    accepts(maker, reader, JWT_ALGORITHM=algorithm, **pair)


@pytest.mark.parametrize(("maker", "reader"), PAIRS)
@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384"])
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("key", [SHORT, SHORT_BY_A_BIT], ids=[1024, 2047])
def test_short_rsa_keys_interchange(
    key: rsa.RSAPrivateKey, maker: str, reader: str, algorithm: str
) -> None:
    pair = {"JWT_PRIVATE_KEY": private_pem(key), "JWT_PUBLIC_KEY": public_pem(key)}
    accepts(maker, reader, JWT_ALGORITHM=algorithm, **pair)


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "ES384", "ES512", "ES256K"])
def test_old_forms_of_pem_are_read(algorithm: str) -> None:
    key = KEYS[algorithm]
    old = private_pem(key, forms.PrivateFormat.TraditionalOpenSSL)
    public = public_pem(key)
    if algorithm in ("RS256", "PS512"):
        public = public_pem(key, forms.PublicFormat.PKCS1)
    for private, other in ((f"\n\n {old}", f"\n\n{public}"), (old.encode(), public.encode())):
        pair = {"JWT_PRIVATE_KEY": private, "JWT_PUBLIC_KEY": other}
        accepts(OURS, OURS, JWT_ALGORITHM=algorithm, **pair)
        accepts(OURS, THEIRS, JWT_ALGORITHM=algorithm, **pair)


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA"])
def test_public_keys_of_ssh_are_read(algorithm: str) -> None:
    key = KEYS[algorithm]
    line = key.public_key().public_bytes(forms.Encoding.OpenSSH, forms.PublicFormat.OpenSSH)
    for public in (line.decode() + " ada@example.org", line):
        pair = {"JWT_PRIVATE_KEY": private_pem(key), "JWT_PUBLIC_KEY": public}
        accepts(OURS, OURS, JWT_ALGORITHM=algorithm, **pair)
        accepts(THEIRS, OURS, JWT_ALGORITHM=algorithm, **pair)


@pytest.mark.parametrize("begin", [b"ssh-", b"ssh-foo AAAA", b"ssh-dsa x", b"ssh-\xff", b"ecdsa-x"])
def test_a_secret_that_begins_like_a_key_of_ssh_is_a_secret(begin: bytes) -> None:
    accepts(THEIRS, OURS, JWT_SECRET_KEY=begin + b"x" * 32)


def test_parameters_before_an_ec_key_are_skipped() -> None:
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    key = KEYS["ES256"]
    private = parameters + private_pem(key, forms.PrivateFormat.TraditionalOpenSSL)
    pair = {"JWT_PRIVATE_KEY": private, "JWT_PUBLIC_KEY": public_pem(key)}
    accepts(OURS, OURS, JWT_ALGORITHM="ES256", **pair)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_key_objects_are_accepted(algorithm: str) -> None:
    key = KEYS[algorithm]
    pair = {"JWT_PRIVATE_KEY": key, "JWT_PUBLIC_KEY": key.public_key()}
    accepts(OURS, OURS, JWT_ALGORITHM=algorithm, **pair)
    accepts(THEIRS, OURS, JWT_ALGORITHM=algorithm, **pair)


KINDS = ["EdDSA", "ES256", "ES384", "ES256K", "RS256", "text", "Ed448"]
OTHERS = [(one, kind) for one in KEYS for kind in KINDS if KEYS[one] is not KEYS.get(kind)]


@pytest.mark.parametrize(("algorithm", "kind"), OTHERS)
def test_keys_of_another_kind_are_refused(algorithm: str, kind: str) -> None:
    key = ed448.Ed448PrivateKey.generate() if kind == "Ed448" else KEYS.get(kind)
    app = build(
        OURS,
        {
            "JWT_ALGORITHM": algorithm,
            "JWT_PRIVATE_KEY": private_pem(key) if key else "text",
            "JWT_PUBLIC_KEY": public_pem(key) if key else "text",
        },
    )
    token = jwt.encode({"sub": "ada"}, KEYS[algorithm], algorithm=algorithm)
    with app.app_context():
        with pytest.raises(jwt.InvalidKeyError):
            ours.create_access_token("ada")
        with pytest.raises(jwt.InvalidKeyError):
            ours.decode_token(token)


def test_ed448_is_refused_in_words() -> None:
    key = ed448.Ed448PrivateKey.generate()
    app = build(OURS, {"JWT_ALGORITHM": "EdDSA", "JWT_PRIVATE_KEY": private_pem(key)})
    with app.app_context(), pytest.raises(jwt.InvalidKeyError, match="Ed448"):
        ours.create_access_token("ada")


SECRETS_THAT_ARE_NONE = [
    public_pem(RSA),
    private_pem(RSA),
    public_pem(KEYS["ES256"]),
    public_pem(KEYS["EdDSA"]),
    public_pem(RSA, forms.PublicFormat.PKCS1),
    "\n\n" + public_pem(RSA),
    "ssh-rsa AAAAB3NzaC1yc2E",
    "ssh-ed25519 AAAA",
    "ecdsa-sha2-nistp256 AAAA",
    '{"kty":"oct","k":"c2VjcmV0"}',
    '[{"keys":[{"kty":"RSA"}]}]',
    "",
    *(
        key.public_key().public_bytes(forms.Encoding.DER, forms.PublicFormat.SubjectPublicKeyInfo)
        for key in (RSA, KEYS["ES256"], KEYS["ES512"], KEYS["EdDSA"])
    ),
]


@pytest.mark.parametrize("secret", SECRETS_THAT_ARE_NONE, ids=range(len(SECRETS_THAT_ARE_NONE)))
def test_public_keys_are_no_secrets(secret: str) -> None:
    for name in (OURS, THEIRS):
        module = importlib.import_module(name)
        app = build(name, {})
        manager = app.extensions["flask-jwt-extended"]
        manager.encode_key_loader(lambda _: secret)
        manager.decode_key_loader(lambda *_: secret)
        with app.app_context():
            with pytest.raises(jwt.InvalidKeyError):
                module.create_access_token("ada")
            with pytest.raises(jwt.InvalidKeyError):
                module.decode_token(jwt.encode({"sub": "ada"}, SECRET))


def test_a_public_key_does_not_verify_macs() -> None:
    chosen = {"JWT_ALGORITHM": "RS256", "JWT_DECODE_ALGORITHMS": ["RS256", "HS256"]}
    pair = {"JWT_PRIVATE_KEY": private_pem(RSA), "JWT_PUBLIC_KEY": public_pem(RSA)}
    app = build(OURS, {**chosen, **pair})
    signed = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=") + b".e30"
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    made = base64.urlsafe_b64encode(mac.sign(signed, public_pem(RSA).encode())).rstrip(b"=")
    with app.app_context(), pytest.raises(jwt.InvalidKeyError):
        ours.decode_token((signed + b"." + made).decode())


@pytest.mark.parametrize("algorithm", ["none", "XX256", ""])
def test_algorithms_that_do_not_exist_make_no_token(algorithm: str) -> None:
    app = build(OURS, {"JWT_ALGORITHM": algorithm})
    with app.app_context(), pytest.raises(NotImplementedError):
        ours.create_access_token("ada")


# What is made.

NOW = datetime(2031, 4, 5, 6, 7, 8, 987654, timezone.utc)


class Then(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return NOW


def parts(token: str) -> tuple[bytes, bytes]:
    header, payload, _ = token.split(".")
    return base64.urlsafe_b64decode(header + "=="), base64.urlsafe_b64decode(payload + "==")


def made(name: str, app: Flask, kind: str, *args: Any, **kwargs: Any) -> Any:
    """Header and payload, without the random ids; or the class of the error."""
    module = importlib.import_module(name)
    with pytest.MonkeyPatch.context() as patch, app.app_context():
        patch.setattr(f"{name}.tokens.datetime", Then)
        try:
            token = getattr(module, f"create_{kind}_token")(*args, **kwargs)
        except Exception as error:  # noqa: BLE001
            return type(error)
    header, payload = parts(token)
    claims = json.loads(payload)
    for random in ("jti", "csrf"):
        if isinstance(claims.get(random), str) and len(claims[random]) == 36:
            assert uuid.UUID(claims[random]).version == 4
            payload = payload.replace(claims[random].encode(), b"random")
    return header, payload


def agree(twins: Twins, kind: str, *args: Any, **kwargs: Any) -> Any:
    our, their = (
        made(n, a, kind, *args, **kwargs) for n, a in zip((OURS, THEIRS), twins.apps, strict=True)
    )
    assert our == their
    return our


class Name(str):
    pass


class Level(enum.IntEnum):
    LOW = 1


VALUES: list[Any] = [
    "ada",
    "",
    "é",
    "日本",
    "🙂",
    "\ud800",
    'a"b\\c/\n\r\t\x08\x0c\x00\x7f\u2028',
    0,
    -7,
    2**63,
    -(2**70),
    1.0,
    1e16,
    1e-7,
    0.1,
    math.inf,
    -math.inf,
    None,
    True,
    [],
    [1, ["a", {}]],
    (1, "b"),
    {},
    {"a": {"b": [None]}},
    {1: 2},
    {None: 1},
    Name("ada"),
    Level.LOW,
    uuid.UUID(int=5),
    date(2030, 1, 2),
    datetime(2030, 1, 2, tzinfo=timezone.utc),
    decimal.Decimal("1.5"),
    Ellipsis,
    {1, 2},
    b"bytes",
    [[[[[[[[[[[[1]]]]]]]]]]]],
]


@pytest.mark.parametrize(
    "value", VALUES, ids=lambda value: repr(value)[:24].encode("ascii", "replace").decode()
)
def test_claims_are_written_alike(value: Any) -> None:
    twins = Twins()
    agree(twins, "access", value)
    agree(twins, "refresh", "ada", additional_claims={"x": value})
    agree(twins, "access", "ada", additional_headers={"x": value})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
PLAIN = Twins()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=3))
def test_any_json_is_written_alike(claims: dict[str, Any]) -> None:
    agree(PLAIN, "access", "ada", additional_claims={"x": claims})


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"JWT_COOKIE_CSRF_PROTECT": False},
        {"JWT_ENCODE_NBF": False},
        {"JWT_ENCODE_AUDIENCE": "me"},
        {"JWT_ENCODE_AUDIENCE": ["a", "b"]},
        {"JWT_ENCODE_ISSUER": "me"},
        {"JWT_ENCODE_ISSUER": 7},
        {"JWT_IDENTITY_CLAIM": "user"},
        {"JWT_IDENTITY_CLAIM": "jti"},
        {"JWT_ACCESS_TOKEN_EXPIRES": False, "JWT_REFRESH_TOKEN_EXPIRES": False},
        {"JWT_ACCESS_TOKEN_EXPIRES": 90, "JWT_REFRESH_TOKEN_EXPIRES": 1},
        {"JWT_ACCESS_TOKEN_EXPIRES": timedelta(days=-1)},
        {"JWT_ACCESS_TOKEN_EXPIRES": timedelta(0)},
        {"JWT_ACCESS_TOKEN_EXPIRES": 0},
        {
            "JWT_ACCESS_TOKEN_EXPIRES": relativedelta(months=1),
            "JWT_REFRESH_TOKEN_EXPIRES": relativedelta(years=1),
        },
        {"JWT_ACCESS_TOKEN_EXPIRES": timedelta(microseconds=12346)},
        {"JWT_ACCESS_TOKEN_EXPIRES": "soon"},
        {"JWT_ACCESS_TOKEN_EXPIRES": None},
        {"JWT_ACCESS_TOKEN_EXPIRES": True},
        {"JWT_ACCESS_TOKEN_EXPIRES": 1.5},
        {"JWT_REFRESH_TOKEN_EXPIRES": "later"},
        {"JWT_SECRET_KEY": None},
        {"JWT_SECRET_KEY": None, "SECRET_KEY": SECRET},
        {"JWT_ALGORITHM": "RS256"},
        {"JWT_SECRET_KEY": SECRET.encode()},
    ],
    ids=repr,
)
def test_settings_make_the_same_tokens(chosen: dict[str, Any]) -> None:
    twins = Twins(**chosen)
    for kind in ("access", "refresh"):
        agree(twins, kind, "ada")
        agree(twins, kind, "ada", expires_delta=timedelta(hours=1))
        agree(twins, kind, "ada", expires_delta=relativedelta(months=+1))
        agree(twins, kind, "ada", expires_delta=False)
        agree(
            twins,
            kind,
            "ada",
            additional_claims={"iss": "me", "type": "other", "exp": NOW, "nbf": None},
        )
        agree(
            twins,
            kind,
            "ada",
            additional_claims={"iat": datetime(2030, 1, 1), "csrf": "x", "iss": 7},
        )
        agree(twins, kind, "ada", additional_headers={"kid": "1", "typ": "at+jwt"})
    for fresh in (True, False, 7.5, timedelta(minutes=5), timedelta(0)):
        agree(twins, "access", "ada", fresh=fresh)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS512"},
        {"kid": 1},
        {"kid": "ü"},
        {"typ": None},
        {"typ": ""},
        {"b64": True},
        {"alg": None},
    ],
)
def test_header_fields_are_written_alike(header: dict[str, Any]) -> None:
    if header == {"alg": None}:
        assert (
            made(OURS, PLAIN.apps[0], "access", "ada", additional_headers=header)[0]
            == b'{"alg":"HS256","typ":"JWT"}'
        )
    else:
        agree(PLAIN, "access", "ada", additional_headers=header)


class Provider(DefaultJSONProvider):
    @staticmethod
    def default(o: Any) -> Any:
        return "set" if isinstance(o, set) else DefaultJSONProvider.default(o)


def test_the_json_provider_of_the_app_is_asked() -> None:
    def prepare(app: Flask, *_: Any) -> None:
        app.json_provider_class = Provider

    _, payload = agree(Twins(prepare), "access", "ada", additional_claims={"x": {1, 2}})
    assert json.loads(payload)["x"] == "set"
    app = build(OURS, {})
    app.json = Provider(app)
    assert json.loads(made(OURS, app, "access", {1})[1])["sub"] == "set"


def test_callbacks_make_the_same_tokens() -> None:
    def prepare(_: Flask, __: Any, manager: Any) -> None:
        manager.additional_claims_loader(lambda identity: {"role": identity["role"], "x": 1})
        manager.additional_headers_loader(lambda identity: {"kid": identity["id"], "x": 1})
        manager.user_identity_loader(lambda identity: identity["id"])
        manager.encode_key_loader(lambda identity: identity["id"] * 32)
        manager.decode_key_loader(lambda header, claims: header["kid"] * 32 if claims["x"] else "")

    twins = Twins(prepare)
    agree(
        twins,
        "access",
        {"id": "7", "role": "admin"},
        additional_claims={"x": 2},
        additional_headers={"x": 3},
    )
    for app in twins.apps:
        with app.app_context():
            token = ours.create_access_token({"id": "7", "role": "admin"})
            assert ours.decode_token(token)["sub"] == "7"
        twins.agree("protected", headers={"Authorization": f"Bearer {token}"})


# What is read.


def test_jti_csrf_and_headers_of_a_token() -> None:
    app = PLAIN.apps[0]
    with app.app_context():
        token = ours.create_refresh_token("ada")
        claims = ours.decode_token(token)
        assert (ours.get_jti(token), ours.get_csrf_token(token)) == (claims["jti"], claims["csrf"])
        assert ours.get_unverified_jwt_headers(token) == {"alg": "HS256", "typ": "JWT"}
        assert ours.decode_token(token, csrf_value=claims["csrf"]) == claims
        assert ours.decode_token(token.encode()) == claims
        with pytest.raises(errors.CSRFError):
            ours.decode_token(token, csrf_value="x")


def test_an_expired_token_brings_its_claims() -> None:
    with PLAIN.apps[0].app_context():
        token = ours.create_access_token("ada", expires_delta=timedelta(seconds=-1))
        with pytest.raises(jwt.ExpiredSignatureError) as caught:
            ours.decode_token(token)
        assert (caught.value.jwt_header["alg"], caught.value.jwt_data["sub"]) == ("HS256", "ada")
        assert ours.decode_token(token, allow_expired=True)["sub"] == "ada"
        wrong = ours.create_access_token(7, expires_delta=timedelta(seconds=-1))
        with pytest.raises(errors.InvalidSubjectError):
            ours.decode_token(wrong)


@pytest.mark.parametrize("claim", ["jti", "type", "fresh", "id"])
def test_a_claim_that_is_filled_in_identifies_nobody(claim: str) -> None:
    twins = Twins(JWT_IDENTITY_CLAIM=claim)
    claims = {"sub": "ada", "jti": "1", "type": "access", "fresh": False, "id": "7"}
    del claims[claim]
    token = jwt.encode(claims, SECRET)
    refused = twins.agree("protected", headers={"Authorization": f"Bearer {token}"})
    assert json.loads(refused.body) == {"msg": f"Missing claim: {claim}"}


def test_missing_claims_are_filled_in() -> None:
    with PLAIN.apps[0].app_context():
        claims = ours.decode_token(jwt.encode({"sub": "ada"}, SECRET))
    assert claims == {"sub": "ada", "type": "access", "fresh": False, "jti": None}
