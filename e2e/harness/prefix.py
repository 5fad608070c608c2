"""A proxy that serves the pages of a server below a path, as an Ingress or the API server does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from e2e.harness.http_server import Server
from e2e.harness.workspace import http_session

_ANSWERED = ("Content-Type", "Content-Security-Policy", "ETag", "Cache-Control", "WWW-Authenticate")
_ASKED = ("Accept", "Authorization", "If-None-Match")


@dataclass(frozen=True, slots=True)
class Below:
    """The URL of the pages, which ends with a slash, and the status codes of all answers."""

    url: str
    answers: list[int] = field(default_factory=list)


@contextmanager
def below(path: str, target: str) -> Iterator[Below]:
    """Serve a URL below a path, which begins and ends with a slash."""
    server = Server(("127.0.0.1", 0), BaseHTTPRequestHandler)
    found = Below(f"http://127.0.0.1:{server.server_port}{path}")
    server.RequestHandlerClass = _handler(path, target, found.answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(path: str, target: str, answers: list[int]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # of an older one, browsers ignore the ETag

        def do_GET(self) -> None:
            if not self.path.startswith(path):
                answers.append(404)
                self.send_error(404)
                return
            headers = {name: self.headers[name] for name in _ASKED if name in self.headers}
            with http_session() as session:
                url = f"{target}/{self.path.removeprefix(path)}"
                answer = session.get(url, headers=headers, timeout=60)
            answers.append(answer.status_code)
            self.send_response(answer.status_code)
            for name in _ANSWERED:
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            if answer.content:  # a 304 has none
                self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: Any) -> None: ...

    return Handler
