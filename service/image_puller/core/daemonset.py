"""The DaemonSet's manifest. Equal configuration and state give equal manifests. Pure."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from image_puller.config.configuration import Config
from image_puller.config.entries import COMMON_CONTAINER, INSTALL_CONTAINER, Entry
from image_puller.config.policy import is_mutable
from image_puller.core import selection
from image_puller.core.state import EntryState, Holding, Seeding, State, Tag
from image_puller.values import quantity
from image_puller.values.reference import parse

STATE = "image-puller.io/state"
DIGESTS = "image-puller.io/digests"
PULLED_AGAIN = "image-puller.io/pulled-again"
OWNER_LABEL = "image-puller.io/daemonset"
INSTALLATION_LABEL = "image-puller.io/installation"
"""The label that the DaemonSets of all groups of one installation have in common."""
MANAGED: Mapping[str, str] = {"app.kubernetes.io/managed-by": "kubernetes-image-puller"}

ORIGINAL_SELECTOR = {"test": "daemonset-test", "app.kubernetes.io/name": "image-puller"}
"""The selector of the original puller's DaemonSets."""

_USER = 65532
_GRACE_SECONDS = 1
_GRACE_OF_MANY_SECONDS = 10
"""What the grace period of a large pod has beyond the end of its last container."""
_VOLUME = INSTALL_CONTAINER
_VOLUME_SIZE = "1Mi"
_FOLDER = "/kip"
_SLEEP = f"{_FOLDER}/sleep"
_IMAGES_FOLDER = "/images"
_DURATION = "720h"
_SHARED = {"name": _VOLUME, "mountPath": _FOLDER}
"""The mount of the volume that `/sleep` is installed to."""
_FEW = 11
_FIRST_END_MILLISECONDS = 500
_PACE_MILLISECONDS_FOR_EACH = 2
_MOST_PACE_MILLISECONDS = 100

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The owner of the DaemonSet: the service's Deployment or Knative Service."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What only the cluster knows. None where it could not be asked: the live value stays."""

    openshift: bool | None = None
    owner: Owner | None = None


def manifest(config: Config, state: State, platform: Platform, annotation: str) -> Manifest:
    """Return the whole object, for its creation. `annotation` is the encoded state."""
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
            "updateStrategy": update_strategy(config, state.max_unavailable),
            "template": template(config, state, platform),
        },
    }


def selector(config: Config) -> dict[str, str]:
    """Return the labels that select the pods of this installation only."""
    return {"app.kubernetes.io/name": "image-puller", OWNER_LABEL: config.daemonset_name}


def labels(config: Config) -> dict[str, str]:
    """Return the DaemonSet's own labels."""
    return {**selector(config), **MANAGED, INSTALLATION_LABEL: config.installation}


def update_strategy(config: Config, max_unavailable: int | None = None) -> Manifest:
    """Return the update strategy: all nodes at once by default, so a dead node stalls no other.

    `max_unavailable` is the bound of the state, or None where it is the configured one.
    """
    bound = config.rollout_max_unavailable if max_unavailable is None else max_unavailable
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": bound, "maxSurge": 0}}


def owner_references(platform: Platform) -> Manifest:
    """Return the metadata's `ownerReferences`, or nothing where no owner is known."""
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
    """Return the pod template: the containers that mount images, then those that run them.

    The install container comes before the latter, and only with them or without an image. The
    kubelet pulls all image volumes, in their order, before it starts a container.
    """
    images = sorted(_images(config, state), key=_place)
    mounted = [image for image in images if image.is_volume]
    running = [image for image in images if not image.is_volume]
    installs = bool(running) or not images  # without an image, the pod needs a container too
    count = container_count(config, state)
    sleeps = _sleeps(count)
    annotations = {
        **config.pod_annotations,
        DIGESTS: _json({i.container: i.expected for i in images if i.expected is not None}),
        "sidecar.istio.io/inject": "false",
    }
    if state.pulled_again_at is not None:
        annotations[PULLED_AGAIN] = state.pulled_again_at.isoformat()
    return {
        "metadata": {
            "labels": {**config.pod_labels, **selector(config), "sidecar.istio.io/inject": "false"},
            "annotations": annotations,
        },
        "spec": _pod_spec(config, platform, count)
        | {
            "volumes": [
                *([{"name": _VOLUME, "emptyDir": {"sizeLimit": _VOLUME_SIZE}}] if installs else []),
                *(_image_volume(image.container, image.image) for image in mounted),
            ],
            "containers": [
                *(
                    _holder(
                        config,
                        name,
                        [i.container for i in mounted if i.holder == name],
                        next(sleeps),
                    )
                    for name in sorted(_holders(mounted), key=lambda name: name != COMMON_CONTAINER)
                ),
                *([_install_container(config, next(sleeps))] if installs else []),
                *(_container(config, image, next(sleeps)) for image in running),
            ],
        },
    }


