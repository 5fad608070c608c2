"""How long a push takes while nodes pull a large image: in the same group, and in another one.

Here the nodes, the registry and the control plane share a few cores, which a pull without a limit
takes all. So another pull is throttled to what a network gives to a node.
"""

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from bench.arrivals import Arrivals
from bench.course import AT_ONCE, FILLING, MEGABYTE, Course, Pushed, Times, fresh, table_of
from bench.table import Table, p50
from bench.templates import Templates
from e2e.harness.deployed import allow_groups, deployed
from e2e.harness.installation import NAME, Installation, reference
from e2e.harness.nodes import Node, Nodes
from e2e.harness.registry import HOST, LOCKED_HOST, LOCKED_PORT, PORT, Registry
from e2e.harness.slow import Slow
from e2e.harness.workspace import ADDRESS, Workspace, wait_until

LARGE = 400 * MEGABYTE
LAYERS = 6
"""Of the throttled image. A node pulls three at the same time, which is containerd's default."""
RATE = 12 * MEGABYTE
"""Bytes a second on each connection of a throttled pull."""
PUSHES = 4
THROTTLED_PUSHES = 6
MOST_TRIES = 10
KEPT = 2
"""How many of the last large images stay on the nodes, because the template has them."""
TIMES_ALONE = 1.5

ALONE = "push of an image alone"
THROTTLED = f"push while another group pulls 400 MB at {3 * RATE // MEGABYTE} MB/s for each node"
OTHER = "push while another group pulls 400 MB without a limit"
SAME = "push while the same group pulls 400 MB without a limit"


@dataclass(frozen=True, kw_only=True)
class LargePulls:
    """Pulls of large images, each a new one, and pushes of small images meanwhile."""

    course: Course
    nodes: Nodes
    arrivals: Arrivals
    pull: Pushed
    on_nodes: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """How long each pull took, on the node that ended first."""

    def measure(self, way: Pushed, tags: Iterator[str]) -> tuple[Times, bool]:
        """Push a small image while all nodes pull a large one.

        Return whether all nodes still pulled the large one when all had the small one.
        """
        self.course.wait_for_rollout(self.pull)
        self._forget_old()
        image, begin = way.prepare(next(tags))
        large, begin_pull = self.pull.prepare(next(tags))
        self.on_nodes.append(large)
        pulls_since = time.time()
        begin_pull()
        wait_until(lambda: all(map(is_pulling, self.nodes)), "the pull on all nodes")
        time.sleep(random.uniform(0, 1))
        pushed = time.time()
        times = self.course.time(way, image, begin)
        ended = min(self.arrivals.times(large))
        self.seconds.append(ended - pulls_since)
        return times, ended > pushed + times.stored

    def _forget_old(self) -> None:
        """Remove large images that no template has, because the disk would get full."""
        while len(self.on_nodes) > KEPT:
            image = self.on_nodes.pop(0)
            for node in self.nodes:
                node.remove_image(image)


def test_a_push_while_nodes_pull_a_large_image(
    nodes: Nodes,
    arrivals: Arrivals,
    registry: Registry,
    installation: Installation,
    workspace: Workspace,
    tables: list[Table],
) -> None:
    for name in ("small", "neighbour", "large", "throttled"):
        registry.push_image(f"bench/{name}", "1.0.0", fresh(workspace, MEGABYTE))
    registry.forget_notifications()
    small, neighbour, large, throttled = (
        f"{name}={reference(f'bench/{name}', '1.0.0').replace(HOST, host)}"
        for name, host in (
            ("small", HOST),
            ("neighbour", HOST),
            ("large", HOST),
            ("throttled", LOCKED_HOST),
        )
    )
    groups = {"large": {"images": f"{large};{neighbour}"}, "throttled": {"images": throttled}}
    allow_groups(installation, *(f"{NAME}-{name}" for name in groups))
    variables = {
        "IMAGE_GROUPS": json.dumps(groups),
        "REGISTRY_ALIASES": f"{HOST}/bench/throttled={LOCKED_HOST}/bench/throttled",
    }
    with (
        Slow(ADDRESS, PORT, at=LOCKED_PORT, rate=RATE),
        deployed(installation, small, **variables, **AT_ONCE),
        Templates(installation) as templates,
    ):
        course = Course(installation, templates, arrivals)
        paths = {name: installation.path.replace(NAME, f"{NAME}-{name}") for name in groups}
        pushed = Pushed(workspace, registry, "bench/small", installation.path)
        beside = Pushed(workspace, registry, "bench/neighbour", paths["large"])
        unlimited, limited = (
            LargePulls(
                course=course,
                nodes=nodes,
                arrivals=arrivals,
                pull=Pushed(
                    workspace,
                    registry,
                    f"bench/{name}",
                    paths[name],
                    host=host,
                    size=LARGE,
                    layers=layers,
                ),
            )
            for name, host, layers in (("large", HOST, 1), ("throttled", LOCKED_HOST, LAYERS))
        )
        tags = (f"1.{number}.0" for number in count(100))
        for tag in FILLING:
            course.measure(pushed, tag)
        measured: dict[str, list[Times]] = {ALONE: [], THROTTLED: [], OTHER: [], SAME: []}
        for number in range(MOST_TRIES):
            if len(measured[THROTTLED]) < THROTTLED_PUSHES:
                measured[ALONE].append(course.measure(pushed, next(tags)))
                times, is_in_mid_pull = limited.measure(pushed, tags)
                measured[THROTTLED] += [times] if is_in_mid_pull else []
            if number < PUSHES:
                measured[OTHER].append(unlimited.measure(pushed, tags)[0])
                measured[SAME].append(unlimited.measure(beside, tags)[0])
    tables.append(table_of("Beside the pull of a large image, 2 nodes, milliseconds", measured))
    ratios = {
        name: _stored(measured[name]) / _stored(measured[ALONE]) for name in (THROTTLED, OTHER)
    }
    tables[-1].remarks += [
        *(f"{name} / alone: {ratio:.2f} (p50)" for name, ratio in ratios.items()),
        f"a pull took {p50(limited.seconds):.1f} s with the limit (p50)",
        f"a pull took {p50(unlimited.seconds):.1f} s without (p50)",
        f"target with the limit: {TIMES_ALONE}; only pushes that ended before the pull count",
    ]
    assert len(measured[THROTTLED]) == THROTTLED_PUSHES
    assert ratios[THROTTLED] <= TIMES_ALONE
    assert _stored(measured[OTHER]) < _stored(measured[SAME])


def _stored(times: Sequence[Times]) -> float:
    return p50([each.stored for each in times])


def is_pulling(node: Node) -> bool:
    """Return whether the node is pulling layers."""
    return len(node.runtime.ctr("content", "active").splitlines()) > 1
