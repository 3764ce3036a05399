"""The recorded exchanges of the HTTP layer, read and compared as crates/http/src/testing.rs does."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

DIRECTORY = pathlib.Path(__file__).resolve().parents[2] / "crates/http/exchanges"
PASSWORD = "correct horse battery staple"
USERS = ["ada", "bob"]

#: Headers that an answer has exactly as the file says, or not at all.
STATED = [
    "access-control-allow-credentials", "access-control-allow-headers",
    "access-control-allow-methods", "access-control-allow-origin",
    "access-control-expose-headers", "access-control-max-age",
    "content-type", "doorward-session", "doorward-user", "location", "set-cookie",
    "www-authenticate",
]
ALWAYS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy":
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
}
FORMS = {
    "any": r".*",
    "number": r"[0-9]+",
    "token": r"[A-Za-z0-9_.-]{40,}",
    "id": r"[0-9a-fA-F-]{36}",
    "time": r"[0-9T:.-]+Z",
}

Headers = list[tuple[str, str]]


@dataclasses.dataclass
class Exchange:
    title: str
    before: list[str]
    method: str
    path: str
    headers: Headers
    body: str
    status: int
    answer_headers: Headers
    answer_body: str


@dataclasses.dataclass
class Recording:
    name: str
    settings: dict[str, str]
    doors: list[str]
    exchanges: list[Exchange]


@dataclasses.dataclass
class Received:
    status: int
    headers: Headers
    body: bytes


def recordings(door: str) -> Iterator[Recording]:
    for path in sorted(DIRECTORY.glob("*.http")):
        recording = read(path)
        if not recording.doors or door in recording.doors:
            yield recording


def read(path: pathlib.Path) -> Recording:
    head, *blocks = path.read_text().split("\n### ")
    settings = dict(re.findall(r"^with (\S+) = (.*)$", head, re.M))
    doors = re.findall(r"^doors (.*)$", head, re.M)
    return Recording(path.stem, settings, doors[0].split(", ") if doors else [], [*map(exchange, blocks)])


def exchange(block: str) -> Exchange:
    asked, answer = block.split("\n=> ", 1)
    title, *lines = asked.splitlines()
    before = []
    while lines[0].startswith(("wait ", "operator ")):
        before.append(lines.pop(0))
    method, path = lines.pop(0).split(" ", 1)
    status, *answered = answer.splitlines()
    return Exchange(
        title, before, method, path, *headers_and_body(lines), int(status), *headers_and_body(answered)
    )


def headers_and_body(lines: list[str]) -> tuple[Headers, str]:
    blank = lines.index("") if "" in lines else len(lines)
    headers = [tuple(line.split(": ", 1)) for line in lines[:blank]]
    return headers, "\n".join(lines[blank + 1 :]).rstrip("\n")  # type: ignore[return-value]


class Known:
    """The values that an earlier answer gave a name."""

    def __init__(self) -> None:
        self.values = {"password": PASSWORD}

    def expand(self, text: str) -> bytes:
        out = b""
        for i, piece in enumerate(re.split(r"\{\{(.*?)\}\}", text)):
            out += self.value(piece) if i % 2 else piece.encode()
        return out

    def value(self, name: str) -> bytes:
        if name.startswith("byte "):
            return bytes([int(name[5:], 16)])
        if "*" in name:
            text, times = name.split("*")
            return (text * int(times)).encode()
        return self.values[name].encode()

    def compare(self, exchange: Exchange, received: Received) -> None:
        assert received.status == exchange.status, received
        self.compare_headers(exchange, received.headers)
        wanted, actual = exchange.answer_body, received.body.decode()
        if wanted == "<any>":
            return
        kind = dict(received.headers).get("content-type", "")
        if kind.endswith("json") and wanted:
            self.compare_json(json.loads(wanted), json.loads(actual), "body")
        else:
            self.match(wanted, actual, "body")

    def compare_headers(self, exchange: Exchange, actual: Headers) -> None:
        for name in {*STATED, *(name.lower() for name, _ in exchange.answer_headers)}:
            wanted = [v for n, v in exchange.answer_headers if n.lower() == name and v != "<none>"]
            found = [v for n, v in actual if n == name]
            if name != "set-cookie" and found:
                found = [", ".join(found)]
            assert len(wanted) == len(found), f"{name} must be {wanted}, is {found}"
            for one, other in zip(wanted, found):
                self.match(one, other, name)
        stated = {name.lower() for name, _ in exchange.answer_headers}
        for name, value in ALWAYS.items():
            if exchange.method != "OPTIONS" and name not in stated:
                assert [v for n, v in actual if n == name] == [value], name

    def compare_json(self, wanted: Any, actual: Any, at: str) -> None:
        if isinstance(wanted, dict) and isinstance(actual, dict):
            assert wanted.keys() == actual.keys(), at
            for key in wanted:
                self.compare_json(wanted[key], actual[key], f"{at}.{key}")
        elif isinstance(wanted, list) and isinstance(actual, list):
            assert len(wanted) == len(actual), at
            for i, pair in enumerate(zip(wanted, actual)):
                self.compare_json(*pair, f"{at}[{i}]")
        elif isinstance(wanted, str) and isinstance(actual, str):
            self.match(wanted, actual, at)
        elif wanted in ("<any>", "<number>"):
            self.match(wanted, json.dumps(actual), at)
        else:
            assert wanted == actual, at

    def match(self, wanted: str, actual: str, at: str) -> None:
        """Whether `actual` is `wanted` with its placeholders filled; keeps the named ones."""
        pattern, names = "", []
        for i, piece in enumerate(re.split(r"<([a-z]+(?: \w+)?)>", self.expand(wanted).decode())):
            if i % 2 == 0:
                pattern += re.escape(piece)
                continue
            kind, _, name = piece.partition(" ")
            pattern += f"({FORMS[kind]}{'?' if kind == 'any' else ''})"
            names.append((kind, name))
        found = re.fullmatch(pattern, actual, re.S)
        assert found, f"{at} must be {wanted!r}, is {actual!r}"
        for (kind, name), value in zip(names, found.groups()):
            if kind == "time":
                datetime.fromisoformat(value)
            if name:
                self.values[name] = value
