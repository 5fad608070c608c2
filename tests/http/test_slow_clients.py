"""The real server process with real sockets: slow clients, many clients, a slow API server."""

import http.client
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from image_puller.http.worker import RECEIVE_SECONDS
from image_puller.simulation import SimulatedCluster
from tests.support.daemonset import APP, NEWER
from tests.support.installation import Installation, exists, kubeconfig
from tests.support.serving import running
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

SECRET = "s3cret"
PUSH = json.dumps({"docker_url": "quay.io/org/app", "updated_tags": ["1.2.4"]}).encode()
HEAD = b"POST /webhooks/quay/s3cret HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(PUSH)
CHUNKED = b"POST /webhooks/quay HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
PROBE_SECONDS = 0.5
"""The bound for a probe. The service needs 100 ms, and the machine of the tests may be busy."""

STARTS = {
    "nothing": b"",
    "one byte": b"P",
    "headers without end": b"POST /webhooks/quay/s3cret HTTP/1.1\r\nHost: x\r\nX: ",
    "headers and a part of the body": HEAD + PUSH[:10],
    "a chunk without end": CHUNKED + b"ff\r\nx",
    "no body after 100": b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
}


@contextmanager
def connected(url: str, number: int, start: bytes) -> Iterator[list[socket.socket]]:
    """Open connections that have sent this much, and send nothing more."""
    host, _, port = url.removeprefix("http://").partition(":")
    with ExitStack() as stack:
        connections = []
        for _ in range(number):
            connection = socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS)
            connections.append(stack.enter_context(connection))
            if start:
                connection.sendall(start)
        yield connections


def probe_seconds(url: str, path: str = "/healthz") -> float:
    """Return how long a probe takes, on a connection of its own, as the kubelet sends it."""
    start = time.monotonic()
    assert requests.get(url + path, timeout=5).status_code == 200
    return time.monotonic() - start


def push(url: str, tag: str = "1.2.4") -> int:
    """Push a tag, as Quay does, and return the status of the answer."""
    body = {"docker_url": "quay.io/org/app", "updated_tags": [tag]}
    return requests.post(f"{url}/webhooks/quay/{SECRET}", json=body, timeout=20).status_code


