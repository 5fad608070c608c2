"""A simulated cluster, processes of the service at it, and their web application."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from kubernetes.client import ApiClient

from image_puller.cluster.client import KubernetesCluster, connect
from image_puller.cluster.reconcile import Reconciler
from image_puller.config.configuration import Config
from image_puller.config.entries import INSTALLER
from image_puller.core.changes import Change, Confirm, Refresh
from image_puller.core.daemonset import DIGESTS, STATE
from image_puller.core.decide import Outcome
from image_puller.registries.lookup import Lookup
from image_puller.serve import Service
from image_puller.simulation import SimulatedCluster
from tests.support.building import NOON, configuration
from tests.support.registries import Answers

pytest.register_assert_rewrite("tests.support.contract")

NAME = "kubernetes-image-puller"
NAMESPACE = "k8s-image-puller"
PATIENCE_SECONDS = 10

Json = dict[str, Any]

# All cores are busy with tests: how long one takes says nothing about it.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what other threads or processes do."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Installation:
    """The cluster as its administrator sees it: the one DaemonSet, and what was asked for it."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.cluster = cluster

    def live(self) -> Json:
        """The DaemonSet, which must be there."""
        found = self.cluster.daemonset(NAME, NAMESPACE)
        assert found is not None
        return found

    def template(self) -> Json:
        """Its template."""
        return self.live()["spec"]["template"]

    def images(self) -> list[str]:
        """The images of its containers, in order."""
        return images_of(self.template())

    def digests(self) -> Json:
        """The contents that its template expects, by container."""
        return json.loads(self.template()["metadata"]["annotations"][DIGESTS])

    def state(self) -> Json:
        """What it remembers."""
        return json.loads(self.live()["metadata"]["annotations"][STATE])

    def annotate(self, text: str | None) -> None:
        """Put another text in place of what it remembers; None removes it."""

        def edit(daemonset: Json) -> None:
            annotations = daemonset["metadata"]["annotations"]
            annotations.pop(STATE)
            if text is not None:
                annotations[STATE] = text

        self.cluster.change(NAME, NAMESPACE, edit)

    def refuse(self, text: str, *, status: int = 422) -> None:
        """Refuse every DaemonSet that has the text in an image."""
        self.cluster.deny(
            lambda daemonset: any(
                text in container["image"]
                for container in daemonset["spec"]["template"]["spec"]["containers"]
            ),
            f"{text} is not allowed here",
            status=status,
        )

    def sent(self) -> list[str]:
        """The requests since the last look, each as its verb, what it is about, and how."""
        requests = [
            " ".join(
                (
                    request.method,
                    _kind(request.path),
                    *(("metadata",) if "as=Partial" in request.headers["accept"] else ()),
                    *(("dry run",) if request.dry_run else ()),
                )
            )
            for request in self.cluster.requests
            if _kind(request.path) != "nodes"  # watched all the time, in a thread of its own
        ]
        self.cluster.requests.clear()
        return requests

    def written(self) -> list[str]:
        """Those of them that were to change the DaemonSet."""
        return [
            request
            for request in self.sent()
            if not request.startswith("GET")
            and "dry run" not in request
            and "daemonsets" in request
        ]

    def reports(self) -> list[tuple[str, str]]:
        """The Events about it: reasons and messages."""
        return [(event["reason"], event["message"]) for event in self.cluster.events(NAMESPACE)]


def images_of(template: Json) -> list[str]:
    """The images that a template is there for."""
    containers = template["spec"]["containers"]
    return [each["image"] for each in containers if each["name"] != INSTALLER]


def _kind(path: str) -> str:
    parts = path.split("/")
    return parts[parts.index("namespaces") + 2] if "namespaces" in parts else parts[-1]


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


