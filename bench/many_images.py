"""How long a push takes among many images, held by containers and by volumes.

The images are a group. One image alone has a DaemonSet of its own, on the same nodes. Pushes of
that one, pushes of the first and of the last entry of the group, and the floor take turns. The
floor is the change of one container by one PATCH, as in `push_to_node.py`.
"""

import json

import pytest

from bench.arrivals import Arrivals
from bench.by_hand import ByHand
from bench.course import AT_ONCE, FILLING, Course, Patched, Pushed, Way, fresh, table_of
from bench.table import Table, p50, p95
from bench.templates import Templates
from e2e.harness.deployed import allow_groups, deployed
from e2e.harness.installation import NAME, Installation, reference
from e2e.harness.registry import Registry
from e2e.harness.workspace import Workspace

PUSHES = {
    (1, "volumes"): 10,
    (1, "containers"): 10,
    (10, "volumes"): 10,
    (10, "containers"): 10,
    (50, "volumes"): 10,
    (50, "containers"): 10,
    (150, "volumes"): 3,
}
"""How many pushes of each kind are measured, by the number of images and what holds them.

150 containers are left out: their pod takes minutes to start and to stop.
"""
SMALL = 1000
CHEAP = {"CACHING_CPU_REQUEST": "1m", "CACHING_MEMORY_REQUEST": "1Mi"}
"""All containers must fit on a node."""
GROUP = f"{NAME}-many"

ALONE = "push of one image alone"
FIRST, LAST = "push of the first entry", "push of the last entry"
TIMES_ALONE = 2.5
P95_BY_VOLUMES = 5.0
P95_BY_CONTAINERS = 15.0


@pytest.mark.parametrize(("number", "hold_by"), PUSHES)
def test_a_push_among_many_images(
    number: int,
    hold_by: str,
    arrivals: Arrivals,
    registry: Registry,
    installation: Installation,
    workspace: Workspace,
    tables: list[Table],
) -> None:
    folder = f"bench/{hold_by}-{number}"
    repositories = [f"{folder}/many-{each:03}" for each in range(number)]
    for repository in (f"{folder}/app", *repositories):
        registry.push_image(repository, "1.0.0", fresh(workspace, SMALL))
    registry.forget_notifications()
    entries = [f"{each[-8:]}={reference(each, '1.0.0')}" for each in repositories]
    groups = json.dumps({"many": {"images": ";".join(entries)}})
    alone = Pushed(workspace, registry, f"{folder}/app", installation.path)
    group = installation.path.replace(NAME, GROUP)
    first, *_ = many = [Pushed(workspace, registry, each, group) for each in repositories]
    app = f"app={reference(f'{folder}/app', '1.0.0')}"
    allow_groups(installation, GROUP)
    with (
        deployed(installation, app, HOLD_BY="containers", **AT_ONCE, **CHEAP) as puller,
        Templates(installation) as templates,
    ):
        course = Course(installation, templates, arrivals)
        for tag in FILLING:
            course.measure(alone, tag)
        with ByHand(installation, "floor") as floor:
            puller.restart(HOLD_BY=hold_by, IMAGE_GROUPS=groups)
            for way in {first.repository: first, many[-1].repository: many[-1]}.values():
                for tag in FILLING:
                    course.measure(way, tag)
            ways: dict[str, Way] = {
                "floor": Patched(workspace, registry, f"{folder}/floor", floor),
                ALONE: alone,
                FIRST: first,
                LAST: many[-1],
            }
            if number == 1:
                del ways[LAST]
            measured = course.take_turns(ways, PUSHES[number, hold_by])
    title = f"{number} images of 1 MB in {hold_by}, 2 nodes, milliseconds"
    tables.append(table_of(title, measured))
    stored = {name: [each.stored for each in times] for name, times in measured.items()}
    among = [*stored[FIRST], *stored.get(LAST, [])]
    ratio = p50(among) / p50(stored[ALONE])
    tables[-1].remarks.append(f"among {number} / alone, on all nodes: {ratio:.2f} (p50)")
    if number == 50 and hold_by == "volumes":
        assert ratio <= TIMES_ALONE
        assert p95(among) < P95_BY_VOLUMES
    if number == 50 and hold_by == "containers":
        assert p95(among) < P95_BY_CONTAINERS
