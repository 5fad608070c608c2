"""Measurements of the time that an image takes to reach all nodes, one push or PATCH at a time.

There are two nodes, each a real kubelet with its own containerd. The service runs as a pod, and the
registry sends the webhooks. Each push is a new image with one random megabyte. Its blobs are
uploaded before, and time zero is just before the PUT of the manifest. An image is on a node at the
time that its containerd gives the event of the image's name.
"""

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from bench.arrivals import Arrivals
from bench.by_hand import ByHand, is_rolled_out
from bench.table import Table, percentiles
from bench.templates import Templates
from e2e.harness.installation import Installation, reference
from e2e.harness.oci_images import Image, sleep_image
from e2e.harness.registry import HOST, Registry
from e2e.harness.workspace import Workspace, wait_until

MEGABYTE = 1_000_000
AT_ONCE = {"ROLLOUT_MIN_INTERVAL_SECONDS": "0"}
"""The interval between template changes is no measure of speed."""
FILLING = ("1.1.0", "1.2.0")
"""Tags to push first, so that each later push untracks a tag, and all pushes are alike."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds since time zero."""

    changed: float
    """Until the template of the DaemonSet had the image."""
    stored: float
    """Until the runtimes of all nodes had the image."""
    complete: float
    """Until all pods had the new template and were ready."""


class Way(Protocol):
    """A way to bring an image to the nodes."""

    @property
    def path(self) -> str:
        """The path of the DaemonSet."""

    def prepare(self, tag: str) -> tuple[str, Callable[[], None]]:
        """Do what comes before time zero; return the image's name, and what to do at time zero."""


@dataclass(frozen=True)
class Pushed:
    """A push to the registry, which notifies the service. Nodes pull from `host`."""

    workspace: Workspace
    registry: Registry
    repository: str
    path: str
    host: str = HOST
    size: int = MEGABYTE
    layers: int = 1

    def prepare(self, tag: str) -> tuple[str, Callable[[], None]]:
        """Upload the blobs of a new image."""
        image = fresh(self.workspace, self.size, layers=self.layers)
        manifest = self.registry.put_blobs(self.repository, image)
        return f"{self.host}/{self.repository}:{tag}", lambda: self._put(tag, manifest)

    def _put(self, tag: str, manifest: dict[str, object]) -> None:
        self.registry.put_manifest(self.repository, tag, manifest)


@dataclass(frozen=True)
class Patched:
    """A PATCH for an image in the registry that no entry names."""

    workspace: Workspace
    registry: Registry
    repository: str
    daemonset: ByHand

    @property
    def path(self) -> str:
        return self.daemonset.path

    def prepare(self, tag: str) -> tuple[str, Callable[[], None]]:
        """Push the image, and prepare the patch."""
        image = fresh(self.workspace, MEGABYTE)
        digest = self.registry.push_image(self.repository, tag, image)
        name = reference(self.repository, tag)
        patch = self.daemonset.track(name, digest)
        self.daemonset.connect()
        return name, lambda: self.daemonset.send(patch)


def fresh(workspace: Workspace, size: int, *, layers: int = 1) -> Image:
    """Return an image that no node has: the sleep, and layers of random bytes."""
    return replace(
        sleep_image(workspace), layers=[os.urandom(size // layers) for _ in range(layers)]
    )


@dataclass(frozen=True)
class Course:
    """Measurements, one at a time."""

    installation: Installation
    templates: Templates
    arrivals: Arrivals

    def take_turns(self, ways: Mapping[str, Way], count: int) -> dict[str, list[Times]]:
        """Measure all ways in turns, each `count` times."""
        measured: dict[str, list[Times]] = {name: [] for name in ways}
        for number in range(count):
            for name in random.sample(list(ways), len(ways)):
                # Tags that sort like texts: the container of the newest one is the last.
                measured[name].append(self.measure(ways[name], f"1.{100 + number}.0"))
        return measured

    def measure(self, way: Way, tag: str) -> Times:
        """Bring one image to the nodes, after all earlier rollouts have ended."""
        self.wait_for_rollout(way)
        image, begin = way.prepare(tag)
        time.sleep(random.uniform(0.5, 1.5))
        return self.time(way, image, begin)

    def time(self, way: Way, image: str, begin: Callable[[], None]) -> Times:
        """Bring a prepared image to the nodes."""
        start = time.time()
        begin()
        stored = self.arrivals.stored(image)
        self.wait_for_rollout(way)
        return Times(
            changed=self.templates.since(image) - start,
            stored=stored - start,
            complete=time.time() - start,
        )

    def wait_for_rollout(self, way: Way) -> None:
        """Wait until all pods have the current template and are ready."""
        plane = self.installation.control_plane
        wait_until(lambda: is_rolled_out(plane, way.path), f"{way.path} rolled out", seconds=400)


def table_of(title: str, measured: Mapping[str, Sequence[Times]]) -> Table:
    """Return a table of the measurements."""
    header = ("", "n", "template p50", "p95", "on all nodes p50", "p95", "complete p50", "p95")
    rows = [
        (
            name,
            str(len(times)),
            *percentiles([each.changed for each in times]),
            *percentiles([each.stored for each in times]),
            *percentiles([each.complete for each in times]),
        )
        for name, times in measured.items()
    ]
    return Table(title, header, rows)
