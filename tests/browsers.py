"""What browsers, and those who pretend to be one, send: byte by byte, and what the rules say of it.

The checks are the same for every door. What is expected follows from the words of docs/api.md, from
tables, and from nothing in the code.
"""

import dataclasses
import itertools
import json
import socket
from collections.abc import Iterator
from typing import Any, BinaryIO

HOST = "api.example:8443"
ALLOWED = "https://app.example"
EVIL = "https://evil.example"

Lines = list[tuple[str, str]]


@dataclasses.dataclass
class Received:
    status: int
    lines: Lines
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for own, value in self.lines if own == name]

    def json(self) -> Any:
        return json.loads(self.body)


def send(port: int, method: str, path: str, lines: Lines, body: bytes = b"") -> Received:
    """Exactly this, by a connection of its own."""
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines)]
    if body or method in ("POST", "PUT", "PATCH"):
        head.append(f"Content-Length: {len(body)}")
    head += ["Connection: close", "", ""]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        stream.sendall("\r\n".join(head).encode("latin-1") + body)
        return receive(stream.makefile("rb"), method)


def receive(stream: BinaryIO, method: str) -> Received:
    """As long as the answer says: some servers keep a connection open for a while."""
    status = int(stream.readline().split()[1])
    lines = []
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        lines.append((name.lower(), value.strip()))
    length = dict(lines).get("content-length")
    if method == "HEAD" or status == 204:
        length = "0"
    return Received(status, lines, stream.read(int(length)) if length else stream.read())


@dataclasses.dataclass
class Rule:
    """What is set, as far as it decides."""

    allowed: bool = False
    same_site: bool = False
    strict: bool = False
    double_submit: bool = False
    #: PEP 3333 has one value a header: its servers join lines by a comma.
    joins: bool = False


@dataclasses.dataclass
class Door:
    """Where it is, and what it calls things."""

    port: int
    password: str
    rule: Rule
    access: str
    refresh: str
    #: Routes of a host's own, by the method that decides: method, path, lines.
    guarded: dict[str, tuple[str, str, Lines]]

    def send(self, method: str, path: str, lines: Lines, body: bytes = b"") -> Received:
        lines = lines if any(name == "Host" for name, _ in lines) else [("Host", HOST), *lines]
        return send(self.port, method, f"/api/v1{path}", lines, body)

    def login(self, delivery: str, *lines: tuple[str, str], **more: object) -> Received:
        body = {"username": "ada", "password": self.password, "delivery": delivery, **more}
        own = [("Content-Type", "application/json"), ("Sec-Fetch-Site", "same-origin")]
        answer = self.send("POST", "/login", [*own, *lines], json.dumps(body).encode())
        assert answer.status == 200, answer
        return answer


def jar(answer: Received) -> dict[str, str]:
    """What an answer set."""
    pairs = (line.split(";")[0].partition("=") for line in answer.all("set-cookie"))
    return {name: value for name, _, value in pairs}


class Victim:
    """Somebody with a browser, and another device that sees whether anything happened."""

    def __init__(self, door: Door) -> None:
        self.door = door
        body = door.login("body").json()
        self.device = [("Authorization", f"Bearer {body['access_token']}")]
        self.refresh_token = body["refresh_token"]
        self.jar = jar(door.login("cookie"))
        self.known = self.sessions()

    def sessions(self) -> list[str]:
        answer = self.door.send("GET", "/sessions", self.device)
        return [session["id"] for session in answer.json()["sessions"]] if answer.status == 200 else []

    def browser_is_in(self) -> bool:
        return self.door.send("GET", "/session", self.cookie()).status == 200

    def cookie(self) -> Lines:
        return [("Cookie", "; ".join(f"{name}={value}" for name, value in self.jar.items()))]

    def leave(self) -> None:
        self.door.send("DELETE", "/sessions", self.device)


# ---- the rule against requests of other sites ----

