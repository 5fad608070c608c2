"""The Knative manifests fit the service and Knative's schemas. `e2e/test_knative.py` runs them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_puller.config import configuration
from image_puller.events.sources import SOURCES
from image_puller.events.sources.cloudevents import CHECK, IMAGE_DELETED, IMAGE_PUSHED_ENDINGS

TOP = Path(__file__).parents[2]
KNATIVE = TOP / "knative"
NO_OBJECTS = ("kustomization.yaml", "references.yaml")
FILES = sorted(file for file in KNATIVE.rglob("*.yaml") if file.name not in NO_OBJECTS)


def objects(*files: Path) -> Iterator[dict[str, Any]]:
    """Return the objects of files, in order."""
    for file in files:
        yield from yaml.safe_load_all(file.read_text())


def one(kind: str, name: str, *files: Path) -> dict[str, Any]:
    """Return the one object of this kind and name."""
    (found,) = (
        each
        for each in objects(*files)
        if each["kind"] == kind and each["metadata"]["name"] == name
    )
    return found


def test_rights_are_those_of_the_deployment_but_for_the_owner():
    def rules(file: Path) -> list[Any]:
        return one("Role", "k8s-image-puller", file)["rules"]

    elsewhere = rules(TOP / "deploy" / "kubernetes" / "rbac.yaml")
    (owner,) = (rule for rule in elsewhere if rule["resources"] == ["deployments"])
    owner |= {"apiGroups": ["serving.knative.dev"], "resources": ["services"]}
    assert rules(KNATIVE / "base" / "rbac.yaml") == elsewhere


def test_the_service_accepts_the_shipped_configuration():
    text = (KNATIVE / "base" / "configuration.env").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    environ = dict(line.split("=", 1) for line in lines)
    service = one("Service", "kubernetes-image-puller", *FILES)
    (container,) = service["spec"]["template"]["spec"]["containers"]
    environ |= {each["name"]: each["value"] for each in container["env"]}
    told = configuration.from_environ(environ | {"K_SERVICE": service["metadata"]["name"]})
    assert told.deployment_name == service["metadata"]["name"]
    assert not told.warnings


SOURCES_TYPES = [kind for source in SOURCES.values() for kind in source.types if kind]


@pytest.mark.parametrize(
    "event_type",
    [
        "dev.knative.sources.ping",
        CHECK,
        IMAGE_DELETED,
        *(f"com.example{ending}" for ending in IMAGE_PUSHED_ENDINGS),
        *(f"{beginning}image.push" for beginning in SOURCES_TYPES),
    ],
)
def test_each_event_type_of_the_service_passes_exactly_one_trigger(event_type: str):
    assert len(passed({"type": event_type})) == 1


def test_a_trigger_passes_nodes_that_join_but_no_updates_of_nodes():
    joined = {"type": "dev.knative.apiserver.ref.add", "kind": "Node"}
    assert passed(joined) == ["image-puller-nodes"]
    assert not passed(joined | {"type": "dev.knative.apiserver.ref.update"})
    assert not passed(joined | {"kind": "Pod"})


def test_no_trigger_passes_an_event_type_that_the_service_does_not_know():
    assert not passed({"type": "io.image-puller.image.cached"})


def passed(event: dict[str, str]) -> list[str]:
    """Return the names of the Triggers that pass the event."""
    return [
        each["metadata"]["name"]
        for each in objects(*FILES)
        if each["kind"] == "Trigger"
        and all(matches(condition, event) for condition in each["spec"]["filters"])
    ]


def matches(condition: dict[str, Any], event: dict[str, str]) -> bool:
    """Answer whether an event fulfils a condition of a Trigger."""
    ((dialect, operand),) = condition.items()
    if dialect == "any":
        return any(matches(each, event) for each in operand)
    ((name, expected),) = operand.items()
    value = event.get(name, "")
    match dialect:
        case "exact":
            return value == expected
        case "prefix":
            return value.startswith(expected)
        case "suffix":
            return value.endswith(expected)
    raise ValueError(dialect)
