"""The DaemonSet: equal configuration and state give equal manifests. Plain dicts, no I/O."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from image_puller.config.configuration import Config
from image_puller.config.entries import INSTALLER, Entry
from image_puller.config.policy import is_moving
from image_puller.core import decide
from image_puller.core.state import Followed, State, Tag
from image_puller.values import quantity
from image_puller.values.reference import parse

STATE = "image-puller.io/state"
DIGESTS = "image-puller.io/digests"
REFRESHED = "image-puller.io/refreshed"
OWNER_LABEL = "image-puller.io/daemonset"

ORIGINAL_SELECTOR = {"test": "daemonset-test", "app.kubernetes.io/name": "image-puller"}
"""By which a DaemonSet of the original puller is known."""

_USER = 65532
_GRACE_SECONDS = 1
_VOLUME = "kip"
_VOLUME_SIZE = "1Mi"
_SLEEP = "/kip/sleep"
_DURATION = "720h"
_FEW = 11
_LINGER_MILLISECONDS = 10
_MOST_LINGER_MILLISECONDS = 1500

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The object with which the DaemonSet goes: the service's Deployment or Knative Service."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What only the cluster can say. None: it could not be asked, so what is live stays."""

    openshift: bool | None = None
    owner: Owner | None = None


def manifest(config: Config, state: State, platform: Platform, annotation: str) -> Manifest:
    """The whole object, as it is created; `annotation` is the state's text."""
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": config.daemonset_name,
            "namespace": config.namespace,
            "labels": labels(config),
            "annotations": {**config.daemonset_annotations, STATE: annotation},
            **owner_references(platform),
        },
        "spec": {
            "selector": {"matchLabels": selector(config)},
            "revisionHistoryLimit": 2,
            "updateStrategy": update_strategy(config),
            "template": template(config, state, platform),
        },
    }


def selector(config: Config) -> dict[str, str]:
    """The labels by which this installation's pods are known, and no other's."""
    return {"app.kubernetes.io/name": "image-puller", OWNER_LABEL: config.daemonset_name}


def labels(config: Config) -> dict[str, str]:
    """The DaemonSet's own labels."""
    return {**selector(config), "app.kubernetes.io/managed-by": "kubernetes-image-puller"}


def update_strategy(config: Config) -> Manifest:
    """All nodes at once unless told otherwise, so that a dead node stalls nobody."""
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": config.rollout_max_unavailable, "maxSurge": 0},
    }


def owner_references(platform: Platform) -> Manifest:
    """The metadata's owners, or nothing where no owner is known."""
    owner = platform.owner
    if owner is None:
        return {}
    reference = {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
    }
    return {"ownerReferences": [reference]}


def template(config: Config, state: State, platform: Platform) -> Manifest:
    """The pod template: the installer, then each image's container in the order of `IMAGES`."""
    containers = images(config, state)
    sleep = _sleep(len(containers) + 1)
    annotations = {
        DIGESTS: _json({i.container: i.expected for i in containers if i.expected is not None}),
        "sidecar.istio.io/inject": "false",
    }
    if state.refreshed is not None:
        annotations[REFRESHED] = state.refreshed.isoformat()
    return {
        "metadata": {
            "labels": {**selector(config), "sidecar.istio.io/inject": "false"},
            "annotations": annotations,
        },
        "spec": _pod_spec(config, platform)
        | {
            "containers": [
                _installer(config, sleep),
                *(_container(config, image, sleep) for image in containers),
            ],
        },
    }


def template_hash(config: Config, state: State) -> str:
    """Tells templates apart, whatever the platform."""
    return _hash(template(config, state, Platform()))


def structure_hash(config: Config) -> str:
    """Tells apart what in a template is no tag and no digest that was followed."""
    return _hash([template(config, _unfollowed(config), Platform()), update_strategy(config)])


def configuration_hash(config: Config) -> str:
    """Tells configurations apart by what shapes the DaemonSet, and by the policies."""
    policies = {entry.name: [entry.image, entry.policy.text] for entry in config.entries}
    return _hash(
        [structure_hash(config), policies, config.keep_tags, dict(config.daemonset_annotations)]
    )


def asks_for_more(template: Manifest, other: Manifest) -> bool:
    """Whether a pod of one template asks for more of anything than a pod of another."""
    mine, theirs = asked(template), asked(other)
    return any(amount > theirs.get(kind, 0) for kind, amount in mine.items())


def asked(template: Manifest) -> Mapping[str, Decimal]:
    """What a pod of the template asks for, by the names that a quota has (`limits.memory`).

    Init containers run one by one, before the others, which run together.
    """
    spec = template["spec"]
    total: dict[str, Decimal] = defaultdict(Decimal)
    for container in spec["containers"]:
        for what, amount in _amounts(container).items():
            total[what] += amount
    for container in spec.get("initContainers", ()):
        for what, amount in _amounts(container).items():
            total[what] = max(total[what], amount)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One container's image, of an entry; `name` is the tag that it is pulled by, if by one.

    `expected` is what the digests annotation says of it; `tag` is None for a configured image
    while nobody has said its digest. `always` is the pull policy.
    """

    entry: str
    name: str | None
    container: str
    image: str
    always: bool
    expected: str | None
    tag: Tag | None


def images(config: Config, state: State) -> list[Image]:
    """The images of all entries, in the order of `IMAGES`."""
    return [
        image
        for entry in config.entries
        for image in images_of(config, entry, state.entries[entry.name])
    ]


def images_of(config: Config, entry: Entry, followed: Followed) -> list[Image]:
    """The entry's images in the order of the pod: the configured one, then followed tags."""
    found = []
    if followed.applied is not None or not followed.refuses(entry.label):
        found.append(_configured(entry, followed.tag(entry.tag)))
    tags = decide.cached(entry, followed.tags, config.keep_tags)
    found.extend(_followed(entry, tag) for tag in sorted(tags, key=lambda tag: tag.name))
    return found