#: `Sec-Fetch-Site`, line by line.
SITES = [
    (), ("same-origin",), ("none",), ("same-site",), ("cross-site",), ("SAME-ORIGIN",), ("?1",),
    ("same-origin", "same-origin"), ("none", "cross-site"),
]
#: `Origin`, line by line, and whose it is.
ORIGINS = [
    ((), "nobody"), (("https://api.example:8443",), "ours"), (("http://api.example:8443",), "other"),
    (("https://api.example",), "other"), (("https://api.example.:8443",), "other"),
    (("https://api.example:8443/path",), "other"), (("null",), "other"), ((ALLOWED,), "allowed"),
    (("https://APP.example",), "other"), (("https://app.example.evil.example",), "other"),
    (("https://app.example:444",), "other"), ((EVIL, "https://api.example:8443"), "other"),
]
#: `Content-Type`, and whether a body of it is JSON.
TYPES = [
    ("application/json", True), ("application/json; charset=x", True), ("text/plain", False),
    ("application/x-www-form-urlencoded", False), ("multipart/form-data; boundary=x", False),
    ("application/jsonx", False), (None, False),
]
CALLS = ["login", "refresh", "logout", "refresh/logout", "end", "end all", "reauthenticate", "password"]
SAFE = ("GET", "HEAD", "OPTIONS")


@dataclasses.dataclass
class Case:
    #: One of `CALLS`, or the method that decides at a route of the host's.
    call: str
    by: str
    sites: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    whose: str = "nobody"
    media_type: str | None = "application/json"
    is_json: bool = True
    has_body: bool = True
    repeats: bool = True

    def refusals(self, rule: Rule) -> set[int]:
        """What it may be refused for; nothing: it succeeds."""
        by_cookie = self.by == "cookie" or self.call == "login" or "logout" in self.call and self.by == "none"
        refusals = set()
        if self.call not in SAFE and by_cookie and not self.is_ours(rule):
            refusals.add(403)
        if rule.double_submit and not self.repeats and self.by == "cookie" and self.must_repeat():
            refusals.add(403)
        if self.call in CALLS and self.has_body and not self.is_json:
            refusals.add(415)
        if self.by == "none" and self.call != "login" and "logout" not in self.call:
            refusals.add(401)
        return refusals

    def must_repeat(self) -> bool:
        return self.call not in SAFE and self.call not in ("login", "PROPFIND")

    def is_ours(self, rule: Rule) -> bool:
        if self.sites in (("same-origin",), ("none",)) or self.sites == ("same-site",) and rule.same_site:
            return True
        if len(self.sites) > 1 and not rule.joins:
            return False
        if self.whose == "nobody":
            return not self.sites and not rule.strict
        return self.whose == "ours" or self.whose == "allowed" and rule.allowed

    def send(self, victim: Victim) -> Received:
        method, path, lines = self.target(victim)
        lines = [("Sec-Fetch-Site", site) for site in self.sites] + lines
        lines += [("Origin", origin) for origin in self.origins]
        lines += [("Content-Type", self.media_type)] if self.media_type else []
        lines += {"cookie": victim.cookie(), "bearer": victim.device, "none": []}[self.by]
        kind = "refresh" if self.call in ("refresh", "logout", "refresh/logout") else "access"
        if self.repeats and f"csrf_{kind}_token" in victim.jar:
            lines.append(("X-CSRF-TOKEN", victim.jar[f"csrf_{kind}_token"]))
        return victim.door.send(method, path, lines, self.body(victim) if self.has_body else b"")

    def target(self, victim: Victim) -> tuple[str, str, Lines]:
        match self.call:
            case "end":
                return "DELETE", f"/sessions/{victim.known[0]}", []
            case "end all":
                return "DELETE", "/sessions", []
            case call if call in CALLS:
                return "POST", f"/{call}", []
            case method:
                method, path, lines = victim.door.guarded[method]
                return method, path, [*lines]

    def body(self, victim: Victim) -> bytes:
        match self.call:
            case "login":
                return json.dumps({"username": "ada", "password": victim.door.password}).encode()
            case "reauthenticate":
                return json.dumps({"password": victim.door.password}).encode()
            case "password":
                body = {"current": victim.door.password, "new": "nineteen purple otters sing"}
                return json.dumps(body).encode()
            case "refresh" if self.by == "bearer":
                return json.dumps({"refresh_token": victim.refresh_token}).encode()
            case call if call in CALLS:
                return b"{}"
        return b""


