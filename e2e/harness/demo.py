"""The demo, `image-puller demo`, as a process."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from e2e.harness.processes import Process, free_port
from e2e.harness.service import COMMAND
from e2e.harness.workspace import http_session
from image_puller.cli import demo_session
from image_puller.cli.demo_content import WEBHOOKS

_LAST_LINE = "Press Ctrl-C to stop."


class Demo:
    """The demo on a free port, with its URL and the password of readers."""

    def __init__(self, log: Path) -> None:
        port = str(free_port())
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._process = Process(
            name="image-puller demo",
            command=(str(COMMAND), "demo"),
            environment={**os.environ, "PORT": port},
            log=log,
            is_ready=lambda: _LAST_LINE in log.read_text(),
        )

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    @property
    def password(self) -> str:
        """The secret of readers."""
        return self._secret("read")

    def send(self, source: str, payload: Mapping[str, Any] | None = None) -> None:
        """Send the webhook of a source, with its own payload or this one. Do not wait for nodes."""
        webhook = WEBHOOKS[source]
        headers = webhook.headers(self._secret(webhook.file))
        body = webhook.body if payload is None else json.dumps(payload)
        with http_session() as session:
            answer = session.post(self.url + webhook.path, headers=headers, data=body, timeout=60)
        answer.raise_for_status()

    def _secret(self, name: str) -> str:
        folder = demo_session.found(self._port)
        if folder is None:
            raise FileNotFoundError(f"the demo on port {self._port} has no folder")
        return (folder / name).read_text()
