"""How long a push takes to reach the nodes, beside one PATCH that does the same by hand.

Three DaemonSets on the same nodes are compared with a push:

- The floor: the image is in the registry before, and one PATCH over an open connection makes the
  same change of the template. Time zero is just before the PATCH.
- A sleep that ignores signals, as that of coreutils does as process 1: the same PATCH, and
  `stubborn.c` runs in the containers. Registry and service take no time here, so only the sleep
  makes the difference.
- An init container that brings the sleep: the same PATCH. A kubelet checks once a second whether an
  init container has ended. In the product's own pods the first container goes on, and only its hook
  ends.

All take turns in one run, in a random order, so that other load on the machine affects all of them.
Each push comes at another moment of the second at which kubelets check for dead containers.
"""

import subprocess
from pathlib import Path
from statistics import median

from bench.arrivals import Arrivals
from bench.by_hand import ByHand
from bench.course import AT_ONCE, FILLING, MEGABYTE, Course, Patched, Pushed, Way, fresh, table_of
from bench.table import Table, milliseconds
from bench.templates import Templates
from e2e.harness.deployed import deployed
from e2e.harness.installation import Installation, reference
from e2e.harness.kubernetes_api import Json
from e2e.harness.oci_images import File, Image
from e2e.harness.registry import Registry
from e2e.harness.workspace import Workspace

PUSHES = 20
FROM_FLOOR = 0.100
TIMES_FASTER = 2.5

PUSH = "push"
FLOOR = "floor: one PATCH by hand"
STUBBORN = "by hand, with a sleep that ignores signals"
INIT = "by hand, with an init container"
STUBBORN_SLEEP = reference("bench/stubborn-sleep", "1.0.0")


def test_a_push_reaches_all_nodes_as_fast_as_a_direct_patch(
    arrivals: Arrivals,
    registry: Registry,
    installation: Installation,
    workspace: Workspace,
    tables: list[Table],
) -> None:
    registry.push_image("bench/stubborn-sleep", "1.0.0", stubborn_sleep(workspace))
    registry.push_image("bench/app", "1.0.0", fresh(workspace, MEGABYTE))
    app = f"app={reference('bench/app', '1.0.0')}"
    with deployed(installation, app, HOLD_BY="containers", **AT_ONCE):
        pushed = Pushed(workspace, registry, "bench/app", installation.path)
        with Templates(installation) as templates:
            course = Course(installation, templates, arrivals)
            for tag in FILLING:
                course.measure(pushed, tag)
            with (
                ByHand(installation, "floor") as floor,
                ByHand(installation, "stubborn", edit=with_stubborn_sleep) as stubborn,
                ByHand(installation, "init", edit=with_init_container) as init,
            ):
                ways: dict[str, Way] = {
                    PUSH: pushed,
                    FLOOR: Patched(workspace, registry, "bench/floor", floor),
                    STUBBORN: Patched(workspace, registry, "bench/stubborn", stubborn),
                    INIT: Patched(workspace, registry, "bench/init", init),
                }
                measured = course.take_turns(ways, PUSHES)
    tables.append(table_of("Push to node: 1 MB images, 2 nodes, milliseconds", measured))
    ours = median(each.changed for each in measured[PUSH]) - median(
        each.changed for each in measured[FLOOR]
    )
    rest = median(each.stored - each.changed for each in measured[PUSH]) - median(
        each.stored - each.changed for each in measured[FLOOR]
    )
    push, patch, ignoring = (
        median(each.stored for each in measured[way]) for way in (PUSH, FLOOR, STUBBORN)
    )
    tables[-1].remarks += [
        f"push - floor, template changed: {milliseconds(ours)} (p50; all that the service adds)",
        f"push - floor, from there to all nodes: {milliseconds(rest)} (p50; the same work)",
        f"push - floor, on all nodes: {milliseconds(push - patch)} (p50; target: at most 100)",
        f"sleep that ignores signals / push: {ignoring / push:.1f} (p50; target: at least 2.5)",
    ]
    assert push - patch <= FROM_FLOOR
    assert ignoring / push >= TIMES_FASTER


def stubborn_sleep(workspace: Workspace) -> Image:
    """Return an image of a sleep that ignores signals."""
    program = workspace.folder("stubborn") / "sleep"
    source = Path(__file__).with_name("stubborn.c")
    subprocess.run(("gcc", "-static", "-Os", "-s", "-o", program, source), check=True)
    return Image(files={"sleep": File(program.read_bytes(), 0o755)}, entrypoint=("/sleep",))


def with_stubborn_sleep(pod: Json) -> None:
    """Replace the product's sleep by the one that ignores signals."""
    pod["containers"][0]["image"] = STUBBORN_SLEEP


def with_init_container(pod: Json) -> None:
    """Replace the install container by an init container."""
    installer, *pod["containers"] = pod["containers"]
    installer["command"] = installer.pop("lifecycle")["postStart"]["exec"]["command"]
    pod["initContainers"] = [installer]
