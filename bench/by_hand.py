"""DaemonSets like the service's own, which the bench changes by one PATCH each."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Self

from e2e.harness.control_plane import ControlPlane
from e2e.harness.installation import DIGESTS, Installation
from e2e.harness.kubernetes_api import JSON_PATCH, Json
from e2e.harness.workspace import http_session

LABEL = "by-hand"
TRACKED = "app-"  # the prefix of container names for tracked tags


class ByHand:
    """A copy of the service's current DaemonSet; it is deleted with the service.

    `edit` changes the pod specification.
    """

    def __init__(
        self,
        installation: Installation,
        name: str,
        *,
        edit: Callable[[Json], None] = lambda _: None,
    ) -> None:
        plane = installation.control_plane
        live = plane.admin.get(installation.path)
        self._template = _relabelled(live["spec"]["template"], name)
        edit(self._template["spec"])
        folder = installation.path.rpartition("/")[0]
        self.path = f"{folder}/{name}"
        plane.admin.post(
            folder,
            {
                "metadata": {
                    "name": name,
                    "ownerReferences": live["metadata"]["ownerReferences"],
                },
                "spec": live["spec"]
                | {"selector": {"matchLabels": {LABEL: name}}, "template": self._template},
            },
        )
        self._url = plane.url + self.path
        self._session = http_session()
        self._session.headers["Authorization"] = f"Bearer {plane.admin_token}"
        self._session.headers["Content-Type"] = JSON_PATCH
        self._session.verify = str(plane.ca)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def connect(self) -> None:
        """Open a connection, as the service has one."""
        self._session.get(self._url, timeout=10).raise_for_status()

    def track(self, image: str, digest: str) -> bytes:
        """Return the patch with which the service would track a new tag and untrack the oldest."""
        template = deepcopy(self._template)
        containers = template["spec"]["containers"]
        oldest = next(each for each in containers if each["name"].startswith(TRACKED))
        new = oldest | {"image": image, "name": f"{TRACKED}{digest[-10:]}"}
        template["spec"]["containers"] = [each for each in containers if each != oldest] + [new]
        annotations = template["metadata"]["annotations"]
        digests = json.loads(annotations[DIGESTS])
        digests.pop(oldest["name"], None)
        annotations[DIGESTS] = json.dumps(digests | {new["name"]: digest}, sort_keys=True)
        self._template = template
        return json.dumps([{"op": "replace", "path": "/spec/template", "value": template}]).encode()

    def send(self, patch: bytes) -> None:
        """Send a patch."""
        self._session.patch(self._url, data=patch, timeout=10).raise_for_status()


def is_rolled_out(control_plane: ControlPlane, path: str) -> bool:
    """Return whether all pods of a DaemonSet have its current template and are ready."""
    daemonset = control_plane.admin.get(path)
    status = daemonset["status"]
    wanted = status["desiredNumberScheduled"]
    return bool(
        status.get("observedGeneration") == daemonset["metadata"]["generation"]
        and status.get("updatedNumberScheduled") == wanted > 0
        and status.get("numberReady") == wanted
    )


def _relabelled(template: Json, name: str) -> Json:
    """Return a copy of a template with a label of its own."""
    copy = deepcopy(template)
    copy["metadata"]["labels"] = {LABEL: name}
    return copy