@contextmanager
def service(
    installation: Installation, folder: Path, *, files: int = 1024, **environ: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a service with one image and a secret for Quay. Yield its process and its URL."""
    (folder / "quay").write_text(SECRET)
    environ = {
        "IMAGES": f"app={APP}",
        "KUBECONFIG": str(kubeconfig(installation.cluster, folder)),
        "WEBHOOK_SECRETS_DIR": str(folder),
        "ROLLOUT_MIN_INTERVAL_SECONDS": "3600",
    } | environ
    with running(folder, files, **environ) as served:
        wait_until(lambda: exists(installation.cluster))
        yield served


def slow_writes(installation: Installation, seconds: float) -> None:
    """Let each write of a DaemonSet take that long."""
    installation.cluster.before("PATCH", lambda: time.sleep(seconds), times=1000)


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_slow_clients_delay_neither_probes_nor_pushes(
    installation: Installation, tmp_path: Path, start: bytes
) -> None:
    with service(installation, tmp_path) as (_, url), connected(url, 200, start):
        for path in ("/healthz", "/readyz"):
            assert probe_seconds(url, path) < PROBE_SECONDS
        begin = time.monotonic()
        assert push(url) == 202
        assert time.monotonic() - begin < 2 * PROBE_SECONDS


def test_probes_take_100_ms_while_200_slow_clients_are_connected(
    installation: Installation, tmp_path: Path
) -> None:
    with (
        service(installation, tmp_path) as (_, url),
        connected(url, 200, STARTS["headers and a part of the body"]) as connections,
    ):
        seconds = []
        for connection in connections:
            connection.sendall(PUSH[10:11])  # they go on, one byte at a time
            seconds.append(probe_seconds(url))
        assert sorted(seconds)[len(seconds) // 2] < 0.1
        assert max(seconds) < PROBE_SECONDS


def test_a_slow_client_is_closed_at_its_deadline_and_logged_once(
    installation: Installation, tmp_path: Path
) -> None:
    with service(installation, tmp_path) as (_, url), connected(url, 20, b"POST / HT") as clients:
        begin = time.monotonic()
        for client in clients:
            client.settimeout(RECEIVE_SECONDS + TIMEOUT_SECONDS)
            assert client.recv(1) == b""
        assert time.monotonic() - begin < RECEIVE_SECONDS + 3
    lines = (tmp_path / "log").read_text().splitlines()
    (line,) = [each for each in lines if "it was not complete within 10 s" in each]
    assert "slow request: a request from 127.0.0.1 was rejected" in line


def test_clients_that_do_not_read_their_answers_hold_no_thread(
    installation: Installation, tmp_path: Path
) -> None:
    ask = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n" * 200
    with service(installation, tmp_path, READ_AUTH="none") as (_, url), connected(url, 100, ask):
        assert probe_seconds(url) < 2 * PROBE_SECONDS
        assert push(url) == 202


@pytest.mark.parametrize("files", [1024, 128])
def test_more_connections_than_files_stop_nothing(
    installation: Installation, tmp_path: Path, files: int
) -> None:
    with service(installation, tmp_path, files=files) as (process, url):
        for start in (b"", b"POST"):
            with connected(url, 1000, start):
                for _ in range(5):
                    assert push(url) == 202
                    assert probe_seconds(url) < PROBE_SECONDS
        assert process.poll() is None
    log = (tmp_path / "log").read_text()
    assert log.count("Booting worker") == 1
    assert "connections, and this one waited longest" in log


def test_large_requests_that_are_not_complete_use_bounded_memory(
    installation: Installation, tmp_path: Path
) -> None:
    start = b"POST /webhooks/quay HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n" + b"x" * 1_000_000
    with service(installation, tmp_path) as (process, url), connected(url, 150, start):
        assert push(url) == 202
        assert memory_mib(process.pid) < 200
    assert "incomplete requests have" in (tmp_path / "log").read_text()


def memory_mib(pid: int) -> float:
    """Return the memory of a process and its children."""
    folder = Path(f"/proc/{pid}")
    children = (folder / f"task/{pid}/children").read_text().split()
    (line,) = re.findall(r"^Pss:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)
    return int(line) / 1024 + sum(memory_mib(int(child)) for child in children)


def test_a_slow_api_server_delays_no_probe_and_refuses_more_pushes_at_once(
    installation: Installation, tmp_path: Path
) -> None:
    with service(installation, tmp_path) as (_, url), ThreadPoolExecutor(50) as senders:
        slow_writes(installation, 4)
        tags = [f"1.2.{number}" for number in range(4, 54)]
        answers = [senders.submit(push, url, tag) for tag in tags]
        time.sleep(2)
        for _ in range(20):
            assert probe_seconds(url) < PROBE_SECONDS
        begin = time.monotonic()
        assert push(url, "1.2.99") == 503
        assert time.monotonic() - begin < 1
        assert {each.result() for each in answers} <= {202, 503}


@pytest.mark.parametrize("start", ["one byte", "headers and a part of the body"])
def test_sigterm_applies_what_is_pending_whatever_is_connected(
    installation: Installation, tmp_path: Path, start: str
) -> None:
    with service(installation, tmp_path) as (process, url):
        assert push(url) == 202
        assert installation.images() == [APP]
        with connected(url, 200, STARTS[start]):
            process.send_signal(signal.SIGTERM)
            begin = time.monotonic()
            wait_until(lambda: installation.images() == [APP, NEWER])
            assert time.monotonic() - begin < 10
        assert process.wait(TIMEOUT_SECONDS) == 0


def test_sigterm_waits_until_a_slow_api_server_has_what_is_pending(
    installation: Installation, tmp_path: Path
) -> None:
    with service(installation, tmp_path) as (process, url):
        assert push(url) == 202
        slow_writes(installation, 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_SECONDS) == 0
    assert installation.images() == [APP, NEWER]


def test_a_request_that_runs_at_sigterm_is_committed_and_answered(
    installation: Installation, tmp_path: Path
) -> None:
    with service(installation, tmp_path) as (process, url), ThreadPoolExecutor(1) as sender:
        slow_writes(installation, 1)
        answer = sender.submit(push, url)
        wait_until(lambda: any(each.method == "PATCH" for each in installation.cluster.requests))
        process.send_signal(signal.SIGTERM)
        assert answer.result() == 202
        assert process.wait(TIMEOUT_SECONDS) == 0
    assert installation.images() == [APP, NEWER]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("SCRIPT_NAME", "/webhooks"),
        ("Script-Name", "/webhooks"),
        ("PATH_INFO", "/status"),
        ("X-Forwarded-Prefix", "/webhooks"),
        ("X-Forwarded-For", "10.9.8.7"),
        ("X-Forwarded-Proto", "https"),
        ("REMOTE_USER", "me"),
    ],
)
def test_headers_of_proxies_have_no_meaning(
    served: tuple[str, Path], header: str, value: str
) -> None:
    url, log = served
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    connection.request("POST", "/webhooks/quay/wrong", body=PUSH, headers={header: value})
    answer = connection.getresponse()
    assert answer.status in {400, 401}  # a name with an underscore may be refused
    assert "10.9.8.7" not in log.read_text()
    connection.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Yield the URL of a service, and its log."""
    folder = tmp_path_factory.mktemp("served")
    with SimulatedCluster(nodes=1) as cluster, service(Installation(cluster), folder) as (_, url):
        yield url, folder / "log"


def exchange(url: str, *parts: bytes) -> bytes:
    """Send the parts of requests, with a moment in between, and return all that is answered."""
    with connected(url, 1, b"") as (connection,):
        for part in parts:
            connection.sendall(part)
            time.sleep(0.05)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    return answer


def test_requests_that_were_sent_together_are_answered_in_order(served: tuple[str, Path]) -> None:
    url, _ = served
    readiness = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = exchange(url, readiness + HEAD + PUSH + readiness[:5], readiness[5:])
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"202", b"200"]


def test_100_continue_is_sent_once_before_the_body(served: tuple[str, Path]) -> None:
    url, _ = served
    head = HEAD.replace(b"Host: x", b"Expect: 100-continue")
    with connected(url, 1, head) as (connection,):
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(PUSH)
        assert connection.recv(1000).startswith(b"HTTP/1.1 202 ")


def test_body_of_a_refused_request_is_never_read_as_a_request(served: tuple[str, Path]) -> None:
    url, _ = served
    inner = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
    for header in (b"Content-Length: 9999999", b"Content-Length: +5", b"Transfer-Encoding: gzip"):
        answer = exchange(url, b"POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % header, inner)
        assert len(re.findall(rb"HTTP/1.1 \d+", answer)) == 1
        assert b" 200 " not in answer
