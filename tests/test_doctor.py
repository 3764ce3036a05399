"""The doctor: what each thing that goes wrong between a browser and the server is found as, and how it ends."""

import datetime
import http.client
import ipaddress
import json
import pathlib
import re
import socket
import subprocess
import sys
import threading

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import proxies
from conftest import BINARY, ENVIRONMENT, PASSWORD, ROOT, Server, add_user, command, free_port
from proxies import (
    Proxy, Step, adds, answers_itself, asks_with, drops, moves, rewrites_cookies, sends_to, shifts_clock, strips,
)

#: Origins of pages that the server allows: one of the same site, one of another.
SIBLING, ELSEWHERE = "http://127.0.0.1:3000", "http://localhost:3000"
LOGIN = ["--username", "ada", "--password-stdin"]
#: What a good proxy does beside passing on.
GOOD: list[Step] = [answers_itself(404, path="/api/v1/verify"), asks_with("x-forwarded-for", "127.0.0.1")]


class Report:
    def __init__(self, run: subprocess.CompletedProcess[str]) -> None:
        assert run.stdout, run.stderr
        for secret in (PASSWORD, "eyJ", "dwr_"):
            assert secret not in run.stdout + run.stderr
        self.code, self.told = run.returncode, json.loads(run.stdout)
        self.findings = {found["code"]: found for found in self.told["findings"]}
        assert self.told["exit_code"] == self.code

    def codes(self) -> set[str]:
        return {code for code, found in self.findings.items() if found["level"] != "ok"}


