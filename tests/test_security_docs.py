"""docs/security: what it names exists, and docs/security/asvs.md leaves no requirement out and counts right.

A test is named as `path::name`: of Rust one that runs by default, in that file or in a module of its own below it;
of Python a function or a method. A test that is not written yet is `(test to come: topic)`, and fails here.
"""

import ast
import collections
import functools
import json
import pathlib
import re
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs/security"
PAGES = sorted(DOCS.glob("*.md"))

REFERENCE = re.compile(r"`([\w./-]+\.(?:rs|py))::([\w:]+)`")
TO_COME = re.compile(r"\(test to come: ([^)]+)\)")
RUST_TEST = re.compile(r"#\[(?:\w+::)?test\b[^\]]*\]((?:\s*#\[[^\]]*\])*)\s*(?:pub(?:\([^)]*\))? )?(?:async )?fn (\w+)")
NUMBER = re.compile(r"\d+\.\d+\.\d+")
#: A line of a requirement that applies, and one of those that do not.
ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([123]) \| (.+) \|$")
ABSENT = re.compile(r"^\| ((?:\d+\.\d+\.\d+ L[123](?:, )?)+) \| (host|not applicable) \| (.+) \|$")
COUNTS = re.compile(r"^\| (L1|L2|L3|all) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$")
STATUSES = ("met", "not met", "host", "not applicable")


class Said(NamedTuple):
    """What the page says of one requirement."""

    number: str
    level: int
    status: str
    how: str
    tests: str


def standard() -> dict[str, int]:
    return json.loads((DOCS / "asvs-5.0.json").read_text())["levels"]


def page() -> list[str]:
    return (DOCS / "asvs.md").read_text().splitlines()


def said() -> list[Said]:
    found = []
    for line in page():
        if row := ROW.match(line):
            number, level, rest = row.groups()
            _, status, how, tests = (cell.strip() for cell in rest.split(" | "))
            found.append(Said(number, int(level), status, how, tests))
        elif absent := ABSENT.match(line):
            numbers, status, why = absent.groups()
            for number in numbers.split(", "):
                bare, level = number.split(" L")
                found.append(Said(bare, int(level), status, why, ""))
    return found


@functools.cache
def shown_by(path: pathlib.Path) -> frozenset[str]:
    return frozenset(in_python(path) if path.suffix == ".py" else in_rust(path))


def in_rust(path: pathlib.Path) -> set[str]:
    # The modules of `a.rs` lie in `a/`.
    files = [path, *path.with_suffix("").rglob("*.rs")]
    tests = (match.groups() for file in files for match in RUST_TEST.finditer(file.read_text()))
    return {name for attributes, name in tests if "ignore" not in attributes}


def in_python(path: pathlib.Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, functions):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{method.name}" for method in node.body if isinstance(method, functions)}
    return {name for name in names if name.rsplit("::")[-1].startswith("test_")}


@pytest.mark.parametrize("doc", PAGES, ids=lambda doc: doc.name)
def test_each_test_that_is_named_exists(doc: pathlib.Path) -> None:
    named = sorted(set(REFERENCE.findall(doc.read_text())))
    missing = [f"{path}::{name}" for path, name in named
               if not (ROOT / path).is_file() or name not in shown_by(ROOT / path)]
    assert named and not missing, "\n".join([f"{doc.name} names what is not there:", *missing])


def test_each_known_failure_has_a_source_and_a_test() -> None:
    lines = (DOCS / "known-failures.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert len(rows) > 30
    assert [failure for failure, source, tests in rows if not (source and REFERENCE.search(tests))] == []


@pytest.mark.parametrize("doc", PAGES, ids=lambda doc: doc.name)
def test_links_lead_somewhere(doc: pathlib.Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", doc.read_text()):
        path, _, anchor = target.partition("#")
        file = doc.parent / path if path else doc
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def anchors(file: pathlib.Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_none_is_still_to_come() -> None:
    topics = collections.defaultdict(list)
    for doc in PAGES:
        for number, line in enumerate(doc.read_text().splitlines(), 1):
            for topic in TO_COME.findall(line):
                row = ROW.match(line)
                topics[topic].append(f"{doc.name} {row[1] if row else f'line {number}'}")
    assert not topics, "\n".join(f"{topic}: {', '.join(places)}" for topic, places in sorted(topics.items()))


def test_each_requirement_is_there_once_with_its_level() -> None:
    lines = [line for line in page() if NUMBER.match(line.removeprefix("| "))]
    assert [line for line in lines if not ROW.match(line) and not ABSENT.match(line)] == []
    times = collections.Counter(it.number for it in said())
    assert [number for number, often in times.items() if often > 1] == []
    assert {it.number: it.level for it in said()} == standard()


def test_what_is_met_has_a_test_and_what_is_not_says_what_is_missing() -> None:
    wrong = []
    for it in said():
        shown = REFERENCE.search(it.tests) or TO_COME.search(it.tests)
        words = len(it.how.split())
        right = {"met": shown and it.how, "not met": words > 5, "host": words > 2, "not applicable": words > 2}
        if not right.get(it.status):
            wrong.append(it)
    assert wrong == []


def test_the_summary_counts_right() -> None:
    rows = collections.Counter((f"L{it.level}", it.status) for it in said())
    rows.update(("all", it.status) for it in said())
    right = {level: [rows[level, status] for status in STATUSES] for level in ("L1", "L2", "L3", "all")}
    counted = {level: [sum(numbers), *numbers] for level, numbers in right.items()}
    told = {match[1]: [int(number) for number in match.groups()[1:]] for line in page() if (match := COUNTS.match(line))}
    assert told == counted