def container_count(config: Config, state: State) -> int:
    """Return how many containers the template of a state has."""
    images = _images(config, state)
    return len(_holders(images)) + (not images or any(not each.is_volume for each in images))


def trial_manifest(config: Config, platform: Platform, *, mounts: bool) -> Manifest:
    """Return a DaemonSet to try whether the cluster takes it.

    `mounts`: it has an image volume. Without one, it shows what the cluster refuses anyway.
    """
    volumes = [COMMON_CONTAINER] if mounts else []
    spec = _pod_spec(config, platform, 1) | {
        "volumes": [_image_volume(each, str(parse(config.kip_image))) for each in volumes],
        "containers": [_holder(config, COMMON_CONTAINER, volumes, (_DURATION,))],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "generateName": f"{config.daemonset_name}-",
            "namespace": config.namespace,
            "labels": labels(config),
        },
        "spec": {
            "selector": {"matchLabels": selector(config)},
            "template": {
                "metadata": {"labels": {**config.pod_labels, **selector(config)}},
                "spec": spec,
            },
        },
    }


def template_hash(config: Config, state: State) -> str:
    """Return a hash of the template, without what depends on the platform."""
    return _hash(template(config, state, Platform()))


def structure_hash(config: Config, *, by_volumes: bool = False) -> str:
    """Return a hash of the template without tracked tags, and of the update strategy."""
    state = _untracked(config, by_volumes=by_volumes)
    return _hash([template(config, state, Platform()), update_strategy(config)])


def configuration_hash(config: Config) -> str:
    """Return a hash of the configuration: of what shapes the DaemonSet, and of the policies.

    The names of all groups count, so that an older process does not delete a new group's DaemonSet.
    """
    policies = {entry.name: [entry.image, entry.policy.text] for entry in config.entries}
    seeds = config.rollout_seed_nodes
    return _hash(
        [
            structure_hash(config),
            policies,
            config.keep_tags,
            config.hold_by,
            dict(config.daemonset_annotations),
            config.group_names,
            *([seeds] if seeds else []),
        ]
    )


def asks_for_more(template: Manifest, other: Manifest) -> bool:
    """Whether a pod of one template asks for more of anything than a pod of another."""
    mine, theirs = asked(template), asked(other)
    return any(amount > theirs.get(kind, 0) for kind, amount in mine.items())


def asked(template: Manifest) -> Mapping[str, Decimal]:
    """Return what a pod of the template asks for, by the names of a quota (`limits.memory`).

    Init containers run one by one before the others, which run together.
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
class DesiredImage:
    """A desired image, and what holds it.

    `container` identifies it. Its container has this name, or else its volume. `is_volume`: it is
    held by a volume. `is_common`: the common container mounts that.
    `name` is the tag that it is pulled by, or None where it is pulled by digest.
    `image` is its full name, because some runtimes reject short names such as `nginx`.
    `always`: its pull policy is Always. `expected` is its value in the digests annotation.
    `tag` is the tracked tag; None for a configured image that was never pushed. `is_kept`: it is
    the previous content of a quarantined tag.
    """

    entry: str
    name: str | None
    container: str
    image: str
    always: bool
    expected: str | None
    tag: Tag | None
    is_kept: bool = False
    is_volume: bool = False
    is_common: bool = False

    @property
    def holder(self) -> str:
        """Return the name of the container that holds it."""
        return COMMON_CONTAINER if self.is_common else self.container


def desired_images(config: Config, state: State) -> list[DesiredImage]:
    """Return the desired images of all entries, in the order of `IMAGES`."""
    return [
        image
        for entry in config.entries
        for image in desired_images_of(config, entry, state.entries[entry.name], state.holding)
    ]


def _images(config: Config, state: State) -> list[DesiredImage]:
    """Return the images of the template. That of a new DaemonSet may hold none at first."""
    return [] if state.seeding is Seeding.EMPTY else desired_images(config, state)


def desired_images_of(
    config: Config, entry: Entry, current: EntryState, holding: Holding
) -> list[DesiredImage]:
    """Return the desired images of an entry: the configured one, then tracked tags by name."""
    found = []
    if current.live_tags is not None or not current.refuses(entry.configured):
        found.append(_configured(entry, current.tag(entry.tag)))
    tags = selection.desired(config, entry, current.tags)
    found.extend(_tracked(entry, tag) for tag in sorted(tags, key=lambda tag: tag.name))
    return [_held(_kept(entry, current, image), holding) for image in found]


def with_all_common(config: Config, state: State) -> State:
    """Return a state that holds by volumes, with all images in the common container."""
    state = replace(state, holding=Holding(by_volumes=True))
    common = tuple(image.image for image in desired_images(config, state) if image.is_volume)
    return replace(state, holding=replace(state.holding, common=common))


def _held(image: DesiredImage, holding: Holding) -> DesiredImage:
    """Return a desired image with what holds it.

    No digest of a volume is in the pod's status, so what nodes always pull is run by a container.
    """
    if not holding.by_volumes or image.always:
        return image
    return replace(image, is_volume=True, is_common=image.image in holding.common)


def _holders(images: Iterable[DesiredImage]) -> Mapping[str, None]:
    """Return the names of the containers that hold images, each once, in their order."""
    return dict.fromkeys(image.holder for image in images)


def _place(image: DesiredImage) -> tuple[int, str, str]:
    """Return the sort key of an image's container.

    The kubelet pulls images and starts containers in this order. First come the images that pushes
    bring: tracked tags, then configured tags that nodes always pull. The order of `IMAGES` does not
    count, so another order alone changes no template.
    """
    if image.container != image.entry:
        rank = 0
    elif image.always:
        rank = 1
    else:
        rank = 2
    return rank, image.entry, image.name or ""


def container_name(entry: Entry, tag: str) -> str:
    """Return the name of a tracked tag's container, with 63 characters at most."""
    digest = hashlib.sha256(f"{entry.name}:{tag}".encode()).hexdigest()[:10]
    return f"{entry.name[:52]}-{digest}"


