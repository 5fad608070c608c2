"""`e2e/run` builds the components that the selected tests need, and no others."""

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PYTEST = Path(sys.executable).with_name("pytest")
CONTROL_PLANE = {"etcd", "kubernetes-control-plane"}
NODES = CONTROL_PLANE | {"kubernetes-node", "coredns"}
IMAGES = {"sleep-image", "service-image"}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script of e2e/, and return what it printed, errors among it."""
    return subprocess.run(
        command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
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
    assert components() == programs | IMAGES


def test_a_selection_without_tests_is_refused_before_anything_is_built() -> None:
    done = run("e2e/run", PYTEST, "e2e/test_push.py", "-k", "no_such_test")
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "deselected" in done.stdout


def test_an_unknown_component_is_refused(tmp_path: Path) -> None:
    done = run("e2e/components/build", tmp_path, "minikube")
    assert done.returncode == 1
    assert "minikube: no such component; these are: etcd " in done.stdout
