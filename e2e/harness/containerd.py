"""The containerd of a node: each node has its own."""

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from e2e.harness.oci_images import Image
from e2e.harness.processes import Process
from e2e.harness.registry import HOST, LOCKED_HOST
from e2e.harness.workspace import TIMEOUT_SECONDS, Workspace, wait_until

CNI_PROGRAMS = "/usr/lib/cni"
PAUSE = "localhost/pause:1"  # imported, so that pods can start without a registry

# Also read by later releases, which migrate it.
CONFIGURATION = """
version = 2
root = "{folder}/root"
state = "{folder}/state"

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"

[plugins."io.containerd.nri.v1.nri"]
  disable = true  # its socket is the same for all on one host

[plugins."io.containerd.grpc.v1.cri"]
  # Else no sandbox starts where CAP_SYS_RESOURCE is missing.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  sandbox_image = "{pause}"
  # Several on one host.
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_programs}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{folder}/registries"
"""


class Containerd:
    """The container runtime of a node, with a range of addresses for its pods."""

    def __init__(
        self,
        workspace: Workspace,
        folder: Path,
        *,
        programs: Path,
        name: str,
        pods: str,
        pause: Image,
    ) -> None:
        self.socket = folder / "containerd.sock"
        self.client = (str(programs / "ctr"), f"--address={self.socket}", "--namespace=k8s.io")
        self._registries = folder / "registries"
        self._pause = folder / "pause.tar"
        self._pause.write_bytes(pause.archive(PAUSE))
        _write_registry(self._registries)
        _write_network(folder / "cni", name=name, pods=pods, leases=folder / "leases")
        configuration = folder / "containerd.toml"
        configuration.write_text(
            CONFIGURATION.format(
                folder=folder, socket=self.socket, pause=PAUSE, cni_programs=CNI_PROGRAMS
            )
        )
        environment = workspace.environment()
        # There it looks for its shim, and for runc.
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        self._process = Process(
            name=f"containerd of {name}",
            command=(str(programs / "containerd"), f"--config={configuration}"),
            environment=environment,
            log=workspace.log(f"{name}-containerd"),
            is_ready=self._answers,
        )

    @property
    def loses_images(self) -> bool:
        """Whether a push that a node can't use takes the old content of the tag from the node.

        containerd 2 gives the tag to the unusable image. Then it starts no container of the old
        one, not even by digest, because it looks that up by the tag.
        """
        return int(self.ctr("--version").split()[-1].split(".")[0]) >= 2

    def start(self) -> None:
        """Start containerd and wait until it answers: a kubelet exits if it does not."""
        self._process.start()
        if PAUSE not in self.images():
            self.ctr("images", "import", str(self._pause))

    def kill(self) -> None:
        """Kill containerd and its shims; containers go on, but their status is not reported."""
        self._process.kill()
        wait_until(lambda: not self._killed_shims(), f"no shim of {self._process.name}")

    def images(self) -> dict[str, str]:
        """Return the digests of all images by name; a pulled image has several names."""
        rows = (line.split() for line in self.ctr("images", "list").splitlines()[1:])
        return {name: digest for name, _, digest, *_ in rows}

    def blobs(self) -> set[str]:
        """Return the digests of all manifests, configs and layers in its store."""
        return set(self.ctr("content", "list", "--quiet").split())

    def pull(self, name: str) -> None:
        """Pull an image as the kubelet would, without a pod."""
        self.ctr("images", "pull", f"--hosts-dir={self._registries}", name)

    def remove_image(self, name: str) -> None:
        """Remove an image with all its names, and the layers that no other image has."""
        images = self.images()
        digest = images[name]
        names = [each for each, other in images.items() if other == digest]
        self.ctr("images", "remove", "--sync", *names)

    def ctr(self, *arguments: str) -> str:
        """Run `ctr`, the client of containerd, and return what it prints."""
        done = subprocess.run(
            (*self.client, *arguments),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"ctr {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _answers(self) -> bool:
        try:
            self.ctr("version")
        except RuntimeError:
            return False
        return True

    def _killed_shims(self) -> list[int]:
        """Kill all shims of this containerd, and return the pids of those that still ran."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                arguments = (process / "cmdline").read_bytes().decode().split("\0")
                if "containerd-shim" in arguments[0] and str(self.socket) in arguments:
                    found.append(int(process.name))
                    os.kill(int(process.name), signal.SIGKILL)
        return found


def _write_registry(folder: Path) -> None:
    """Let nodes pull from the test registries by plain HTTP."""
    for host in (HOST, LOCKED_HOST):
        hosts = folder / host / "hosts.toml"
        hosts.parent.mkdir(parents=True)
        hosts.write_text(f'server = "http://{host}"\n[host."http://{host}"]\n')


def _write_network(folder: Path, *, name: str, pods: str, leases: Path) -> None:
    """Configure a link from each pod to the host; all nodes are there, so no routes are needed."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(leases),
    }
    link = {"type": "ptp", "ipMasq": False, "ipam": addresses}
    network = {"cniVersion": "1.0.0", "name": name, "plugins": [link]}
    folder.mkdir()
    (folder / "10-pods.conflist").write_text(json.dumps(network))
