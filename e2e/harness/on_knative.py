"""The product on a real Knative, applied as an overlay like `kubectl apply -k` does."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client.parser import text_string_to_metric_families

from e2e.harness.control_plane import ControlPlane
from e2e.harness.deployed import SERVICE_IMAGE, SLEEP_IMAGE, way_of_holding
from e2e.harness.installation import NAME, SECRET, Installation
from e2e.harness.knative import BROKERS, DOMAIN, GATEWAY, INTERNAL_GATEWAY
from e2e.harness.kubernetes_api import ApiError, Json, KubernetesApi
from e2e.harness.kustomize import Kustomize
from e2e.harness.objects import Objects
from e2e.harness.processes import listens
from e2e.harness.registry import HOST, Webhook
from e2e.harness.sender import until_taken
from e2e.harness.sink import Received, Sink
from e2e.harness.workspace import Workspace, http_session, wait_until

NAMESPACE = "k8s-image-puller"
WEBHOOKS = f"{NAME}-webhooks"
INTERNAL_HOST = f"{NAME}.{NAMESPACE}.svc.cluster.local"
PUBLIC_HOST = f"{WEBHOOKS}.{NAMESPACE}.{DOMAIN}"
BROKER_HOST = "broker-ingress.knative-eventing.svc.cluster.local"
BROKER = f"http://{BROKER_HOST}/{NAMESPACE}/image-puller"
WEBHOOK = Webhook(
    url=f"http://{PUBLIC_HOST}/webhooks/distribution", authorization=f"Bearer {SECRET}"
)

NEVER = "0 0 29 2 *"
PORT = 8080  # the service's own, in its pod
_HOSTS = f"""127.0.0.1 localhost
{GATEWAY} {PUBLIC_HOST}
{INTERNAL_GATEWAY} {INTERNAL_HOST}
{BROKERS} {BROKER_HOST}
"""
_OF_EVENTS = ("image-puller-events", "image-puller-progress")
_KNATIVE_GROUPS = ("eventing.knative.dev", "serving.knative.dev", "sources.knative.dev")


@dataclass
class OnKnative:
    """Both Knative Services of the product, with Broker and sources, and what tests ask of them.

    `sink` gets a copy of each event of the Broker at `/all`, and its dead letters at `/dead`.
    """

    kustomize: Kustomize
    installation: Installation
    sink: Sink
    images: str
    _objects: Objects = field(init=False)
    _documents: list[Json] = field(init=False)

    def __post_init__(self) -> None:
        self._objects = Objects(self.installation.control_plane.admin)

    def apply(self, *components: str, **environment: str) -> None:
        """Apply the overlay with more components and changed variables."""
        names = {
            "service": SERVICE_IMAGE.removesuffix(":e2e"),
            "sleep": SLEEP_IMAGE,
            "registry": HOST,
            "images": self.images,
        }
        own = self._own(way_of_holding() | environment)
        documents = self.kustomize.overlay(names, components, **own)
        self._objects.apply(documents, fieldValidation="Strict")
        self._documents = [*documents, self._tap()]
        self._objects.apply(self._documents[-1:])

    def wait_until_ready(self) -> None:
        """Wait until all Knative objects are ready."""
        for document in self._documents:
            if _is_of_knative(document):
                self._wait_until_ready(document)

    def pods(self, *services: str) -> list[Json]:
        """Return the pods of these Services, or of both, including terminating ones."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        names = ",".join(services or (NAME, WEBHOOKS))
        selector = f"serving.knative.dev/service in ({names})"
        found: list[Json] = self._admin.get(path, labelSelector=selector)["items"]
        return found

    def config_map(self) -> str:
        """Return the name of the ConfigMap with the variables, which ends in a hash."""
        (found,) = (each for each in self._documents if each["kind"] == "ConfigMap")
        return str(found["metadata"]["name"])

    def wait_for_zero(self) -> None:
        """Wait until neither Service has a pod."""
        wait_until(lambda: not self.pods(), "no pods of the Services")

    def bring_to_zero(self) -> None:
        """Wait until Knative deletes all pods, and skip their drain of half a minute."""
        self.wait_until_terminating()
        for pod in self.pods():
            with suppress(ApiError):  # it is gone already
                path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}"
                self._admin.delete(path, gracePeriodSeconds="0")
        self.wait_for_zero()

    def wait_until_terminating(self) -> None:
        """Wait until Knative has deleted all pods; they still answer for half a minute."""
        wait_until(
            lambda: all("deletionTimestamp" in pod["metadata"] for pod in self.pods()),
            "pods of the Services terminating",
        )

    def address(self, service: str) -> str:
        """Return the address of a Service's pod, which can be terminating."""
        return str(self.pods(service)[0]["status"]["podIP"])

    def first_words(self, service: str) -> float:
        """Return the time of the first line that the service in the one pod of a Service logged."""
        (pod,) = self.pods(service)
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}/log"
        log = self._admin.text(f"{path}?container=service&timestamps=true")
        return datetime.fromisoformat(log.split()[0]).timestamp()

    def send(self, url: str, event_type: str, event_id: str, **headers: str) -> int:
        """Send a CloudEvent without data until it is not answered 503; return the status code."""
        own = {"ce-specversion": "1.0", "ce-type": event_type, "ce-id": event_id}
        all_headers = own | {"ce-source": "/e2e"} | headers
        with http_session() as session:
            answer = until_taken(lambda: session.post(url, headers=all_headers, timeout=60))
        return answer.status_code

    def taken(self) -> float:
        """Return how many events the pods of the internal Service received at `POST /`."""
        addresses = (pod["status"].get("podIP") for pod in self.pods(NAME))
        return sum(_taken(each) for each in addresses if each and listens(each, PORT))

    def events(self) -> list[Received]:
        """Return the events that the Broker received."""
        return [each for each in self.sink.received if each.path == "/all"]

    def dead_letters(self) -> list[Received]:
        """Return the dead letters of the Broker."""
        return [each for each in self.sink.received if each.path == "/dead"]

    def set_schedule(self, schedule: str) -> None:
        """Set the schedule of the PingSource."""
        path = f"/apis/sources.knative.dev/v1/namespaces/{NAMESPACE}/pingsources/image-puller-check"
        self._admin.patch(path, {"spec": {"schedule": schedule}})

    @contextmanager
    def sending_events(self, *others: str) -> Iterator[None]:
        """Let the service send its own events to the Broker, until the context ends.

        `others` are the other components.
        """
        self.apply("events", *others)
        try:
            self.wait_until_ready()
            yield
        finally:
            for document in self._documents:
                if document["metadata"]["name"] in _OF_EVENTS and _is_of_knative(document):
                    self._admin.delete(self._objects.path(document))

    def kinds(self) -> set[str]:
        """Return the kinds of the objects that were applied last."""
        return {document["kind"] for document in self._documents}

    def remove_broker(self) -> None:
        """Delete the Broker and wait until it is gone."""
        (broker,) = (each for each in self._documents if each["kind"] == "Broker")
        self._admin.delete(self._objects.path(broker))
        wait_until(lambda: not self._objects.is_there(broker), "no Broker")

    @property
    def _admin(self) -> KubernetesApi:
        return self.installation.control_plane.admin

    def _own(self, environment: dict[str, str]) -> Json:
        return {
            "configMapGenerator": [
                {
                    "name": "k8s-image-puller",
                    "behavior": "merge",
                    "literals": [f"{name}={value}" for name, value in environment.items()],
                }
            ],
            "patches": [
                _patch("PingSource", "replace", "/spec/schedule", NEVER),
                _patch("Broker", "add", "/spec/delivery/deadLetterSink", self._uri("/dead")),
            ],
        }

    def _tap(self) -> Json:
        return {
            "apiVersion": "eventing.knative.dev/v1",
            "kind": "Trigger",
            "metadata": {"name": "all", "namespace": NAMESPACE},
            "spec": {"broker": "image-puller", "subscriber": self._uri("/all")},
        }

    def _uri(self, path: str) -> Json:
        return {"uri": f"{self.sink.url}{path}"}

    def _wait_until_ready(self, document: Json) -> None:
        def ready() -> bool:
            live = self._objects.live(document)
            status = live.get("status", {})
            return status.get("observedGeneration") == live["metadata"]["generation"] and any(
                each["type"] == "Ready" and each["status"] == "True"
                for each in status.get("conditions", ())
            )

        what = f"{document['kind']} {document['metadata']['name']}"
        try:
            wait_until(ready, f"{what} ready")
        except TimeoutError as error:
            status = self._objects.live(document).get("status")
            raise TimeoutError(f"{error}: {status}") from None


