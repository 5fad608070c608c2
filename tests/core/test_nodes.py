"""The nodes: whether a template selects a node, and whether its pods tolerate the node's taints."""

from typing import Any

import pytest

from image_puller.core import nodes
from image_puller.core.nodes import Node

Json = dict[str, Any]

LABELS = {"kubernetes.io/os": "linux", "zone": "a", "cores": "8"}


def node(*taints: Json, name: str = "node-1") -> Node:
    """Return a node with these labels and taints."""
    return Node(name=name, labels=LABELS, taints=taints)


def template(**spec: Any) -> Json:
    """Return a template whose pods have these fields."""
    return {"spec": spec}


def affinity(*terms: Json) -> Json:
    """Return a template with a required node affinity of these terms."""
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [*terms]}}
    return template(affinity={"nodeAffinity": required})


def expression(operator: str, *values: str, key: str = "zone") -> Json:
    """Return a term with one requirement for a label."""
    return {"matchExpressions": [{"key": key, "operator": operator, "values": [*values]}]}


@pytest.mark.parametrize(
    "found",
    [
        template(),
        template(nodeSelector={"zone": "a"}, affinity=None),
        affinity(expression("In", "a", "b")),
        affinity(expression("NotIn", "b")),
        affinity(expression("NotIn", "b", key="none")),
        affinity(expression("Exists")),
        affinity(expression("DoesNotExist", key="none")),
        affinity(expression("Gt", "7", key="cores")),
        affinity(expression("Lt", "9", key="cores")),
        affinity(expression("In", "b"), expression("In", "a")),
        affinity(
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}
        ),
        template(affinity={"nodeAffinity": {}}),
        template(affinity={"podAntiAffinity": {}}),
    ],
)
def test_a_template_selects_a_node_that_meets_its_requirements(found: Json) -> None:
    assert nodes.why_not_selected(found, node()) is None


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (template(nodeSelector={"zone": "b"}), "zone=b (NODE_SELECTOR)"),
        (affinity(expression("In", "b")), "AFFINITY"),
        (affinity(expression("NotIn", "a")), "AFFINITY"),
        (affinity(expression("Exists", key="none")), "AFFINITY"),
        (affinity(expression("DoesNotExist")), "AFFINITY"),
        (affinity(expression("Gt", "8", key="cores")), "AFFINITY"),
        (affinity(expression("Lt", "8", key="cores")), "AFFINITY"),
        (affinity(expression("Gt", "8", key="none")), "AFFINITY"),
        (affinity(expression("Gt", "8", key="zone")), "AFFINITY"),
        (affinity(expression("Gt", key="cores")), "AFFINITY"),
        (affinity(expression("Unknown", "8", key="cores")), "AFFINITY"),
        (affinity({}), "AFFINITY"),
        (affinity(), "AFFINITY"),
        (
            affinity(
                {
                    **expression("In", "a"),
                    "matchFields": [
                        {"key": "metadata.name", "operator": "NotIn", "values": ["node-1"]}
                    ],
                }
            ),
            "AFFINITY",
        ),
    ],
)
def test_a_template_does_not_select_a_node_that_misses_a_requirement(
    found: Json, reason: str
) -> None:
    why = nodes.why_not_selected(found, node())
    assert why is not None
    assert reason in why


GPU = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("taint", "toleration"),
    [
        ({"key": "gpu", "effect": "PreferNoSchedule"}, {}),
        (GPU, {"key": "gpu", "value": "yes", "effect": "NoSchedule"}),
        (GPU, {"key": "gpu", "operator": "Equal", "value": "yes"}),
        (GPU, {"key": "gpu", "operator": "Exists"}),
        (GPU, {"operator": "Exists"}),
        ({**GPU, "value": "5"}, {"key": "gpu", "operator": "Gt", "value": "4"}),
        ({**GPU, "value": "5"}, {"key": "gpu", "operator": "Lt", "value": "6"}),
        ({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, {}),
        ({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}, {}),
    ],
)
def test_a_taint_can_be_tolerated(taint: Json, toleration: Json) -> None:
    tolerations = [toleration] if toleration else None
    assert nodes.untolerated_taint(template(tolerations=tolerations), node(taint)) is None


@pytest.mark.parametrize(
    ("taint", "toleration", "shown"),
    [
        (GPU, {"key": "other", "operator": "Exists"}, "gpu=yes:NoSchedule"),
        (GPU, {"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, "gpu=yes:NoSchedule"),
        (GPU, {"key": "gpu", "value": "no"}, "gpu=yes:NoSchedule"),
        (GPU, {"key": "gpu", "operator": "Gt", "value": "4"}, "gpu=yes:NoSchedule"),
        ({"key": "a", "effect": "NoExecute"}, {"key": "b"}, "a:NoExecute"),
    ],
)
def test_a_taint_that_is_not_tolerated_is_named(taint: Json, toleration: Json, shown: str) -> None:
    assert nodes.untolerated_taint(template(tolerations=[toleration]), node(taint)) == shown


def test_a_node_keeps_only_the_names_of_wanted_images() -> None:
    manifest = {
        "metadata": {"name": "n", "creationTimestamp": "2026-01-15T12:00:00Z"},
        "status": {
            "conditions": [
                {"type": "Ready", "status": "Unknown"},
                {"type": "DiskPressure", "status": "False"},
            ],
            "images": [
                {"names": ["host:5000/a@sha256:1", "host:5000/a:1"]},
                {"names": ["host:5000/b:1"]},
                {"names": None},
                {},
            ],
        },
    }
    found = nodes.of_manifest(manifest, {"host:5000/a"}.__contains__)
    assert found.images == {"host:5000/a@sha256:1", "host:5000/a:1"}
    assert not found.is_ready


@pytest.mark.parametrize("empty", [{}, {"spec": None, "status": None}])
def test_a_node_without_any_field_is_readable(empty: Json) -> None:
    found = nodes.of_manifest({"metadata": {"name": "n"}, **empty}, lambda _name: True)
    assert found == Node(name="n", labels={})


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("a", "a"),
        ("a:1", "a"),
        ("host:5000/a", "host:5000/a"),
        ("host:5000/a:1@sha256:2", "host:5000/a"),
    ],
)
def test_the_repository_of_an_image_name_has_no_tag_and_digest(name: str, repository: str) -> None:
    assert nodes.repository(name) == repository


@pytest.mark.parametrize(
    ("runtime", "kubelet", "can"),
    [
        ("containerd://2.1.0", "v1.35.0", True),
        ("containerd://2.4.2", "v1.37.2", True),
        ("containerd://v2.10.0-rc.1", "v1.40.0-eks-1234", True),
        ("containerd://2.0.9", "v1.35.0", False),
        ("containerd://1.7.27", "v1.37.2", False),
        ("containerd://2.1.0", "v1.34.9", False),
        ("cri-o://1.31.0", "v1.35.0", True),
        ("cri-o://1.30.9", "v1.35.0", False),
        ("docker://28.0.0", "v1.35.0", False),
        ("containerd://unknown", "v1.35.0", False),
        ("containerd://2.1.0", "", False),
        ("", "v1.35.0", False),
    ],
)
def test_a_node_mounts_images_if_its_runtime_and_its_kubelet_can(
    runtime: str, kubelet: str, *, can: bool
) -> None:
    info = {"containerRuntimeVersion": runtime, "kubeletVersion": kubelet}
    node = {"metadata": {"name": "a"}, "status": {"nodeInfo": info}}
    assert nodes.mounts_images(nodes.of_manifest(node, lambda _: False)) is can
