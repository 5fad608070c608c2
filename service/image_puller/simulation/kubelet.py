"""A simulated node: it pulls images, which takes time, and starts the containers of its pods."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from image_puller.reference import Reference
from image_puller.simulation import references
from image_puller.simulation.answers import Json
from image_puller.simulation.clock import stamp

SANDBOX_SECONDS = 0.1
CHECK_SECONDS = 0.1  # asking the registry about an image whose layers are all there
BACK_OFF_SECONDS = 10.0
LONGEST_BACK_OFF_SECONDS = 300.0


@dataclass(slots=True)
class Registries:
    """What the images of the simulated world are, by a container's own name of them or the full one.

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


class PullError(Exception):
    """A container has no image yet."""

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

        As in a real pod nothing is pulled at the same time, init containers come first and one
        by one, and a container whose image can't be pulled holds up none of its neighbours.
        """
        status = _PodStatus(pod, report, self.now)
        yield SANDBOX_SECONDS
        for container in pod["spec"].get("initContainers", []):
            yield from self._start_all([container], status)
            status.finish(container)
        yield from self._start_all(pod["spec"]["containers"], status)

    def _start_all(self, containers: list[Json], status: "_PodStatus") -> Iterator[float]:
        back_off = BACK_OFF_SECONDS
        while containers := [
            one for one in containers if not (yield from self._start(one, status))
        ]:
            yield CHECK_SECONDS
            status.back_off(containers)
            yield back_off
            back_off = min(back_off * 2, LONGEST_BACK_OFF_SECONDS)

    def _start(self, container: Json, status: "_PodStatus") -> Generator[float, None, bool]:
        try:
            digest = yield from self._pull(container["image"], container["imagePullPolicy"])
        except PullError as error:
            status.wait(container, error.reason, str(error))
            return False
        status.run(container, digest)
        return True

    def _pull(self, name: str, policy: str) -> Generator[float, None, str]:
        image = references.resolve(name)
        if image is None:
            raise PullError("InvalidImageName", f'couldn\'t parse image name "{name}"')
        if policy != "Always" and str(image) in self.images:
            return self.images[str(image)]
        if policy == "Never":
            message = f'Container image "{name}" is not present with pull policy of Never'
            raise PullError("ErrImageNeverPull", message)
        refusal = self.registries.refusal(name, image)
        if refusal:
            yield CHECK_SECONDS
            message = (
                "rpc error: code = NotFound desc = failed to pull and unpack image "
                f'"{image}": failed to resolve reference "{image}": {refusal}'
            )
            raise PullError("ErrImagePull", message)
        digest = self.registries.digest(name, image)
        exact = f"{image.name}@{digest}"
        is_here = exact in self.images
        yield CHECK_SECONDS if is_here else self.registries.seconds(name, image)
        self.images |= {str(image): digest, exact: digest}
        return digest


class _PodStatus:
    """A pod's status as its kubelet reports it, from the first moment on."""

    def __init__(
        self, pod: Json, report: Callable[[Json], None], now: Callable[[], float]
    ) -> None:
        self._report, self._now = report, now
        spec = pod["spec"]
        reason = "PodInitializing" if spec.get("initContainers") else "ContainerCreating"
        self._init = {one["name"]: _waiting(one, reason) for one in spec.get("initContainers", [])}
        self._main = {one["name"]: _waiting(one, reason) for one in spec["containers"]}
        self._started = stamp(now())
        self._tell()

    def wait(self, container: Json, reason: str, message: str) -> None:
        self._set(container, {"state": {"waiting": {"reason": reason, "message": message}}})

    def back_off(self, containers: list[Json]) -> None:
        for container in containers:
            waiting = self._of(container)["state"]["waiting"]
            if waiting["reason"] == "ErrImagePull":
                message = f'Back-off pulling image "{container["image"]}": ErrImagePull: '
                self.wait(container, "ImagePullBackOff", message + waiting["message"])

    def run(self, container: Json, digest: str) -> None:
        image = references.resolve(container["image"])
        name = image.name if image else ""
        identity = f"{self._started}{container['name']}{digest}"
        running = {
            "containerID": f"containerd://{hashlib.sha256(identity.encode()).hexdigest()}",
            "image": str(image),
            "imageID": f"{name}@{digest}",
            "ready": True,
            "started": True,
            "state": {"running": {"startedAt": stamp(self._now())}},
        }
        self._set(container, running)

    def finish(self, container: Json) -> None:
        moment = stamp(self._now())
        ended = {"exitCode": 0, "reason": "Completed", "startedAt": moment, "finishedAt": moment}
        self._set(container, {"started": False, "state": {"terminated": ended}})

    def _of(self, container: Json) -> Json:
        statuses = self._init if container["name"] in self._init else self._main
        return statuses[container["name"]]

    def _set(self, container: Json, change: Json) -> None:
        self._of(container).update(change)
        self._tell()

    def _tell(self) -> None:
        initialized = all("terminated" in one["state"] for one in self._init.values())
        ready = all(one["ready"] for one in self._main.values())
        running = any(one["started"] for one in self._main.values())
        conditions = {
            "PodScheduled": True,
            "Initialized": initialized,
            "ContainersReady": ready,
            "Ready": ready,
        }
        status: Json = {
            "phase": "Running" if running else "Pending",
            "startTime": self._started,
            "conditions": [condition(type_, is_true) for type_, is_true in conditions.items()],
            "containerStatuses": [dict(one) for one in self._main.values()],
        }
        if self._init:
            status["initContainerStatuses"] = [dict(one) for one in self._init.values()]
        self._report(status)


def condition(type_: str, is_true: bool) -> Json:  # noqa: FBT001  the condition itself
    """Write a condition of a pod or a node."""
    return {"type": type_, "status": "True" if is_true else "False"}


def _waiting(container: Json, reason: str) -> Json:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": 0,
        "lastState": {},
        "state": {"waiting": {"reason": reason}},
    }
