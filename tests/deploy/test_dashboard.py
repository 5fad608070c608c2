"""The dashboard: its queries are valid, and use the metrics of the service.

`make lint` compares it with Grafana's schema.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_puller.simulation import SimulatedCluster
from tests.support import promtool
from tests.support.chart import CHART
from tests.support.clock import ManualClock
from tests.support.daemonset import AT_ONCE
from tests.support.prometheus import Prometheus
from tests.support.queries import metrics_of, selectors, unknown_values
from tests.support.web import Web

TOP = Path(__file__).parents[2]
FILE = CHART / "files" / "dashboard.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
CHOICES = [each for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
CHOSEN = {"namespace", "job"}

every_query = pytest.mark.parametrize("query", QUERIES)


def test_dashboard_is_the_output_of_make_docs() -> None:
    command = (sys.executable, TOP / "build" / "dashboard.py")
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert FILE.read_text("utf-8") == printed, "run `make docs`"


def test_promtool_can_read_each_query(tmp_path: Path) -> None:
    file = tmp_path / "queries.yaml"
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(QUERIES)
    ]
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    result = promtool.run("check", "rules", "--lint=none", file)
    assert result.returncode == 0, result.stdout + result.stderr


@every_query
def test_a_query_uses_only_metrics_and_labels_that_exist(query: str) -> None:
    known = metrics_of()
    used = list(selectors(query))
    assert used
    for name, labels in used:
        assert labels <= known[name] | CHOSEN, name
    assert unknown_values(query) == set()


@every_query
def test_a_query_is_about_the_chosen_installation_and_group(query: str) -> None:
    known = metrics_of()
    for name, labels in selectors(query):
        assert labels >= CHOSEN
        assert ("group" in labels) == ("group" in known[name])


def test_each_metric_has_a_panel() -> None:
    shown = {re.sub(r"_bucket$", "", name) for query in QUERIES for name, _ in selectors(query)}
    metrics = {re.sub(r"_(bucket|sum|count)$", "", name) for name in metrics_of()}
    assert shown == metrics


def test_variables_ask_for_labels_that_exist() -> None:
    known = metrics_of()
    for choice in CHOICES:
        ((metric, _),) = selectors(choice["query"])
        assert choice["name"] in known[metric] | CHOSEN


def test_panels_show_a_push_that_has_reached_the_nodes(
    web: Callable[..., Web],
    cluster: SimulatedCluster,
    clock: ManualClock,
    tmp_path: Path,
) -> None:
    """Panels of what is wrong have no result. Nor has a registry that is not asked, or a sink.

    Here no node has the startup taint.
    """
    prometheus = Prometheus(tmp_path, cluster, clock)
    service = web(**AT_ONCE, READ_AUTH="none")
    service.secret("quay", "t")
    prometheus.watch(service, minutes=20)
    payload = {"docker_url": "quay.io/org/app", "updated_tags": ["1.2.4"]}
    assert service.client.post("/webhooks/quay/t", json=payload).status_code == 202
    prometheus.watch(service, minutes=20)
    queries = [re.sub(r"\$__rate_interval", "20m", re.sub(r"\$\w+\"", '.*"', q)) for q in QUERIES]
    without = set(queries) - prometheus.answered(queries)
    names = {name for query in without if "> 0" not in query for name, _ in selectors(query)}
    assert names == {
        "image_puller_cloudevents_total",
        "image_puller_requests_rejected_total",
        "image_puller_connections_refused_total",
        "image_puller_registry_reachable",
        "image_puller_node_startup_releases_total",
    }


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
