"""The watch of the DaemonSets, so that progress is noticed at once."""

from collections.abc import Callable, Iterator, Mapping

from image_puller.controller.clock import Clock
from image_puller.controller.watch import Watch


def daemonset_watch(
    changes: Callable[[], Iterator[str]], notes: Mapping[str, Callable[[], None]], clock: Clock
) -> Watch:
    """Return a watch that notes each change of a DaemonSet. `notes` has what to call, by its name.

    `changes` yields the names of those that change from now on, and raises ImagePullerError.
    """

    def take(name: str) -> None:
        if name in notes:
            notes[name]()

    return Watch(
        changes,
        take,
        clock,
        what="DaemonSets",
        otherwise=(
            "so progress is noticed later",
            "the service's Role needs the verb watch on daemonsets",
        ),
    )
