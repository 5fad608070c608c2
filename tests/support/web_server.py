"""A worker of the web server in a thread of the test's process, with real sockets."""

import os
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from flask import Flask
from gunicorn.glogging import Logger

from image_puller.http.server import Gunicorn
from image_puller.http.worker import Worker
from tests.support.waiting import TIMEOUT_SECONDS


class Server:
    """A running worker. `address` is where it listens. `refusals` has why it refused something."""

    def __init__(self, app: Any) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.refusals: list[str] = []
        gunicorn = Gunicorn(
            Flask("unused"),
            "127.0.0.1:0",
            on_start=lambda: None,
            on_stop=lambda: None,
            on_refusal=self.refusals.append,
        )
        sockets = [self._listener]
        log = Logger(gunicorn.cfg)
        self.worker = Worker(1, os.getppid(), sockets, gunicorn, 0, gunicorn.cfg, log)
        self.worker.wsgi = app
        self.worker.tpool = self.worker.get_thread_pool()
        self.worker.poller = selectors.DefaultSelector()
        self.worker.method_queue.init()
        self.thread = threading.Thread(target=self.worker.run)
        self._connections = ExitStack()

    def connect(self, sent: bytes = b"") -> socket.socket:
        """Connect, and send some bytes."""
        connection = socket.create_connection(self.address, timeout=TIMEOUT_SECONDS)
        self._connections.enter_context(connection)
        connection.sendall(sent)
        return connection

    def stop(self) -> None:
        """Stop as at SIGTERM, and wait for the end of the loop."""
        self.worker.handle_exit(None, None)
        self.thread.join(TIMEOUT_SECONDS)
        assert not self.thread.is_alive()

    def close(self) -> None:
        """Close all that was opened."""
        self._connections.close()
        if self.thread.is_alive():
            self.stop()
        self.worker.finish()
        self.worker.tmp.close()


@contextmanager
def running_worker(app: Any) -> Iterator[Server]:
    """Run a worker that serves a WSGI application."""
    server = Server(app)
    server.thread.start()
    try:
        yield server
    finally:
        server.close()


def received(connection: socket.socket) -> bytes:
    """Return all that the server sends until it closes the connection."""
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data
