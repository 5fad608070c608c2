"""The ground that all e2e tests stand on; started by `e2e/run`, never by pytest alone."""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from e2e.harness.control_plane import ControlPlane
from e2e.harness.ground import Ground, wait_until
from e2e.harness.installation import Installation
from e2e.harness.nodes import Nodes
from e2e.harness.pods import Pods
from e2e.harness.processes import tail
from e2e.harness.registry import Registry
from e2e.harness.service import Service
from e2e.harness.sink import Sink

pytest.register_assert_rewrite("tests.support.contract")

Reporting = Generator[None, pytest.TestReport, pytest.TestReport]

LOG_SIZES = pytest.StashKey[dict[Path, int]]()


@pytest.fixture(scope="session")
def ground() -> Ground:
    """Where programs, state and logs are."""
    if "E2E_STATE" not in os.environ:
        pytest.exit("these tests need a network namespace of their own: run `make e2e`")
    return Ground(programs=Path(os.environ["E2E_BIN"]), state=Path(os.environ["E2E_STATE"]))


@pytest.fixture(scope="session")
def control_plane(ground: Ground) -> Iterator[ControlPlane]:
    """A real control plane, one for all tests."""
    with ControlPlane(ground) as control_plane:
        yield control_plane


@pytest.fixture(scope="session")
def nodes(ground: Ground, control_plane: ControlPlane) -> Iterator[Nodes]:
    """Two nodes for all tests that run pods, and room for one more: `with nodes.join() as third`.

    They come with Services that can be reached, and with DNS.
    """
    with Nodes(ground, control_plane) as nodes:
        yield nodes


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """The name of a fresh namespace, in which pods can be created."""
    control_plane.api_server.start()  # a test that failed may have left it stopped
    admin = control_plane.admin
    body = {"metadata": {"generateName": "e2e-"}}
    name = admin.post("/api/v1/namespaces", body)["metadata"]["name"]
    accounts = f"/api/v1/namespaces/{name}/serviceaccounts"
    wait_until(lambda: admin.get(accounts)["items"], f"default service account of {name}")
    yield name
    control_plane.api_server.start()
    admin.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def pods(control_plane: ControlPlane, namespace: str) -> Pods:
    """Pods in the test's namespace, which lets none in but those that are `restricted`."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    path = f"/api/v1/namespaces/{namespace}"
    control_plane.admin.patch(path, {"metadata": {"labels": labels}})
    spec = {"containers": [{"name": "main", "image": "example.com/lax:1"}]}
    control_plane.wait_until_refused(
        f"{path}/pods",
        {"metadata": {"name": "lax"}, "spec": spec},
        saying="violates PodSecurity",
    )
    return Pods(control_plane.admin, namespace)


@pytest.fixture
def installation(ground: Ground, control_plane: ControlPlane, namespace: str) -> Installation:
    """The product's own manifests, applied to the test's namespace."""
    return Installation.apply(ground, control_plane, namespace)


@pytest.fixture(scope="session")
def registry(ground: Ground) -> Callable[..., Registry]:
    """Makes registries, of which one can run at a time.

    `with registry([Webhook(url=…, authorization=…)]) as images:`
    """
    return partial(Registry, ground)


@pytest.fixture(scope="session")
def service(ground: Ground) -> Callable[..., Service]:
    """Makes services, of which any number can run.

    `with service({"IMAGES": …}, kubeconfig=…) as puller:`
    """
    return partial(Service, ground)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A place to send webhooks and events to."""
    with Sink() as sink:
        yield sink


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run last what needs nodes, and then Knative: they stay, and others want a quiet cluster."""

    def stays(item: pytest.Item) -> list[bool]:
        return [name in getattr(item, "fixturenames", ()) for name in ("knative", "nodes")]

    items.sort(key=stays)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Remember how long each log is before the test."""
    item.stash[LOG_SIZES] = _log_sizes()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Reporting:
    """Show with a failure what each component, and each pod that is there, logged in the test."""
    report = yield
    if report.failed:
        before = item.stash[LOG_SIZES]
        for log, size in sorted(_log_sizes().items()):
            start = before.get(log, 0)
            if size > start:
                with suppress(FileNotFoundError):
                    text = tail(log, start=start)
                    report.sections.append((f"end of {log.relative_to(_logs())}", text))
    return report


def _log_sizes() -> dict[Path, int]:
    """Return how long each log is; those of pods come and go."""
    sizes = {}
    for log in _logs().rglob("*.log"):
        with suppress(FileNotFoundError):
            sizes[log] = log.stat().st_size
    return sizes


def _logs() -> Path:
    return Path(os.environ.get("E2E_STATE", "/nowhere"), "logs")
