"""A simulated kubelet: it pulls images, which takes time, and starts the containers of pods."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from image_puller.simulation import image_names
from image_puller.simulation.pod_status import PodStatus
from image_puller.simulation.responses import Json
from image_puller.values.reference import Reference

SANDBOX_SECONDS = 0.1
CHECK_SECONDS = 0.1  # to ask the registry for an image that is already on the node
BACK_OFF_SECONDS = 10.0
LONGEST_BACK_OFF_SECONDS = 300.0


@dataclass(slots=True)
class SimulatedRegistries:
    """The content of registries, by the image name in a container or by the full image name.

    An image that is not in `digests` has a digest derived from its name. With `only_digests` it
    does not exist.
    """

    digests: dict[str, str] = field(default_factory=dict)
    crashing: dict[str, tuple[str, int]] = field(default_factory=dict)
    unpullable: dict[str, str] = field(default_factory=dict)
    pull_seconds: dict[str, float] = field(default_factory=dict)
    default_pull_seconds: float = 2.0
    only_digests: bool = False

    def digest(self, name: str, image: Reference) -> str:
        """Return the digest that a pull of this image gets now."""
        return self._known_digest(name, image) or image_names.derived_digest(image)

    def pull_error(self, name: str, image: Reference) -> str | None:
        """Return why this image can't be pulled now, or None."""
        error = self.unpullable.get(name) or self.unpullable.get(str(image))
        is_missing = self.only_digests and self._known_digest(name, image) is None
        return error or (f"{image}: not found" if is_missing else None)

    def crash(self, name: str, image: Reference) -> tuple[str, int] | None:
        """Return with which reason and exit code containers of this image end, or None."""
        return self.crashing.get(name) or self.crashing.get(str(image))

    def seconds(self, name: str, image: Reference) -> float:
        """Return the seconds that a pull of this image takes."""
        return self.pull_seconds.get(
            name, self.pull_seconds.get(str(image), self.default_pull_seconds)
        )

    def _known_digest(self, name: str, image: Reference) -> str | None:
        return self.digests.get(name) or self.digests.get(str(image))


