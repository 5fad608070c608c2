"""The components that tests need: each has a fixture that returns where it is.

A test needs a component if it requests its fixture, or if one of its fixtures does. Only a
fixture leads to a component, so `e2e/run` builds what the selected tests need and nothing else. For
that it first collects the tests with `LIST_FILE` set, and reads the names from that file.

A component has the name of its fixture without `built_`. `e2e/components/product-images` builds
those whose names end with `-image`, and `e2e/components/build` builds all others but `chromium`,
which comes from a package.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from e2e.harness.browser import find_chromium

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
    """Return the folder of etcd."""
    return _built("etcd")


@pytest.fixture(scope="session")
def built_kubernetes_control_plane() -> Path:
    """Return the folder of kube-apiserver, kube-controller-manager and kube-scheduler."""
    return _built("kubernetes-control-plane")


@pytest.fixture(scope="session")
def built_kubernetes_node() -> Path:
    """Return the folder of kubelet and kube-proxy."""
    return _built("kubernetes-node")


@pytest.fixture(scope="session")
def built_containerd() -> Path:
    """Return the folder of containerd, its shim, and its client ctr."""
    return _built("containerd")


@pytest.fixture(scope="session")
def built_coredns() -> Path:
    """Return the folder of coredns."""
    return _built("coredns")


@pytest.fixture(scope="session")
def built_probe() -> Path:
    """Return the folder of probe, which pods run to send and answer requests."""
    return _built("probe")


@pytest.fixture(scope="session")
def built_helm() -> Path:
    """Return the folder of helm."""
    return _built("helm")


@pytest.fixture(scope="session")
def built_kustomize() -> Path:
    """Return the folder of kustomize."""
    return _built("kustomize")


@pytest.fixture(scope="session")
def built_crds() -> Path:
    """Return the folder of CustomResourceDefinitions for objects of the chart, as YAML files."""
    return _built("crds")


@pytest.fixture(scope="session")
def built_knative() -> Path:
    """Return the folder of Knative's programs, with a folder for each of its parts."""
    return _built("knative")


@pytest.fixture(scope="session")
def built_knative_manifests() -> Path:
    """Return the folder of Knative's manifests, with a folder for each module that ships some."""
    return _built("knative-manifests")


@pytest.fixture(scope="session")
def built_envoy() -> Path:
    """Return the folder of envoy."""
    return _built("envoy")


@pytest.fixture(scope="session")
def built_sleep_image() -> Path:
    """Return the sleep image, as an OCI layout."""
    return _built("sleep-image")


@pytest.fixture(scope="session")
def built_service_image() -> Path:
    """Return the image of the service, as an OCI layout."""
    return _built("service-image")


@pytest.fixture(scope="session")
def built_chromium() -> Path:
    """Return the program of the browser."""
    return find_chromium()
