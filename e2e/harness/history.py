"""Every template that a DaemonSet had during a part of a test."""

import json
import threading
from typing import Any, Self

from e2e.harness.installation import NAME, Installation, images_of
from e2e.harness.workspace import http_session, wait_until


class History:
    """The images of each generation, from a watch that runs until the context ends."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._seen: dict[int, list[str]] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self._seen, "the DaemonSet seen by the watch")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            generation = self._installation.control_plane.admin.get(self._installation.path)[
                "metadata"
            ]["generation"]
            wait_until(lambda: generation in self._seen, f"generation {generation} in the watch")
        finally:
            self._done.set()
            self._thread.join()

    def generations(self) -> list[list[str]]:
        """Return the images of each generation so far, the oldest first."""
        return [images for _, images in sorted(self._seen.items())]

    def _watch(self) -> None:
        """Watch for one second at a time, so that the thread ends soon after the context."""
        plane = self._installation.control_plane
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={NAME}",
            "timeoutSeconds": "1",
            "resourceVersion": "0",
        }
        with http_session() as session:
            session.headers["Authorization"] = f"Bearer {plane.admin_token}"
            session.verify = str(plane.ca)
            while not self._done.is_set():
                folder = self._installation.path.rpartition("/")[0]
                with session.get(
                    plane.url + folder, params=query, stream=True, timeout=30
                ) as events:
                    for line in events.iter_lines():
                        daemonset = json.loads(line)["object"]
                        query["resourceVersion"] = daemonset["metadata"]["resourceVersion"]
                        self._note(daemonset)

    def _note(self, daemonset: Any) -> None:
        self._seen[daemonset["metadata"]["generation"]] = images_of(daemonset)
