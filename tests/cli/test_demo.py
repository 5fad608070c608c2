"""The demo: every command that it prints works, and no file or process is left."""

import errno
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from image_puller import limits
from image_puller.cli import demo, demo_content, main
from image_puller.cli.demo import introduction
from image_puller.cli.demo_content import WEBHOOKS
from image_puller.events.event import CheckRequested
from image_puller.simulation import RegistryServer, SimulatedCluster
from tests.support.clock import ManualClock
from tests.support.installation import Installation
from tests.support.waiting import TIMEOUT_SECONDS, wait_until
from tests.support.web import Web

URL = "http://127.0.0.1:8080"
TOKENS = {name: f"token-of-{name}" for name in ("harbor", "quay", "distribution", "events", "read")}
NODES = {"node-1", "node-2", "node-3"}
WORKSPACE = "harbor.example.com/demo/workspace"
TEXT = introduction(URL, TOKENS, "image-puller")


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
    printed = commands(TEXT)
    assert [(curl.method, curl.url) for curl in printed] == [
        ("POST", f"{URL}/webhooks/harbor"),
        ("POST", f"{URL}/webhooks/quay"),
        ("POST", f"{URL}/webhooks/distribution"),
        ("POST", f"{URL}/"),
        ("GET", f"{URL}/status"),
    ]
    for curl in printed:
        assert "Content-Type" in curl.headers or curl.method == "GET"
        assert curl.body is None or json.loads(curl.body)
    assert not any("\\" in line for line in TEXT.splitlines() if line.startswith("curl"))


def test_every_printed_command_of_image_puller_is_valid() -> None:
    found = [line for line in TEXT.splitlines() if line.startswith("image-puller ")]
    assert found == [
        *(f"image-puller demo push {source}" for source in WEBHOOKS),
        "image-puller status",
    ]
    for line in found:
        main._parser().parse_args(shlex.split(line)[1:])


@pytest.fixture
def service(
    web: Callable[..., Web], cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Web]:
    """Start a service with the configuration of the demo, and push the new images."""
    environ = dict(demo._ENVIRONMENT)
    environ |= {"ROLLOUT_MIN_INTERVAL_SECONDS": "0", "ASK_REGISTRIES": "true"}
    with RegistryServer(cluster.images) as registries:
        monkeypatch.setenv("HTTP_PROXY", registries.url)
        monkeypatch.setenv("NO_PROXY", environ.pop("NO_PROXY"))
        demo_content.push_configured(registries)
        service = web(**environ)
        for name, token in TOKENS.items():
            service.secret(name, token)
        demo_content.push_new(registries)
        yield service


def send_to(service: Web, curl: Curl) -> Any:
    path = curl.url.removeprefix(URL)
    return service.client.open(
        path, method=curl.method, headers=curl.headers, data=curl.body, auth=curl.auth
    )


def test_the_printed_url_shows_the_page_with_the_printed_password(service: Web) -> None:
    lines = TEXT.splitlines()
    (line,) = (line for line in lines if " in a browser, " in line)
    password = line.removesuffix(":").rpartition(" ")[2]
    url = lines[lines.index(line) + 1]
    answer = service.client.get(
        url.removeprefix(URL), headers={"Accept": "text/html"}, auth=("anybody", password)
    )
    assert answer.status_code == 200
    assert f"{WORKSPACE}:1.0.0</a>" in answer.text.replace("<wbr>", "")


def test_registries_are_asked_at_start(service: Web) -> None:
    *_, status = commands(TEXT)
    found = send_to(service, status).json
    assert found["problems"] == []
    assert {image["image"] for image in found["images"]} == set(demo_content.IMAGES.values())
    digests = [image["digest"] for image in found["images"]]
    assert None not in digests
    assert not {webhook.digest for webhook in WEBHOOKS.values()} & set(digests)


