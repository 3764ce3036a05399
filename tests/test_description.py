"""The description of the API: a fuzzer believes it, and a browser shows it."""

import os
import subprocess

import schemathesis
from hypothesis import HealthCheck, settings

from conftest import ROOT, Server, bearer

CHROMIUM = "/usr/bin/chromium"


def test_the_browser_shows_the_description(server: Server, tmp_path) -> None:
    shown = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=15000", "--dump-dom",
         f"{server.url}/docs"],
        capture_output=True, text=True, timeout=120,
    ).stdout
    assert "Opens a session" in shown and "opblock" in shown, shown[:2000]


def test_a_fuzzer_finds_no_5xx_and_no_undocumented_status(start) -> None:
    server = start("--register", "on")
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    schema.config.update(base_url=server.url)
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance, response_schema_conformance, status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    limits = settings(max_examples=25, deadline=None, suppress_health_check=quiet, database=None)
    for result in schema.get_all_operations():
        operation = result.ok()

        @limits
        @schemathesis_given(operation)
        def fuzz(case) -> None:
            token = server.login().json()["access_token"]
            case.call_and_validate(checks=checks, headers=bearer(token))

        fuzz()


def schemathesis_given(operation):
    from hypothesis import given

    return given(case=operation.as_strategy())


def test_no_asset_comes_from_elsewhere() -> None:
    page = (ROOT / "crates/http/src/docs.rs").read_text()
    assert "http://" not in page and "https://" not in page
    assert os.path.exists(CHROMIUM)