def _configured(entry: Entry, tag: Tag | None) -> DesiredImage:
    return DesiredImage(
        entry=entry.name,
        name=entry.tag,
        container=entry.name,
        image=str(entry.reference),
        always=entry.tag is not None and (is_mutable(entry.tag) or bool(tag and tag.mutated)),
        expected=_expected(tag),
        tag=tag,
    )


def _tracked(entry: Entry, tag: Tag) -> DesiredImage:
    reference = replace(entry.reference, tag=tag.name, digest=None)
    return DesiredImage(
        entry=entry.name,
        name=tag.name,
        container=container_name(entry, tag.name),
        image=str(reference),
        always=is_mutable(tag.name) or tag.mutated,
        expected=_expected(tag),
        tag=tag,
    )


def _kept(entry: Entry, current: EntryState, image: DesiredImage) -> DesiredImage:
    """Return a desired image whose tag may be quarantined.

    Then the registry has other content under the tag, and so may nodes. A node asks by digest, and
    no registry if it has the content. Without a digest it takes what it has under the tag.
    """
    quarantined = None if image.tag is None else current.quarantine(image.tag.name)
    if image.tag is None or quarantined is None:
        return image
    if image.tag.digest is None or not (image.always or quarantined.pulled):
        return replace(image, always=False, is_kept=True)
    reference = replace(entry.reference, tag=image.tag.name, digest=image.tag.digest)
    return replace(image, name=None, image=str(reference), always=False, is_kept=True)


def _expected(tag: Tag | None) -> str | None:
    """Return the digest, or for a mutated tag without one the time of its push.

    The value is part of the template, so a new one starts a rollout.
    """
    if tag is None:
        return None
    if tag.digest is None and tag.mutated:
        return f"pushed {tag.time.isoformat()}"
    return tag.digest


def _pod_spec(config: Config, platform: Platform, containers: int) -> Manifest:
    security: Manifest = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if not platform.openshift:
        security |= {"runAsUser": _USER, "runAsGroup": _USER}
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _grace_seconds(containers),
        "securityContext": security,
        "nodeSelector": {"kubernetes.io/os": "linux"} | dict(config.node_selector),
    }
    optional: Mapping[str, Any] = {
        "affinity": dict(config.affinity),
        "tolerations": list(config.tolerations),
        "imagePullSecrets": [{"name": name} for name in config.image_pull_secrets],
        "priorityClassName": config.priority_class_name,
        "serviceAccountName": config.pod_service_account,
        "runtimeClassName": config.runtime_class_name,
        "hostNetwork": config.host_network,
    }
    return spec | {key: value for key, value in optional.items() if value}