def cases(door: Door) -> Iterator[Case]:
    """A part of the product that crates/http/tests/csrf_matrix.rs goes through: every site beside three
    origins, every origin beside three sites, for a cookie; the corners for the others."""
    calls = [*CALLS, *door.guarded]
    repeated = [True, False] if door.rule.double_submit else [True]
    every = [*itertools.product(SITES, ORIGINS[:2] + ORIGINS[7:8]), *itertools.product(SITES[3:5], ORIGINS)]
    for call, repeats, (sites, (origins, whose)) in itertools.product(calls, repeated, every):
        yield Case(call, "cookie", sites, origins, whose, repeats=repeats)
    corners = itertools.product([SITES[0], SITES[1], SITES[4]], [ORIGINS[0], ORIGINS[6]])
    for call, by, (sites, (origins, whose)) in itertools.product(calls, ["bearer", "none"], [*corners]):
        yield Case(call, by, sites, origins, whose)
    bodies = itertools.product(CALLS, [SITES[1], SITES[4]], TYPES, [True, False])
    for call, sites, (media_type, is_json), has_body in bodies:
        if has_body or call not in ("login", "reauthenticate", "password"):
            yield Case(call, "cookie", sites, media_type=media_type, is_json=is_json, has_body=has_body)


def check_cross_site(door: Door) -> int:
    """Every case; a change of password that nothing forbids is left out, as it would not be undone."""
    victim, count = Victim(door), 0
    for case in cases(door):
        refusals = case.refusals(door.rule)
        if case.call == "password" and not refusals:
            continue
        answer = case.send(victim)
        told = (case, answer, refusals)
        count += 1
        if refusals:
            assert answer.status in refusals, told
            assert not answer.all("set-cookie"), told
        else:
            assert answer.status < 300, told
        # What a refused request did would stay done: a look in a while finds it.
        if count % 25 == 0 and refusals:
            assert victim.sessions() == victim.known, told
        if not refusals and case.call in CALLS:
            victim.leave()
            victim = Victim(door)
    assert victim.sessions() == victim.known and victim.browser_is_in()
    return count


# ---- CORS ----

ROUTES = [
    ("POST", "/login"), ("POST", "/refresh"), ("POST", "/logout"), ("POST", "/refresh/logout"),
    ("GET", "/session"), ("GET", "/sessions"), ("DELETE", "/sessions"),
    ("DELETE", "/sessions/01890000-0000-7000-8000-000000000000"), ("POST", "/reauthenticate"),
    ("POST", "/password"), ("GET", "/jwks.json"), ("GET", "/openapi.json"), ("GET", "/docs"),
]
#: Origins that are not the allowed one.
LOOKALIKES = [
    EVIL, "null", "*", "https://APP.example", "HTTPS://app.example", "http://app.example",
    "https://app.example:443", "https://app.example:444", "https://app.example/", "https://app.example.",
    "https://app.example.evil.example", "https://evilapp.example", "https://xapp.example",
    "https://app.exampl", "https://app.example, https://evil.example", "https://app.example evil.example",
    "https://app.example%00", "https://user@app.example", "", "https://\xe4pp.example",
]


def shared_with(answer: Received) -> dict[str, str]:
    return {name: value for name, value in answer.lines if name.startswith("access-control-")}


