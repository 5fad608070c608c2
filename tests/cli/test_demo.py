"""The demo: every command that it prints works, and no file or process is left."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from image_puller.cli import demo
from image_puller.cli.demo import introduction
from image_puller.events.event import CheckRequested
from tests.support.installation import Installation
from tests.support.waiting import TIMEOUT_SECONDS
from tests.support.web import Web

URL = "http://127.0.0.1:8080"
TOKENS = {name: f"token-of-{name}" for name in ("harbor", "quay", "distribution", "events", "read")}
NODES = {"node-1", "node-2", "node-3"}
WORKSPACE = "harbor.example.com/demo/workspace"


@dataclass(frozen=True, kw_only=True)
class Curl:
    """A printed `curl` command."""

    method: str
    url: str
    headers: dict[str, str]
    auth: tuple[str, str] | None
    body: str | None

    @classmethod
    def of(cls, line: str) -> "Curl":
        words = iter(shlex.split(line))
        assert next(words) == "curl"
        options: dict[str, list[str]] = {"-X": [], "-H": [], "-d": [], "-u": [], "": []}
        for word in words:
            if word in options:
                options[word].append(next(words))
            elif word != "-sS":
                options[""].append(word)
        (url,) = options[""]
        user = [value.partition(":") for value in options["-u"]]
        return cls(
            method="".join(options["-X"]) or "GET",
            url=url,
            headers=dict(header.split(": ", 1) for header in options["-H"]),
            auth=(user[0][0], user[0][2]) if user else None,
            body="".join(options["-d"]) or None,
        )


def commands(text: str) -> list[Curl]:
    return [Curl.of(line) for line in text.splitlines() if line.startswith("curl")]


def test_each_command_is_on_one_line() -> None:
    text = introduction(URL, TOKENS)
    printed = commands(text)
    assert [(curl.method, curl.url) for curl in printed] == [
        ("POST", f"{URL}/webhooks/harbor"),
        ("GET", f"{URL}/status"),
        ("POST", f"{URL}/webhooks/quay"),
        ("POST", f"{URL}/webhooks/distribution"),
        ("POST", f"{URL}/"),
    ]
    for curl in printed:
        assert "Content-Type" in curl.headers or curl.method == "GET"
        assert curl.body is None or json.loads(curl.body)
    assert not any("\\" in line for line in text.splitlines() if line.startswith("curl"))


@pytest.fixture
def service(web: Callable[..., Web]) -> Web:
    """Start a service with the configuration of the demo."""
    environ = {name: value for name, value in demo._ENVIRONMENT.items() if "ROLLOUT" not in name}
    service = web(**environ, ROLLOUT_MIN_INTERVAL_SECONDS="0")
    for name, token in TOKENS.items():
        service.secret(name, token)
    service.service.intake.accept("test", (CheckRequested(),), timeout=TIMEOUT_SECONDS)
    return service


def send_to(service: Web, curl: Curl) -> Any:
    path = curl.url.removeprefix(URL)
    return service.client.open(
        path, method=curl.method, headers=curl.headers, data=curl.body, auth=curl.auth
    )


def test_pushed_image_of_harbor_is_held_by_all_nodes(
    service: Web, installation: Installation
) -> None:
    push, status, *_ = commands(introduction(URL, TOKENS))
    assert send_to(service, push).status_code == 202
    installation.cluster.settle()
    images = send_to(service, status).json["images"]
    held = {image["image"]: image["held"] for image in images}
    assert held[f"{WORKSPACE}:1.1.0"] == held[f"{WORKSPACE}:1.0.0"] == 3


def test_every_printed_push_changes_the_template(service: Web, installation: Installation) -> None:
    for curl in commands(introduction(URL, TOKENS)):
        if curl.method == "POST":
            before = installation.template()
            answer = send_to(service, curl)
            assert (answer.status_code, answer.data) == (202, b"")
            assert installation.template() != before
    assert installation.images() == [
        f"{WORKSPACE}:1.0.0",
        f"{WORKSPACE}:1.1.0",
        f"{WORKSPACE}:1.2.0",
        "quay.io/demo/notebook:latest",
        "registry.example.com:5000/demo/runner:v2.3.0",
        "registry.example.com:5000/demo/runner:v2.4.0",
    ]


# The end of the service


class Process(subprocess.Popen[bytes]):
    """The process of a service. It runs one of the functions at each wait, and ends with 5."""

    def __init__(self, *waits: Callable[[], None]) -> None:
        self._waits = iter(waits)
        self.terminated = False

    def __del__(self) -> None:
        """Do nothing: there is no real process to wait for."""

    def wait(self, timeout: float | None = None) -> int:
        next(self._waits)()
        return 5

    def terminate(self) -> None:
        self.terminated = True


def interrupt() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_waits_for_the_end_of_the_service() -> None:
    service = Process(interrupt, lambda: None)
    assert demo._wait(service) == 5
    assert not service.terminated


def test_sigterm_is_passed_on_to_the_service() -> None:
    before = signal.getsignal(signal.SIGTERM)
    service = Process(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert demo._wait(service) == 5
    assert service.terminated
    assert signal.getsignal(signal.SIGTERM) is before


def test_service_that_can_not_start_ends_the_demo(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    inherited = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "IMAGES": "not the demo's"}
    assert demo.run(inherited | {"PORT": "0"}) == 2
    captured = capfd.readouterr()
    assert captured.err == "PORT: must be a whole number from 1 to 65535, not '0'\n"
    tokens = {curl.headers["Authorization"] for curl in commands(captured.out) if curl.body}
    assert len(tokens) == 4


def test_log_of_the_service_is_configured_by_the_environment(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PORT": "0"}
    assert demo.run(environ | {"LOG_LEVEL": "trace", "LOG_FORMAT": "yaml"}) == 2
    assert [line.partition(":")[0] for line in capfd.readouterr().err.splitlines()] == [
        "PORT",
        "LOG_LEVEL",
        "LOG_FORMAT",
    ]


# The demo as a process


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def process(port: int, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environ = {"PATH": os.environ["PATH"], "PORT": str(port), "TMPDIR": str(tmp_path)}
    command = (sys.executable, "-m", "image_puller", "demo")
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def printed_commands(process: subprocess.Popen[str]) -> list[Curl]:
    assert process.stdout
    text = ""
    while "Ctrl-C" not in text:
        line = process.stdout.readline()
        assert line
        text += line
    return commands(text)


def send(session: requests.Session, curl: Curl) -> requests.Response:
    return session.request(
        curl.method, curl.url, headers=curl.headers, data=curl.body, auth=curl.auth, timeout=5
    )


def send_until_answered(session: requests.Session, curl: Curl) -> requests.Response:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            return send(session, curl)
        except requests.RequestException:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_demo_pulls_a_pushed_image_on_three_nodes_and_leaves_no_file_or_process(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    push, status, *others = printed_commands(process)
    with requests.Session() as session:
        answer = send_until_answered(session, push)
        assert (answer.status_code, answer.content) == (202, b"")
        deadline = time.monotonic() + 3 * TIMEOUT_SECONDS
        while not is_on_all_nodes(send(session, status).json(), f"{WORKSPACE}:1.1.0"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert {send(session, curl).status_code for curl in others} == {202}
    process.send_signal(signal.SIGTERM)
    assert process.stdout
    process.stdout.read()
    assert process.wait(TIMEOUT_SECONDS) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert list(tmp_path.iterdir()) == []


def is_on_all_nodes(status: Any, name: str) -> bool:
    (image,) = (image for image in status["images"] if image["image"] == name)
    return {node for node, found in image["nodes"].items() if found["held"]} == NODES
