"""A proxy that delays or throttles answers, and a server that never answers."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from e2e.harness.installation import Installation
from e2e.harness.workspace import ADDRESS

_CHUNK = 65536
_SO_MAX_PACING_RATE = 47  # Linux; the module socket does not name it


class Slow:
    """A TCP proxy that delays each chunk of the answers by `seconds`.

    With `rate`, the answers on each connection have at most so many bytes a second. The kernel
    paces them, which takes hardly any CPU. It listens at the port `at`, or at a free one.
    """

    def __init__(self, host: str, port: int, *, at: int = 0, rate: int | None = None) -> None:
        self.seconds = 0.0
        self._to = (host, port)
        self._rate = rate
        self._listener = socket.create_server((ADDRESS, at))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._rate is not None:
                    near.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, self._rate)
                far = socket.create_connection(self._to)
                self._open += (near, far)
                for source, target, is_slow in ((near, far, False), (far, near, True)):
                    threading.Thread(
                        target=self._copy, args=(source, target, is_slow), daemon=True
                    ).start()

    def _copy(self, source: socket.socket, target: socket.socket, is_slow: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if is_slow:
                    time.sleep(self.seconds)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextmanager
def slow_api_server(installation: Installation) -> Iterator[tuple[Slow, Path]]:
    """Run a slow proxy to the API server; yield it and a kubeconfig that uses it."""
    config = json.loads(installation.kubeconfig.read_text())
    host, _, port = config["clusters"][0]["cluster"]["server"].rpartition("//")[2].rpartition(":")
    with Slow(host, int(port)) as way:
        config["clusters"][0]["cluster"]["server"] = f"https://{ADDRESS}:{way.port}"
        path = installation.kubeconfig.with_name("slow")
        path.write_text(json.dumps(config))
        yield way, path


class Silent:
    """A server that accepts connections at a port, and never answers."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server((ADDRESS, port), backlog=128)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
