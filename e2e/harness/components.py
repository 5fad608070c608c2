"""The components that tests need: each is a fixture, which returns what was built.

A test needs a component if it requests its fixture, or if one of its fixtures does. There is no
other way to a component, so `e2e/run` can build those of the selected tests alone: it collects
the tests first, with `LIST_FILE` set, and reads the components' names from that file.

A component's name is that of its fixture without `built_`. They are built by
`e2e/components/build`, and those whose names end with `-image` by `e2e/components/product-images`.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

LIST_FILE = "E2E_COMPONENTS_LIST"
FOLDER = "E2E_COMPONENTS"
PREFIX = "built_"


def names_of(fixtures: Iterable[str]) -> set[str]:
    """Return the names of the components among these fixtures."""
    return {
        each.removeprefix(PREFIX).replace("_", "-") for each in fixtures if each.startswith(PREFIX)
    }


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write which components the selected tests need, one name on each line."""
    if LIST_FILE not in os.environ:
        return
    needed: set[str] = set()
    for item in session.items:
        needed |= names_of(getattr(item, "fixturenames", ()))
    Path(os.environ[LIST_FILE]).write_text("".join(f"{name}\n" for name in sorted(needed)))


def _built(component: str) -> Path:
    if FOLDER not in os.environ:
        pytest.exit("e2e tests need a network namespace of their own: run `make e2e`")
    return Path(os.environ[FOLDER], component)


@pytest.fixture(scope="session")
def built_etcd() -> Path:
    """The folder of etcd."""
    return _built("etcd")


@pytest.fixture(scope="session")
def built_kubernetes_control_plane() -> Path:
    """The folder of kube-apiserver, kube-controller-manager and kube-scheduler."""
    return _built("kubernetes-control-plane")


@pytest.fixture(scope="session")
def built_kubernetes_node() -> Path:
    """The folder of kubelet and kube-proxy."""
    return _built("kubernetes-node")


@pytest.fixture(scope="session")
def built_coredns() -> Path:
    """The folder of coredns."""
    return _built("coredns")


@pytest.fixture(scope="session")
def built_probe() -> Path:
    """The folder of probe, the program of pods that ask and answer."""
    return _built("probe")


@pytest.fixture(scope="session")
def built_helm() -> Path:
    """The folder of helm."""
    return _built("helm")


@pytest.fixture(scope="session")
def built_kustomize() -> Path:
    """The folder of kustomize."""
    return _built("kustomize")


@pytest.fixture(scope="session")
def built_crds() -> Path:
    """The folder of the CustomResourceDefinitions that the chart's objects need, as YAML files."""
    return _built("crds")


@pytest.fixture(scope="session")
def built_knative() -> Path:
    """The folder of Knative's programs, with a folder for each of its parts."""
    return _built("knative")


@pytest.fixture(scope="session")
def built_knative_manifests() -> Path:
    """The folder of Knative's manifests, with a folder for each module that ships some."""
    return _built("knative-manifests")


@pytest.fixture(scope="session")
def built_envoy() -> Path:
    """The folder of envoy."""
    return _built("envoy")


@pytest.fixture(scope="session")
def built_sleep_image() -> Path:
    """The sleep image, as an OCI layout."""
    return _built("sleep-image")


@pytest.fixture(scope="session")
def built_service_image() -> Path:
    """The image of the service, as an OCI layout."""
    return _built("service-image")
