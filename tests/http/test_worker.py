"""The worker in the test's process: what it does with connections and requests."""

import errno
import logging
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from image_puller import limits
from image_puller.errors import OverloadedError
from image_puller.http import parking, worker
from tests.support.waiting import TIMEOUT_SECONDS, wait_until
from tests.support.web_server import Server, received, running_worker

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class App:
    """A WSGI application that answers with the body of the request.

    While it is held, it answers only probes.
    """

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.started: list[str] = []
        self.answer: bytes | None = None

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        body: bytes = environ["wsgi.input"].read()
        self.started.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] != "/healthz":
            assert self.go_on.wait(TIMEOUT_SECONDS)
        answer = body if self.answer is None else self.answer
        start_response("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.go_on.set()


@pytest.fixture
def server(app: App) -> Iterator[Server]:
    with running_worker(app) as server:
        yield server
        app.go_on.set()


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def answered(connection: socket.socket, body: bytes) -> bool:
    """Whether the next answer is 200 with this body."""
    data = b""
    while not data.endswith(b"\r\n\r\n" + body):
        part = connection.recv(65536)
        assert part, data
        data += part
    return data.startswith(b"HTTP/1.1 200 OK")


def test_a_connection_is_kept_for_more_requests(server: Server) -> None:
    connection = server.connect(post(b"one"))
    assert answered(connection, b"one")
    connection.sendall(post(b"two")[:30])
    connection.sendall(post(b"two")[30:])
    assert answered(connection, b"two")


def test_a_request_in_the_same_packet_is_answered_next(server: Server, app: App) -> None:
    connection = server.connect(post(b"one") + post(b"two") + CLOSE[:9])
    connection.sendall(CLOSE[9:])
    assert received(connection).count(b"HTTP/1.1 200 OK") == 3


def test_a_request_that_the_client_ends_early_is_answered(server: Server) -> None:
    connection = server.connect(GET + GET)
    connection.shutdown(socket.SHUT_WR)
    assert received(connection).count(b"HTTP/1.1 200 OK") == 2


def test_a_connection_that_ends_before_a_request_is_closed(server: Server, app: App) -> None:
    server.connect().close()
    reset = server.connect(b"GET")
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    reset.close()
    assert answered(server.connect(GET), b"")
    wait_until(lambda: len(server.worker._waiting) == 1)


def test_a_request_that_is_not_complete_in_time_is_closed(
    server: Server, app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "RECEIVE_SECONDS", 0.1)
    connection = server.connect(GET[:9])
    assert received(connection) == b""
    assert app.started == []
    (line,) = caplog.messages
    assert line == (
        "slow request: a request from 127.0.0.1 was rejected: it was not complete within 0 s"
    )
    assert server.refusals == ["slow request"]


def test_an_idle_connection_is_closed_in_silence(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "RECEIVE_SECONDS", 0.1)
    assert received(server.connect()) == b""
    assert caplog.messages == []


def test_the_connection_that_waited_longest_makes_room(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "CONNECTIONS", 2)
    with running_worker(app) as server:
        first, second = server.connect(GET[:9]), server.connect(GET[:9])
        wait_until(lambda: len(server.worker._waiting) == 2)
        assert received(server.connect(CLOSE)).startswith(b"HTTP/1.1 200 OK")
        assert received(first) == b""
        second.sendall(GET[9:])
        assert answered(second, b"")
    assert "there are 2 connections, and this one waited longest" in caplog.text
    assert server.refusals == ["too many connections"]


def test_largest_incomplete_request_makes_room(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "BUFFERED_BYTES", 1000)
    small, large = server.connect(post(b"x" * 500)[:-1]), server.connect(post(b"x" * 700)[:-1])
    assert received(large) == b""
    small.sendall(b"x")
    assert answered(small, b"x" * 500)
    assert "incomplete requests have 1000 bytes, and this one has the most" in caplog.text
    assert server.refusals == ["too many bytes"]


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ECONNABORTED])
def test_a_failed_accept_ends_nothing(server: Server, error: int) -> None:
    class Listener:
        def accept(self) -> None:
            raise OSError(error, "failed")

    waiting = server.connect(GET[:9])
    wait_until(lambda: len(server.worker._waiting) == 1)
    server.worker.method_queue.defer(server.worker.accept, Listener())
    if error == errno.EMFILE:
        assert received(waiting) == b""
    assert received(server.connect(CLOSE)).startswith(b"HTTP/1.1 200 OK")


def test_a_probe_is_answered_while_all_threads_are_busy(server: Server, app: App) -> None:
    app.go_on.clear()
    others = [server.connect(CLOSE) for _ in range(32)]
    wait_until(lambda: len(app.started) == 32)
    assert received(server.connect(PROBE)).startswith(b"HTTP/1.1 200 OK")
    app.go_on.set()
    assert all(received(each).startswith(b"HTTP/1.1 200 OK") for each in others)


