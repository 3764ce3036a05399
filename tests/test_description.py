"""The description of the API: a validator accepts it, a fuzzer believes it, and a browser shows it."""

import os
import subprocess

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance, response_headers_conformance, response_schema_conformance, status_code_conformance,
)

from conftest import ROOT, Server, bearer

CHROMIUM = "/usr/bin/chromium"
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("flags", [(), ("--register", "on"), ("--delivery", "body"), ("--delivery", "cookie")])
def test_the_description_is_valid_openapi(start, flags: tuple[str, ...]) -> None:
    server: Server = start(*flags)
    described = httpx.get(f"{server.url}/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(described).validate()
    assert ("/register" in described["paths"]) == ("--register" in flags)
    assert "/verify" in described["paths"] and "/password" in described["paths"]


def test_without_docs_there_is_no_description(start) -> None:
    server: Server = start("--docs", "false")
    for path in ("/openapi.json", "/docs", "/docs/start.js"):
        assert httpx.get(f"{server.url}{path}").status_code == 404, path
    assert httpx.get(f"{server.url}/jwks.json").status_code == 200


def test_the_browser_shows_the_description(server: Server, tmp_path) -> None:
    shown = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'browser'}",
         "--virtual-time-budget=15000", "--dump-dom", f"{server.url}/docs"],
        capture_output=True, text=True, timeout=120,
    )
    assert "Opens a session" in shown.stdout and "opblock" in shown.stdout, shown.stdout[:2000]
    console = [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
    assert console == []


def credentials(server: Server, kind: str) -> dict[str, str]:
    """Headers of a session that is new, as the fuzzer ends sessions."""
    if kind == "nobody":
        return {}
    if kind == "nonsense":
        return {**bearer("nonsense"), "Cookie": "__Secure-refresh_token_cookie=nonsense"}
    answer = server.login(delivery=kind)
    if kind == "body":
        return bearer(answer.json()["access_token"])
    return {"Cookie": "; ".join(line.split(";")[0] for line in answer.headers.get_list("set-cookie"))}


@pytest.mark.parametrize("kind", ["nobody", "nonsense", "body", "cookie"])
def test_a_fuzzer_finds_no_5xx_and_nothing_undocumented(start, kind: str) -> None:
    server = start("--register", "on", "--log-level", "warn")
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    schema.config.update(base_url=server.url)
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    limits = settings(
        max_examples=12, deadline=None, suppress_health_check=quiet, database=None, derandomize=True,
        phases=[Phase.explicit, Phase.generate],
    )
    for result in schema.get_all_operations():
        operation = result.ok()

        @limits
        @given(case=operation.as_strategy())
        def fuzz(case) -> None:
            # The fuzzer's own credentials give way to those of this run.
            case.headers = {k: v for k, v in (case.headers or {}).items() if k.lower() != "authorization"}
            case.cookies = {}
            case.call_and_validate(checks=CHECKS, headers=credentials(server, kind))

        fuzz()
    assert "panic" not in server.logged()


def test_no_asset_comes_from_elsewhere() -> None:
    page = (ROOT / "crates/http/src/docs.rs").read_text()
    assert "http://" not in page and "https://" not in page
    assert os.path.exists(CHROMIUM)
