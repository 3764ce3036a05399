"""Traces: what a collector is sent of requests, and that nothing secret is in it."""

import gzip
import http.server
import secrets
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import conftest
from conftest import PASSWORD, Server, bearer


class Collector(http.server.ThreadingHTTPServer):
    """Takes traces by OTLP over HTTP, protobuf."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def spans(self) -> list[Span]:
        return [span for scope in self.scopes for span in scope.spans]

    @property
    def scopes(self):
        return [scope for resource in self.resources for scope in resource.scope_spans]

    @property
    def resources(self):
        return [found for body in self.bodies for found in ExportTraceServiceRequest.FromString(body).resource_spans]


class Receiver(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.paths.add(self.path)
        self.server.bodies.append(body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


def attributes(span: Span) -> dict[str, object]:
    values = {entry.key: entry.value for entry in span.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}


def test_a_request_is_a_span_of_its_clients_trace_and_the_stores_work_its_children(
    start, collector: Collector
) -> None:
    server: Server = start("--otlp-endpoint", collector.url)
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    granted = server.login().json()
    traced = {"traceparent": f"00-{trace}-{parent}-01"}
    body = {"refresh_token": granted["refresh_token"]}
    answer = httpx.post(f"{server.url}/refresh", json=body, headers=traced)
    assert answer.status_code == 200
    assert server.stop() == 0
    assert collector.paths == {"/v1/traces"}

    mine = [span for span in collector.spans if span.trace_id.hex() == trace]
    requests = [span for span in mine if span.kind == Span.SPAN_KIND_SERVER]
    [request] = requests
    assert request.name == "POST /api/v1/refresh" and request.parent_span_id.hex() == parent
    seen = attributes(request)
    assert seen["http.response.status_code"] == 200 and seen["route"] == "/api/v1/refresh"
    assert {span.name for span in mine if span is not request} == {"store load", "store swap"}
    for span in mine:
        if span is request:
            continue
        assert span.parent_span_id == request.span_id and span.kind == Span.SPAN_KIND_CLIENT
        assert attributes(span)["session.id"] == granted["session"]["id"]
    [swap] = [span for span in mine if span.name == "store swap"]
    assert attributes(swap)["db.operation.name"] == "swap"
    assert attributes(swap)["db.operation.batch.size"] >= 1
    names = {entry.value.string_value for found in collector.resources for entry in found.resource.attributes}
    assert "doorward" in names


def test_nothing_secret_is_in_any_byte_that_is_sent(start, collector: Collector) -> None:
    server: Server = start("--otlp-endpoint", collector.url, "--log-level", "trace")
    hidden = [PASSWORD, "a-query-that-is-mine", "an-agent-of-mine"]
    granted = server.login().json()
    hidden += [granted["access_token"], granted["refresh_token"], granted["device_token"]]
    again = server.refresh(granted["refresh_token"]).json()
    hidden += [again["access_token"], again["refresh_token"]]
    with httpx.Client(headers={"user-agent": "an-agent-of-mine"}) as client:
        logged_in = client.post(f"{server.url}/login", json={"username": "ada", "password": PASSWORD})
        hidden += [line.split("=", 1)[1].split(";")[0] for line in logged_in.headers.get_list("set-cookie")]
        client.get(f"{server.url}/session?token=a-query-that-is-mine", headers=bearer(again["access_token"]))
        client.get(f"{server.url}/a-query-that-is-mine")
        client.post(f"{server.url}/login", json={"username": "mallory", "password": "guessed-by-mallory"})
        hidden.append("guessed-by-mallory")
        client.post(f"{server.url}/password", json={"current": PASSWORD, "new": "xyzzy plugh 1742 frobozz"},
                    headers=bearer(again["access_token"]))
        hidden.append("xyzzy plugh 1742 frobozz")
    assert server.stop() == 0
    sent = b"".join(collector.bodies)
    assert len(collector.spans) > 8
    for secret in hidden:
        # The parts of a token, too: each is longer than a word.
        for part in [secret, *secret.split(".")]:
            assert len(part) < 8 or part.encode() not in sent, part


def test_the_standard_variables_are_honoured(
    start, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "front-door"}
    for name, value in more.items():
        monkeypatch.setitem(start.__globals__["ENVIRONMENT"], name, value)
    server: Server = start()
    server.login()
    unsampled = {"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"}
    httpx.get(f"{server.url}/jwks.json", headers=unsampled)
    server.stop()
    names = {entry.value.string_value for found in collector.resources for entry in found.resource.attributes}
    assert "front-door" in names
    assert "POST /api/v1/login" in {span.name for span in collector.spans}
    assert "GET /api/v1/jwks.json" not in {span.name for span in collector.spans}


def test_a_collector_that_is_gone_costs_nobody_an_answer(start) -> None:
    server: Server = start("--otlp-endpoint", f"http://127.0.0.1:{conftest.free_port()}")
    assert [server.login().status_code for _ in range(5)] == [200] * 5
    began = time.monotonic()
    assert server.stop() == 0 and time.monotonic() - began < 10
    assert "traces are not taken" in server.logged()


def test_an_operation_that_fails_is_marked(start, collector: Collector) -> None:
    server: Server = start("--otlp-endpoint", collector.url)
    (server.directory / "doorward.db").rename(server.directory / "away.db")
    assert server.login().status_code == 503
    (server.directory / "away.db").rename(server.directory / "doorward.db")
    server.stop()
    failed = {span.name for span in collector.spans if span.status.code == Status.STATUS_CODE_ERROR}
    assert "POST /api/v1/login" in failed and any(name.startswith("store ") for name in failed)


def test_an_endpoint_that_is_none_is_refused(start) -> None:
    for bad in ["collector", "ftp://a", "http://user:password@a:4318"]:
        with pytest.raises(RuntimeError, match="otlp_endpoint"):
            start("--otlp-endpoint", bad)
