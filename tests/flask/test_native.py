"""The native module by itself: what it lets go of, and what it refuses."""

import json
import pathlib
import subprocess
import threading
from typing import Any

import pytest

from flask_doorward import _native

CHEAP = {"password_memory_kib": 8, "password_iterations": 1}


class Refused(Exception):
    def __init__(self, answer: _native.Answer) -> None:
        super().__init__(json.loads(answer.body)["code"])


def door(**options: Any) -> _native.Door:
    return _native.Door({"store": "memory:", **CHEAP, **options}, Refused, print)


def counted_while(work: Any) -> int:
    """How far another thread comes meanwhile."""
    counted, done = 0, threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1

    other = threading.Thread(target=count)
    other.start()
    counted = 0
    work()
    reached = counted
    done.set()
    other.join()
    return reached


def test_other_threads_go_on_while_a_password_is_hashed() -> None:
    slow = door(password_memory_kib=8 * 1024, password_iterations=4)
    slow.hash_password("to start the threads")
    # Were the interpreter held, nobody could count at all.
    assert counted_while(lambda: slow.hash_password("correct horse battery")) > 10_000


def test_other_threads_go_on_while_the_store_writes(tmp_path: pathlib.Path) -> None:
    kept = door(store=f"sqlite://{tmp_path}/doorward.db")
    kept.login("ada")
    assert counted_while(lambda: [kept.login("ada") for _ in range(50)]) > 10_000


def test_an_option_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="^acess_ttl: there is no such option"):
        door(acess_ttl=60)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"access_ttl": 0}, "access_ttl must lie between"),
        ({"access_ttl": -1}, "access_ttl: must be a length of time"),
        ({"access_ttl": float("nan")}, "access_ttl: "),
        ({"access_ttl": "15m"}, "access_ttl: "),
        ({"store": "mysql://x"}, "store: must be"),
        ({"secret": "short"}, "secret: the secret is shorter than 32 bytes"),
        ({"secret": "your-256-bit-secret-your-256-bit-secret"}, "secret: the secret is a sample"),
        ({"algorithm": "none"}, "algorithm: "),
        ({"private_key": "-----BEGIN"}, "private_key: "),
        ({"password_memory_kib": 2**40}, "password_memory_kib: must be a number between"),
        ({"trusted_proxies": ["10.0.0.0/33"]}, "trusted_proxies: 10.0.0.0/33"),
        ({"double_submit": {"method": "POST"}}, "double_submit: there is no such option"),
        ({"same_site": "lenient"}, "same_site: must be Strict, Lax or None"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        door(**options)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"REQUEST_METHOD": "\x00", "PATH_INFO": "no slash", "QUERY_STRING": "a b#\xff{}"},
        {"REQUEST_METHOD": "GET", "HTTP_COOKIE": "access_token_cookie=\xff\xfe; =; ;;"},
        {"REQUEST_METHOD": "GET", "HTTP_AUTHORIZATION": "Bearer \x00\n"},
        {"REQUEST_METHOD": "GET", "HTTP_AUTHORIZATION": "Bearer " + "a" * 100_000},
        {"REQUEST_METHOD": "POST", "PATH_INFO": "/" * 70_000, "REMOTE_ADDR": "nowhere"},
    ],
)
def test_no_environ_brings_it_down(environ: dict[str, Any]) -> None:
    here = door()
    with pytest.raises(Refused, match="^token_(missing|invalid)$"):
        here.guard(environ)
    for _, _, name in _native.ROUTES:
        answer = here.call(name, environ, b"\xff\xfe")
        assert isinstance(answer, _native.Answer) and answer.status < 500, name


def test_what_is_no_text_in_an_environ_is_an_error_of_the_server() -> None:
    with pytest.raises(TypeError):
        door().guard({"HTTP_COOKIE": b"x"})


