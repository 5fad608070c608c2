"""The cgroups of a run: in them are found the containers that outlive the programs that made them.

Those of version 1 were tried, with all controllers mounted below /sys/fs/cgroup. Of version 2
only the folders differ; it was not tried.
"""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from e2e.harness.workspace import wait_until

MOUNTED = Path("/sys/fs/cgroup")
CONTROLLERS = MOUNTED / "cgroup.controllers"  # is there in version 2 alone
COPIED = ("cpuset.cpus", "cpuset.mems")  # are empty in a new cgroup of version 1, so none may enter


@dataclass(frozen=True)
class Cgroup:
    """A cgroup of this name in each hierarchy; `e2e/run` removes what is left of it."""

    name: str  # as kubelets want it: /run/node

    def make(self) -> None:
        """Make it, and those above it; nothing happens to those that are there."""
        for top in _hierarchies():
            folder = top
            for part in Path(self.name.strip("/")).parts:
                _delegate(folder)
                folder /= part
                folder.mkdir(exist_ok=True)
                _copy_sets(folder)

    def kill(self) -> None:
        """Kill all processes in it and below, and wait until they are gone."""
        wait_until(lambda: not self._killed(), f"no process in {self.name}")

    def _killed(self) -> set[int]:
        found = {
            int(pid)
            for top in _hierarchies()
            for file in (top / self.name.strip("/")).rglob("cgroup.procs")
            for pid in _read(file).split()
        }
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return found


def _hierarchies() -> list[Path]:
    if CONTROLLERS.exists():
        return [MOUNTED]
    return [folder for folder in MOUNTED.iterdir() if folder.is_dir() and not folder.is_symlink()]


def _delegate(folder: Path) -> None:
    """Let cgroups below a folder of version 2 have all controllers; in version 1 they do."""
    if CONTROLLERS.exists():
        for controller in (folder / "cgroup.controllers").read_text().split():
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def _copy_sets(folder: Path) -> None:
    for name in COPIED:
        above, here = folder.parent / name, folder / name
        if not CONTROLLERS.exists() and here.exists() and not here.read_text().strip():
            here.write_text(above.read_text())


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # removed meanwhile, by its owner
        return ""
