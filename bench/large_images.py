"""How long a push takes while nodes pull a large image: in the same group, and in another one."""

import json
from itertools import count

from bench.arrivals import Arrivals
from bench.course import AT_ONCE, FILLING, MEGABYTE, Course, Pushed, Times, fresh, table_of
from bench.table import Table, p50
from bench.templates import Templates
from e2e.harness.deployed import allow_groups, deployed
from e2e.harness.installation import NAME, Installation, reference
from e2e.harness.nodes import Node, Nodes
from e2e.harness.registry import Registry
from e2e.harness.workspace import Workspace, wait_until

LARGE = 400 * MEGABYTE
PUSHES = 4
GROUP = f"{NAME}-large"

ALONE = "push of an image alone"
OTHER = "push while another group pulls 400 MB"
SAME = "push while the same group pulls 400 MB"


def test_a_push_while_nodes_pull_a_large_image(
    nodes: Nodes,
    arrivals: Arrivals,
    registry: Registry,
    installation: Installation,
    workspace: Workspace,
    tables: list[Table],
) -> None:
    names = ("small", "neighbour", "large")
    for name in names:
        registry.push_image(f"bench/{name}", "1.0.0", fresh(workspace, MEGABYTE))
    registry.forget_notifications()
    small, neighbour, large = (f"{name}={reference(f'bench/{name}', '1.0.0')}" for name in names)
    groups = json.dumps({"large": {"images": f"{large};{neighbour}"}})
    allow_groups(installation, GROUP)
    with (
        deployed(installation, small, IMAGE_GROUPS=groups, **AT_ONCE),
        Templates(installation) as templates,
    ):
        course = Course(installation, templates, arrivals)
        path = installation.path.replace(NAME, GROUP)
        pushed = Pushed(workspace, registry, "bench/small", installation.path)
        beside = Pushed(workspace, registry, "bench/neighbour", path)
        pull = Pushed(workspace, registry, "bench/large", path, size=LARGE)
        for tag in FILLING:
            course.measure(pushed, tag)
        measured: dict[str, list[Times]] = {ALONE: [], OTHER: [], SAME: []}
        tags = (f"1.{number}.0" for number in count(100))
        for _ in range(PUSHES):
            measured[ALONE].append(course.measure(pushed, next(tags)))
            for name, way in ((OTHER, pushed), (SAME, beside)):
                course.wait_for_rollout(pull)
                prepared = way.prepare(next(tags))
                large_image, begin_pull = pull.prepare(next(tags))
                begin_pull()
                wait_until(lambda: all(map(is_pulling, nodes)), "the pull on all nodes")
                measured[name].append(course.time(way, *prepared))
                arrivals.stored(large_image)
    tables.append(table_of("Beside the pull of a large image, 2 nodes, milliseconds", measured))
    stored = {name: p50([each.stored for each in times]) for name, times in measured.items()}
    ratio = stored[OTHER] / stored[ALONE]
    tables[-1].remarks.append(f"while another group pulls / alone: {ratio:.2f} (p50, target 1.5)")
    assert stored[OTHER] < stored[SAME]


def is_pulling(node: Node) -> bool:
    """Return whether the node is pulling layers."""
    return len(node.runtime.ctr("content", "active").splitlines()) > 1