def test_a_header_that_no_header_can_be_does_not_count_as_absent() -> None:
    """Else an unreadable `Origin` would pass as none."""
    here = door(cookie_secure=False)
    tokens, _ = here.login("ada", delivery="cookie")
    cookies = {"HTTP_COOKIE": f"access_token_cookie={tokens.access_token}", "REQUEST_METHOD": "POST"}
    assert here.guard(cookies) is not None
    for name in ["HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE"]:
        with pytest.raises(Refused, match="^csrf_failed$"):
            here.guard({**cookies, name: "http://x\x00y"})


def test_neither_tokens_nor_passwords_are_in_what_is_printed() -> None:
    here = door(settles=False, secret="b03c7c1d9d0be5d1cf4f0d3a7c1e8f55")
    tokens, events = here.login("ada")
    session = here.verify(tokens.access_token)
    login = {"username": "ada", "password": "a secret of hers"}
    environ = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": "application/json"}
    question = here.call("login", environ, json.dumps(login).encode())
    assert isinstance(question, _native.Question)
    printed = repr([here, tokens, tokens.session, tokens.answer, session, question, *events])
    for secret in [tokens.access_token, tokens.refresh_token, "a secret of hers", "b03c7c1d"]:
        assert secret not in printed


def test_a_question_is_answered_once_and_by_its_own_answers() -> None:
    here = door(settles=False)
    environ = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": "application/json"}
    body = json.dumps({"username": "ada", "password": "x"}).encode()
    question = here.call("login", environ, body)
    assert isinstance(question, _native.Question)
    assert question.refuse().status == 401
    with pytest.raises(RuntimeError, match="answered already"):
        question.identified("ada")
    other = here.call("login", environ, body)
    assert isinstance(other, _native.Question)
    with pytest.raises(RuntimeError, match="no answer to a question of kind identify"):
        other.confirmed()


def test_a_store_that_does_not_open_is_a_503_that_says_why_to_the_operator() -> None:
    nowhere = door(store="sqlite:///nowhere/at/all.db")
    with pytest.raises(Refused, match="^store_unavailable$") as refused:
        nowhere.guard({"REQUEST_METHOD": "GET"})
    assert "/nowhere/at/all.db" in str(refused.value.__cause__)
    assert "/nowhere/at/all.db" in (nowhere.unready() or "")


def test_closed_it_opens_again(tmp_path: pathlib.Path) -> None:
    kept = door(store=f"sqlite://{tmp_path}/doorward.db")
    tokens, _ = kept.login("ada")
    kept.close()
    assert kept.verify(tokens.access_token).user_id == "ada"
    kept.close()
    kept.close()


def pem(*command: str) -> str:
    return subprocess.run(["openssl", *command], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("algorithm", "command"),
    [
        ("EdDSA", ["genpkey", "-algorithm", "ed25519"]),
        ("RS256", ["genpkey", "-algorithm", "rsa", "-quiet"]),
        ("RS256", ["genrsa", "-traditional", "2048"]),
        ("PS256", ["genpkey", "-algorithm", "rsa", "-quiet"]),
        ("ES256", ["genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        ("ES256", ["ecparam", "-name", "prime256v1", "-genkey"]),
    ],
)
def test_a_private_key_may_have_any_form_of_pem(algorithm: str, command: list[str]) -> None:
    here = door(algorithm=algorithm, private_key="\n\n" + pem(*command))
    token = here.login("ada")[0].access_token
    assert here.verify(token).user_id == "ada"
    other = "EdDSA" if algorithm != "EdDSA" else "ES256"
    with pytest.raises(ValueError):
        door(algorithm=other, private_key=pem(*command))


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_a_short_rsa_key_does_not_sign(algorithm: str) -> None:
    short = pem("genpkey", "-algorithm", "rsa", "-quiet", "-pkeyopt", "rsa_keygen_bits:1024")
    with pytest.raises(ValueError, match="private key .* too short"):
        door(algorithm=algorithm, private_key=short)
