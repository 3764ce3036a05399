"""The recorded exchanges, played through a Flask app behind a real WSGI server."""

import http.client
import threading
import time
from collections.abc import Iterator

import pytest
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from flask_doorward import Doorward

import exchanges
from exchanges import PASSWORD, USERS, Exchange, Known, Received, Recording

RECORDINGS = list(exchanges.recordings("flask"))


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        pass


class Door:
    """A Flask app with the settings of a file, and its users."""

    def __init__(self, recording: Recording, folder: str) -> None:
        self.app = Flask(__name__, instance_path=folder)
        self.app.config.update({f"DOORWARD_{key.upper()}": value for key, value in recording.settings.items()})
        self.app.config.update(
            JWT_ACCESS_COOKIE_NAME=name("access_token_cookie", recording),
            JWT_REFRESH_COOKIE_NAME=name("refresh_token_cookie", recording),
            DOORWARD_PASSWORD_MEMORY_KIB=8, DOORWARD_PASSWORD_ITERATIONS=1,
        )
        Doorward(self.app)
        for user in USERS:
            self.operate("user", "add", user, "--password-stdin", text=PASSWORD)
        self.server = make_server("127.0.0.1", 0, self.app, threaded=True, request_handler=Quiet)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def operate(self, *words: str, text: str = "") -> str:
        done = self.app.test_cli_runner().invoke(args=["auth", *words], input=text)
        assert done.exit_code == 0, done.output
        return done.stdout

    def send(self, exchange: Exchange, known: Known) -> Received:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        connection.putrequest(exchange.method, known.expand(exchange.path).decode(), skip_host=True,
                              skip_accept_encoding=True)
        headers = [(name, known.expand(value)) for name, value in exchange.headers]
        if not any(name.lower() == "host" for name, _ in headers):
            headers.append(("Host", b"api.example"))
        body = known.expand(exchange.body)
        for header, value in [*headers, ("Content-Length", str(len(body)).encode())]:
            connection.putheader(header, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        received = [(header.lower(), value) for header, value in answer.getheaders()]
        return Received(answer.status, received, answer.read())


def is_for_wsgi(exchange: Exchange) -> bool:
    """`GET /verify` is the server's. PEP 3333 has one value a header: its servers put a comma
    between the lines of one that came several times, which no cookie and no token survives."""
    names = [name.lower() for name, _ in exchange.headers]
    return not exchange.path.startswith("/api/v1/verify") and len(names) == len(set(names))


def name(cookie: str, recording: Recording) -> str:
    """The file's names are those of the other doors; here they follow the settings."""
    if recording.settings.get("host_cookies") == "true":
        return f"__Host-{cookie}"
    return cookie if recording.settings.get("cookie_secure") == "false" else f"__Secure-{cookie}"


@pytest.fixture
def door(request: pytest.FixtureRequest, tmp_path) -> Iterator[Door]:
    door = Door(request.param, str(tmp_path))
    yield door
    door.close()


@pytest.mark.parametrize(
    ("recording", "door"), [(r, r) for r in RECORDINGS], ids=[r.name for r in RECORDINGS], indirect=["door"]
)
def test_plays_as_recorded(recording: Recording, door: Door) -> None:
    known = Known(recording.names_devices)
    for exchange in filter(is_for_wsgi, recording.exchanges):
        for step in exchange.before:
            word, rest = known.expand(step).decode().split(" ", 1)
            if word == "wait":
                time.sleep(float(rest.removesuffix("s")))
            else:
                known.keep_printed(door.operate(*rest.split(" ")))
        received = door.send(exchange, known)
        try:
            known.compare(exchange, received)
        except AssertionError as error:
            pytest.fail(f"{recording.name}: {exchange.title}\n{error}\nThe answer was: {received}")
