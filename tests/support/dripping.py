"""A server whose answer never ends: it sends a text, and then one character after another."""

import socket
import threading
from typing import Self

STATUS = b"HTTP/1.1 "
HEADERS = b"HTTP/1.1 200 OK\r\nX-A: "
BODY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 1"


class DrippingServer:
    """Sends `start` to each connection, and then a character each hundredth of a second.

    `closed` is set once a client has closed its connection.
    """

    def __init__(self, start: bytes, drop: bytes = b"1") -> None:
        self._start, self._drop = start, drop
        self._stopped = threading.Event()
        self.closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._drip, args=(connection,)))
            self._threads[-1].start()

    def _drip(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                connection.sendall(self._start)
                while not self._stopped.wait(0.01):
                    connection.sendall(self._drop)
            except OSError:
                self.closed.set()
