"""When images get into the templates of DaemonSets, from a watch."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Self

import requests

from e2e.harness.installation import Installation
from e2e.harness.kubernetes_api import Json
from e2e.harness.workspace import http_session, wait_until


class Templates:
    """The images in templates of a namespace's DaemonSets, with the Unix times of their arrival."""

    def __init__(self, installation: Installation) -> None:
        self._plane = installation.control_plane
        self._url = self._plane.url + installation.path.rpartition("/")[0]
        self._since: dict[str, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self._since, "a DaemonSet seen by the watch")
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def since(self, image: str) -> float:
        """Return the time at which a template got the image; raise KeyError if none did."""
        return self._since[image]

    def _watch(self) -> None:
        """Watch for a few seconds at a time, so that the thread ends soon after the context."""
        with http_session() as session:
            session.headers["Authorization"] = f"Bearer {self._plane.admin_token}"
            session.verify = str(self._plane.ca)
            version = "0"
            while not self._done.is_set():
                version = self._watch_from(session, version)

    def _watch_from(self, session: requests.Session, version: str) -> str:
        query = {"watch": "true", "timeoutSeconds": "5", "resourceVersion": version}
        with session.get(self._url, params=query, stream=True, timeout=30) as events:
            for line in events.iter_lines(chunk_size=None):
                now = time.time()
                daemonset = json.loads(line)["object"]
                version = daemonset["metadata"]["resourceVersion"]
                for image in _images(daemonset["spec"]["template"]["spec"]):
                    self._since.setdefault(image, now)
        return version


def _images(pod: Json) -> Iterator[str]:
    """Yield the images that a pod runs or mounts."""
    for container in pod["containers"]:
        yield container["image"]
    for volume in pod["volumes"]:
        if "image" in volume:
            yield volume["image"]["reference"]
