"""The worker process of gunicorn: it gives a thread to a request once the whole request is there.

One loop receives all connections. So a slow client holds a connection until its deadline, and never
a thread. Probes have a thread of their own, so they are answered while all others are busy.
A request that is parked goes back to the loop, which gives it to a thread again and again.
"""

import errno
import math
import re
import resource
import selectors
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from gunicorn.http import get_parser
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from image_puller import limits
from image_puller.errors import OverloadedError
from image_puller.http import parking
from image_puller.http.framing import Incoming, Request
from image_puller.http.rejections import Rejections

CONNECTIONS = 512
"""Open connections, where the process may have twice as many files. See `_most_connections`."""
REQUESTS_AT_ONCE = 128
"""Requests that have a thread or wait for one. More are answered 503 at once."""
QUEUE_SECONDS = 0.5
"""How long a request waits for a thread. Then it is answered 503, before its sender gives up."""
BUFFERED_BYTES = 32 * limits.BODY_BYTES
"""Bytes of requests that are not complete. Beyond that, the largest is closed."""
WAITS_AT_ONCE = 2
"""Parked requests that have a thread at once, because they are asked again."""
RECEIVE_SECONDS = 10.0
"""The time for one whole request, from its first byte, and to the first byte of a connection."""
SEND_SECONDS = 10.0
"""The time for one answer. `/status` of a large cluster may have some MiB."""
LINGER_SECONDS = 2.0
"""How long a client may take to close, so that no reset makes it lose the answer."""
DRAIN_SECONDS = 5.0
"""The time for running requests after SIGTERM. Then what they asked for is committed."""
FAREWELL_SECONDS = 1.0
"""The time for their answers after that commit."""

_TURN_SECONDS, _LAST_TURN_SECONDS = 0.2, 0.05
_RECEIVED_BYTES = 64 * 1024
_PROBE = re.compile(rb"(GET|HEAD) /(healthz|readyz)[ ?]")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_REQUEST = Request(data=b"", is_whole=True)
_OVERLOADED = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: %d\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 16\r\n\r\ntry again later\n"
) % limits.RETRY_AFTER_SECONDS
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}


