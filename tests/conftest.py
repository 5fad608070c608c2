"""Fixtures: a simulated cluster, services that use it, and fake registries."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from kubernetes.client import ApiClient

from image_puller import limits
from image_puller.cluster.api_server import connect
from image_puller.cluster.client import KubernetesCluster
from image_puller.registries.lookup import Lookup
from image_puller.serve import Service
from image_puller.simulation import SimulatedCluster
from tests.support.building import configuration
from tests.support.clock import ManualClock
from tests.support.installation import NAMESPACE, Installation, kubeconfig
from tests.support.registries import FakeRegistries
from tests.support.replica import Replica, Time
from tests.support.web import Web

pytest.register_assert_rewrite("tests.support.contract")

# Tests run in parallel, so an example may take longer than Hypothesis expects.
settings.register_profile("parallel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("parallel")


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Return a cluster of three nodes. Its time passes only when a test advances it."""
    with SimulatedCluster(nodes=3, namespaces=(NAMESPACE,)) as cluster:
        yield cluster


@pytest.fixture
def installation(cluster: SimulatedCluster) -> Installation:
    """Return the installation of the service in that cluster."""
    return Installation(cluster)


@pytest.fixture
def api(cluster: SimulatedCluster, tmp_path: Path) -> Iterator[ApiClient]:
    """Return a client of that cluster's API server, connected as the service connects."""
    api = connect({"KUBECONFIG": str(kubeconfig(cluster, tmp_path))})
    yield api
    api.rest_client.close()


@pytest.fixture
def now() -> Time:
    """Return the time of all replicas."""
    return Time()


@pytest.fixture
def replica(api: ApiClient, now: Time) -> Callable[..., Replica]:
    """Return a function that creates replicas, each configured by these variables.

    `host` is the name of a replica's pod. Without it, the replica runs outside the cluster.
    """

    def make(
        *, state_bytes: int = limits.STATE_BYTES, host: str | None = None, **variables: str
    ) -> Replica:
        return Replica(configuration(**variables), api, now, state_bytes=state_bytes, host=host)

    return make


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of the services that `web` starts."""
    return ManualClock()


@pytest.fixture
def web(api: ApiClient, tmp_path: Path, clock: ManualClock) -> Iterator[Callable[..., Web]]:
    """Return a function that starts services, each with its own configuration and secrets."""
    started: list[Web] = []

    def start(*, first_check: bool = True, host: str | None = None, **variables: str) -> Web:
        secrets = tmp_path / f"secrets{len(started)}"
        secrets.mkdir()
        config = configuration(WEBHOOK_SECRETS_DIR=str(secrets), **variables)
        web = Web(Service(config, KubernetesCluster(api, config, host=host), clock), secrets)
        started.append(web)
        web.service.start()
        if first_check:
            web.wait_for_first_check(clock)
        return web

    yield start
    for web in started:
        web.stop()


@pytest.fixture
def registries() -> Iterator[FakeRegistries]:
    """Return registries without images."""
    registries = FakeRegistries()
    yield registries
    registries.open_all()


@pytest.fixture
def lookup(registries: FakeRegistries) -> Iterator[Lookup]:
    """Return a lookup that asks those registries."""
    lookup = Lookup(registries)
    yield lookup
    lookup.close()
