"""A receiver of webhooks and events, which keeps them for the test."""

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Self

from e2e.harness.http_server import Server
from e2e.harness.workspace import ADDRESS


@dataclass(frozen=True, kw_only=True)
class Received:
    """A request that was received; header names are in lower case."""

    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes


class Sink:
    """An HTTP server that keeps requests and answers `status`, which a test can change."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.status = 202
        self._server = Server((ADDRESS, 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://{ADDRESS}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                sink.received.append(Received(path=self.path, headers=headers, body=body))
                self.send_response(sink.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass  # the requests are in `received`

        return Handler