def is_refusal(answer: bytes) -> bool:
    assert b"Retry-After: 5" in answer
    assert answer.endswith(b"\r\n\r\ntry again later\n")
    return answer.startswith(b"HTTP/1.1 503 Service Unavailable")


def test_requests_beyond_the_bound_are_refused_at_once(
    server: Server, app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "REQUESTS_AT_ONCE", 2)
    monkeypatch.setattr(worker, "QUEUE_SECONDS", 60)
    app.go_on.clear()
    first = [server.connect(CLOSE) for _ in range(2)]
    wait_until(lambda: len(app.started) == 2)
    assert is_refusal(received(server.connect(GET)))
    assert received(server.connect(PROBE)).startswith(b"HTTP/1.1 200 OK")
    app.go_on.set()
    assert all(received(each).startswith(b"HTTP/1.1 200 OK") for each in first)
    assert "2 requests wait for the API server or for a registry" in caplog.text
    assert server.refusals == ["too many requests"]


def test_a_request_that_gets_no_thread_in_time_is_refused(server: Server, app: App) -> None:
    app.go_on.clear()
    first = [server.connect(CLOSE) for _ in range(32)]
    wait_until(lambda: len(app.started) == 32)
    assert is_refusal(received(server.connect(GET)))
    app.go_on.set()
    assert all(received(each).startswith(b"HTTP/1.1 200 OK") for each in first)
    assert len(app.started) == 32


def test_a_client_that_does_not_take_its_answer_is_closed(
    server: Server, app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "SEND_SECONDS", 0.1)
    app.answer = b"x" * 50_000_000
    connection = server.connect(GET)
    wait_until(lambda: "slow reader: a request from 127.0.0.1" in caplog.text)
    assert len(received(connection)) < len(app.answer)
    assert server.refusals == ["slow reader"]


def test_a_client_that_never_closes_holds_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LINGER_SECONDS", 0.1)
    connection = server.connect(CLOSE + b"more that is not read")
    assert received(connection).startswith(b"HTTP/1.1 200 OK")
    wait_until(lambda: not server.worker._waiting)


def test_100_continue_is_sent_before_the_body_and_only_once(server: Server) -> None:
    head, body = (
        post(b"body").replace(b"Host: x", b"Expect: 100-continue").split(b"body")[0],
        b"body",
    )
    connection = server.connect(head)
    assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(body[:2])
    connection.sendall(body[2:])
    assert answered(connection, b"body")


def test_running_requests_are_answered_after_sigterm(server: Server, app: App) -> None:
    idle, partial = server.connect(), server.connect(GET[:9])
    app.go_on.clear()
    running = server.connect(GET)
    wait_until(lambda: app.started == ["/"])
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    partial.sendall(GET[9:])
    wait_until(lambda: app.started == ["/", "/"])
    app.go_on.set()
    assert received(running).startswith(b"HTTP/1.1 200 OK")
    assert received(partial).startswith(b"HTTP/1.1 200 OK")
    running.close()
    partial.close()
    idle.close()
    stopping.join()


def test_requests_that_do_not_end_delay_the_stop_for_a_bounded_time(
    server: Server, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "DRAIN_SECONDS", 0.1)
    app.go_on.clear()
    running = server.connect(GET)
    wait_until(lambda: app.started == ["/"])
    server.stop()
    app.go_on.set()  # as the last commit does
    server.worker.finish()
    assert received(running).startswith(b"HTTP/1.1 200 OK")


