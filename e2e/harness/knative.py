"""A real Knative: Serving, Kourier with Envoy, Eventing with Broker and sources.

Programs and manifests are those of Knative, with the versions in e2e/components/knative. This
module edits the manifests, and gives the reasons.
"""

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from e2e.harness.control_plane import ControlPlane
from e2e.harness.kubernetes_api import Json
from e2e.harness.objects import Objects
from e2e.harness.oci_images import File, Image
from e2e.harness.processes import listens
from e2e.harness.registry import HOST, Registry
from e2e.harness.workspace import wait_until

GATEWAY = "10.1.77.2"
INTERNAL_GATEWAY = "10.1.77.3"
BROKERS = "10.1.77.4"
DOMAIN = "example.test"
NAMESPACES = ("knative-eventing", "knative-serving", "kourier-system")
WINDOW_SECONDS = 6  # without a request until a scale to zero; the least that Knative accepts

_PARTS = ("serving", "eventing", "kourier")
_TAG = "e2e"
_PROGRAM = re.compile(r"ko://knative\.dev/(?:net-)?(\w+)/cmd/(?:\w+/)*(\w+)")
_ENVOY = re.compile(r"docker\.io/envoyproxy/envoy:[\w.-]+")
_CHANNEL, _BROKER = "channels/in-memory-channel", "brokers/mt-channel-broker"
# In the order to apply them.
_FIRST = (
    "eventing/core/100-namespace.yaml",
    "eventing/core/resources/*.yaml",
    f"eventing/{_CHANNEL}/resources/*.yaml",
    "serving/core/100-namespace.yaml",
    "serving/core/300-resources/*.yaml",
    "networking/certificate.yaml",
    "networking/domain-claim.yaml",
    "networking/ingress.yaml",
    "networking/serverlessservice.yaml",
    "caching/image.yaml",
)
_SECOND = (
    "eventing/core/200-*.yaml",
    "eventing/core/roles/*.yaml",
    "eventing/core/configmaps/*.yaml",
    "eventing/integrations/eventing-*-images.yaml",
    f"eventing/{_CHANNEL}/200-*.yaml",
    f"eventing/{_CHANNEL}/roles/*.yaml",
    f"eventing/{_CHANNEL}/configmaps/*.yaml",
    f"eventing/{_BROKER}/roles/*.yaml",
    "eventing/core/webhooks/secret.yaml",
    f"eventing/{_CHANNEL}/webhooks/secret.yaml",
    "eventing/core/deployments/*.yaml",
    f"eventing/{_CHANNEL}/deployments/*.yaml",
    f"eventing/{_BROKER}/deployments/*.yaml",
    "serving/core/200-*.yaml",
    "serving/core/200-roles/*.yaml",
    "serving/core/configmaps/*.yaml",
    "networking/config-network.yaml",
    "serving/core/webhooks/secret.yaml",
    "serving/core/deployments/*.yaml",
    "net-kourier/*.yaml",
)
# Last, because the running webhooks fill them in.
_WEBHOOKS = (
    "eventing/core/webhooks/*.yaml",
    f"eventing/{_CHANNEL}/webhooks/*.yaml",
    "serving/core/webhooks/*.yaml",
)
# Autoscaling needs a metrics server. The programs of the two names are not built.
_LEFT_OUT_KINDS = ("HorizontalPodAutoscaler", "PodDisruptionBudget")
_LEFT_OUT_NAMES = ("job-sink", "request-reply")
_ADDRESSES = {
    "kourier": GATEWAY,
    "kourier-internal": INTERNAL_GATEWAY,
    "broker-ingress": BROKERS,
}
_SETTINGS = {
    "config-network": {"ingress-class": "kourier.ingress.networking.knative.dev"},
    "config-domain": {DOMAIN: ""},
    # As short as they can be, to make tests fast.
    "config-autoscaler": {
        "stable-window": f"{WINDOW_SECONDS}s",
        "scale-to-zero-grace-period": "1s",
    },
}


def install(manifests: Path, control_plane: ControlPlane) -> None:
    """Apply all manifests, and wait until Knative works; its images must be in the registry.

    Knative is never removed: it ends with the cluster.
    """
    objects = Objects(control_plane.admin)
    for patterns in (_FIRST, _SECOND, _WEBHOOKS):
        objects.apply(_edited(manifests, patterns))
    try:
        wait_until(lambda: not _missing(control_plane), "Knative ready", seconds=600)
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {_missing(control_plane)}") from None


