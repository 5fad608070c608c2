"""The alerts: their tests for promtool, their pages, and the metrics that they use.

`test_alerts_fire.py` makes the service produce the state of each alert.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_puller.core.problems import Kind
from tests.support import promtool
from tests.support.promtool import RULES, rules
from tests.support.queries import labels_of, metrics_of, selectors, unknown_values
from tests.support.source import quoted_messages, source_of_the_service

TOP = Path(__file__).parents[2]
PAGES = TOP / "docs" / "operations" / "alerts"
INDEX = (PAGES / "README.md").read_text("utf-8")
CASES = Path(__file__).parent / "alerts"
MONITORING = TOP / "deploy" / "monitoring"
SCRAPED = {"namespace", "job", "instance"}
"""The labels that Prometheus adds."""

OF_OTHERS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "CrashLoopBackOff",
    "Unschedulable",
    "Terminating",
    "unauthorized",
    "denied",
    "exceeded quota",
    "violates PodSecurity",
    "/readyz",
}
"""What the pages quote of Kubernetes and of the container runtime."""

every_alert = pytest.mark.parametrize("alert", rules())


def cases_of(alert: str) -> list[dict[str, Any]]:
    """Return the tests of an alert."""
    tests: list[dict[str, Any]] = yaml.safe_load((CASES / f"{alert}.yaml").read_text())["tests"]
    return tests


def has_fired(test: dict[str, Any]) -> bool:
    """Whether a test expects that the alert fires at some time."""
    return any(case["exp_alerts"] for case in test["alert_rule_test"])


def page_of(alert: str) -> Path:
    """Return the page of an alert, as its annotation names it."""
    found: str = rules()[alert]["annotations"]["runbook_url"]
    return TOP / found


def test_promtool_accepts_the_alerts() -> None:
    result = promtool.run("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert result.returncode == 0, result.stderr


def test_each_alert_fires_when_it_should_and_not_in_similar_states() -> None:
    result = promtool.run("test", "rules", *sorted(CASES.glob("*.yaml")))
    assert result.returncode == 0, result.stdout + result.stderr


@every_alert
def test_tests_of_an_alert_have_a_state_that_fires_and_one_that_does_not(alert: str) -> None:
    tests = cases_of(alert)
    names = {case["alertname"] for test in tests for case in test["alert_rule_test"]}
    assert names == {alert}
    assert any(has_fired(test) for test in tests)
    assert not all(has_fired(test) for test in tests)


def test_no_test_is_left_of_an_alert_that_was_removed() -> None:
    assert {file.stem for file in CASES.glob("*.yaml")} == set(rules())


@every_alert
def test_an_alert_says_how_severe_it_is_and_what_to_do(alert: str) -> None:
    rule = rules()[alert]
    assert rule["labels"]["severity"] in ("warning", "info")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}


@every_alert
def test_the_page_of_an_alert_has_its_meaning_commands_and_a_fix(alert: str) -> None:
    text = page_of(alert).read_text("utf-8")
    assert re.findall(r"(?m)^#+ .*$", text) == [f"# {alert}", "## Meaning", "## Look at", "## Fix"]
    assert "```sh\n" in text.partition("## Look at\n")[2].partition("## Fix\n")[0]


def test_pages_quote_messages_of_the_code() -> None:
    source = source_of_the_service()
    quoted = {
        part for page in PAGES.glob("[!R]*.md") for part in quoted_messages(page.read_text("utf-8"))
    }
    assert {part for part in quoted if part not in source} <= OF_OTHERS
    assert quoted >= OF_OTHERS


def test_the_index_has_each_alert_with_its_page() -> None:
    expected = [(alert, page_of(alert).name) for alert in rules()]
    assert re.findall(r"(?m)^\| \[(\w+)\]\(([\w-]+\.md)\) \|", INDEX) == expected
    assert {file.name for file in PAGES.glob("*.md")} == {
        "README.md",
        *(name for _, name in expected),
    }


@every_alert
def test_an_alert_uses_only_metrics_and_labels_that_exist(alert: str) -> None:
    known = metrics_of() | {"up": set()}
    used = list(selectors(rules()[alert]["expr"]))
    assert used
    for name, labels in used:
        assert labels <= known[name] | SCRAPED, name
    assert unknown_values(rules()[alert]["expr"]) == set()


@every_alert
def test_each_selector_names_the_job(alert: str) -> None:
    """So the chart can put its release in the place of it."""
    assert all("job" in labels for _, labels in selectors(rules()[alert]["expr"]))


@every_alert
def test_annotations_use_only_labels_that_the_alert_has(alert: str) -> None:
    rule = rules()[alert]
    used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert used <= labels_of(rule["expr"]) | SCRAPED


def test_each_kind_of_problem_has_an_alert() -> None:
    """`test_alerts_fire.py` shows that the others fire."""
    of_others = {
        Kind.IMAGES_MALFORMED: "ImagePullerConfigurationIgnored",
        Kind.SUPERSEDED: "ImagePullerNotInCharge",
        Kind.TEMPLATE_REFUSED: "ImagePullerRolloutBlocked",
        Kind.PODS_REFUSED: "ImagePullerImageMissing",
        Kind.PODS_NOT_SCHEDULED: "ImagePullerImageMissing",
        Kind.SLEEP_IMAGE_FAILING: "ImagePullerRolloutStuck",
        Kind.IMAGE_FAILING: "ImagePullerImageMissing",
        Kind.IMAGE_QUARANTINED: "ImagePullerTagQuarantined",
    }
    expression = rules()["ImagePullerProblem"]["expr"]
    own = {kind for kind in Kind if re.search(rf'["|]{kind}["|]', expression)}
    assert own | of_others.keys() == set(Kind)
    assert not own & of_others.keys()
    assert set(of_others.values()) <= set(rules())


def test_the_plain_file_is_the_output_of_make_docs() -> None:
    command = (sys.executable, TOP / "build" / "prometheus_rule.py")
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    plain = (MONITORING / "prometheusrule.yaml").read_text()
    assert plain == printed, "run `make docs`"
    assert yaml.safe_load(plain)["spec"] == yaml.safe_load(RULES.read_text())


@pytest.mark.parametrize("file", ["kubernetes/service.yaml", "openshift/app.yaml"])
def test_the_plain_service_monitor_finds_the_service(file: str) -> None:
    monitor = yaml.safe_load((MONITORING / "servicemonitor.yaml").read_text())["spec"]
    documents = list(yaml.safe_load_all((TOP / "deploy" / file).read_text()))
    objects = [each for document in documents for each in document.get("objects", [document])]
    (service,) = (each for each in objects if each["kind"] == "Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert service["metadata"]["name"] in (promtool.JOB, "${DEPLOYMENT_NAME}")