def test_files_bound_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, most in ((resource.RLIM_INFINITY, 512), (1024, 512), (256, 128)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert worker._most_connections() == most


def test_an_error_of_the_application_is_answered_500(
    server: Server, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.answer = 1  # type: ignore[assignment]
    with caplog.at_level(logging.CRITICAL):
        assert received(server.connect(GET)).startswith(b"HTTP/1.1 500 ")


def test_an_unreadable_request_is_logged_without_its_text(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert received(server.connect(b"s3cret! / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert "InvalidRequestMethod, not shown" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_client_that_has_reset_its_connection_is_closed(server: Server) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    connection = worker.Connection(server.worker.cfg, ours, ("127.0.0.1", 1), server.address)
    server.worker._send_at_once(connection, b"lost")
    server.worker._linger(connection)
    assert connection not in server.worker._waiting or ours.fileno() > 0


def test_probes_are_never_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "REQUESTS_AT_ONCE", 0)
    monkeypatch.setattr(worker, "QUEUE_SECONDS", -1)
    probes = [server.connect(PROBE) for _ in range(100)]
    assert all(received(each).startswith(b"HTTP/1.1 200 OK") for each in probes)


# Requests that wait


class Waiting:
    """A WSGI application that parks requests until it has an answer. `/now` is answered at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: bytes | None = None
        self.seconds = 60.0
        self.again_in = 0.01
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.asked.append(path)
        assert self.go_on.wait(TIMEOUT_SECONDS)
        answer = b"now" if path == "/now" else self.answer
        if answer is None:
            try:
                parking.park(self.seconds, again_in=self.again_in)
            except OverloadedError:
                answer = b"too many"
        answer = answer or b"too late"
        start_response("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]


WAIT = b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"
NOW = b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    app = Waiting()
    yield app
    app.go_on.set()


@pytest.fixture
def waits(waiting: Waiting) -> Iterator[Server]:
    with running_worker(waiting) as server:
        yield server


def is_parked(server: Server) -> bool:
    """Whether the loop has the only connection, and no thread does."""
    return len(server.worker._waiting) == 1 and not server.worker._busy


def test_request_that_waits_is_asked_again_until_it_is_answered(
    waits: Server, waiting: Waiting
) -> None:
    connection = waits.connect(WAIT)
    wait_until(lambda: len(waiting.asked) >= 3)
    waiting.answer = b"held"
    assert answered(connection, b"held")
    connection.sendall(NOW)
    assert answered(connection, b"now")


def test_request_that_waits_holds_no_thread(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WAITS", 40)  # there are 32 threads
    waiting.again_in = 60
    with running_worker(waiting) as server:
        connections = [server.connect(WAIT) for _ in range(40)]
        wait_until(lambda: len(waiting.asked) == 40)
        wait_until(lambda: not server.worker._busy)
        assert answered(server.connect(NOW), b"now")
        for connection in connections:
            connection.close()
        wait_until(lambda: len(server.worker._waiting) == 1)


def test_request_that_waits_is_answered_at_its_end(waits: Server, waiting: Waiting) -> None:
    waiting.seconds, waiting.again_in = 0.1, 60
    assert answered(waits.connect(WAIT), b"too late")
    assert waiting.asked == ["/wait", "/wait"]


def test_more_requests_that_wait_are_refused_until_one_is_answered(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WAITS", 2)
    with running_worker(waiting) as server:
        first, second = server.connect(WAIT), server.connect(WAIT)
        wait_until(lambda: len(waiting.asked) >= 4)
        assert answered(server.connect(WAIT), b"too many")
        first.close()
        wait_until(lambda: server.worker._places._value == 1)
        waiting.answer = b"held"
        assert answered(second, b"held")
        wait_until(lambda: server.worker._places._value == 2)


def test_few_requests_that_wait_are_asked_again_at_once(
    waits: Server, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "WAITS_AT_ONCE", 1)
    connections = [waits.connect(WAIT) for _ in range(3)]
    wait_until(lambda: waits.worker._places._value == limits.WAITS - 3)
    waiting.go_on.clear()
    wait_until(lambda: len(waits.worker._busy) == 1)
    wait_until(lambda: all_are_due(waits.worker))
    assert len(waits.worker._busy) == 1
    waiting.answer = b"held"
    waiting.go_on.set()
    assert all(answered(each, b"held") for each in connections)


def all_are_due(loop: worker.Worker) -> bool:
    """Whether two parked requests have waited for long enough, and for a turn of the loop more."""
    turn = worker._TURN_SECONDS
    due = [each for each in tuple(loop._waiting) if each.deadline + turn < time.monotonic()]
    return len(due) == 2


def test_client_that_leaves_waits_no_more(waits: Server, waiting: Waiting) -> None:
    waiting.again_in = 60
    connection = waits.connect(WAIT)
    wait_until(lambda: is_parked(waits))
    connection.close()
    wait_until(lambda: not waits.worker._waiting)
    assert waiting.asked == ["/wait"]


def test_request_after_one_that_waits_is_answered_next(waits: Server, waiting: Waiting) -> None:
    waiting.again_in = 0.3
    connection = waits.connect(WAIT)
    wait_until(lambda: is_parked(waits))
    connection.sendall(NOW.replace(b"Host: x", b"Connection: close"))
    waiting.answer = b"held"
    first, second = received(connection).split(b"HTTP/1.1 200 OK")[1:]
    assert (first[-4:], second[-3:]) == (b"held", b"now")


def test_request_of_a_client_that_sends_nothing_more_does_not_wait(
    waits: Server, waiting: Waiting
) -> None:
    connection = waits.connect(WAIT)
    connection.shutdown(socket.SHUT_WR)
    # Whether the end comes with the request or after it, nobody waits.
    assert received(connection).endswith(b"too late") or waiting.asked == ["/wait"]
    wait_until(lambda: not waits.worker._waiting)


def test_requests_that_wait_are_answered_at_sigterm(waits: Server, waiting: Waiting) -> None:
    waiting.again_in = 60
    connection = waits.connect(WAIT)
    wait_until(lambda: is_parked(waits))
    waits.stop()
    answer = received(connection)
    assert answer.endswith(b"too late")
    assert b"Connection: close" in answer


def test_request_that_waits_is_refused_while_no_thread_is_free(
    waits: Server, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = waits.connect(WAIT)
    wait_until(lambda: len(waiting.asked) >= 2)
    monkeypatch.setattr(worker, "REQUESTS_AT_ONCE", 0)
    assert is_refusal(received(connection))
