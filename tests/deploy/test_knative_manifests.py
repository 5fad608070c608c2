"""The Knative manifests have the rights, variables and event types of the service.

`e2e/test_knative.py` applies them.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_puller.config import configuration
from image_puller.core import daemonset, outgoing
from image_puller.events.sources import SOURCES
from image_puller.events.sources.cloudevents import CHECK, IMAGE_DELETED, IMAGE_PUSHED_ENDINGS

TOP = Path(__file__).parents[2]
KNATIVE = TOP / "knative"
FILES_WITHOUT_OBJECTS = ("kustomization.yaml", "references.yaml")
FILES = sorted(file for file in KNATIVE.rglob("*.yaml") if file.name not in FILES_WITHOUT_OBJECTS)


def objects(*files: Path) -> Iterator[dict[str, Any]]:
    """Return the objects of files, in order."""
    for file in files:
        yield from yaml.safe_load_all(file.read_text())


def find(kind: str, name: str, *files: Path) -> dict[str, Any]:
    """Return the one object of this kind and name."""
    (found,) = (
        each
        for each in objects(*files)
        if each["kind"] == kind and each["metadata"]["name"] == name
    )
    return found


def test_rights_equal_those_of_deploy_kubernetes_except_for_the_owner() -> None:
    def rules(file: Path) -> list[Any]:
        role_rules: list[Any] = find("Role", "k8s-image-puller", file)["rules"]
        return role_rules

    expected = rules(TOP / "deploy" / "kubernetes" / "rbac.yaml")
    (owner,) = (rule for rule in expected if rule["resources"] == ["deployments"])
    owner |= {"apiGroups": ["serving.knative.dev"], "resources": ["services"]}
    (watched,) = (rule for rule in expected if "watch" in rule["verbs"])
    watched["verbs"].remove("watch")  # a source reports the changes of DaemonSets
    assert rules(KNATIVE / "base" / "rbac.yaml") == expected


def test_service_accepts_the_configuration_of_the_manifests() -> None:
    text = (KNATIVE / "base" / "configuration.env").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    environ = dict(line.split("=", 1) for line in lines)
    service = find("Service", "kubernetes-image-puller", *FILES)
    (container,) = service["spec"]["template"]["spec"]["containers"]
    environ |= {each["name"]: each["value"] for each in container["env"]}
    config = configuration.from_environ(environ | {"K_SERVICE": service["metadata"]["name"]})
    assert config.deployment_name == service["metadata"]["name"]
    assert not config.warnings


def test_namespace_admits_restricted_pods_only() -> None:
    labels = find("Namespace", "k8s-image-puller", *FILES)["metadata"]["labels"]
    assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_pods_of_both_services_are_reached_at_the_queue_proxy_only() -> None:
    policy = find("NetworkPolicy", "kubernetes-image-puller", *FILES)["spec"]
    (expression,) = policy["podSelector"]["matchExpressions"]
    template = find("Service", "kubernetes-image-puller", *FILES)["spec"]["template"]
    app = template["metadata"]["labels"]["app"]
    assert expression == {"key": "app", "operator": "In", "values": [app, f"{app}-webhooks"]}
    second = (KNATIVE / "components" / "public" / "webhooks" / "kustomization.yaml").read_text()
    assert f"value: {app}-webhooks\n" in second
    ports = {each["port"] for rule in policy["ingress"] for each in rule["ports"]}
    assert ports == {8012, 8013, 8022, 8112, 9090, 9091}
    (container,) = template["spec"]["containers"]
    assert ports.isdisjoint(each["containerPort"] for each in container["ports"])


def test_pods_of_the_daemonset_have_no_network() -> None:
    name = "kubernetes-image-puller-daemonset"
    plain = find("NetworkPolicy", name, TOP / "deploy" / "kubernetes" / "networkpolicy.yaml")
    assert find("NetworkPolicy", name, *FILES) == plain


# The beginnings of the CloudEvents types that the sources have.
TYPE_PREFIXES = [prefix for source in SOURCES.values() for prefix in source.types if prefix]


@pytest.mark.parametrize(
    "event_type",
    [
        "dev.knative.sources.ping",
        CHECK,
        IMAGE_DELETED,
        *(f"com.example{ending}" for ending in IMAGE_PUSHED_ENDINGS),
        *(f"{prefix}image.delete" for prefix in TYPE_PREFIXES),
    ],
)
def test_each_event_type_of_the_service_passes_exactly_one_trigger(event_type: str) -> None:
    assert len(triggers_of({"type": event_type})) == 1


def test_trigger_passes_new_nodes_but_no_other_changes() -> None:
    joined = {"type": "dev.knative.apiserver.ref.add", "kind": "Node"}
    assert triggers_of(joined) == ["image-puller-nodes"]
    assert not triggers_of(joined | {"type": "dev.knative.apiserver.ref.update"})
    assert not triggers_of(joined | {"kind": "Pod"})


def test_trigger_passes_all_changes_of_daemonsets() -> None:
    for change in ("add", "update", "delete"):
        event = {"type": f"dev.knative.apiserver.ref.{change}", "kind": "DaemonSet"}
        assert triggers_of(event) == ["image-puller-progress"]


def test_only_the_daemonsets_of_the_installation_are_reported() -> None:
    (reported,) = find("ApiServerSource", "image-puller-progress", *FILES)["spec"]["resources"]
    config = configuration.from_environ({"IMAGES": "app=nginx:1.29.1"})
    labels = daemonset.labels(config)
    assert reported["selector"]["matchLabels"].items() <= labels.items()
    assert (reported["apiVersion"], reported["kind"]) == ("apps/v1", "DaemonSet")


def test_no_trigger_passes_an_unknown_event_type() -> None:
    assert not triggers_of({"type": "io.image-puller.image.cached"})


def test_no_trigger_passes_the_events_that_the_service_sends() -> None:
    schemas = sorted((TOP / "docs" / "events").iterdir())
    types = [f"{outgoing.PREFIX}{each.name.removesuffix('.schema.json')}" for each in schemas]
    assert types
    assert [each for each in types if triggers_of({"type": each})] == []


def triggers_of(event: dict[str, str]) -> list[str]:
    """Return the names of the Triggers that pass the event."""
    return [
        each["metadata"]["name"]
        for each in objects(*FILES)
        if each["kind"] == "Trigger"
        and all(matches(condition, event) for condition in each["spec"]["filters"])
    ]


def matches(condition: dict[str, Any], event: dict[str, str]) -> bool:
    """Whether an event fulfils a condition of a Trigger."""
    ((dialect, operand),) = condition.items()
    if dialect == "any":
        return any(matches(each, event) for each in operand)
    ((name, expected),) = operand.items()
    value, text = event.get(name, ""), str(expected)
    match dialect:
        case "exact":
            return value == text
        case "prefix":
            return value.startswith(text)
        case "suffix":
            return value.endswith(text)
    raise ValueError(dialect)


def test_the_job_of_the_documentation_checks_what_the_service_has() -> None:
    page = (TOP / "docs" / "install" / "knative.md").read_text()
    (text,) = re.findall(r"(?s)```yaml\n(apiVersion: batch/v1\n.*?)```", page)
    job = yaml.safe_load(text)["spec"]["template"]["spec"]
    service = find("Service", "kubernetes-image-puller", *FILES)["spec"]["template"]["spec"]
    (mine,), (its,) = job["containers"], service["containers"]
    for name in ("image", "envFrom", "securityContext"):
        assert mine[name] == its[name]
    assert mine["env"] == [*its["env"], {"name": "K_SERVICE", "value": "kubernetes-image-puller"}]
    assert mine["volumeMounts"] == its["volumeMounts"][:1]
    assert job["volumes"] == service["volumes"][:1]
    assert job["serviceAccountName"] == service["serviceAccountName"]
