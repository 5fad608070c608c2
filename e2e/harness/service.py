"""The service under test, as a real process."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from e2e.harness.processes import Process, answers, free_port
from e2e.harness.workspace import Workspace

COMMAND = Path(sys.executable).with_name("image-puller")


class Service:
    """`image-puller serve` with this environment only, on this port or a free one."""

    def __init__(
        self,
        workspace: Workspace,
        environment: Mapping[str, str],
        *,
        kubeconfig: Path,
        port: int | None = None,
    ) -> None:
        port = port or free_port()
        own = {"PORT": str(port), "KUBECONFIG": str(kubeconfig)}
        self.url = f"http://127.0.0.1:{port}"
        self.log = workspace.log("service")
        self._process = Process(
            name="image-puller serve",
            command=(str(COMMAND), "serve"),
            environment=workspace.environment() | own | dict(environment),
            log=self.log,
            is_ready=lambda: answers(f"{self.url}/healthz"),
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it is ready; a restart uses the same port."""
        self._process.start()

    def terminate(self) -> int | None:
        """Stop it by SIGTERM, as Kubernetes does, and return its exit code."""
        return self._process.stop()

    def kill(self) -> None:
        """Stop it and its workers by SIGKILL."""
        self._process.kill()
