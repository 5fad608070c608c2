"""Pods that tests create and observe."""

from collections.abc import Mapping
from dataclasses import dataclass

from e2e.harness.kubernetes_api import ApiError, Json, KubernetesApi
from e2e.harness.processes import TAIL_LINES
from e2e.harness.workspace import wait_until

LABELS = {"app": "e2e"}


@dataclass(frozen=True)
class Pods:
    """The pods of a namespace."""

    admin: KubernetesApi
    namespace: str

    @property
    def path(self) -> str:
        """The API path of the pods."""
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def run(
        self, image: str, *arguments: str, node: str, volume: str = "", **container: object
    ) -> str:
        """Create a pod on a node, and return its name; `container` goes into its container.

        The container mounts the image `volume`, if that is given.
        """
        if volume:
            container["volumeMounts"] = [{"name": "image", "mountPath": "/image"}]
        spec = restricted(image, *arguments, **container) | {"restartPolicy": "Never"}
        if volume:
            spec["volumes"] = [{"name": "image", "image": {"reference": volume}}]
        body = {
            "metadata": {"generateName": "pod-", "labels": LABELS},
            "spec": spec | {"nodeName": node},
        }
        name: str = self.admin.post(self.path, body)["metadata"]["name"]
        return name

    def all(self) -> list[Json]:
        """Return all pods, including terminating ones."""
        pods: list[Json] = self.admin.get(self.path)["items"]
        return pods

    def status(self, name: str) -> Json:
        """Return the status of a pod."""
        status: Json = self.admin.get(f"{self.path}/{name}")["status"]
        return status

    def wait_for(self, name: str, *phases: str) -> Json:
        """Wait until a pod is in one of these phases, and return its status."""
        wait_until(lambda: self.status(name)["phase"] in phases, f"{name} {phases}")
        return self.status(name)

    def wait_for_reason(self, name: str, reason: str) -> None:
        """Wait until a pod's container waits for this reason, such as `ErrImagePull`."""

        def reasons() -> list[str]:
            containers = self.status(name).get("containerStatuses", ())
            return [each["state"].get("waiting", {}).get("reason") for each in containers]

        wait_until(lambda: reason in reasons(), f"{name} waiting: {reason}")

    def log(self, name: str) -> str:
        """Return what a pod's container has printed."""
        return self.admin.text(f"{self.path}/{name}/log")

    def log_ends(self) -> str:
        """Return the end of the log of each container, or the error for it."""
        logs = []
        for pod in self.all():
            name = pod["metadata"]["name"]
            for container in pod["spec"]["containers"]:
                query = f"container={container['name']}&tailLines={TAIL_LINES}"
                try:
                    text = self.admin.text(f"{self.path}/{name}/log?{query}")
                except ApiError as error:
                    text = f"{error}\n"
                if text:
                    logs.append(f"{container['name']} of {name}:\n{text}")
        return "".join(logs)

    def output(self, image: str, *arguments: str, node: str) -> str:
        """Run a pod to its end, and return what it printed; raise AssertionError if it fails."""
        name = self.run(image, *arguments, node=node)
        phase = self.wait_for(name, "Succeeded", "Failed")["phase"]
        output = self.log(name)
        assert phase == "Succeeded", output
        return output


def restricted(image: str, *arguments: str, **container: object) -> Json:
    """Return a pod specification that Pod Security `restricted` admits, with small limits."""
    main = {
        "name": "main",
        "image": image,
        "args": list(arguments),
        "resources": {"limits": {"memory": "20Mi"}, "requests": {"cpu": "5m"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    return {
        "containers": [main | container],
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }


def daemonset(name: str, pod: Mapping[str, object]) -> Json:
    """Return a DaemonSet of such pods, which replaces all of them at once."""
    return {
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": dict(pod)},
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": "100%"}},
        },
    }
