"""The status that a kubelet reports of a pod while its containers start."""

import hashlib
from collections.abc import Callable

from image_puller.simulation.clock import timestamp
from image_puller.simulation.responses import Json
from image_puller.values.reference import Reference


class PodStatus:
    """The status of one pod. Each change is reported, and so is the first status."""

    def __init__(self, pod: Json, report: Callable[[Json], None], now: Callable[[], float]) -> None:
        self._report, self._now = report, now
        spec = pod["spec"]
        self._statuses = {one["name"]: _waiting(one) for one in spec["containers"]}
        self._waits_for: dict[str, str] = {}
        self._started = timestamp(now())
        self._report_all()

    def wait(self, container: Json, reason: str, message: str, image: str | None = None) -> None:
        """Report why a container waits. `image` is that of a volume which can't be pulled."""
        self._waits_for[container["name"]] = image or container["image"]
        self._set(container, {"state": {"waiting": {"reason": reason, "message": message}}})

    def back_off(self, containers: list[Json]) -> None:
        """Report that failed containers are tried again later."""
        for container in containers:
            waiting = self._statuses[container["name"]]["state"]["waiting"]
            if waiting["reason"] == "ErrImagePull":
                image = self._waits_for[container["name"]]
                message = f'Back-off pulling image "{image}": ErrImagePull: '
                self.wait(container, "ImagePullBackOff", message + waiting["message"], image)
            elif waiting["reason"] == "RunContainerError":
                message = f"back-off 10s restarting failed container={container['name']}"
                self.wait(container, "CrashLoopBackOff", message)

    def crash(
        self, container: Json, image: Reference, digest: str, reason: str, exit_code: int
    ) -> None:
        """Report that a container ended, and is started again later."""
        name, now = container["name"], timestamp(self._now())
        terminated = {"reason": reason, "exitCode": exit_code, "startedAt": now, "finishedAt": now}
        message = f"back-off 10s restarting failed container={name}"
        crashed = {
            "image": str(image),
            "imageID": f"{image.name}@{digest}",
            "restartCount": self._statuses[name]["restartCount"] + 1,
            "lastState": {"terminated": terminated},
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": message}},
        }
        self._set(container, crashed)

    def run(self, container: Json, image: Reference, digest: str) -> None:
        """Report that a container runs an image with this digest."""
        identity = f"{self._started}{container['name']}{digest}"
        running = {
            "containerID": f"containerd://{hashlib.sha256(identity.encode()).hexdigest()}",
            "image": str(image),
            "imageID": f"{image.name}@{digest}",
            "ready": True,
            "started": True,
            "state": {"running": {"startedAt": timestamp(self._now())}},
        }
        self._set(container, running)

    def _set(self, container: Json, change: Json) -> None:
        self._statuses[container["name"]].update(change)
        self._report_all()

    def _report_all(self) -> None:
        ready = all(one["ready"] for one in self._statuses.values())
        running = any(one["started"] for one in self._statuses.values())
        conditions = {
            "PodScheduled": True,
            "Initialized": True,
            "ContainersReady": ready,
            "Ready": ready,
        }
        status: Json = {
            "phase": "Running" if running else "Pending",
            "startTime": self._started,
            "conditions": [condition(type_, is_true) for type_, is_true in conditions.items()],
            "containerStatuses": [dict(one) for one in self._statuses.values()],
        }
        self._report(status)


def condition(type_: str, is_true: bool) -> Json:  # noqa: FBT001  the value of the condition
    """Return a condition of a pod or a node."""
    return {"type": type_, "status": "True" if is_true else "False"}


def _waiting(container: Json) -> Json:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": 0,
        "lastState": {},
        "state": {"waiting": {"reason": "ContainerCreating"}},
    }
