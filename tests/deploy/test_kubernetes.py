"""The plain manifests: their probes, the end of the pod, and the NetworkPolicies.

`e2e/test_on_nodes.py` runs them. Those for OpenShift, for Knative and of the chart have the same.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_puller.config.configuration import from_environ
from image_puller.core.daemonset import OWNER_LABEL, selector

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def objects() -> Iterator[dict[str, Any]]:
    """Return the objects of all files."""
    for file in sorted(FOLDER.glob("*.yaml")):
        yield from yaml.safe_load_all(file.read_text())


def find(kind: str, name: str = "kubernetes-image-puller") -> dict[str, Any]:
    """Return the one object of this kind and name."""
    (found,) = (
        each for each in objects() if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return found


def pod() -> dict[str, Any]:
    """Return the specification of the service's pod."""
    spec: dict[str, Any] = find("Deployment")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    (only,) = pod()["containers"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize("name", PROBES)
def test_each_probe_has_its_times(name: str) -> None:
    probe = container()[name]
    assert probe.keys() >= {"periodSeconds", "timeoutSeconds", "failureThreshold"}
    # A probe of the same kind starts only when the last one has ended.
    assert "initialDelaySeconds" not in probe


def test_a_start_may_take_a_minute() -> None:
    probe = container()["startupProbe"]
    assert probe["httpGet"]["path"] == "/healthz"
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 60


def test_requests_go_on_for_five_seconds_after_the_pod_has_left_its_service() -> None:
    assert container()["lifecycle"] == {"preStop": {"exec": {"command": ["/sleep", "5s"]}}}


def test_grace_period_covers_the_pause_the_last_requests_and_a_write() -> None:
    assert pod()["terminationGracePeriodSeconds"] >= 5 + 15 + 10


# NetworkPolicies


def test_service_is_reached_at_its_port_only() -> None:
    policy = find("NetworkPolicy")["spec"]
    labels = find("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress"]
    names = [port["name"] for port in container()["ports"]]
    assert policy["ingress"] == [{"ports": [{"port": name} for name in names]}]


def test_pods_of_the_daemonset_have_no_network() -> None:
    policy = find("NetworkPolicy", "kubernetes-image-puller-daemonset")["spec"]
    (expression,) = policy.pop("podSelector")["matchExpressions"]
    assert expression == {"key": OWNER_LABEL, "operator": "Exists"}
    assert OWNER_LABEL in selector(from_environ({"IMAGES": "app=nginx"}))
    assert policy == {"policyTypes": ["Ingress", "Egress"]}


def test_the_service_may_watch_what_it_watches() -> None:
    def may_watch(kind: str, resource: str) -> bool:
        rules = (rule for each in objects() if each["kind"] == kind for rule in each["rules"])
        return any(resource in rule["resources"] and "watch" in rule["verbs"] for rule in rules)

    assert may_watch("Role", "daemonsets")
    assert may_watch("ClusterRole", "nodes")