def run(url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    text = PASSWORD + "\n" if "--password-stdin" in arguments else ""
    return subprocess.run([BINARY, "doctor", url, *arguments], env={**ENVIRONMENT, **environment}, input=text,
                          capture_output=True, text=True, timeout=60)


def look(url: str, *arguments: str, **environment: str) -> Report:
    return Report(run(url, *arguments, "--format", "json", **environment))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    directory = tmp_path_factory.mktemp("doctor")
    add_user(directory)
    server = Server(directory, "--trusted-proxies", "127.0.0.1", "--allowed-origins", f"{SIBLING},{ELSEWHERE}")
    yield server.start()
    server.stop()


def left_behind(server: Server) -> bool:
    listed = command(server.directory, "session", "list")
    assert listed.returncode == 0, listed.stderr
    return bool(listed.stdout)


SUBJECTS = ["connection", "clock", "answers", "proxy", "csrf", "cors", "cookies", "session"]


@pytest.mark.parametrize("more", [
    [], ["--strict"], ["--origin", SIBLING], ["--protected", "/api/v1/sessions"], ["--insecure"],
])
def test_a_good_deployment_has_nothing_wrong(served: Server, more: list[str]) -> None:
    with Proxy(served.port, GOOD) as proxy:
        report = look(proxy.url, *LOGIN, *more)
        assert report.codes() == set() and report.code == 0
        assert list(report.findings) == SUBJECTS and report.told["looked"] and report.told["logged_in"]
        assert not left_behind(served)
        nobody = look(f"{proxy.url}/api/v1", *more)
        assert nobody.codes() == set() and not nobody.told["logged_in"]
        assert list(nobody.findings) == SUBJECTS[:6]


@pytest.mark.parametrize("flags", [("--delivery", "body"), ("--cookie-secure", "false"), ("--csrf-strict", "true")])
def test_a_server_without_a_proxy_has_nothing_wrong(start, flags: tuple[str, ...]) -> None:
    server = start(*flags)
    report = look(server.url, *LOGIN)
    assert report.codes() == {"verify_public"} and report.code == 0
    assert report.told["logged_in"] and "session" in report.findings and not left_behind(server)


kept = proxies.keeps("/api/v1/openapi.json")
#: What goes wrong: for requests, for answers; options; what is found.
WRONG: dict[str, tuple[list[Step], list[Step], list[str], set[str]]] = {
    "Origin is dropped": ([drops("origin")], [], [], {"origin_dropped"}),
    "fetch metadata are dropped": ([drops("sec-fetch")], [], [], {"fetch_metadata_dropped"}),
    "both are dropped": ([drops("origin", "sec-fetch")], [], [], {"csrf_open"}),
    "the description is hidden": ([answers_itself(404, path="/api/v1/openapi.json")], [], [], {"no_description"}),
    "Host is rewritten": ([asks_with("host", "backend:8080")], [], [], {"host_rewritten"}),
    "X-Forwarded-Host is believed": ([proxies.believes_forwarded_host], [], [], {"forwarded_host_believed"}),
    "Authorization is dropped": ([drops("authorization")], [], [], {"authorization_dropped"}),
    "cookies are dropped": ([drops("cookie")], [], [], {"cookies_dropped"}),
    "DELETE is blocked": ([answers_itself(405, method="DELETE")], [], [], {"method_blocked"}),
    "types are rewritten": ([asks_with("content-type", "application/json")], [], [], {"text_accepted"}),
    "/verify is public": ([sends_to("/api/v1/verify", 0)], [], [], {"verify_public"}),
    "the prefix is another": ([moves("/auth/v1", "/api/v1")], [], ["--prefix", "/auth/v1"], {"prefix_rewritten"}),
    "a page is not allowed": ([], [], ["--origin", "http://127.0.0.1:4000"],
                              {"page_refused", "cors_page_refused", "login_refused"}),
    "a page is of another site": ([], [], ["--origin", ELSEWHERE], {"cross_site_cookies"}),
    "OPTIONS is blocked": ([answers_itself(405, method="OPTIONS")], [], ["--origin", SIBLING],
                           {"preflight_refused"}),
    "refresh fails": ([answers_itself(503, path="/api/v1/refresh", method="POST")], [], [],
                      {"failing", "retry_after_missing", "session_left"}),
    "refresh is throttled": (
        [answers_itself(429, ("Retry-After", "1"), path="/api/v1/refresh", method="POST")], [], [],
        {"throttled", "session_left"}),
    "a path is open": ([answers_itself(200, path="/notes")], [], ["--protected", "/notes"],
                       {"protected_unreached", "protected_open"}),
    "a path is out of reach": ([answers_itself(401, path="/notes")], [], ["--protected", "/notes"],
                               {"protected_unreached"}),
    "a path is always refused": ([answers_itself(401, path="/api/v1/notes")], [], ["--protected", "/api/v1/notes"],
                                 {"protected_refused"}),
    "Secure is stripped": ([], [rewrites_cookies("; Secure", "")], [], {"cookie_dropped"}),
    "HttpOnly is stripped": ([], [rewrites_cookies("; HttpOnly", "")], [], {"cookie_readable"}),
    "SameSite is stripped": ([], [rewrites_cookies("; SameSite=\\w+", "")], [], {"same_site_missing"}),
    "names are rewritten": ([], [rewrites_cookies("__Secure-", "")], [], {"cookie_renamed"}),
    "the domain is another": ([], [rewrites_cookies("; Secure", "; Secure; Domain=app.example")], [],
                              {"cookie_dropped"}),
    "the refresh path is lost": ([], [rewrites_cookies("Path=/api/v1/refresh", "Path=/refresh")], [],
                                 {"refresh_cookie_path"}),
    "the refresh path is wide": ([], [rewrites_cookies("Path=/api/v1/refresh", "Path=/")], [],
                                 {"refresh_cookie_wide"}),
    "the access path is lost": ([], [rewrites_cookies("Path=/api/v1;", "Path=/app;")], [], {"access_cookie_path"}),
    "cookies are stripped": ([], [strips("set-cookie")], [], {"cookies_missing", "session_left"}),
    "refresh sets nothing": ([], [strips("set-cookie", path="/api/v1/refresh")], [],
                             {"refresh_sets_nothing", "logout_keeps_cookies"}),
    "POST is blocked": ([answers_itself(404, path="/api/v1/login")], [], [], {"login_blocked", "login_refused"}),
    "logout clears nothing": ([], [strips("set-cookie", path="/api/v1/refresh/logout")], [], {"logout_keeps_cookies"}),
    "logout is swallowed": ([answers_itself(204, path="/api/v1/refresh/logout")], [], [],
                            {"logout_keeps_cookies", "logout_lingers", "session_left"}),
    "a 401 clears": ([], [proxies.clears_at_401], [], {"garbage_clears"}),
    "CORS is open": ([], [adds("Access-Control-Allow-Origin", "*")], [], {"cors_wildcard"}),
    "CORS is reflected": ([], [proxies.reflects_origin], [], {"cors_reflected"}),
    "CORS is stripped": ([], [strips("access-control-allow-origin")], ["--origin", SIBLING], {"cors_page_refused"}),
    "answers are kept": ([kept[0]], [kept[1]], [], {"cached"}),
    "a cache tells of a hit": ([], [adds("X-Cache", "HIT from edge", path="/api/v1/session")], [], {"cached"}),
    "no-store is stripped": ([], [strips("cache-control")], [], {"no_store_missing"}),
    "nosniff is stripped": ([], [strips("x-content-type-options")], [], {"nosniff_missing"}),
    "Vary is stripped": ([], [strips("vary")], [], {"vary_missing"}),
    "challenges are stripped": ([], [strips("www-authenticate")], [], {"www_authenticate_missing"}),
    "errors have other codes": ([], [proxies.has_codes_of_its_own], [], {"errors_rewritten"}),
    "errors have pages": ([], [proxies.has_pages_for_errors], [], {"errors_rewritten"}),
    "answers are compressed": ([], [proxies.compresses], [], {"compressed"}),
    "the clock is off": ([], [shifts_clock(20)], [], {"clock_differs"}),
    "the clock is wrong": ([], [shifts_clock(-90)], [], {"clock_wrong"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_goes_wrong_is_found_and_nothing_else(served: Server, name: str) -> None:
    asks, answers, options, expected = WRONG[name]
    good = GOOD[1:] if "verify" in name else GOOD
    asks = [] if "verify" in name else asks
    with Proxy(served.port, [*asks, *good], answers) as proxy:
        report = look(proxy.url, *LOGIN, *options)
    assert report.codes() == expected
    levels = {report.findings[code]["level"] for code in expected}
    assert report.code == (3 if "error" in levels else 0)
    assert all(report.findings[code][key] for code in expected for key in ("seen", "why", "remedy"))
    assert left_behind(served) == ("session_left" in expected)
    if "session_left" in expected:
        for line in command(served.directory, "session", "list").stdout.splitlines():
            command(served.directory, "session", "end", line.split("\t")[0])


def test_a_spoofed_address_is_found(served: Server) -> None:
    with Proxy(served.port, GOOD[:1]) as proxy:
        assert look(proxy.url, *LOGIN).codes() == {"address_spoofed"}


def test_what_is_the_operators_is_found_in_public(served: Server) -> None:
    for path in ("/metrics", "/readyz"):
        with Proxy(served.port, [*GOOD, sends_to(path, served.operator)]) as proxy:
            report = look(proxy.url)
            assert report.codes() == {"operator_public"} and path in report.findings["operator_public"]["seen"]


def test_how_it_ends_is_told_by_the_exit_code(served: Server) -> None:
    def code(answers: list[Step], *options: str) -> int:
        with Proxy(served.port, GOOD, answers) as proxy:
            return run(proxy.url, *options).returncode

    warns, fails = [strips("vary")], [strips("cache-control")]
    assert (code([]), code(warns), code(fails)) == (0, 0, 3)
    assert (code([], "--strict"), code(warns, "--strict"), code(fails, "--strict")) == (0, 4, 3)
    for wrong in (["--origin", "app.example"], ["--protected", "notes"]):
        assert code([], *wrong) == 1
    for usage in (["--username", "ada"], ["--password-stdin"], ["--timeout", "0"], ["--format", "xml"]):
        assert code([], *usage) == 2


def test_what_cannot_be_looked_at_is_a_1(served: Server) -> None:
    moved = [answers_itself(308, ("Location", "https://app.example/" + "\u202e".encode().decode("latin-1")))]
    with Proxy(served.port, moved) as proxy:
        assert look(proxy.url).codes() == {"redirected"}
        shown = run(proxy.url)
        assert shown.returncode == 1 and "\u202e" not in shown.stdout and "redirected" in shown.stdout
    with Proxy(served.port, [answers_itself(200, body=b"<h1>Welcome</h1>")]) as proxy:
        assert look(proxy.url).codes() == {"not_doorward"}
    closed = look(f"http://127.0.0.1:{free_port()}")
    assert closed.codes() == {"unreachable"} and closed.code == 1


@pytest.mark.parametrize("said", [None, b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_what_does_not_answer_as_it_should_is_not_waited_for(said: bytes | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections = []

        def accept() -> None:
            connection = listener.accept()[0]
            connections.append(connection)
            if said is not None:
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)

        threading.Thread(target=accept, daemon=True).start()
        report = look(f"http://127.0.0.1:{listener.getsockname()[1]}", "--timeout", "1")
        assert report.codes() == {"unreachable"} and report.code == 1
        for connection in connections:
            connection.close()


def test_no_password_is_tried_but_the_one_given(served: Server) -> None:
    def hashed() -> int:
        metrics = httpx.get(f"{served.operator_url}/metrics").text
        return int(re.search(r"^doorward_password_hashes_total (\d+)", metrics, re.M)[1])

    before = hashed()
    look(served.url)
    assert hashed() == before
    look(served.url, *LOGIN)
    assert hashed() == before + 2


def test_settings_of_this_machine_have_no_part_in_it(served: Server) -> None:
    with Proxy(served.port, GOOD) as proxy:
        assert look(proxy.url, DOORWARD_NONSENSE="1", DOORWARD_STORE="nowhere://").codes() == set()


def test_a_wrong_password_is_told_and_the_rest_is_looked_at(served: Server) -> None:
    with Proxy(served.port, GOOD) as proxy:
        wrong = subprocess.run(
            [BINARY, "doctor", proxy.url, *LOGIN, "--format", "json"], env=ENVIRONMENT, input="wrong horse battery\n",
            capture_output=True, text=True, timeout=60,
        )
    report = Report(wrong)
    assert report.codes() == {"login_refused"} and report.code == 3 and "wrong horse" not in wrong.stdout


def test_people_read_what_is_wrong_and_what_to_do(served: Server) -> None:
    with Proxy(served.port, GOOD, [rewrites_cookies("; Secure", "")]) as proxy:
        shown = run(proxy.url, *LOGIN).stdout
    assert "error    cookie_dropped: __Secure-access_token_cookie: its name's prefix asks for Secure" in shown
    assert "remedy: have the proxy leave Set-Cookie alone" in shown and "errors: 1, warnings: 0" in shown


# TLS


class Authority:
    """An authority of certificates of our own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.key, self.name = folder, ec.generate_private_key(ec.SECP256R1()), named("Our root")
        root = self.builder(self.name, self.key, days=(-1, 3650))
        root = root.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.root = folder / "root.pem"
        self.root.write_bytes(root.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, days: tuple[int, int]):
        now = datetime.datetime.now(datetime.UTC)
        start, end = (now + datetime.timedelta(days=day) for day in days)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(start).not_valid_after(end)

    def issue(self, address: str, days: tuple[int, int]) -> tuple[pathlib.Path, pathlib.Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        leaf = self.builder(named("server"), key, days).add_extension(names, critical=False)
        files = self.folder / "cert.pem", self.folder / "key.pem"
        files[0].write_bytes(leaf.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                               serialization.NoEncryption()))
        files[1].chmod(0o600)
        return files


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@pytest.mark.parametrize(("address", "days", "found"), [
    ("127.0.0.1", (-1, 80), set()),
    ("127.0.0.1", (-80, 10), {"certificate_expires"}),
    ("127.0.0.1", (-80, -1), {"certificate_untrusted"}),
    ("127.0.0.2", (-1, 80), {"certificate_untrusted"}),
])
def test_the_servers_own_tls(start, tmp_path: pathlib.Path, address: str, days: tuple[int, int], found: set[str]) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue(address, days)
    server = start("--tls-cert-file", str(cert), "--tls-key-file", str(key), scheme="https")
    roots = {"SSL_CERT_FILE": str(authority.root)}
    silent = ["--plain-port", str(free_port())]
    report = look(server.url, *LOGIN, *silent, **roots)
    assert report.codes() - {"verify_public"} == found
    stops = "certificate_untrusted" in found
    assert report.code == (1 if stops else 0) and report.told["looked"] != stops
    insecure = look(server.url, *LOGIN, *silent, "--insecure", **roots)
    accepted = {"certificate_accepted"} if stops else found
    assert insecure.codes() - {"verify_public"} == accepted and insecure.code == 0
    assert not left_behind(server)


def test_a_certificate_of_nobody_we_know_is_sent_nothing(start, tmp_path: pathlib.Path) -> None:
    cert, key = Authority(tmp_path).issue("127.0.0.1", (-1, 80))
    server = start("--tls-cert-file", str(cert), "--tls-key-file", str(key), scheme="https")
    report = look(server.url, *LOGIN)
    assert report.codes() == {"certificate_untrusted"} and report.code == 1
    assert '"route"' not in server.logged() and "route=" not in server.logged()
    assert look(server.url, *LOGIN, "--insecure", "--strict").code == 4


def test_http_beside_https(served: Server, tmp_path: pathlib.Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("127.0.0.1", (-1, 80))
    roots = {"SSL_CERT_FILE": str(authority.root)}

    def moved(to: str) -> list[Step]:
        return [answers_itself(301, ("Location", to))]

    with Proxy(served.port, GOOD, tls=files) as secure:
        for asks, found in [
            ([], {"plain_http_served"}),
            (moved("http://127.0.0.1/"), {"plain_http_misdirected"}),
            (moved(f"{secure.url}/api/v1/session"), set()),
        ]:
            with Proxy(served.port, asks) as plain:
                report = look(secure.url, *LOGIN, "--plain-port", str(plain.port), **roots)
                assert report.codes() == found
        stripped = [rewrites_cookies("__Secure-|; Secure", "")]
        with Proxy(served.port, GOOD, stripped, tls=files) as bare:
            codes = look(bare.url, *LOGIN, "--plain-port", str(free_port()), **roots).codes()
            assert codes == {"cookie_renamed", "cookie_not_secure"}


# Flask


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """Starts the example app below gunicorn, with settings of the environment."""
    folder = tmp_path_factory.mktemp("notes")
    running: list[subprocess.Popen[bytes]] = []

    def start(**settings: str) -> str:
        port = free_port()
        environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT / "examples/flask"), **settings}
        environment["FLASK_DOORWARD_STORE"] = f"sqlite:///{folder}/doorward-{port}.db"
        environment["FLASK_SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{folder}/notes-{port}.db"
        flask = [sys.executable, "-m", "flask", "--app", "app", "add-user", "ada", "--password", PASSWORD]
        subprocess.run(flask, env=environment, cwd=folder, check=True, timeout=60)
        with open(folder / f"log-{port}", "wb") as log:
            running.append(subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "app:create_app()", "--workers", "2", "--threads", "2",
                 "--bind", f"127.0.0.1:{port}", "--graceful-timeout", "5", "--no-control-socket"],
                env=environment, cwd=folder, stdout=log, stderr=log,
            ))
        url = f"http://127.0.0.1:{port}"
        await_answer(port, folder / f"log-{port}")
        return url

    yield start
    for process in running:
        process.terminate()
    for process in running:
        process.wait(30)


def await_answer(port: int, log: pathlib.Path) -> None:
    for _ in range(300):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/api/v1/openapi.json")
            connection.getresponse().read()
            return
        except OSError:
            threading.Event().wait(0.05)
        finally:
            connection.close()
    raise RuntimeError(log.read_text())


OTHERWISE = {
    "FLASK_JWT_COOKIE_CSRF_PROTECT": "true", "FLASK_JWT_COOKIE_SAMESITE": "None",
    "FLASK_JWT_ACCESS_COOKIE_PATH": "/", "FLASK_JWT_REFRESH_COOKIE_PATH": "/",
}


@pytest.mark.parametrize(("settings", "found"), [({}, set()), (OTHERWISE, {"refresh_cookie_wide"})])
def test_a_flask_app_is_looked_at_too(notes, settings: dict[str, str], found: set[str]) -> None:
    url = notes(**settings)
    report = look(url, *LOGIN, "--protected", "/api/v1/notes")
    assert report.codes() == found and report.code == 0
    fine = [subject for subject in SUBJECTS if subject != "cookies" or not found]
    assert [code for code in report.findings if code in SUBJECTS] == fine