class Connection(TConn):  # type: ignore[misc] # gunicorn has no types
    """A connection, with what it has received and what it waits for."""

    def __init__(self, cfg: Any, client: socket.socket, address: Any, server: Any) -> None:
        super().__init__(cfg, client, address, server)
        self.initialized = True  # each request gets a parser of its own
        self.incoming = Incoming()
        self.deadline = 0.0
        self.is_idle = True
        self.is_lingering = False
        self.is_last = False
        self.was_continued = False
        self.request = Request(b"", is_whole=True)
        self.is_parked = False
        self.parked_until: float | None = None
        """When a request that was parked once must be answered."""


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """The worker process. Its main thread is the loop; `handle` runs in threads.

    It logs no part of an unreadable request, which may have a secret.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._most = _most_connections()
        self._rejections = Rejections(time.monotonic)
        self._waiting: dict[Connection, None] = {}
        """The connections that the loop waits for, the longest wait first."""
        self._busy: dict[Connection, Future[bool]] = {}
        """The connections whose request has a thread or waits for one."""
        self._places = threading.BoundedSemaphore(limits.WAITS)
        """A place for each connection that has `parked_until`."""
        self._probes = ThreadPoolExecutor(1, thread_name_prefix="probe")

    # The loop

    def run(self) -> None:
        """Serve until SIGTERM, then let running requests end, for a bounded time."""
        self.poller.register(
            self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks
        )
        self.set_accept_enabled(True)
        while self.alive and self.is_parent_alive():
            self._turn()
        self.set_accept_enabled(False)
        for listener in self.sockets:
            listener.close()
        # A client may be sending a request on a connection that was kept alive.
        now = time.monotonic()
        for connection in self._waiting:
            latest = now if connection.is_parked else now + LINGER_SECONDS
            connection.deadline = min(connection.deadline, latest)
        self._turn_until_idle(DRAIN_SECONDS)

    def finish(self) -> None:
        """Send the answers of requests that were committed since, and close all connections."""
        self._turn_until_idle(FAREWELL_SECONDS)
        for connection in tuple(self._waiting):
            self._drop(connection)
        self.tpool.shutdown(wait=False, cancel_futures=True)
        self._probes.shutdown(wait=False, cancel_futures=True)
        self.poller.close()
        self.method_queue.close()

    def _turn_until_idle(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (self._busy or self._waiting) and time.monotonic() < end:
            self._turn()

    def _turn(self) -> None:
        """Wait for what happens next, and act on it. Close what is over its deadline."""
        self.wait_for_and_dispatch_events(
            timeout=_TURN_SECONDS if self.alive else _LAST_TURN_SECONDS
        )
        now = time.monotonic()
        for connection in [each for each in self._waiting if each.deadline <= now]:
            if connection.is_parked:
                self._ask_again(connection)
                continue
            if connection.incoming:
                self._note(
                    "slow request",
                    connection,
                    f"it was not complete within {RECEIVE_SECONDS:.0f} s",
                )
            self._drop(connection)
        for connection, answered in self._busy.items():
            if connection.deadline <= now:
                answered.cancel()  # does nothing where a thread has the request
        self._rejections.write_due()

    # Connections

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection. Beyond the bound, close the one that has waited longest."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in _NO_DESCRIPTORS:
                self._drop_longest()
            return
        if len(self._waiting) + len(self._busy) >= self._most:
            self._drop_longest()
        connection = Connection(self.cfg, client, address, listener.getsockname())
        self._wait(connection, RECEIVE_SECONDS)
        self._receive(connection, client)

    def _wait(self, connection: Connection, seconds: float) -> None:
        """Let the loop wait for a connection, and for no longer than that."""
        connection.deadline = time.monotonic() + seconds
        self._waiting[connection] = None
        self.poller.register(
            connection.sock,
            selectors.EVENT_READ,
            lambda client: self._receive(connection, client),
        )

    def _stop_waiting(self, connection: Connection) -> None:
        del self._waiting[connection]
        self.poller.unregister(connection.sock)

    def _drop(self, connection: Connection) -> None:
        self._stop_waiting(connection)
        self._leave(connection)
        connection.close()

    def _drop_longest(self) -> None:
        for connection in self._waiting:
            self._note(
                "too many connections",
                connection,
                f"there are {self._most} connections, and this one waited longest",
            )
            self._drop(connection)
            return

    def _linger(self, connection: Connection) -> None:
        """Close for writing. The client closes then, which `_receive` notices."""
        connection.is_lingering = True
        try:
            connection.sock.settimeout(0)
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()
            return
        self._wait(connection, LINGER_SECONDS)

    def _note(self, kind: str, connection: Connection, reason: str) -> None:
        self.app.hooks.on_refusal(kind)
        address = connection.client[0] if isinstance(connection.client, tuple) else None
        self._rejections.note(kind, address, reason)

    # Requests

    def _receive(self, connection: Connection, client: socket.socket) -> None:
        """Receive a part of a request. Hand the request over once it is whole."""
        try:
            data = client.recv(_RECEIVED_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        if connection.is_lingering:
            if not data:
                self._drop(connection)
            return
        if not data and (connection.is_parked or not connection.incoming):
            self._drop(connection)
            return
        if connection.is_idle:
            connection.is_idle = False
            connection.deadline = time.monotonic() + RECEIVE_SECONDS
        connection.incoming.add(data)
        connection.is_last = not data
        if connection.is_parked:
            self._free_buffers()  # what came is the next request
        else:
            self._hand_over_or_wait(connection)

    def _hand_over_or_wait(self, connection: Connection) -> None:
        request = connection.incoming.take(is_last=connection.is_last)
        if request is not None:
            self._stop_waiting(connection)
            self._hand_over(connection, request)
            return
        if connection.incoming.expects_continue() and not connection.was_continued:
            connection.was_continued = True
            self._send_at_once(connection, _CONTINUE)
        self._free_buffers()

    def _free_buffers(self) -> None:
        if sum(len(each.incoming) for each in self._waiting) > BUFFERED_BYTES:
            largest = max(self._waiting, key=lambda each: len(each.incoming))
            self._note(
                "too many bytes",
                largest,
                f"incomplete requests have {BUFFERED_BYTES} bytes, and this one has the most",
            )
            self._drop(largest)

    def _hand_over(self, connection: Connection, request: Request) -> None:
        """Give a request to a thread, or refuse it where too many wait."""
        is_probe = _PROBE.match(request.data) is not None
        if len(self._busy) >= REQUESTS_AT_ONCE and not is_probe:
            self._refuse(connection)
            return
        connection.is_last = connection.is_last or not request.is_whole
        connection.request = request
        connection.parser = get_parser(self.cfg, [request.data], connection.client)
        pool = self._probes if is_probe else self.tpool
        connection.deadline = math.inf if is_probe else time.monotonic() + QUEUE_SECONDS
        self._busy[connection] = answered = pool.submit(self.handle, connection)
        answered.add_done_callback(
            lambda future: self.method_queue.defer(self.finish_request, connection, future)
        )

    def _ask_again(self, connection: Connection) -> None:
        """Give a parked request to a thread, unless several of them have one."""
        if sum(each.parked_until is not None for each in self._busy) < WAITS_AT_ONCE:
            self._stop_waiting(connection)
            connection.is_parked = False
            self._hand_over(connection, connection.request)

    def _keep(self, connection: Connection, seconds: float, again_in: float) -> bool:
        """Whether a request is parked. Raises OverloadedError. Runs in a thread."""
        now = time.monotonic()
        # A client that sends nothing more may have left, which nobody would notice.
        if not self.alive or connection.is_last:
            return False
        if connection.parked_until is None:
            if not self._places.acquire(blocking=False):
                raise OverloadedError(
                    f"{limits.WAITS} requests wait for images already", reason="too_many_waits"
                )
            connection.parked_until = now + seconds
        connection.is_parked = now < connection.parked_until
        connection.deadline = min(now + again_in, connection.parked_until)
        return connection.is_parked

    def _leave(self, connection: Connection) -> None:
        """Free the place of a request that waits no more."""
        if connection.parked_until is not None:
            connection.parked_until = None
            self._places.release()

    def _refuse(self, connection: Connection) -> None:
        self._note(
            "too many requests",
            connection,
            f"{len(self._busy)} requests wait for the API server or for a registry",
        )
        self._leave(connection)
        self._send_at_once(connection, _OVERLOADED)
        self._linger(connection)

    def finish_request(self, connection: Connection, answered: "Future[bool]") -> None:
        """Wait for the next request of the connection, or close it. Or wait to ask again."""
        del self._busy[connection]
        if answered.cancelled():
            self._refuse(connection)
            return
        if connection.is_parked:
            connection.sock.settimeout(0)
            self._wait(connection, connection.deadline - time.monotonic())
            return
        self._leave(connection)
        is_kept = answered.exception() is None and answered.result()
        if not is_kept or connection.is_last or connection.parser.unreader.take_buffered():
            self._linger(connection)
            return
        connection.request, connection.parser = _NO_REQUEST, None  # an idle connection costs little
        connection.sock.settimeout(0)
        connection.was_continued = False
        connection.is_idle = not connection.incoming
        seconds = self.cfg.keepalive if connection.is_idle else RECEIVE_SECONDS
        self._wait(connection, seconds if self.alive else LINGER_SECONDS)
        if not connection.is_idle:
            self._hand_over_or_wait(connection)

    def handle_request(self, request: Any, connection: Connection) -> bool:
        """Answer a request, within a bounded time for sending. Runs in a thread."""
        connection.sock.settimeout(SEND_SECONDS)
        request._expected_100_continue = False  # noqa: SLF001 - the loop has sent it
        try:
            with parking.allowed(partial(self._keep, connection)):
                return bool(super().handle_request(request, connection))
        except parking.Parked:
            return False
        except TimeoutError:
            self._note(
                "slow reader", connection, f"its answer was not taken within {SEND_SECONDS:.0f} s"
            )
            return False

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:  # noqa: ARG002
        """Log and answer the kind of error, without any text of the request."""
        if isinstance(exc, ParseException):
            hidden = f"{type(exc).__name__}, not shown"
            for name, value in vars(exc).items():
                if not isinstance(value, int):
                    setattr(exc, name, hidden if isinstance(value, str | bytes) else None)
        super().handle_error(None, client, addr, exc)

    def _send_at_once(self, connection: Connection, data: bytes) -> None:
        """Send a few bytes without waiting. A client that does not read loses them."""
        try:
            connection.sock.settimeout(0)
            connection.sock.send(data)
        except OSError:
            return


def _most_connections() -> int:
    """Return the bound of open connections. Half of the files are left for all other purposes."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if files == resource.RLIM_INFINITY else min(CONNECTIONS, files // 2)
