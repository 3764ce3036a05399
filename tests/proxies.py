"""A reverse proxy that passes everything on unchanged, but for what a test makes it do."""

import dataclasses
import email.utils
import gzip
import http.client
import http.server
import pathlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable

Headers = list[tuple[str, str]]


@dataclasses.dataclass
class Exchange:
    method: str
    path: str
    asked: Headers
    body: bytes
    #: Once it is set, nothing behind is asked.
    status: int = 0
    answered: Headers = dataclasses.field(default_factory=list)
    answer: bytes = b""
    port: int = 0


#: Changes a request before it is passed on, or an answer after.
Step = Callable[[Exchange], None]


class Proxy:
    def __init__(self, port: int, asks: Iterable[Step] = (), answers: Iterable[Step] = (),
                 tls: tuple[pathlib.Path, pathlib.Path] | None = None) -> None:
        asks, answers = list(asks), list(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                exchange = Exchange(self.command, self.path, list(self.headers.items()), body, port=port)
                for step in asks:
                    step(exchange)
                if not exchange.status:
                    passed_on(exchange)
                for step in answers:
                    step(exchange)
                self.send_response_only(exchange.status)
                for name, value in exchange.answered:
                    self.send_header(name, value)
                if exchange.status != 204:
                    self.send_header("Content-Length", str(len(exchange.answer)))
                self.end_headers()
                self.wfile.write(exchange.answer)

            do_GET = do_POST = do_DELETE = do_OPTIONS = handle_one

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def passed_on(exchange: Exchange) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", exchange.port, timeout=30)
    connection.putrequest(exchange.method, exchange.path, skip_host=True, skip_accept_encoding=True)
    for name, value in exchange.asked:
        if name.lower() not in ("connection", "content-length"):
            connection.putheader(name, value)
    if exchange.body or exchange.method in ("POST", "PUT"):
        connection.putheader("Content-Length", str(len(exchange.body)))
    connection.endheaders(exchange.body)
    response = connection.getresponse()
    exchange.status, exchange.answer = response.status, response.read()
    hops = ("connection", "content-length", "transfer-encoding")
    exchange.answered = [(name, value) for name, value in response.getheaders() if name.lower() not in hops]
    connection.close()


#: What a proxy that answers itself should say.
POLITE = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]

# What requests can meet.


def drops(*names: str) -> Step:
    def step(exchange: Exchange) -> None:
        exchange.asked = [pair for pair in exchange.asked if not pair[0].lower().startswith(names)]
    return step


def asks_with(name: str, value: str) -> Step:
    def step(exchange: Exchange) -> None:
        drops(name)(exchange)
        exchange.asked.append((name, value))
    return step


def answers_itself(status: int, *headers: tuple[str, str], path: str = "", method: str = "", body: bytes = b"") -> Step:
    def step(exchange: Exchange) -> None:
        if exchange.path.startswith(path) and method in ("", exchange.method):
            exchange.status, exchange.answered, exchange.answer = status, [*POLITE, *headers], body
    return step


def sends_to(path: str, port: int) -> Step:
    def step(exchange: Exchange) -> None:
        if exchange.path == path:
            exchange.port = port
    return step


def moves(public: str, private: str) -> Step:
    def step(exchange: Exchange) -> None:
        exchange.path = exchange.path.replace(public, private, 1)
    return step


def believes_forwarded_host(exchange: Exchange) -> None:
    for name, value in exchange.asked:
        if name.lower() == "x-forwarded-host":
            asks_with("host", value)(exchange)
            return


# What answers can meet.


def strips(*names: str, path: str = "") -> Step:
    def step(exchange: Exchange) -> None:
        if exchange.path.startswith(path):
            exchange.answered = [pair for pair in exchange.answered if pair[0].lower() not in names]
    return step


def adds(name: str, value: str, path: str = "") -> Step:
    def step(exchange: Exchange) -> None:
        if exchange.path.startswith(path):
            exchange.answered.append((name, value))
    return step


def rewrites_cookies(pattern: str, by: str) -> Step:
    def step(exchange: Exchange) -> None:
        exchange.answered = [
            (name, re.sub(pattern, by, value) if name.lower() == "set-cookie" else value)
            for name, value in exchange.answered
        ]
    return step


def reflects_origin(exchange: Exchange) -> None:
    for name, value in exchange.asked:
        if name.lower() == "origin":
            strips("access-control-allow-origin", "access-control-allow-credentials")(exchange)
            exchange.answered += [("Access-Control-Allow-Origin", value), ("Access-Control-Allow-Credentials", "true")]


def shifts_clock(seconds: int) -> Step:
    def step(exchange: Exchange) -> None:
        strips("date")(exchange)
        exchange.answered.append(("Date", email.utils.formatdate(time.time() + seconds, usegmt=True)))
    return step


def has_pages_for_errors(exchange: Exchange) -> None:
    if exchange.status >= 400:
        strips("content-type")(exchange)
        exchange.answered.append(("Content-Type", "text/html"))
        exchange.answer = b"<h1>Sorry</h1>"


def has_codes_of_its_own(exchange: Exchange) -> None:
    if exchange.status >= 400:
        exchange.answer = b'{"status": %d, "code": "error"}' % exchange.status


def clears_at_401(exchange: Exchange) -> None:
    if exchange.status == 401:
        exchange.answered.append(("Set-Cookie", "__Secure-refresh_token_cookie=; Path=/api/v1/refresh; Max-Age=0; Secure"))


def compresses(exchange: Exchange) -> None:
    if any(name.lower() == "accept-encoding" and "gzip" in value for name, value in exchange.asked):
        exchange.answered.append(("Content-Encoding", "gzip"))
        exchange.answer = gzip.compress(exchange.answer)


def keeps(path: str) -> tuple[Step, Step]:
    kept: dict[str, Exchange] = {}

    def ask(exchange: Exchange) -> None:
        if old := kept.get(exchange.path):
            exchange.status, exchange.answered, exchange.answer = old.status, old.answered, old.answer

    def answer(exchange: Exchange) -> None:
        if exchange.path == path:
            kept.setdefault(exchange.path, exchange)

    return ask, answer
