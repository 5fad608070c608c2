"""`e2e/run` builds the components that the selected tests need, and no others."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
COMPONENTS = TOP / "e2e" / "components"
PYTEST = Path(sys.executable).with_name("pytest")
CONTROL_PLANE = {"etcd", "kubernetes-control-plane"}
NODES = CONTROL_PLANE | {"kubernetes-node", "containerd", "coredns"}
IMAGES = {"sleep-image", "service-image"}
CONTAINERD = r"github.com/containerd/containerd(?:/v2)?"
# Writes the folder and the arguments of a build into each program.
GO = """#!/usr/bin/env bash
if [[ $1 == env ]]; then
  echo go9.9.9
  exit
fi
while [[ $1 != -o ]]; do
  flags+=" $1"
  shift
done
for package in "${@:3}"; do
  echo "$PWD/ $flags" >"$2/${package##*/}"
  chmod +x "$2/${package##*/}"
done
"""


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of e2e/, and return what it printed, errors among it."""
    return subprocess.run(
        command,
        cwd=TOP,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def components(*selection: str) -> set[str]:
    """Return the components that a selection of tests needs."""
    done = run("e2e/run", "--components", PYTEST, *selection)
    assert done.returncode == 0, done.stdout
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("selection", "needed"),
    [
        (("e2e/test_push.py", "-k", "replicas"), CONTROL_PLANE),
        (("e2e/test_nodes.py",), NODES | {"probe"}),
        (("e2e/test_on_nodes.py", "-k", "keep_tags"), NODES | IMAGES),
        (("e2e/test_helm.py", "-k", "lint"), {"helm"}),
        (("e2e/test_page.py",), {"chromium"}),
        (("e2e/test_product_images.py", "-k", "sleep_image_sleeps"), {"sleep-image"}),
        (("bench/push_to_node.py",), NODES | IMAGES),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_a_selection_needs_the_components_of_its_fixtures(
    selection: tuple[str, ...], needed: set[str]
) -> None:
    assert components(*selection) == needed


def test_all_tests_need_all_components_that_can_be_built() -> None:
    programs = set(run("e2e/components/build", "--list").stdout.split())
    assert components() == programs | IMAGES | {"chromium"}


def test_a_selection_without_tests_is_refused_before_anything_is_built() -> None:
    done = run("e2e/run", PYTEST, "e2e/test_push.py", "-k", "no_such_test")
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "deselected" in done.stdout


def test_an_unknown_component_is_refused(tmp_path: Path) -> None:
    done = run("e2e/components/build", tmp_path, "minikube")
    assert done.returncode == 1
    assert "minikube: no such component; these are: etcd " in done.stdout


def test_only_the_newest_and_the_oldest_kubernetes_can_be_built(tmp_path: Path) -> None:
    done = run("e2e/components/build", tmp_path, "containerd", E2E_KUBERNETES="v1.30.0")
    assert done.returncode == 1
    assert "E2E_KUBERNETES is v1.30.0, but can only be newest or oldest" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("release", "folder"), [("newest", ""), ("oldest", "oldest")])
def test_a_release_is_built_from_its_own_folder_and_gets_its_version(
    release: str, folder: str, tmp_path: Path
) -> None:
    """A stand-in for Go notes what it would build, and where."""
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(GO)
    go.chmod(0o755)
    destination = tmp_path / "components"
    destination.mkdir()
    done = run(
        "e2e/components/build",
        destination,
        "kubernetes-control-plane",
        "kubernetes-node",
        "containerd",
        E2E_KUBERNETES=release,
        IMAGE_PULLER_CACHE=str(tmp_path / "cache"),
        PATH=f"{go.parent}:{os.environ['PATH']}",
    )
    assert done.returncode == 0, done.stdout
    kubernetes = required("k8s.io/kubernetes", COMPONENTS / folder / "kubernetes")
    containerd = required(CONTAINERD, COMPONENTS / folder / "containerd")
    for component, name, version in (
        ("kubernetes-control-plane", "kube-apiserver", kubernetes),
        ("kubernetes-node", "kubelet", kubernetes),
        ("containerd", "containerd-shim-runc-v2", containerd.removeprefix("v")),
    ):
        built = (destination / component / name).read_text()
        assert f"{COMPONENTS / folder}/" in built
        assert re.search(rf"[vV]ersion={re.escape(version)}\s", built), built


def test_the_oldest_kubernetes_is_older_than_the_newest() -> None:
    for component, module in ("kubernetes", "k8s.io/kubernetes"), ("containerd", CONTAINERD):
        newest = required(module, COMPONENTS / component)
        oldest = required(module, COMPONENTS / "oldest" / component)
        assert numbers(oldest) < numbers(newest)


def test_the_support_matrix_names_the_versions_that_are_built() -> None:
    rows = [
        re.findall(r"`?\b(\d+\.\d+\.\d+)\b", line)
        for line in (TOP / "docs" / "support.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    built = [
        [
            required(module, COMPONENTS / folder / component).removeprefix("v")
            for component, module in (
                ("kubernetes", "k8s.io/kubernetes"),
                ("containerd", CONTAINERD),
            )
        ]
        for folder in ("", "oldest")
    ]
    assert [row for row in rows if row] == built


def required(module: str, folder: Path) -> str:
    """Return the version of a module that the go.mod of a folder requires."""
    line = re.search(rf"(?m)^require {module} (v[\d.]+)$", (folder / "go.mod").read_text())
    assert line, folder
    return line[1]


def numbers(version: str) -> list[int]:
    """Return the numbers of a version, to compare it with others."""
    return [int(number) for number in version.removeprefix("v").split(".")]