def _sleeps(containers: int) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of `/sleep` for each container: how long to sleep, and to linger.

    The kubelet stops all containers of a pod at once. The runtime needs a second for each exit
    where more than 32 exits wait: https://github.com/containerd/containerd/issues/12678. So the
    containers of a large pod end one after another. A small pod never has as many exits.
    See `docs/decisions/lingering-sleep.md`.
    """
    for place in range(containers):
        linger = _linger(place, containers)
        yield (_DURATION,) if containers <= _FEW else (_DURATION, f"{linger}ms")


def _linger(place: int, containers: int) -> int:
    """Return how many milliseconds after the signal the container in this place ends.

    The more containers there are, the slower they follow each other: more exits can wait then.
    """
    pace = min(_PACE_MILLISECONDS_FOR_EACH * containers, _MOST_PACE_MILLISECONDS)
    return _FIRST_END_MILLISECONDS + pace * place


def _grace_seconds(containers: int) -> int:
    """Return how long the kubelet waits for a pod's containers to end by themselves."""
    if containers <= _FEW:
        return _GRACE_SECONDS
    return _linger(containers, containers) // 1000 + _GRACE_OF_MANY_SECONDS


def _install_container(config: Config, sleep: tuple[str, ...]) -> Manifest:
    """Return the container that copies `/sleep` into the shared volume, and then sleeps itself.

    It is no init container, because the kubelet sees the end of one only at its next sync, once a
    second. The kubelet starts containers in order, and waits for the hook of each. The container
    also installs by its command, because a kubelet that restarts does not run the hook again.
    See `docs/decisions/install-container.md`.
    """
    install = ["/sleep", "--install", _SLEEP]
    return (
        {"name": INSTALL_CONTAINER}
        | _sleep_image(config)
        | {
            "command": [*install, *sleep],
            "lifecycle": {"postStart": {"exec": {"command": install}}},
        }
        | _common(config, [_SHARED])
    )


def _holder(config: Config, name: str, volumes: Sequence[str], sleep: tuple[str, ...]) -> Manifest:
    """Return a container of the sleep image that mounts images by the names of their volumes."""
    mounts = [
        {"name": each, "mountPath": f"{_IMAGES_FOLDER}/{each}", "readOnly": True}
        for each in volumes
    ]
    return (
        {"name": name}
        | _sleep_image(config)
        | {"command": ["/sleep", *sleep]}
        | _common(config, mounts)
    )


def _image_volume(name: str, image: str) -> Manifest:
    """Return a volume of an image.

    With `Always`, kubelets of some versions ask the registry for it once a minute.
    """
    return {"name": name, "image": {"reference": image, "pullPolicy": "IfNotPresent"}}


def _sleep_image(config: Config) -> Manifest:
    image = parse(config.kip_image)
    mutable = image.pull_tag is not None and is_mutable(image.pull_tag)
    return {"image": str(image), "imagePullPolicy": "Always" if mutable else "IfNotPresent"}


def _container(config: Config, image: DesiredImage, sleep: tuple[str, ...]) -> Manifest:
    return {
        "name": image.container,
        "image": image.image,
        "imagePullPolicy": "Always" if image.always else "IfNotPresent",
        "command": [_SLEEP],
        "args": [*sleep],
    } | _common(config, [_SHARED])


def _common(config: Config, mounts: Sequence[Manifest]) -> Manifest:
    """Return what all containers have.

    The NVIDIA runtime gives GPUs to a container of a CUDA image by a hook, which needs more memory
    than a sleeping container has. `void` turns the hook off. Another user than the image's may be
    unable to enter the image's working directory.
    """
    asked = config.resources
    return {
        "workingDir": "/",
        "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}],
        "resources": _set(
            requests=_set(memory=asked.memory_request, cpu=asked.cpu_request),
            limits=_set(memory=asked.memory_limit, cpu=asked.cpu_limit),
        ),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": list(mounts),
    }


def _set(**fields: Any) -> Manifest:
    """Return the fields that are set."""
    return {name: value for name, value in fields.items() if value}


def _amounts(container: Manifest) -> Mapping[str, Decimal]:
    """Return what a container asks for. A limit without a request is requested too."""
    resources = container.get("resources", {})
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    bounds = {"requests": {**limits, **requests}, "limits": limits}
    return {
        f"{bound}.{resource}": quantity.parse(amount)
        for bound, amounts in bounds.items()
        for resource, amount in amounts.items()
    }


def _untracked(config: Config, *, by_volumes: bool) -> State:
    entries = {entry.name: EntryState(image=entry.image) for entry in config.entries}
    state = State(configuration="", entries=entries)
    return with_all_common(config, state) if by_volumes else state


def _hash(value: Any) -> str:
    return hashlib.sha256(_json(value).encode()).hexdigest()[:16]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