def test_every_pushed_image_is_held_with_the_pushed_digest(
    service: Web, installation: Installation
) -> None:
    *pushes, status = commands(TEXT)
    for curl, webhook in zip(pushes, WEBHOOKS.values(), strict=True):
        assert send_to(service, curl).status_code == 202
        installation.cluster.settle()
        images = {image["image"]: image for image in send_to(service, status).json["images"]}
        image = images[webhook.image]
        assert (image["held"], image["digest"]) == (3, webhook.digest)
        assert {node["imageID"] for node in image["nodes"].values()} == {"same"}


def test_every_printed_push_changes_the_template(service: Web, installation: Installation) -> None:
    for curl in commands(TEXT):
        if curl.method == "POST":
            before = installation.template()
            answer = send_to(service, curl)
            assert (answer.status_code, answer.data) == (202, b"")
            assert installation.template() != before
    assert installation.images() == [
        f"{WORKSPACE}:1.0.0",
        f"{WORKSPACE}:1.1.0",
        f"{WORKSPACE}:1.2.0",
        "quay.example.com/demo/notebook:latest",
        "registry.example.com:5000/demo/runner:v2.3.0",
        "registry.example.com:5000/demo/runner:v2.4.0",
    ]


def test_check_finds_the_new_images_without_any_webhook(
    service: Web, installation: Installation, clock: ManualClock
) -> None:
    service.service.intake.accept("test", (CheckRequested(),), timeout=TIMEOUT_SECONDS)
    clock.advance(limits.CHECK_SPACING_SECONDS)
    wait_until(lambda: f"{WORKSPACE}:1.2.0" in installation.images())
    assert WEBHOOKS["quay"].digest in installation.digests().values()
    *pushes, status = commands(TEXT)
    assert {send_to(service, curl).status_code for curl in pushes} == {202}
    installation.cluster.settle()
    images = {image["image"]: image for image in send_to(service, status).json["images"]}
    for webhook in WEBHOOKS.values():
        image = images[webhook.image]
        assert (image["held"], image["digest"]) == (3, webhook.digest)


# The end of the service


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(demo._ENVIRONMENT, "KEEP_TAGS", "none")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    inherited = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "IMAGES": "not the demo's"}
    assert demo.run(inherited | {"PORT": str(port)}) == 2
    captured = capfd.readouterr()
    assert captured.err == "KEEP_TAGS: must be a whole number from 1 to 20, not 'none'\n"
    assert captured.out == f"{demo.title(f'http://127.0.0.1:{port}')}\n"
    assert list(tmp_path.iterdir()) == []


def test_deployment_of_the_demo_owns_its_daemonset(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owners: list[str] = []

    def compare_owner(service: subprocess.Popen[bytes]) -> int:
        (folder,) = tmp_path.iterdir()
        server = json.loads((folder / "kubeconfig").read_text())["clusters"][0]["cluster"]["server"]
        apps = f"{server}/apis/apps/v1/namespaces/k8s-image-puller"
        wait_until(lambda: requests.get(f"{apps}/daemonsets", timeout=5).json()["items"] != [])
        (daemonset,) = requests.get(f"{apps}/daemonsets", timeout=5).json()["items"]
        deployment = requests.get(f"{apps}/deployments/kubernetes-image-puller", timeout=5).json()
        owners.extend(owner["uid"] for owner in daemonset["metadata"]["ownerReferences"])
        owners.append(deployment["metadata"]["uid"])
        service.terminate()
        return service.wait()

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "_wait", compare_owner)
    assert demo.run({"PATH": os.environ["PATH"], "PORT": str(port)}) == 0
    assert len(owners) == 2
    assert owners[0] == owners[1]
    text = capfd.readouterr().out
    assert text.startswith(f"{demo.title(f'http://127.0.0.1:{port}')}\n")
    assert len(commands(text)) == 5
    assert all(curl.url.startswith(f"http://127.0.0.1:{port}/") for curl in commands(text))


