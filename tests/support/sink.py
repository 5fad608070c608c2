"""A sink for CloudEvents: an HTTP server that keeps what it receives."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from image_puller.events.cloudevents_http import CloudEvent, read


class RunningSink:
    """The events that were received, and the URL to send them to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.events: list[CloudEvent] = []

    def types(self) -> list[str]:
        """Return the types of all events, without their prefix."""
        return [event.type.removeprefix("io.image-puller.") for event in self.events]

    def data(self, kind: str) -> Any:
        """Return the data of the one event of a type."""
        (event,) = (each for each in self.events if each.type == f"io.image-puller.{kind}")
        return json.loads(event.data)


@contextmanager
def running_sink() -> Iterator[RunningSink]:
    """Run a sink that accepts each event."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            sink.events.extend(read(headers, body) or ())
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sink = RunningSink(f"http://127.0.0.1:{server.server_port}/events")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield sink
        finally:
            server.shutdown()
            thread.join()
