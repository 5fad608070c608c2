"""The simulated API server on a socket: HTTP/1.1 with kept-alive connections."""

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from image_puller.simulation.answers import Json
from image_puller.simulation.faults import HungUpError

Headers = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it came over the wire; header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    status: int = 0

    @property
    def dry_run(self) -> bool:
        """Whether it asks to change nothing."""
        return self.query.get("dryRun") == "All"

    @property
    def user_agent(self) -> str:
        """Who says to have sent it."""
        return self.headers.get("user-agent", "")

    @property
    def content_type(self) -> str:
        """What its body is; empty if it has none."""
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def json(self) -> Any:
        """Its body, which must be JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a JSON value or a text, or for a watch one JSON value after the other."""

    status: int
    body: Json | str | Iterator[Json]
    headers: Headers = field(default_factory=dict)


Serve = Callable[[Request], Answer]


class Server(ThreadingHTTPServer):
    """Listens on a port of its own on 127.0.0.1; `close` ends every connection and thread."""

    daemon_threads = False  # so that closing joins them
    request_queue_size = 128

    def __init__(self, serve: Serve) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.serve = serve
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.01}, name="simulated API server"
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        """Stop listening, and hang up on everybody."""
        self.shutdown()
        self._thread.join()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up is no news; anything else is a fault of the simulation.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet

    def _answer(self) -> None:
        address = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            method=self.command,
            path=address.path,
            query=dict(parse_qsl(address.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length),
        )
        try:
            self._send(self.server.serve(request))
        except HungUpError:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815  http.server's names

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if isinstance(answer.body, dict | str):
            self._send_body(answer.body)
        else:
            self._send_stream(answer.body)

    def _send_body(self, body: Json | str) -> None:
        is_text = isinstance(body, str)
        content = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(content.encode())))
        self.end_headers()
        self.wfile.write(content.encode())

    def _send_stream(self, lines: Iterator[Json]) -> None:
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for line in lines:
            self._send_chunk(json.dumps(line).encode() + b"\n")
        self._send_chunk(b"")

    def _send_chunk(self, chunk: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.wfile.flush()

    def log_message(self, *args: Any) -> None:
        """Keep quiet: `SimulatedCluster.requests` tells more."""