def container_name(entry: Entry, tag: str) -> str:
    """A followed tag's container: the entry's name and a short hash, 63 characters at most."""
    digest = hashlib.sha256(f"{entry.name}:{tag}".encode()).hexdigest()[:10]
    return f"{entry.name[:52]}-{digest}"


def _configured(entry: Entry, tag: Tag | None) -> Image:
    return Image(
        entry=entry.name,
        name=entry.tag,
        container=entry.name,
        image=entry.image,
        always=entry.tag is not None and (is_moving(entry.tag) or bool(tag and tag.moved)),
        expected=_expected(tag),
        tag=tag,
    )


def _followed(entry: Entry, tag: Tag) -> Image:
    reference = replace(entry.reference, tag=tag.name, digest=None)
    return Image(
        entry=entry.name,
        name=tag.name,
        container=container_name(entry, tag.name),
        image=str(reference),
        always=is_moving(tag.name) or tag.moved,
        expected=_expected(tag),
        tag=tag,
    )


def _expected(tag: Tag | None) -> str | None:
    """The digest; where a tag moved and nobody said where to, the time, so that nodes roll."""
    if tag is None:
        return None
    if tag.digest is None and tag.moved:
        return f"pushed {tag.time.isoformat()}"
    return tag.digest


def _pod_spec(config: Config, platform: Platform) -> Manifest:
    security: Manifest = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if not platform.openshift:
        security |= {"runAsUser": _USER, "runAsGroup": _USER}
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": security,
        "nodeSelector": {"kubernetes.io/os": "linux"} | dict(config.node_selector),
        "volumes": [{"name": _VOLUME, "emptyDir": {"sizeLimit": _VOLUME_SIZE}}],
    }
    optional: Mapping[str, Any] = {
        "affinity": dict(config.affinity),
        "tolerations": list(config.tolerations),
        "imagePullSecrets": [{"name": name} for name in config.image_pull_secrets],
        "priorityClassName": config.priority_class_name,
    }
    return spec | {key: value for key, value in optional.items() if value}


def _sleep(containers: int) -> tuple[str, ...]:
    """What the sleep of each container is told: for how long, and in a large pod to linger.

    A kubelet stops all containers of a pod at once, and the runtime one process for each. Its shim
    takes in no further end while such a process has not ended whose container has, and where more
    than 32 ends wait, a second over each: https://github.com/containerd/containerd/issues/12678.
    So a container outlives what stops it, but not the two seconds that the kubelet waits. In a pod
    of few there are never as many: three for each of the others, with the process that deletes it.
    """
    if containers <= _FEW:
        return (_DURATION,)
    milliseconds = min(_LINGER_MILLISECONDS * containers, _MOST_LINGER_MILLISECONDS)
    return _DURATION, f"{milliseconds}ms"


def _installer(config: Config, sleep: tuple[str, ...]) -> Manifest:
    """The container that puts the sleep where all others find it; it stays, and sleeps itself.

    No init container: a kubelet sees the end of one only at its next look, once a second. It starts
    containers in their order, and none before the hook of the last one has returned. The container
    installs by itself as well: a kubelet that was restarted in the middle runs no hook again.
    """
    image = parse(config.kip_image)
    moving = image.digest is None and is_moving(image.tag or "latest")
    install = ["/sleep", "--install", _SLEEP]
    return {
        "name": INSTALLER,
        "image": config.kip_image,
        "imagePullPolicy": "Always" if moving else "IfNotPresent",
        "command": [*install, *sleep],
        "lifecycle": {"postStart": {"exec": {"command": install}}},
    } | _common(config)


def _container(config: Config, image: Image, sleep: tuple[str, ...]) -> Manifest:
    return {
        "name": image.container,
        "image": image.image,
        "imagePullPolicy": "Always" if image.always else "IfNotPresent",
        "command": [_SLEEP],
        "args": [*sleep],
    } | _common(config)


def _common(config: Config) -> Manifest:
    asked = config.resources
    return {
        "resources": {
            "requests": {"memory": asked.memory_request, "cpu": asked.cpu_request},
            "limits": {"memory": asked.memory_limit, "cpu": asked.cpu_limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": _VOLUME, "mountPath": f"/{_VOLUME}"}],
    }


def _amounts(container: Manifest) -> Mapping[str, Decimal]:
    return {
        f"{bound}.{resource}": quantity.parse(amount)
        for bound, amounts in container.get("resources", {}).items()
        for resource, amount in amounts.items()
    }


def _unfollowed(config: Config) -> State:
    entries = {entry.name: Followed(image=entry.image) for entry in config.entries}
    return State(configuration="", entries=entries)


def _hash(value: Any) -> str:
    return hashlib.sha256(_json(value).encode()).hexdigest()[:16]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
