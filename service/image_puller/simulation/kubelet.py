"""A simulated node: it pulls images, which takes time, and starts the containers of its pods."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from image_puller.simulation import references
from image_puller.simulation.answers import Json
from image_puller.simulation.pod_status import PodStatus
from image_puller.values.reference import Reference

SANDBOX_SECONDS = 0.1
CHECK_SECONDS = 0.1  # asking the registry about an image whose layers are all there
BACK_OFF_SECONDS = 10.0
LONGEST_BACK_OFF_SECONDS = 300.0


@dataclass(slots=True)
class Registries:
    """What registries hold, by the name that a container gives to an image, or by the full one.

    An image that is not in `digests` has a digest derived from its name.
    """

    digests: dict[str, str] = field(default_factory=dict)
    unpullable: dict[str, str] = field(default_factory=dict)
    pull_seconds: dict[str, float] = field(default_factory=dict)
    default_pull_seconds: float = 2.0

    def digest(self, name: str, image: Reference) -> str:
        """Tell which manifest a pull of this image gets now."""
        found = self.digests.get(name) or self.digests.get(str(image))
        return found or references.derived_digest(image)

    def refusal(self, name: str, image: Reference) -> str | None:
        """Tell why this image can't be pulled now."""
        return self.unpullable.get(name) or self.unpullable.get(str(image))

    def seconds(self, name: str, image: Reference) -> float:
        """Tell how long its layers take."""
        return self.pull_seconds.get(
            name, self.pull_seconds.get(str(image), self.default_pull_seconds)
        )


class StartError(Exception):
    """A container does not run, and why: it has no image yet, or nothing that could run in it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class Kubelet:
    """One node's images, and whether it lives: a dead one does nothing and says nothing."""

    registries: Registries
    now: Callable[[], float]
    alive: bool = True
    images: dict[str, str] = field(default_factory=dict)

    def life(self, pod: Json, report: Callable[[Json], None]) -> Iterator[float]:
        """Run a pod: yields the seconds until its next step, and reports its status meanwhile.

        As in a real pod nothing is pulled at the same time, containers start in their order, each
        after the last one's hook, and one that fails holds up none of its neighbours.
        """
        status, installed = PodStatus(pod, report, self.now), set[str]()
        yield SANDBOX_SECONDS
        containers, back_off = pod["spec"]["containers"], BACK_OFF_SECONDS
        while True:
            failed = []
            for container in containers:
                has_started = yield from self._start(container, installed, status)
                failed += [] if has_started else [container]
            if not failed:
                return
            yield CHECK_SECONDS
            status.back_off(failed)
            yield back_off
            containers = failed
            back_off = min(back_off * 2, LONGEST_BACK_OFF_SECONDS)

    def _start(
        self, container: Json, installed: set[str], status: PodStatus
    ) -> Generator[float, None, bool]:
        try:
            image = _resolved(container["image"])
            digest = yield from self._find(container, image)
            _look_for_command(container, installed)
        except StartError as error:
            status.wait(container, error.reason, str(error))
            return False
        installed.update(_installs(container))
        status.run(container, image, digest)
        return True

    def _find(self, container: Json, image: Reference) -> Generator[float, None, str]:
        name, policy = container["image"], container["imagePullPolicy"]
        if policy != "Always" and str(image) in self.images:
            return self.images[str(image)]
        if policy == "Never":
            message = f'Container image "{name}" is not present with pull policy of Never'
            raise StartError("ErrImageNeverPull", message)
        return (yield from self._pull(name, image))

    def _pull(self, name: str, image: Reference) -> Generator[float, None, str]:
        refusal = self.registries.refusal(name, image)
        if refusal:
            yield CHECK_SECONDS
            message = (
                "rpc error: code = NotFound desc = failed to pull and unpack image "
                f'"{image}": failed to resolve reference "{image}": {refusal}'
            )
            raise StartError("ErrImagePull", message)
        digest = self.registries.digest(name, image)
        exact = f"{image.name}@{digest}"
        is_here = exact in self.images
        yield CHECK_SECONDS if is_here else self.registries.seconds(name, image)
        self.images |= {str(image): digest, exact: digest}
        return digest


def _resolved(name: str) -> Reference:
    image = references.resolve(name)
    if image is None:
        message = (
            f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": '
            "invalid reference format"
        )
        raise StartError("InvalidImageName", message)
    return image


def _look_for_command(container: Json, installed: set[str]) -> None:
    """Refuse a command in a volume where nobody has put it; what images hold is not known."""
    command = container.get("command", [""])[0]
    mounts = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
    if command not in installed and any(command.startswith(f"{mount}/") for mount in mounts):
        message = (
            "failed to create containerd task: failed to create shim task: OCI runtime create "
            "failed: runc create failed: unable to start container process: exec: "
            f'"{command}": stat {command}: no such file or directory: unknown'
        )
        raise StartError("RunContainerError", message)


def _installs(container: Json) -> list[str]:
    """The path at which a container's hook installs the sleep, if it is such a one."""
    match container.get("lifecycle", {}).get("postStart", {}):
        case {"exec": {"command": [_, "--install", path]}}:
            return [path]
    return []
