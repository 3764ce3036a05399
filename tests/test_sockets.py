"""What clients send that no HTTP library would: by raw sockets, each answered within seconds."""

import contextlib
import pathlib
import re
import signal
import socket
import time

import httpx
import pytest

from conftest import Server, add_user

LIMITS = ["--request-timeout", "1s", "--max-connections", "8"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    directory: pathlib.Path = tmp_path_factory.mktemp("sockets")
    add_user(directory)
    server = Server(directory, *LIMITS).start()
    yield server
    assert server.stop() == 0


@contextlib.contextmanager
def connected(server: Server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as stream:
        yield stream


def read(stream: socket.socket) -> bytes:
    """All that comes until the server closes."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := stream.recv(65536):
            answer += piece
    return answer


def exchange(server: Server, request: bytes) -> bytes:
    with connected(server) as stream:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stream.sendall(request)
        return read(stream)


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} /api/v1{path} HTTP/1.1", "Host: api.example", *lines, "", ""]).encode()


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", answer)]


@pytest.mark.parametrize(("request_bytes", "status"), [
    (b"nonsense\r\n\r\n", 400),
    (b"GET /api/v1/session HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", 400),
    (b"GET /api/v1/session HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
    (b"POST /api/v1/login HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    (b"POST /api/v1/login HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    (b"GET /api/v1/session HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    (b"GET /api/v1/session HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
    (b"GET /api/v1/session HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431),
])
def test_what_is_no_http_is_refused_and_closed(server: Server, request_bytes: bytes, status: int) -> None:
    assert statuses(exchange(server, request_bytes)) == [status]


@pytest.mark.parametrize(("version", "hosts", "status"), [
    ("1.1", [], 400), ("1.1", ["a", "a"], 400), ("1.1", ["a b"], 400), ("1.0", ["a", "b"], 400),
    ("1.1", ["a"], 401), ("1.1", [""], 401), ("1.1", ["[::1]:80"], 401), ("1.0", [], 401),
])
def test_a_request_names_its_host_once(server: Server, version: str, hosts: list[str], status: int) -> None:
    lines = [f"GET /api/v1/session HTTP/{version}", *(f"Host: {host}" for host in hosts), "Connection: close"]
    assert statuses(exchange(server, "\r\n".join([*lines, "", ""]).encode())) == [status]


@pytest.mark.parametrize(("size", "status"), [(31_000, 401), (34_000, 431), (40_000, 431), (70_000, 431)])
def test_a_header_has_at_most_32_kib(server: Server, size: int, status: int) -> None:
    for pieces in (1, 4):
        lines = ["X: " + "a" * (size // pieces)] * pieces
        assert statuses(exchange(server, head("GET", "/session", "Connection: close", *lines))) == [status]


@pytest.mark.parametrize("chunks", [
    b"zz\r\n", b"-1\r\nx\r\n", b"fffffffffffffffff\r\n", b"1;" + b"e" * 40_000 + b"\r\nx\r\n0\r\n\r\n",
    b"2\r\n{}X\r\n0\r\n\r\n",
])
def test_malformed_chunks_are_a_bad_request(server: Server, chunks: bytes) -> None:
    lines = "Content-Type: application/json", "Transfer-Encoding: chunked"
    answer = exchange(server, head("POST", "/login", *lines) + chunks)
    assert statuses(answer) == [400] and b'"bad_request"' in answer


def test_a_body_announced_as_too_large_is_refused_before_it_comes(server: Server) -> None:
    start = time.monotonic()
    lines = "Content-Type: application/json", "Content-Length: 1000000000000"
    answer = exchange(server, head("POST", "/login", *lines))
    assert statuses(answer) == [413] and b'"payload_too_large"' in answer
    assert time.monotonic() - start < 0.9


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/nothing", 404), ("PUT", "/login", 405), ("TRACE", "/login", 405), ("TRACE", "/session", 405),
])
def test_what_the_router_answers_has_the_headers_of_every_answer(
    server: Server, method: str, path: str, status: int
) -> None:
    answer = exchange(server, head(method, path, "Connection: close")).lower()
    assert statuses(answer.replace(b"http", b"HTTP")) == [status]
    assert b"cache-control: no-store" in answer and b"x-content-type-options: nosniff" in answer
    assert b"referrer-policy: no-referrer" in answer


def test_where_a_length_and_chunks_disagree_the_chunks_count_and_nothing_follows(server: Server) -> None:
    following = head("GET", "/jwks.json", "Connection: close")
    for length in (0, 5, 5 + len(following), 4_000):
        lines = "Content-Type: application/json", f"Content-Length: {length}", "Transfer-Encoding: chunked"
        answer = exchange(server, head("POST", "/login", *lines) + b"0\r\n\r\n" + following)
        # The body is the empty one of the chunks, not one that did not arrive whole.
        assert statuses(answer) == [400] and b"documented fields" in answer and b"connection: close" in answer.lower()


def test_no_header_tells_a_version(server: Server) -> None:
    answer = exchange(server, head("GET", "/session", "Connection: close")).lower()
    assert b"\r\nserver:" not in answer and b"x-powered-by" not in answer


def test_head_is_get_without_a_body(server: Server) -> None:
    answer = exchange(server, head("HEAD", "/jwks.json", "Connection: close"))
    headers, _, body = answer.partition(b"\r\n\r\n")
    assert statuses(answer) == [200] and body == b""
    assert b"content-type: application/json" in headers.lower()


def test_a_body_that_is_too_large_is_not_read_as_the_next_request(server: Server) -> None:
    inside = head("GET", "/jwks.json", "Connection: close")
    body = b"x" * 20_000 + inside + b"x" * 2_000_000
    for framing in (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"):
        sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if "chunked" in framing else body
        start = head("POST", "/login", "Content-Type: application/json", framing)
        assert statuses(exchange(server, start + sent)) == [413]


def test_a_connection_goes_on_after_a_refusal(server: Server) -> None:
    body = b'{"username": "' + b"x" * 17_000 + b'"}'
    first = head("POST", "/login", "Content-Type: application/json", f"Content-Length: {len(body)}")
    last = head("GET", "/jwks.json", "Connection: close")
    answers = statuses(exchange(server, first + body + last))
    assert answers in ([413, 200], [413])
    missing = head("GET", "/session")
    assert statuses(exchange(server, missing + last)) == [401, 200]


def test_a_slow_body_is_a_400_in_time(server: Server) -> None:
    start = time.monotonic()
    answer = exchange(server, head("POST", "/login", "Content-Type: application/json", "Content-Length: 100") + b"{")
    assert statuses(answer) == [400] and b'"bad_request"' in answer
    assert b"cache-control: no-store" in answer
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("sent", [b"", b"GET /api/v1/session HTTP/1.1\r\nHos", head("GET", "/session")])
def test_a_silent_client_is_sent_away(server: Server, sent: bytes) -> None:
    start = time.monotonic()
    exchange(server, sent)
    assert time.monotonic() - start < 4


def test_one_connection_too_many_waits_for_its_turn(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(connected(server))
        time.sleep(0.2)
        # The silent ones are sent away after a second; then it is this one's turn.
        assert statuses(exchange(server, head("GET", "/jwks.json", "Connection: close"))) == [200]


def test_a_client_that_leaves_in_the_middle_harms_nobody(server: Server) -> None:
    for _ in range(20):
        with connected(server) as stream:
            stream.sendall(head("POST", "/login", "Content-Type: application/json", "Content-Length: 100") + b"{")
    assert statuses(exchange(server, head("GET", "/jwks.json", "Connection: close"))) == [200]
    assert "panic" not in server.logged()


def asset(server: Server) -> str:
    """The largest thing that the server sends."""
    with httpx.Client(base_url=server.url) as client:
        page = client.get("/docs").text
        paths = re.findall(r'(?:src|href)="([^"#]+)"', page)
        urls = {str(client.base_url.join("docs").join(path)) for path in paths}
        sizes = {url: len(client.get(url).content) for url in urls if url.startswith(server.url)}
    largest = max(sizes, key=sizes.__getitem__)
    assert sizes[largest] > 1_000_000
    return largest.removeprefix(server.url)


def deaf(server: Server, path: str, stack: contextlib.ExitStack) -> socket.socket:
    """A client that asks for much and reads nothing."""
    stream = stack.enter_context(socket.socket())
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stream.connect(("127.0.0.1", server.port))
    stream.sendall(head("GET", path) * 20)
    return stream


def test_clients_that_do_not_read_keep_no_place(server: Server) -> None:
    path = asset(server)
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            deaf(server, path, stack)
        time.sleep(0.1)
        start = time.monotonic()
        assert statuses(exchange(server, head("GET", "/jwks.json", "Connection: close"))) == [200]
        assert time.monotonic() - start < 4


def stopped_within(server: Server) -> float:
    start = time.monotonic()
    assert server.stop() == 0
    return time.monotonic() - start


def test_the_end_waits_for_no_client_without_a_request(start) -> None:
    server = start("--request-timeout", "20s")
    with contextlib.ExitStack() as stack:
        silent, half, idle = (stack.enter_context(connected(server)) for _ in range(3))
        half.sendall(b"GET /api/v1/session HTTP/1.1\r\nHos")
        idle.sendall(head("GET", "/session"))
        assert statuses(idle.recv(65536)) == [401]
        assert stopped_within(server) < 2
        assert read(silent) == read(half) == b""


def test_the_end_waits_for_a_body_that_is_under_way(start) -> None:
    server = start("--request-timeout", "20s")
    body = b'{"username": "ada", "password": "correct horse battery"}'
    lines = "Content-Type: application/json", f"Content-Length: {len(body)}"
    with connected(server) as stream:
        # The server asks for the body once the request is under way.
        stream.sendall(head("POST", "/login", *lines, "Expect: 100-continue"))
        assert statuses(stream.recv(65536)) == [100]
        server.process.send_signal(signal.SIGTERM)
        while "stopping" not in server.logged():
            time.sleep(0.01)
        stream.sendall(body)
        assert statuses(read(stream)) == [200]
    assert server.stop() == 0


def test_the_end_waits_for_clients_that_do_not_read_only_so_long(start) -> None:
    server = start("--request-timeout", "1s")
    with contextlib.ExitStack() as stack:
        deaf(server, asset(server), stack)
        time.sleep(0.1)
        assert stopped_within(server) < 4