@contextmanager
def on_knative(
    workspace: Workspace, control_plane: ControlPlane, kustomize: Kustomize, images: str
) -> Iterator[OnKnative]:
    """Run the product with its public Service until the context ends."""
    name_hosts(workspace)
    admin = control_plane.admin
    admin.apply(f"/api/v1/namespaces/{NAMESPACE}", _object("v1", "Namespace", NAMESPACE))
    secrets = {"image-puller-secrets": ("read",), "image-puller-webhooks": ("distribution",)}
    for name, files in secrets.items():
        body = _object("v1", "Secret", name) | {"stringData": dict.fromkeys(files, SECRET)}
        admin.apply(f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}", body)
    kubeconfig = control_plane.kubeconfig(control_plane.admin_token)
    installation = Installation(control_plane, NAMESPACE, kubeconfig, workspace.folder("secrets"))
    with Sink() as sink:
        puller = OnKnative(kustomize, installation, sink, images)
        try:
            puller.apply()
            puller.wait_until_ready()
            yield puller
        finally:
            admin.delete(f"/api/v1/namespaces/{NAMESPACE}")


def name_hosts(workspace: Workspace) -> None:
    """Give processes in the run's mount namespace a hosts file with the gateways."""
    hosts = workspace.folder("names") / "hosts"
    hosts.write_text(_HOSTS)
    subprocess.run(("mount", "--bind", hosts, "/etc/hosts"), check=True)


def _is_of_knative(document: Json) -> bool:
    return document["apiVersion"].partition("/")[0] in _KNATIVE_GROUPS


def _taken(address: str) -> float:
    with http_session() as session:
        answer = session.get(
            f"http://{address}:{PORT}/metrics",
            headers={"Authorization": f"Bearer {SECRET}"},
            timeout=60,
        )
    answer.raise_for_status()
    return sum(
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "image_puller_events_total" and sample.labels["source"] == "cloudevents"
    )


def _patch(kind: str, operation: str, path: str, value: object) -> Json:
    patch = json.dumps([{"op": operation, "path": path, "value": value}])
    return {"target": {"kind": kind}, "patch": patch}


def _object(version: str, kind: str, name: str) -> Json:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}