class StartError(Exception):
    """A container can't start: its image or its command is missing."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class Kubelet:
    """The kubelet of one node, and the images on that node.

    `unpullable` has the errors of images that only this node can't pull.
    """

    registries: SimulatedRegistries
    now: Callable[[], float]
    alive: bool = True
    images: dict[str, str] = field(default_factory=dict)
    unpullable: dict[str, str] = field(default_factory=dict)

    def reported_images(self) -> list[Json]:
        """Return the images as the status of a node lists them, each with all its names."""
        names: dict[str, list[str]] = {}
        for name, digest in self.images.items():
            repository = name.partition("@")[0] if "@" in name else name.rpartition(":")[0]
            names.setdefault(f"{repository}@{digest}", []).append(name)
        # The name by digest comes first.
        return [
            {"names": sorted(each, key=lambda name: "@" not in name)} for each in names.values()
        ]

    def run_pod(
        self, pod: Json, report: Callable[[Json], None], tell: Callable[[str], None]
    ) -> Iterator[float]:
        """Start the containers of a pod, yield the seconds until each next step, report the status.

        `tell` gets the message of each Event about a pull.
        As in a real pod, image volumes are pulled first. Then images are pulled one after the
        other, and containers start in order. Each starts after the hook of the one before it. One
        that fails delays no other.
        """
        status, installed = PodStatus(pod, report, self.now), set[str]()
        yield SANDBOX_SECONDS
        containers, back_off = pod["spec"]["containers"], BACK_OFF_SECONDS
        while True:
            missing = yield from self._pull_volumes(pod["spec"].get("volumes", ()), tell)
            failed = []
            for container in containers:
                unmounted = _unmounted(container, missing)
                if unmounted is not None:
                    image, error = unmounted
                    status.wait(container, error.reason, str(error), image)
                    failed.append(container)
                    continue
                has_started = yield from self._start(container, installed, status, tell)
                failed += [] if has_started else [container]
            if not failed:
                return
            yield CHECK_SECONDS
            status.back_off(failed)
            yield back_off
            containers = failed
            back_off = min(back_off * 2, LONGEST_BACK_OFF_SECONDS)

    def _start(
        self,
        container: Json,
        installed: set[str],
        status: PodStatus,
        tell: Callable[[str], None],
    ) -> Generator[float, None, bool]:
        try:
            image = _resolve(container["image"])
            policy = container["imagePullPolicy"]
            digest = yield from self._get_image(container["image"], policy, image, tell)
            _check_command(container, installed)
        except StartError as error:
            status.wait(container, error.reason, str(error))
            return False
        crash = self.registries.crash(container["image"], image)
        if crash is not None:
            status.crash(container, image, digest, *crash)
            return False
        installed.update(_installed_paths(container))
        status.run(container, image, digest)
        return True

    def _pull_volumes(
        self, volumes: Iterable[Json], tell: Callable[[str], None]
    ) -> Generator[float, None, dict[str, tuple[str, StartError]]]:
        """Pull the image volumes. Return the failed images, each with its error, by volume."""
        errors = {}
        for volume in volumes:
            if "image" not in volume:
                continue
            name, policy = volume["image"]["reference"], volume["image"]["pullPolicy"]
            try:
                yield from self._get_image(name, policy, _resolve(name), tell)
            except StartError as error:
                errors[volume["name"]] = name, error
        return errors

    def _get_image(
        self, name: str, policy: str, image: Reference, tell: Callable[[str], None]
    ) -> Generator[float, None, str]:
        if policy != "Always" and str(image) in self.images:
            return self.images[str(image)]
        if policy == "Never":
            message = f'Container image "{name}" is not present with pull policy of Never'
            raise StartError("ErrImageNeverPull", message)
        return (yield from self._pull(name, image, tell))

    def _pull(
        self, name: str, image: Reference, tell: Callable[[str], None]
    ) -> Generator[float, None, str]:
        error = self.unpullable.get(name) or self.registries.pull_error(name, image)
        if error:
            yield CHECK_SECONDS
            message = (
                "rpc error: code = NotFound desc = failed to pull and unpack image "
                f'"{image}": failed to resolve reference "{image}": {error}'
            )
            raise StartError("ErrImagePull", message)
        digest = self.registries.digest(name, image)
        by_digest = f"{image.name}@{digest}"
        is_on_node = by_digest in self.images
        seconds = CHECK_SECONDS if is_on_node else self.registries.seconds(name, image)
        yield seconds
        self.images |= {str(image): digest, by_digest: digest}
        took = f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"
        tell(
            f'Successfully pulled image "{name}" in {took} ({took} including waiting). '
            "Image size: 1048576 bytes."
        )
        return digest


def _resolve(name: str) -> Reference:
    image = image_names.resolve(name)
    if image is None:
        message = (
            f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": '
            "invalid reference format"
        )
        raise StartError("InvalidImageName", message)
    return image


def _check_command(container: Json, installed: set[str]) -> None:
    """Raise StartError for a command in a volume if no hook has installed it.

    The files of images are not simulated, so a command outside of volumes counts as found.
    """
    command = container.get("command", [""])[0]
    mounts = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
    if command not in installed and any(command.startswith(f"{mount}/") for mount in mounts):
        message = (
            "failed to create containerd task: failed to create shim task: OCI runtime create "
            "failed: runc create failed: unable to start container process: exec: "
            f'"{command}": stat {command}: no such file or directory: unknown'
        )
        raise StartError("RunContainerError", message)


def _unmounted(
    container: Json, missing: Mapping[str, tuple[str, StartError]]
) -> tuple[str, StartError] | None:
    """Return an image that the container mounts and that can't be pulled, with its error."""
    mounts = (mount["name"] for mount in container.get("volumeMounts", ()))
    return next((missing[name] for name in mounts if name in missing), None)


def _installed_paths(container: Json) -> list[str]:
    """Return the path at which the container's hook installs the binary, if it has such a hook."""
    match container.get("lifecycle", {}).get("postStart", {}):
        case {"exec": {"command": [_, "--install", path]}}:
            return [path]
    return []
