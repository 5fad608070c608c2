"""What runs in a cluster: the pods that count, the order of images, and the names of entries."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.config import groups as config_groups
from image_puller.config.configuration import from_environ
from image_puller.config.entries import COMMON_CONTAINER, INSTALL_CONTAINER, parse_entries
from image_puller.core import demand
from image_puller.core.demand import Demand, Workload
from image_puller.values.reference import parse

APP = "quay.io/org/app:1.2.3"
TOOL = "quay.io/org/tool:1.0.0"


def pod(
    *images: str, node: str | None = "node-1", owner: str | None = "ReplicaSet", **changes: Any
) -> dict[str, Any]:
    controller = {"kind": owner, "name": "x", "controller": True}
    return {
        "metadata": {"name": "p", "ownerReferences": [controller] if owner else None},
        "spec": {
            "nodeName": node,
            "containers": [{"name": f"c{n}", "image": image} for n, image in enumerate(images)],
        },
        "status": {"phase": "Running"},
    } | changes


def on(node: str, *images: str) -> Workload:
    return Workload(node=node, images=images)


def ranked(*workloads: Workload, sizes: dict[str, int] | None = None) -> list[Any]:
    found = demand.ranked(workloads, sizes or {})
    return [(each.image, each.pods, each.nodes, each.size) for each in found]


# Which pods count


def test_images_of_all_containers_and_image_volumes_of_a_pod_count_once() -> None:
    manifest = pod(APP, APP, TOOL)
    manifest["spec"]["initContainers"] = [{"name": "i", "image": "quay.io/org/init:1.0.0"}]
    manifest["spec"]["volumes"] = [
        {"name": "v", "image": {"reference": "quay.io/org/model:1.0.0"}},
        {"name": "e", "emptyDir": {}},
    ]
    assert demand.workload(manifest) == on(
        "node-1", "quay.io/org/init:1.0.0", APP, TOOL, "quay.io/org/model:1.0.0"
    )


@pytest.mark.parametrize(
    "manifest",
    [
        pod(APP, node=None),
        pod(APP, owner="DaemonSet"),
        pod(APP, owner="Node"),
        pod(APP, status={"phase": "Succeeded"}),
        pod(APP, status={"phase": "Failed"}),
        pod(APP, metadata={"name": "p", "deletionTimestamp": "2026-01-15T12:00:00Z"}),
    ],
)
def test_pod_without_node_ended_deleted_static_or_of_a_daemonset_does_not_count(
    manifest: dict[str, Any],
) -> None:
    assert demand.workload(manifest) is None


@pytest.mark.parametrize(
    "manifest",
    [
        pod(APP, owner=None),
        pod(APP, owner="Job"),
        pod(APP, status={"phase": "Pending"}),
        pod(APP, status=None),
        pod(
            APP,
            metadata={
                "name": "p",
                "ownerReferences": [{"kind": "DaemonSet", "name": "no control"}],
            },
        ),
    ],
)
def test_other_pod_with_a_node_counts(manifest: dict[str, Any]) -> None:
    assert demand.workload(manifest) == on("node-1", APP)


def test_pod_without_images_counts_with_none() -> None:
    manifest = pod(spec={"nodeName": "n", "containers": [{"name": "c"}], "volumes": None})
    assert demand.workload(manifest) == on("n")


# The order


def test_images_of_most_pods_come_first_then_those_on_most_nodes_then_by_name() -> None:
    assert ranked(
        on("a", "b", "c:1", "d"),
        on("a", "b", "d"),
        on("a", "a"),
        on("b", "c:1"),
        on("c", "e@sha256:" + "0" * 64, "x/y"),
    ) == [
        ("c:1", 2, 2, None),
        ("b", 2, 1, None),
        ("d", 2, 1, None),
        ("a", 1, 1, None),
        ("e@sha256:" + "0" * 64, 1, 1, None),
        ("x/y", 1, 1, None),
    ]


def test_spellings_of_one_image_are_one_image_named_as_most_pods_name_it() -> None:
    nginx = "docker.io/library/nginx:1.29.1"
    assert ranked(
        on("a", "nginx:1.29.1"),
        on("b", "nginx:1.29.1"),
        on("c", nginx),
        on("d", "nginx:1.29.1", nginx),
        on("e", nginx),
        on("f", "x"),
        on("f", "x:latest"),
        sizes={nginx: 7},
    ) == [("nginx:1.29.1", 5, 5, 7), ("x", 2, 1, None)]


def test_image_without_a_valid_name_is_left_out_and_reported() -> None:
    workloads = (on("a", "Not/Valid:x", APP), on("b", "a:b:c", APP))
    assert ranked(*workloads) == [(APP, 2, 2, None)]
    assert demand.unnamed(workloads) == ("Not/Valid:x", "a:b:c")


def test_nodes_have_the_sizes_of_images_and_the_values_of_a_label() -> None:
    first = {"names": ["quay.io/org/app@sha256:" + "1" * 64, APP], "sizeBytes": 5}
    second = {"names": [APP], "sizeBytes": 9}
    others = [
        {"names": None, "sizeBytes": 5},
        {"names": ["<none>:<none>"]},
        {"names": [TOOL]},
        {"names": ["docker.io/library/x:latest"], "sizeBytes": 3},
    ]
    nodes: list[dict[str, Any]] = [
        {
            "metadata": {"name": "a", "labels": {"pool": "large"}},
            "status": {"images": [first, *others]},
        },
        {"metadata": {"name": "b", "labels": {"pool": ""}}, "status": {"images": [second]}},
        {"metadata": {"name": "c", "labels": None}, "status": None},
    ]
    sizes, values = demand.sizes_and_values(nodes, "pool")
    assert values == {"a": "large", "b": ""}
    assert demand.sizes_and_values(nodes, None) == (sizes, {})
    assert ranked(on("a", APP, TOOL, "x"), sizes=dict(sizes)) == [
        (APP, 1, 1, 9),
        (TOOL, 1, 1, None),
        ("x", 1, 1, 3),
    ]


# Entries


def entries(*images: str) -> str:
    return demand.images_line([Demand(image=each, pods=1, nodes=1, size=None) for each in images])


@pytest.mark.parametrize(
    ("images", "line"),
    [
        ((), ""),
        (("nginx",), "nginx=nginx"),
        ((APP, TOOL), f"app={APP};tool={TOOL}"),
        (("a/app:1", "b/app:2", "c/app-2"), "app=a/app:1;app-2=b/app:2;app-2-2=c/app-2"),
        (("x/a_b__c.d---e:1",), "a-b-c-d---e=x/a_b__c.d---e:1"),
        ((f"x/{INSTALL_CONTAINER}:1",), f"{INSTALL_CONTAINER}-2=x/{INSTALL_CONTAINER}:1"),
        ((f"x/{COMMON_CONTAINER}:1",), f"{COMMON_CONTAINER}-2=x/{COMMON_CONTAINER}:1"),
        (
            (f"x/{'a' * 62}-b", f"y/{'a' * 62}-b"),
            f"{'a' * 62}=x/{'a' * 62}-b;{'a' * 61}-2=y/{'a' * 62}-b",
        ),
    ],
)
def test_name_of_an_entry_is_the_last_part_of_its_repository_and_unique(
    images: tuple[str, ...], line: str
) -> None:
    assert entries(*images) == line


COMPONENTS = st.sampled_from(["app", INSTALL_CONTAINER, COMMON_CONTAINER]) | st.builds(
    str.join,
    st.sampled_from([".", "_", "__", "-", "---"]),
    st.lists(st.text("ab1", min_size=1, max_size=40), min_size=1, max_size=3),
)
IMAGES = st.builds(
    lambda host, parts, tag: f"{host}/{'/'.join(parts)}{tag}",
    st.sampled_from(["docker.io", "quay.io", "registry.example.com:5000"]),
    st.lists(COMPONENTS, min_size=1, max_size=3),
    st.sampled_from(["", ":latest", ":1.2.3", ":V_1"]),
)
SEVERAL_IMAGES = st.lists(
    IMAGES, unique_by=lambda image: str(parse(image)), min_size=1, max_size=10
)


@given(SEVERAL_IMAGES)
def test_line_is_accepted_as_images_without_a_warning(images: list[str]) -> None:
    found, warnings, problems = parse_entries(entries(*images), {})
    assert (warnings, problems) == ((), ())
    assert [entry.image for entry in found] == images


# Groups


def test_group_has_the_images_of_the_nodes_with_one_value_of_the_label() -> None:
    workloads = (on("a", APP), on("b", APP), on("g", TOOL), on("g", APP), on("other", APP))
    values = {"a": "large", "b": "large", "g": "gpu", "empty": "none"}
    found = demand.by_value(workloads, values, {})
    assert {value: [each.image for each in images] for value, images in found.items()} == {
        "gpu": [APP, TOOL],
        "large": [APP],
    }
    text = demand.groups_json("example.com/pool", found)
    assert json.loads(text) == {
        "gpu": {
            "images": {"app": APP, "tool": TOOL},
            "nodeSelector": {"example.com/pool": "gpu"},
        },
        "large": {"images": {"app": APP}, "nodeSelector": {"example.com/pool": "large"}},
    }


@pytest.mark.parametrize(
    ("label", "values", "names"),
    [
        ("pool", ["A_b.C", "a-b-c"], ["a-b-c", "a-b-c-2"]),
        ("node-role.kubernetes.io/worker", [""], ["worker"]),
        ("x", ["a" * 29 + "-b", "a" * 31], ["a" * 29, "a" * 30]),
    ],
)
def test_name_of_a_group_is_that_of_the_value(
    label: str, values: list[str], names: list[str]
) -> None:
    found = dict.fromkeys(values, (Demand(image=APP, pods=1, nodes=1, size=None),))
    groups = json.loads(demand.groups_json(label, found))
    assert list(groups) == names
    assert [each["nodeSelector"][label] for each in groups.values()] == values


LABEL_VALUES = st.sampled_from(["", "a"]) | st.text("aB1._-", max_size=61).map("a{}b".format)


@given(st.dictionaries(LABEL_VALUES, SEVERAL_IMAGES, min_size=1, max_size=5))
def test_groups_are_accepted_as_image_groups(found: dict[str, list[str]]) -> None:
    demands = {
        value: tuple(Demand(image=each, pods=1, nodes=1, size=None) for each in images)
        for value, images in found.items()
    }
    text = demand.groups_json("example.com/pool", demands)
    assert len(config_groups.parse(text)) == len(found)
    config = from_environ({"IMAGE_GROUPS": text})
    assert [group.warnings for group in config.groups] == [()] * len(found)
    assert [[entry.image for entry in group.entries] for group in config.groups] == list(
        found.values()
    )
