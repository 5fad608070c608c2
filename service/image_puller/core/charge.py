"""Which process is in charge of the DaemonSet: the youngest one that lives. Pure.

The state lists the processes that have worked on it. A process whose configuration differs from
the state's takes charge only if no younger one of them lives. So the configuration changes at most
once for each start and each end of a process, and never back and forth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from image_puller import limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of the service.

    `name` is that of its pod, and `since` is when the pod was created. So a container that restarts
    stays the same process, and the API server can be asked whether it lives.
    `outside`: it runs outside the cluster. Then `name` is its own, and `since` is when it started.
    """

    name: str
    since: datetime
    outside: bool = False

    def is_younger_than(self, other: "Process") -> bool:
        """Whether this process comes before the other one. A pod comes before what is outside."""
        return _rank(self) > _rank(other)


def _rank(process: Process) -> tuple[bool, datetime, str]:
    return not process.outside, process.since, process.name


def rivals(processes: Sequence[Process], me: Process) -> tuple[Process, ...]:
    """Return the processes that are younger than this one, the youngest first."""
    return tuple(process for process in processes if process.is_younger_than(me))


def joined(processes: Sequence[Process], me: Process) -> tuple[Process, ...]:
    """Return the processes with this one in its place, the youngest first."""
    if me in processes:
        return tuple(processes)
    younger = rivals(processes, me)
    return (*younger, me, *processes[len(younger) :])[: limits.PROCESSES]


def taken(processes: Sequence[Process], me: Process) -> tuple[Process, ...]:
    """Return the processes after this one took charge. All younger ones have ended."""
    return joined(processes[len(rivals(processes, me)) :], me)
