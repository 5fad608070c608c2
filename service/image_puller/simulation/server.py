"""The HTTP server of the simulations: HTTP/1.1 with keep-alive connections."""

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

from image_puller.simulation.faults import HungUpError
from image_puller.simulation.responses import Json

Headers = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request. Header names are in lower case. `status` is that of its response, 0 if none."""

    method: str
    path: str
    query: dict[str, str]
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    status: int = 0

    @property
    def dry_run(self) -> bool:
        """Whether the request is a dry run."""
        return self.query.get("dryRun") == "All"

    @property
    def user_agent(self) -> str:
        """The User-Agent header, or an empty text."""
        return self.headers.get("user-agent", "")

    @property
    def content_type(self) -> str:
        """The media type of the body, or an empty text."""
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def json(self) -> Any:
        """The body, parsed as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """A response. Its body is a JSON object, a text, or the JSON objects of a watch.

    `headers` may replace the content type.
    """

    status: int
    body: Json | str | Iterator[Json]
    headers: Headers = field(default_factory=dict)


Handler = Callable[[Request], Response]


class Server(ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1, until `close` ends all connections and threads."""

    daemon_threads = False  # so that `close` joins them
    request_queue_size = 128

    def __init__(self, serve: Handler, name: str = "simulated API server") -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.serve = serve
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.01}, name=name
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        """Stop to listen, and close all connections."""
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
        # Clients may close connections. Any other error is a bug of the simulation.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet

    def _respond(self) -> None:
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

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _respond  # noqa: N815  http.server's names

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if "Content-Type" not in response.headers:
            is_text = isinstance(response.body, str)
            self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        if isinstance(response.body, dict | str):
            self._send_body(response.body)
        else:
            self._send_stream(response.body)

    def _send_body(self, body: Json | str) -> None:
        text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
        content = text.encode()
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_stream(self, lines: Iterator[Json]) -> None:
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
        """Log nothing. `SimulatedCluster.requests` has all requests."""
