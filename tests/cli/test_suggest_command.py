"""`image-puller suggest` beside a simulated cluster: its output, and its errors."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_puller import limits
from image_puller.cli import main, suggest_command
from image_puller.config.configuration import from_environ
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.responses import ApiError
from tests.support.installation import kubeconfig

APP = "quay.io/org/app:1.2.3"
TOOL = "quay.io/org/tool:1.0.0"
CUDA = "nvcr.io/nvidia/cuda:12.4.1"
NOT_COUNTED = "Pods of DaemonSets and static pods do not count.\n"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimulatedCluster]:
    """Return a cluster of two nodes and one with GPUs, which KUBECONFIG names."""
    with SimulatedCluster(nodes=0) as cluster:
        for name, labels in (
            ("n1", {"pool": "std"}),
            ("n2", {"pool": "std"}),
            ("g", {"pool": "gpu"}),
        ):
            cluster.join(name, labels=labels)
        for name in list(os.environ):
            if name != "PATH":
                monkeypatch.delenv(name)
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(cluster, tmp_path)))
        yield cluster


def run(
    cluster: SimulatedCluster,
    name: str,
    *images: str,
    node: str = "n1",
    namespace: str = "team-a",
    owner: str = "ReplicaSet",
) -> None:
    """Let a pod use some images on a node."""
    cluster.add(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": owner,
                        "name": "x",
                        "uid": "1",
                        "controller": True,
                    }
                ],
            },
            "spec": {
                "nodeName": node,
                "containers": [
                    {"name": f"c{number}", "image": image} for number, image in enumerate(images)
                ],
            },
        }
    )


def forbid(cluster: SimulatedCluster, path: str) -> None:
    """Let the API server refuse to list objects, as RBAC does."""

    def refuse() -> None:
        raise ApiError(403, f'{path} is forbidden: User "u" cannot list resource "{path}"')

    cluster.before("GET", refuse, path=f"/{path}")


def suggest(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.main(["suggest", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_images_of_most_pods_are_printed_as_a_value_for_images(
    cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    run(cluster, "a", APP)
    run(cluster, "b", APP, TOOL, node="n2")
    run(cluster, "c", CUDA, node="g", namespace="team-b")
    run(cluster, "d", CUDA, node="g", owner="DaemonSet")
    code, out, err = suggest(capsys)
    assert (code, out) == (0, f"app={APP};cuda={CUDA};tool={TOOL}\n")
    assert err == (
        "ENTRY  IMAGE                       PODS  NODES  SIZE\n"
        f"app    {APP}       2     2      -\n"
        f"cuda   {CUDA}  1     1      -\n"
        f"tool   {TOOL}      1     1      -\n"
        "\n"
        f"Images: 3 of 3. Pods: 3.\n{NOT_COUNTED}"
    )
    config = from_environ({"IMAGES": out.strip()})
    assert ([entry.image for entry in config.entries], config.warnings) == ([APP, CUDA, TOOL], ())
    assert {request.method for request in cluster.requests} == {"GET"}


def test_namespaces_and_the_number_of_images_can_be_chosen(
    cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    run(cluster, "a", APP, TOOL)
    run(cluster, "b", TOOL, namespace="team-b")
    run(cluster, "c", CUDA, namespace="team-c")
    chosen = ("--namespace", "team-a", "--namespace", "team-b", "--namespace", "team-a")
    assert suggest(capsys, *chosen)[1] == f"tool={TOOL};app={APP}\n"
    code, out, err = suggest(capsys, *chosen, "--most", "1")
    assert (code, out) == (0, f"tool={TOOL}\n")
    assert "Images: 1 of 2. Pods: 2." in err


def test_groups_are_printed_by_a_label_of_nodes(
    cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.join("without")
    run(cluster, "a", APP)
    run(cluster, "b", CUDA, TOOL, node="g")
    run(cluster, "c", TOOL, node="without")
    code, out, err = suggest(capsys, "--by-node-label", "pool")
    assert code == 0
    assert json.loads(out) == {
        "gpu": {"images": {"cuda": CUDA, "tool": TOOL}, "nodeSelector": {"pool": "gpu"}},
        "std": {"images": {"app": APP}, "nodeSelector": {"pool": "std"}},
    }
    assert err == (
        "ENTRY     IMAGE                       PODS  NODES  SIZE\n"
        f"gpu/cuda  {CUDA}  1     1      -\n"
        f"gpu/tool  {TOOL}      1     1      -\n"
        f"std/app   {APP}       1     1      -\n"
        "\n"
        f"Pods on nodes with the label pool: 2 of 3.\n{NOT_COUNTED}"
    )
    groups = from_environ({"IMAGE_GROUPS": out}).groups
    assert [group.node_selector for group in groups] == [{"pool": "gpu"}, {"pool": "std"}]


def test_pods_are_read_in_pages(
    cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(limits.PAGE_OBJECTS + 1):
        run(cluster, f"p{number}", APP)
    assert "Images: 1 of 1. Pods: 101." in suggest(capsys)[2]
    pages = [each.query for each in cluster.requests if each.path == "/api/v1/pods"]
    assert len(pages) == 2
    assert {page["fieldSelector"] for page in pages} == {
        "status.phase!=Failed,status.phase!=Succeeded"
    }


class Sized:
    """A cluster of one pod, whose node knows the sizes of its images."""

    images = (APP, TOOL, CUDA, "x:1", "A:B:C")

    def pods(self, namespace: str | None) -> Iterator[dict[str, Any]]:
        containers = [{"name": "c", "image": image} for image in self.images]
        yield {"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": containers}}

    def nodes(self) -> Iterator[dict[str, Any]]:
        sizes = {APP: 1_640_000_000, TOOL: 123_456_789, CUDA: 99}
        images = [{"names": [name], "sizeBytes": size} for name, size in sizes.items()]
        yield {"metadata": {"name": "n"}, "status": {"images": images}}


def test_table_has_the_sizes_that_nodes_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert suggest_command.run(Sized(), namespaces=[], most=9, label=None) == 0
    err = capsys.readouterr().err
    sizes = [line.split("1     1      ")[1] for line in err.splitlines()[1:5]]
    assert sizes == ["1 MB", "1.6 GB", "123 MB", "-"]
    assert err.endswith("No entry can name these images: 'A:B:C'.\n")


def test_only_some_names_that_are_not_valid_are_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sized, "images", tuple(f"A:{number}:\x1b" for number in range(7)))
    assert suggest_command.run(Sized(), namespaces=["a"], most=9, label=None) == 1
    assert capsys.readouterr().err == (
        f"Images: 0 of 0. Pods: 1.\n{NOT_COUNTED}"
        "No entry can name these images: 'A:0:\\x1b', 'A:1:\\x1b', 'A:2:\\x1b', 'A:3:\\x1b', "
        "'A:4:\\x1b' and 2 more.\n"
        "There is nothing to suggest in these namespaces.\n"
    )


@pytest.mark.parametrize("arguments", [(), ("--by-node-label", "other")])
def test_nothing_to_suggest_ends_with_1(
    cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    if arguments:
        run(cluster, "a", APP)
    code, out, err = suggest(capsys, *arguments)
    assert (code, out) == (1, "")
    assert err.endswith("There is nothing to suggest.\n")


def test_error_about_pods_names_the_right_and_the_option(
    cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid(cluster, "pods")
    reason = 'pods is forbidden: User "u" cannot list resource "pods"'
    code, out, err = suggest(capsys)
    assert (code, out) == (1, "")
    assert err == (
        f"Pods can't be listed: {reason}. Set KUBECONFIG to that of a user who may list pods in "
        "all namespaces, or name namespaces in --namespace.\n"
    )
    forbid(cluster, "pods")
    assert suggest(capsys, "--namespace", "team-a")[2] == (
        f"Pods can't be listed: {reason}. Set KUBECONFIG to that of a user who may list pods in "
        "namespace team-a.\n"
    )


def test_nodes_are_needed_only_for_groups(
    cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    run(cluster, "a", APP)
    reason = 'nodes is forbidden: User "u" cannot list resource "nodes"'
    forbid(cluster, "nodes")
    code, out, err = suggest(capsys)
    assert (code, out) == (0, f"app={APP}\n")
    assert err.startswith(f"Sizes are unknown, because nodes can't be listed: {reason}.\n\nENTRY")
    forbid(cluster, "nodes")
    code, out, err = suggest(capsys, "--by-node-label", "pool")
    assert (code, out) == (1, "")
    assert err == (
        f"Nodes can't be listed: {reason}. Set KUBECONFIG to that of a user who may list nodes, or "
        "leave --by-node-label out.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--most", "0"), "must be a whole number from 1 to 1000, not '0'"),
        (("--namespace", "A"), "must be a name of lower-case letters"),
        (("--by-node-label", "a b"), "'a b' is not a name such as team or example.com/team"),
    ],
)
def test_wrong_arguments_end_with_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(["suggest", *arguments])
    assert message in capsys.readouterr().err


def test_error_without_a_cluster_has_the_variable_to_set(
    cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG")
    code, out, err = suggest(capsys)
    assert (code, out) == (1, "")
    assert "run in a pod with a service account, or set KUBECONFIG" in err