class Replica:
    """One process of the service without its web server."""

    def __init__(self, config: Config, api: ApiClient, now: Time) -> None:
        self.config = config
        self.cluster = KubernetesCluster(api, config)
        self.reconciler = Reconciler(config, self.cluster, now=now)

    def commit(self, *changes: Change, flush: bool = False) -> tuple[Outcome, ...]:
        """Commit changes."""
        return self.reconciler.commit(changes, flush=flush)

    def tick(self) -> None:
        """Look at everything."""
        assert self.commit(Refresh()) == (Outcome.CHECKED,)

    def join(self) -> None:
        """Look whether the DaemonSet is there and current."""
        assert self.commit(Confirm()) == (Outcome.CHECKED,)


class Gate:
    """Holds up the requests of a method until it is opened; tells when the first one waits."""

    def __init__(self, cluster: SimulatedCluster, method: str, *, times: int = 1) -> None:
        self.reached, self._open = threading.Event(), threading.Event()
        cluster.before(method, self._wait, times=times)

    def _wait(self) -> None:
        self.reached.set()
        assert self._open.wait(PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """A cluster of three nodes, in which time stands still."""
    with SimulatedCluster(nodes=3, namespaces=(NAMESPACE,)) as cluster:
        yield cluster


@pytest.fixture
def installation(cluster: SimulatedCluster) -> Installation:
    """What the administrator of that cluster sees."""
    return Installation(cluster)


@pytest.fixture
def api(cluster: SimulatedCluster, tmp_path: Path) -> Iterator[ApiClient]:
    """A client of that cluster, connected as the service is."""
    api = connect({"KUBECONFIG": str(kubeconfig(cluster, tmp_path))})
    yield api
    api.rest_client.close()


@pytest.fixture
def now() -> Time:
    """The time for all replicas."""
    return Time()


@pytest.fixture
def replica(api: ApiClient, now: Time) -> Callable[..., Replica]:
    """Makes processes of the service, each configured by these variables."""

    def make(**variables: str) -> Replica:
        return Replica(configuration(**variables), api, now)

    return make


def kubeconfig(cluster: SimulatedCluster, folder: Path) -> Path:
    """A file that leads to the cluster."""
    file = folder / "kubeconfig"
    file.write_text(json.dumps(cluster.kubeconfig()))
    return file


class Web:
    """The service's web application, and the folder of its secrets."""

    def __init__(self, service: Service, secrets: Path) -> None:
        self.service = service
        self.secrets = secrets
        self.client: FlaskClient = service.app.test_client()

    def secret(self, name: str, *secrets: str) -> None:
        """Set the secrets of a name, and no others."""
        for old in self.secrets.glob(f"{name}*"):
            old.unlink()
        for number, secret in enumerate(secrets):
            (self.secrets / (f"{name}.{number}" if number else name)).write_text(f"{secret}\n")

    def wait_for_first_look(self) -> None:
        """Wait until the look that each start takes is over, so that it meets no test's faults."""
        wait_until(lambda: 'source="timer"' in self.service._metrics.text().decode())

    def stop(self) -> None:
        """Stop the service, as SIGTERM does."""
        self.service.stop()
        self.service._ticker._thread.join(PATIENCE_SECONDS)


@pytest.fixture
def web(api: ApiClient, tmp_path: Path) -> Iterator[Callable[..., Web]]:
    """Starts services at the cluster, each configured by these variables, with no secrets."""
    started: list[Web] = []

    def start(*, first_look: bool = True, **variables: str) -> Web:
        secrets = tmp_path / f"secrets{len(started)}"
        secrets.mkdir()
        config = configuration(WEBHOOK_SECRETS_DIR=str(secrets), **variables)
        web = Web(Service(config, KubernetesCluster(api, config)), secrets)
        started.append(web)
        web.service.start()
        if first_look:
            web.wait_for_first_look()
        return web

    yield start
    for web in started:
        web.stop()


@pytest.fixture
def answers() -> Iterator[Answers]:
    """Registries that know nothing yet."""
    answers = Answers()
    yield answers
    answers.open_all()


@pytest.fixture
def lookup(answers: Answers) -> Iterator[Lookup]:
    """Asks them."""
    lookup = Lookup(answers)
    yield lookup
    lookup.close()