@pytest.mark.parametrize("text", ["0", "65536", "80x", "-1"])
def test_wrong_port_is_one_line_before_anything_else(
    text: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", text)
    assert main.main(["demo"]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == f"PORT: must be a whole number from 1 to 65535, not '{text}'\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_port_in_use_is_one_line_before_anything_else(
    host: str, port: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", str(port))
    with socket.create_server((host, port)):
        assert main.main(["demo"]) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"PORT: port {port} of 127.0.0.1 is in use; stop what listens there, or set PORT to "
        "another port\n"
    )


def test_port_that_may_not_be_used_is_one_line(
    port: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setenv("PORT", str(port))
    monkeypatch.setattr(socket, "create_server", refuse)
    assert main.main(["demo"]) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"PORT: port {port} of 127.0.0.1 can't be used (Permission denied); set PORT to another "
        "port\n"
    )


def test_log_of_the_service_is_configured_by_the_environment(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, port: int
) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PORT": str(port)}
    assert demo.run(environ | {"LOG_LEVEL": "trace", "LOG_FORMAT": "yaml"}) == 2
    variables = [line.partition(":")[0] for line in capfd.readouterr().err.splitlines()]
    assert {"LOG_LEVEL", "LOG_FORMAT"} <= set(variables)


# How to run image-puller in another terminal


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an `image-puller` beside this Python."""
    program = tmp_path / "venv" / "bin" / "image-puller"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python3")))
    return program


def test_command_has_no_folder_where_the_path_finds_it(program: Path) -> None:
    assert demo._command({"PATH": str(program.parent)}, 8080) == "image-puller"


def test_command_is_relative_to_the_working_directory(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert demo._command({"PATH": "/nowhere"}, 8080) == "venv/bin/image-puller"


def test_command_is_absolute_from_elsewhere_and_has_another_port(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sys.prefix)
    assert demo._command({}, 9000) == f"PORT=9000 {shlex.quote(str(program))}"


# The demo as a process


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


def image_puller(port: int, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in another terminal of the same user."""
    environ = {"PATH": os.environ["PATH"], "PORT": str(port), "TMPDIR": str(folder)}
    return subprocess.run(
        (sys.executable, "-m", "image_puller", *arguments),
        env=environ,
        capture_output=True,
        text=True,
        timeout=6 * TIMEOUT_SECONDS,
        check=False,
    )


def test_demo_pulls_pushed_images_on_three_nodes_and_leaves_no_file_or_process(
    process: subprocess.Popen[str], port: int, tmp_path: Path
) -> None:
    push, *others, status = printed_commands(process)
    with requests.Session() as session:
        answer = send(session, push)
        assert (answer.status_code, answer.content) == (202, b"")
        webhook = WEBHOOKS["quay"]
        pushed = image_puller(port, tmp_path, "demo", "push", "quay")
        assert (pushed.returncode, pushed.stderr) == (0, "")
        assert pushed.stdout.splitlines() == [
            f"POST http://127.0.0.1:{port}/webhooks/quay: 202 Accepted",
            f"Waiting for the nodes to pull {webhook.image}.",
            *(f"{node} holds it." for node in sorted(NODES)),
            f"All 3 nodes have the pushed digest, {webhook.digest}.",
        ]
        found = image_puller(port, tmp_path, "status", "-o", "json")
        assert found.stderr == ""
        assert is_on_all_nodes(json.loads(found.stdout), f"{WORKSPACE}:1.1.0")
        assert {send(session, curl).status_code for curl in others} == {202}
        assert send(session, status).json()["problems"] == []
        with pytest.raises(requests.ConnectionError):
            session.get(f"http://127.0.0.2:{port}/healthz", timeout=5)
    process.send_signal(signal.SIGTERM)
    assert process.stdout
    assert "WARNING" not in process.stdout.read()
    assert process.wait(TIMEOUT_SECONDS) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert list(tmp_path.iterdir()) == []
    after = image_puller(port, tmp_path, "demo", "push", "quay")
    assert after.returncode == 1
    assert after.stderr.startswith(f"no demo runs on port {port}; start one with ")


def is_on_all_nodes(status: Any, name: str) -> bool:
    (image,) = (image for image in status["images"] if image["image"] == name)
    return {node for node, found in image["nodes"].items() if found["imageID"] == "same"} == NODES