def check_cors(door: Door) -> None:
    """The one allowed origin, exactly; nobody else, at any route, whatever comes of it."""
    for (method, path), asked in itertools.product(ROUTES, ["POST", "DELETE", "PUT", "TRACE"]):
        asks = [("Access-Control-Request-Method", asked), ("Access-Control-Request-Headers", "x-evil"),
                ("Access-Control-Request-Private-Network", "true")]
        preflight = door.send("OPTIONS", path, [("Origin", ALLOWED), *asks])
        allowed = shared_with(preflight)
        assert allowed.pop("access-control-allow-origin") == ALLOWED, (path, preflight)
        assert allowed.pop("access-control-allow-credentials") == "true"
        assert allowed.pop("access-control-allow-methods") == "GET, POST, DELETE"
        assert "x-evil" not in allowed.pop("access-control-allow-headers") and "Origin" in vary(preflight)
        assert allowed.keys() == {"access-control-max-age", "access-control-expose-headers"}, allowed
    for (method, path), origin in itertools.product(ROUTES, LOOKALIKES):
        asks = [("Access-Control-Request-Method", method)]
        for answer in (door.send("OPTIONS", path, [("Origin", origin), *asks]),
                       door.send(method, path, [("Origin", origin)])):
            assert not shared_with(answer) and "Origin" in vary(answer), (method, path, origin, answer)
    for method, path in ROUTES:
        answer = door.send(method, path, [("Origin", ALLOWED)])
        assert shared_with(answer)["access-control-allow-origin"] == ALLOWED, (path, answer)
        assert "Origin" in vary(door.send(method, path, [])), path
    for method in ("OPTIONS", "GET", "POST"):
        unknown = door.send(method, "/unknown", [("Origin", ALLOWED), ("Access-Control-Request-Method", "GET")])
        assert unknown.status in (404, 405) and not shared_with(unknown)


def check_no_cors(door: Door) -> None:
    """Where no origin is allowed, none is answered."""
    for (method, path), origin in itertools.product(ROUTES, [ALLOWED, *LOOKALIKES]):
        lines = [("Origin", origin), ("Access-Control-Request-Method", method)]
        for how in ("OPTIONS", method):
            assert not shared_with(door.send(how, path, lines)), (how, path, origin)


def vary(answer: Received) -> list[str]:
    return [name.strip() for line in answer.all("vary") for name in line.split(",")]


# ---- the headers of every answer ----

NO_PAGE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"


def check_headers(door: Door) -> set[int]:
    """On each answer, whatever it says. Which statuses were seen."""
    victim = Victim(door)
    typed = [("Content-Type", "application/json")]
    wrong = json.dumps({"username": "ada", "password": "wrong horse battery"}).encode()
    weak = json.dumps({"current": door.password, "new": "short"}).encode()
    seen = set()
    for answer in (
        door.login("cookie"),
        door.send("GET", "/session", victim.cookie()),
        door.send("GET", "/sessions", victim.device),
        door.send("GET", "/session", []),
        door.send("GET", "/session", [("Authorization", "Bearer x")]),
        door.send("POST", "/login", typed, wrong),
        door.send("POST", "/login", typed, b"{"),
        door.send("POST", "/login", [("Content-Type", "text/plain")], b"{}"),
        door.send("POST", "/login", typed, b"x" * 20_000),
        door.send("POST", "/login", [("Sec-Fetch-Site", "cross-site"), *typed], wrong),
        door.send("POST", "/refresh", []),
        door.send("POST", "/password", [*victim.device, *typed], weak),
        door.send("POST", "/reauthenticate", [*victim.device, *typed], b'{"password": "wrong horse"}'),
        door.send("DELETE", "/sessions/01890000-0000-7000-8000-000000000000", victim.device),
        door.send("GET", "/jwks.json", []),
        door.send("GET", "/openapi.json", []),
        door.send("GET", "/docs", []),
        door.send("GET", "/docs/start.js", []),
        door.send("POST", "/refresh/logout", victim.cookie()),
        *(door.send(*request) for request in door.guarded.values()),
    ):
        seen.add(answer.status)
        has_headers(answer, is_docs=b"window.ui" in answer.body or b"<!doctype" in answer.body)
    return seen


def has_headers(answer: Received, is_docs: bool = False) -> None:
    policy = answer.all("content-security-policy")
    if is_docs:
        assert "frame-ancestors 'none'" in policy[0] and "script-src 'self'" in policy[0], answer
        assert answer.all("cross-origin-opener-policy") == ["same-origin"], answer
    else:
        assert policy == [NO_PAGE] and answer.all("cache-control") == ["no-store"], answer
    assert answer.all("x-content-type-options") == ["nosniff"], answer
    assert answer.all("referrer-policy") == ["no-referrer"], answer
    assert answer.all("cross-origin-resource-policy") == ["same-origin"], answer
    assert not answer.all("strict-transport-security") and not answer.all("x-powered-by"), answer


