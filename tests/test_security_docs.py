"""The documents about security name tests as `path::name`: each of them exists, and is a test."""

import pathlib
import re

import pytest

from conftest import ROOT

DOCUMENTS = sorted((ROOT / "docs/security").glob("*.md"))
NAMED = re.compile(r"`((?:crates|tests|benches)/[^`]+?)::(\w+)`")
RUST = r"#\[(?:tokio::)?test[^\]]*\]\s*(?:(?:#\[[^\]]*\]|//[^\n]*)\s*)*(?:async )?fn {}\("
PYTHON = r"^(?:async )?def {}\("


def named(document: pathlib.Path) -> list[tuple[str, str]]:
    return NAMED.findall(document.read_text())


def is_a_test(path: str, name: str) -> bool:
    file = ROOT / path
    if not file.is_file() or file.suffix == ".py" and not name.startswith("test_"):
        return False
    form = {".rs": RUST, ".py": PYTHON}[file.suffix].replace("{}", name)
    return re.search(form, file.read_text(), re.M) is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=[document.stem for document in DOCUMENTS])
def test_every_test_that_a_document_names_exists(document: pathlib.Path) -> None:
    missing = [f"{path}::{name}" for path, name in named(document) if not is_a_test(path, name)]
    assert not missing, f"{document.name} names what is no test: {missing}"


def test_every_known_failure_has_a_source_and_a_test() -> None:
    lines = (ROOT / "docs/security/known-failures.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert len(rows) > 30
    for failure, source, tests in rows:
        assert source.strip() and NAMED.search(tests), failure


def test_what_is_no_test_is_told() -> None:
    assert is_a_test("tests/test_security_docs.py", "test_what_is_no_test_is_told")
    assert not is_a_test("tests/test_security_docs.py", "is_a_test")
    assert not is_a_test("tests/test_security_docs.py", "test_that_does_not_exist")
    assert not is_a_test("tests/nowhere.py", "test_what_is_no_test_is_told")
    assert is_a_test("crates/http/src/body.rs", "only_an_object_is_an_object")
    assert not is_a_test("crates/http/src/body.rs", "takes")
