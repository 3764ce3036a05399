"""The dashboard and the alert rules ask for what a running node exports, and for nothing else."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import httpx
import promql_parser
import pytest
import yaml

from conftest import PASSWORD, ROOT, Server, bearer

DASHBOARD = json.loads((ROOT / "deploy/grafana/doorward.json").read_text())
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
#: What Prometheus itself puts on everything.
SCRAPED = {"job", "instance"}
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? \S+$")
UNITS = {"none", "s", "ops", "reqps", "short"}


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$__rate_interval", "5m")
    for group in ALERTS["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def nodes(expression: Any) -> Iterator[Any]:
    yield expression
    for name in ("expr", "lhs", "rhs", "param", "vector_selector", "vs"):
        inner = getattr(expression, name, None)
        if inner is not None and not isinstance(inner, (str, float, int)):
            yield from nodes(inner)
    for argument in getattr(expression, "args", None) or []:
        yield from nodes(argument)


def asked(expression: str) -> tuple[set[str], set[str]]:
    """The metrics of an expression, and the labels it matches or groups by."""
    metrics, labels = set(), set()
    for node in nodes(promql_parser.parse(expression)):
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name, expression
            metrics.add(node.name)
            labels |= {matcher.name for matcher in node.matchers.matchers}
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            labels |= set(node.modifier.labels)
    assert metrics, expression
    return metrics, labels


def exported(server: Server) -> dict[str, set[str]]:
    """The labels of each metric."""
    answer = httpx.get(f"{server.operator_url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, set[str]] = defaultdict(set)
    for line in answer.text.splitlines():
        if line.startswith("#"):
            continue
        sample = SAMPLE.match(line)
        assert sample, line
        found[sample[1]] |= set(re.findall(r'(\w+)="', sample[2] or ""))
    return found


@pytest.fixture
def busy(server: Server) -> Server:
    """A node on which everything happened once."""
    granted = server.login().json()
    again = server.refresh(granted["refresh_token"]).json()
    httpx.post(f"{server.url}/login", json={"username": "ada", "password": "wrong wrong wrong"})
    httpx.get(f"{server.url}/verify?strict=1", headers=bearer(again["access_token"]))
    httpx.post(f"{server.url}/logout", headers=bearer(again["access_token"]))
    assert server.login(password=PASSWORD).status_code == 200
    return server


def test_every_query_asks_for_what_a_node_exports(busy: Server) -> None:
    found, queries = exported(busy), list(expressions())
    assert len(queries) > 25
    for expression in queries:
        metrics, labels = asked(expression)
        for metric in metrics:
            assert metric in found, f"{metric} in {expression}"
        known = set().union(*(found[metric] for metric in metrics)) | SCRAPED
        assert labels <= known, f"{labels - known} in {expression}"


def test_the_values_that_alerts_match_exist(busy: Server) -> None:
    text = httpx.get(f"{busy.operator_url}/metrics").text
    for operation in ("load", "swap", "open", "end"):
        assert f'operation="{operation}"' in text


def test_legends_name_labels_that_the_query_keeps() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in asked(target["expr"].replace("$__rate_interval", "5m"))[1]


def test_every_metric_of_the_store_is_on_the_dashboard(busy: Server) -> None:
    shown = " ".join(expressions())
    for metric in exported(busy):
        name = re.sub("_(bucket|sum|count)$", "", metric)
        assert name in shown, metric


def test_the_dashboard_is_one_of_todays_grafana() -> None:
    assert DASHBOARD["schemaVersion"] >= 39 and DASHBOARD["uid"] == "doorward"
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("timeseries", "stat") and panel["description"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"] in UNITS
        values = [step["value"] for step in defaults["thresholds"]["steps"]]
        assert values[0] is None and values[1:] == sorted(values[1:])
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_each_alert_says_how_bad_it_is_and_what_it_means() -> None:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning") and rule["annotations"]["summary"]