# ---- cookies ----


DEVICE = "__Secure-device_token_cookie"


def check_cookies(door: Door, remember: bool, domain: str = "") -> None:
    """Each is set as documented, and a logout clears it by the same name, path and domain."""
    answer = door.login("cookie", remember=remember)
    cookies = dict(parted(line) for line in answer.all("set-cookie"))
    for name, path, same_site in ((door.access, "/api/v1", "Lax"), (door.refresh, "/api/v1/refresh", "Strict")):
        attributes = cookies[name]
        age = attributes.pop("Max-Age", None)
        assert (age is not None and 0 < int(age) <= 90 * 86400) == remember, answer
        wanted = {"Path": path, "HttpOnly": "", "Secure": "", "SameSite": same_site}
        assert attributes == wanted | ({"Domain": domain} if domain else {}), answer
    # Not the session's: a logout leaves it.
    device = cookies.pop(DEVICE)
    assert 0 < int(device.pop("Max-Age")) <= 3650 * 86400
    wanted = {"Path": "/api/v1/login", "HttpOnly": "", "Secure": "", "SameSite": "Strict"}
    assert device == wanted | ({"Domain": domain} if domain else {}), answer
    sent = [("Cookie", "; ".join(f"{name}={value}" for name, value in jar(answer).items()))]
    sent += [("X-CSRF-TOKEN", value) for name, value in jar(answer).items() if name == "csrf_refresh_token"]
    out = door.send("POST", "/refresh/logout", sent)
    assert out.status == 204 and not any(jar(out).values())
    cleared = dict(parted(line) for line in out.all("set-cookie"))
    assert cleared.keys() == cookies.keys()
    for name, attributes in cleared.items():
        assert attributes.pop("Max-Age") == "0"
        cookies[name].pop("Max-Age", None)
        assert attributes == cookies[name], name


def parted(line: str) -> tuple[str, dict[str, str]]:
    first, *others = line.split("; ")
    attributes = (other.partition("=") for other in others)
    return first.partition("=")[0], {name: value for name, _, value in attributes}


def check_hostile_cookies(door: Door) -> None:
    """Whatever stands beside a cookie or in its place, it counts or it does not: never an error of ours."""
    victim = Victim(door)
    name, token = door.access, victim.jar[door.access]
    own = f"{name}={token}"
    counts = [
        own, f"  {own}  ", f"a=b;{own}", f"{own}; {name}=stale", f"{name}=stale; {own}",
        f"{name}=; {own}", f"; ;; {own};", f"=x; {own}", f"x; {own}", f'q="a; b"; {own}',
        f"caf\xe9=\xff; {own}", f"__Host-{name}=x; {own}", f"{'; '.join(f'c{n}=v' for n in range(1000))}; {own}",
        f"big={'x' * 20_000}; {own}", "; ".join([f"{name}=stale"] * 3 + [own]), f"{own}; {own}",
    ]
    for line in counts:
        answer = door.send("GET", "/session", [("Cookie", line)])
        assert answer.status == 200, (line[:80], answer)
    none = [
        "", ";", "=", name, f"{name}=", f"{name.upper()}={token}", f"x{name}={token}", f"{name}x={token}",
        f"__Host-{name}={token}", f'{name}="{token}"', f"{name} ={token}", f"{name}={token[:-1]}",
        f"{name}={token}\xe9", f"{name}={token},", f"{name}={token}%00", f"${name}={token}",
        f"{name}={victim.jar[door.refresh]}", f"{door.refresh}={token}", "; ".join([f"{name}=stale"] * 4 + [own]),
    ]
    for line in none:
        answer = door.send("GET", "/session", [("Cookie", line)])
        assert answer.status == 401, (line[:80], answer)
        assert not answer.all("set-cookie")
    for line in (f"{own}\0", f"a=\0; {own}", f"{own}; a=\x01"):
        assert door.send("GET", "/session", [("Cookie", line)]).status in (200, 400, 401), line


# ---- headers of whoever ----

