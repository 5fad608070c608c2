"""The documentation of operation: its metrics and messages are those of the code."""

import re
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from image_puller.controller import checks, intake
from image_puller.controller.metrics import Metrics
from image_puller.core import counts
from image_puller.core.decide import Outcome
from image_puller.core.problems import Kind
from image_puller.events.sources import SOURCES
from tests.support.source import quoted_messages, source_of_the_service

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs" / "operations"
ROUTES = (ROOT / "service" / "image_puller" / "http" / "routes.py").read_text("utf-8")
REQUEST_OUTCOMES = set(re.findall(r'count_event\([\w.]+, "([^"]+)"\)', ROUTES))


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the tables below a heading of metrics.md, without their headers."""
    text = (OPERATIONS / "metrics.md").read_text("utf-8")
    section = text.partition(f"{heading}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"(?m)(?:^\|.*\n)+", section)
    lines = [line for table in tables for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def exposed() -> dict[str, tuple[str, set[str], str]]:
    """Return type, labels and help of each metric, by the name of its series."""
    found = {}
    for metric in vars(Metrics()).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            suffix = "_total" if family.type == "counter" else ""
            labels = set(metric._labelnames)
            found[family.name + suffix] = (family.type, labels, family.documentation)
    return found


def test_the_table_has_every_metric_with_its_type_labels_and_help() -> None:
    documented = {
        name.strip("`"): (kind, set(re.findall(r"`(\w+)`", labels)), text)
        for heading in ("## Nodes and images", "## Pushes, commits and checks")
        for name, kind, labels, text in rows(heading)
    }
    assert exposed()
    assert documented == exposed()


def test_prometheus_scrapes_every_metric() -> None:
    names = re.findall(r"(?m)^# HELP (\w+)", Metrics().text().decode())
    assert set(names) == set(exposed())


def test_the_documented_outcomes_are_those_of_the_code() -> None:
    assert "unreadable" in REQUEST_OUTCOMES
    documented = [row[0].strip("`") for row in rows("## The label outcome")]
    assert set(documented) == set(Outcome) | REQUEST_OUTCOMES | {
        intake.SHARED,
        intake.OBSERVED,
    }
    assert len(documented) == len(set(documented))


def test_the_documented_sources_beside_senders_are_those_of_the_code() -> None:
    documented = {row[0].strip("`") for row in rows("## The label source")[1:]}
    assert documented == {"cloudevents", "nodes", checks.SOURCE}
    assert "cloudevents" in SOURCES


def test_the_documented_states_and_roles_are_those_of_the_code() -> None:
    nodes = [row[0].strip("`") for row in rows("## The label state")]
    assert nodes == [_label(state) for state in counts.Node]
    text = (OPERATIONS / "metrics.md").read_text("utf-8")
    of_image = ", ".join(f"`{_label(state)}`" for state in counts.IMAGES)
    assert f"An image on a node is {' or '.join(of_image.rsplit(', ', 1))}, as" in text
    of_rollout = ", ".join(f"`{_label(state)}`" for state in counts.ROLLOUTS)
    assert f"A rollout is {' or '.join(of_rollout.rsplit(', ', 1))}: one" in text
    assert [row[0].strip("`") for row in rows("## The label role")] == list(counts.Role)


def test_the_documented_reasons_of_refusals_are_those_of_the_code() -> None:
    worker = (ROOT / "service" / "image_puller" / "http" / "worker.py").read_text("utf-8")
    kinds = re.findall(r'_note\(\s*"([a-z ]+)"', worker)
    places = re.findall(r'reason="(too_many_\w+)"', source_of_the_service())
    documented = [row[0].strip("`") for row in rows("## The label reason")]
    assert len(kinds) == 5
    assert sorted(documented) == sorted([*map(_label, kinds), *places])


def _label(text: str) -> str:
    return text.replace(" ", "_")


def test_the_documented_kinds_of_problems_are_those_of_the_code() -> None:
    documented = [row[0].strip("`") for row in rows("## The label kind")]
    assert documented == list(Kind)


def test_troubleshooting_quotes_messages_of_the_code() -> None:
    quoted = quoted_messages((OPERATIONS / "troubleshooting.md").read_text("utf-8"))
    source = source_of_the_service()
    assert len(quoted) > 20
    assert [part for part in quoted if part not in source] == []