def push_parts(registry: Registry, programs: Path, envoy: Path) -> None:
    """Push images of all programs of Knative, one gigabyte."""
    paths = [path for part in _PARTS for path in sorted((programs / part).iterdir())]

    def push(path: Path) -> None:
        image = Image(
            files={f"ko-app/{path.name}": File(path.read_bytes(), 0o755)},
            entrypoint=(f"/ko-app/{path.name}",),
            user="65532:65532",  # Knative's manifests require a user other than root
        )
        registry.push_image(f"{path.parent.name}/{path.name}", _TAG, image)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(push, paths))
    registry.push_image("envoy", _TAG, _envoy(envoy))


def _envoy(program: Path) -> Image:
    linked = subprocess.run(("ldd", program), capture_output=True, text=True, check=True).stdout
    libraries = [Path(found) for found in re.findall(r"(/\S+) \(", linked)]
    files = {str(path)[1:]: File(path.read_bytes(), 0o755) for path in libraries}
    return Image(files=files | {"usr/local/bin/envoy": File(program.read_bytes(), 0o755)})


def _edited(config: Path, patterns: tuple[str, ...]) -> Iterator[Json]:
    for pattern in patterns:
        files = sorted(config.glob(pattern))
        if not files:
            raise FileNotFoundError(f"{config / pattern}: Knative has moved it")
        for file in files:
            text = _PROGRAM.sub(rf"{HOST}/\1/\2:{_TAG}", file.read_text())
            text = _ENVOY.sub(f"{HOST}/envoy:{_TAG}", text)
            for document in yaml.safe_load_all(text):
                if document and not _is_left_out(document):
                    yield _edit(document)


def _is_left_out(document: Json) -> bool:
    is_run = document["kind"] in ("Deployment", "Service", "StatefulSet")
    return document["kind"] in _LEFT_OUT_KINDS or (
        is_run and document["metadata"]["name"] in _LEFT_OUT_NAMES
    )


def _edit(document: Json) -> Json:
    name = document["metadata"]["name"]
    if document["kind"] == "Deployment":
        _edit_pod(document["spec"]["template"]["spec"])
    elif document["kind"] == "Service" and name in _ADDRESSES:
        document["spec"]["clusterIP"] = _ADDRESSES[name]  # so that a hosts file can name them
    elif document["kind"] == "ConfigMap" and name in _SETTINGS:
        document["data"] = document.get("data", {}) | _SETTINGS[name]
    return document


def _edit_pod(pod: Json) -> None:
    pod["terminationGracePeriodSeconds"] = 5
    for container in pod["containers"]:
        container.pop("resources", None)  # the requests add up to most of two processors
        container.pop("lifecycle", None)  # that of Envoy needs a shell, which its image here lacks
        if "readinessProbe" in container:  # the shipped ones start after up to 20 s
            container["readinessProbe"] |= {
                "initialDelaySeconds": 0,
                "periodSeconds": 1,
                "timeoutSeconds": 10,
                "failureThreshold": 10,  # else a busy machine takes a pod out of its Service
            }
        if "livenessProbe" in container:  # all programs start at once and are slow
            container["livenessProbe"] |= {
                "initialDelaySeconds": 60,
                "periodSeconds": 10,
                "timeoutSeconds": 10,
                "failureThreshold": 6,
            }


def _missing(control_plane: ControlPlane) -> list[str]:
    """Return the names of Deployments that do not run and of webhooks that do not work yet."""
    admin = control_plane.admin
    deployments = [
        each
        for namespace in NAMESPACES
        for each in admin.get(f"/apis/apps/v1/namespaces/{namespace}/deployments")["items"]
    ]
    missing = [
        each["metadata"]["name"]
        for each in deployments
        if not any(
            condition["type"] == "Available" and condition["status"] == "True"
            for condition in each["status"].get("conditions", ())
        )
    ]
    services = set()
    for kind in ("validating", "mutating"):
        path = f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations"
        for each in admin.get(path)["items"]:
            for webhook in each["webhooks"]:
                config = webhook["clientConfig"]
                services.add((config["service"]["namespace"], config["service"]["name"]))
                if "caBundle" not in config:
                    missing.append(webhook["name"])
    for namespace, name in services:
        service = admin.get(f"/api/v1/namespaces/{namespace}/services/{name}")
        if not listens(service["spec"]["clusterIP"], 443):
            missing.append(name)
    return missing