#: What says something only where a trusted proxy says it, or nothing at all.
HOSTILE = [
    ("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "127.0.0.1, 6.6.6.6"), ("X-Real-IP", "6.6.6.6"),
    ("Forwarded", "for=6.6.6.6;host=evil.example;proto=http"), ("X-Client-IP", "6.6.6.6"),
    ("True-Client-IP", "6.6.6.6"), ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Proto", "http"),
    ("X-Forwarded-Port", "80"), ("X-Forwarded-Prefix", "/evil"), ("X-Forwarded-Server", "evil.example"),
    ("X-Forwarded-Scheme", "http"), ("X-Original-Host", "evil.example"), ("X-Host", "evil.example"),
    ("X-Original-Method", "GET"), ("X-Forwarded-Method", "GET"), ("X-HTTP-Method-Override", "GET"),
    ("X-HTTP-Method", "GET"), ("X-Method-Override", "GET"), ("X-Original-URL", "/api/v1/jwks.json"),
    ("X-Rewrite-URL", "/api/v1/jwks.json"), ("Via", "1.1 evil"), ("CF-Connecting-IP", "6.6.6.6"),
]


def check_hostile_headers(door: Door) -> None:
    """From a peer that is nobody's proxy they change nothing: neither address, nor origin, nor cookies."""
    plain = door.login("cookie")
    flags = sorted(parted(line) for line in plain.all("set-cookie"))
    for hostile in [[line] for line in HOSTILE] + [HOSTILE, [("X-Forwarded-For", "6.6.6.6, " * 3000)]]:
        victim = Victim(door)
        answer = door.login("cookie", *hostile)
        assert sorted(parted(line) for line in answer.all("set-cookie")) == flags, hostile
        assert {address for address in addresses(door, victim)} == {"127.0.0.1"}, hostile
        victim.known = victim.sessions()
        json_type = ("Content-Type", "application/json")
        for lines in ([("Origin", EVIL)], [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")]):
            for method, path in (("POST", "/refresh/logout"), ("DELETE", "/sessions"), ("POST", "/login")):
                refused = door.send(method, path, [*lines, *hostile, json_type, *victim.cookie()], b"{}")
                assert refused.status == 403 and not refused.all("set-cookie"), (hostile, refused)
        assert victim.sessions() == victim.known
        victim.leave()
    victim = Victim(door)
    for override in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method"):
        for path in ("/sessions", "/sessions?_method=DELETE", f"/sessions/{victim.known[0]}"):
            answer = door.send("POST", path, [(override, "DELETE"), *victim.cookie()])
            assert answer.status == 405, answer
    assert victim.sessions() == victim.known


def addresses(door: Door, victim: Victim) -> list[str]:
    sessions = door.send("GET", "/sessions", victim.device).json()["sessions"]
    return [session["address"] for session in sessions]


def check_trusted_proxy(door: Door) -> None:
    """The last address that is no proxy's; the Host and the settings stay what they are."""
    for forwarded, address in {
        "6.6.6.6": "6.6.6.6", "1.1.1.1, 6.6.6.6": "6.6.6.6", "6.6.6.6, 127.0.0.1": "6.6.6.6",
        "6.6.6.6:4711": "6.6.6.6", "[2001:db8::1]:4711": "2001:db8::1", "fe80::1%eth0": "fe80::1",
        "::ffff:6.6.6.6": "6.6.6.6", "\xe9, 6.6.6.6": "6.6.6.6", "unknown": "127.0.0.1",
        "6.6.6.6, unknown": "127.0.0.1", "1.1.1.1, " * 3000 + "6.6.6.6": "6.6.6.6", "": "127.0.0.1",
    }.items():
        others = [line for line in HOSTILE if line[0] != "X-Forwarded-For"]
        answer = door.login("body", ("X-Forwarded-For", forwarded), *others)
        device = [("Authorization", f"Bearer {answer.json()['access_token']}")]
        listed = door.send("GET", "/sessions", device).json()["sessions"]
        found = {session["address"] for session in listed if session["current"]}
        assert found == {address}, (forwarded[:40], found)
    refused = door.send("POST", "/login", [("Origin", EVIL), *HOSTILE])
    assert refused.status == 403
