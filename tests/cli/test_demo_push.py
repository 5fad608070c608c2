"""`image-puller demo push`, and the folder in which it finds the running demo."""

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from image_puller.cli import demo_push, demo_session, main
from image_puller.cli.demo_content import SECRETS, WEBHOOKS
from image_puller.controller.clock import Clock
from image_puller.errors import ImagePullerError

PORT = 9000
URL = f"http://127.0.0.1:{PORT}"
TOKENS = {name: f"token-of-{name}" for name in SECRETS}
NO_DEMO = (
    f"no demo runs on port {PORT}; start one with `image-puller demo` in another terminal, or set "
    "PORT to the port of the one that runs"
)


class WaitingClock(Clock):
    """A clock whose time passes when somebody waits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        assert seconds is not None
        self.seconds += seconds


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a folder for temporary files that only this test has."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("PORT", "WEBHOOK_SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def folder() -> Iterator[Path]:
    """Create the folder of a demo."""
    with demo_session.created(PORT, TOKENS) as folder:
        yield folder


@pytest.fixture
def service() -> Iterator[responses.RequestsMock]:
    """Return a service that takes each push."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as service:
        for webhook in WEBHOOKS.values():
            service.post(URL + webhook.path, status=202)
        yield service


def status(source: str, *nodes: dict[str, Any], digest: str | None = None) -> dict[str, Any]:
    """Return a status with what each node has of the image of a source."""
    webhook = WEBHOOKS[source]
    image = {
        "image": webhook.image,
        "digest": digest or webhook.digest,
        "nodes": {f"node-{number}": node for number, node in enumerate(nodes, start=1)},
    }
    other: dict[str, Any] = {"image": "quay.io/other:1", "digest": None, "nodes": {}}
    return {"daemonset": {"exists": True, "desired": len(nodes)}, "images": [other, image]}


NOTHING: dict[str, Any] = {"daemonset": None, "groups": {}, "images": [], "problems": []}
HELD = {"held": True, "imageID": "same"}
OTHER = {"held": True, "imageID": "other"}
PULLING = {"held": False, "reason": "ErrImagePull: not found"}


def authorization(request: requests.PreparedRequest) -> str:
    """Return the Authorization header of a request that was sent with it as bytes."""
    header: str | bytes = request.headers["Authorization"]
    assert isinstance(header, bytes)
    return header.decode()


def push(source: str) -> None:
    demo_push.run(source, str(PORT), WaitingClock())


@pytest.mark.parametrize("source", WEBHOOKS)
def test_push_sends_the_request_of_the_curl_line(
    folder: Path, service: responses.RequestsMock, source: str
) -> None:
    service.get(f"{URL}/status", json=status(source, HELD))
    push(source)
    webhook = WEBHOOKS[source]
    sent = service.calls[0].request
    line = webhook.curl(URL, TOKENS[webhook.file])
    assert sent.url == URL + webhook.path
    assert isinstance(sent.body, bytes)
    assert f"-d '{sent.body.decode()}'" in line
    for header in ("Authorization", "Content-Type"):
        assert f"'{header}: {sent.headers[header]}'" in line
    assert authorization(service.calls[1].request) == "Bearer token-of-read"


def test_push_prints_each_node_once_when_it_holds_the_pushed_content(
    folder: Path, service: responses.RequestsMock, capsys: pytest.CaptureFixture[str]
) -> None:
    for answer in (
        {"daemonset": {"exists": False}, "images": []},
        status("quay", HELD, HELD, digest=f"sha256:{'a' * 64}"),
        status("quay", PULLING, OTHER),
        status("quay", HELD, OTHER),
        status("quay", HELD, HELD),
    ):
        service.get(f"{URL}/status", json=answer)
    push("quay")
    assert capsys.readouterr().out.splitlines() == [
        f"POST {URL}/webhooks/quay: 202 Accepted",
        f"Waiting for the nodes to pull {WEBHOOKS['quay'].image}.",
        "node-1 holds it.",
        "node-2 holds it.",
        f"All 2 nodes have the pushed digest, {WEBHOOKS['quay'].digest}.",
    ]


def test_push_that_no_node_holds_in_time_ends_with_the_reason(
    folder: Path, service: responses.RequestsMock, capsys: pytest.CaptureFixture[str]
) -> None:
    service.get(f"{URL}/status", json=status("harbor", HELD, PULLING, OTHER))
    with pytest.raises(ImagePullerError) as failed:
        push("harbor")
    assert str(failed.value) == (
        f"after 60 s 1 of 3 nodes hold {WEBHOOKS['harbor'].image} "
        "(node-2: ErrImagePull: not found; node-3: it has other content); "
        "see the log of the demo, and `image-puller status`"
    )
    assert "node-1 holds it." in capsys.readouterr().out


def test_push_that_the_service_does_not_show_in_time_ends_with_an_error(
    folder: Path, service: responses.RequestsMock
) -> None:
    service.get(f"{URL}/status", json={"daemonset": {"exists": False}, "images": []})
    with pytest.raises(ImagePullerError) as failed:
        push("harbor")
    assert str(failed.value) == (
        f"after 60 s 0 of 0 nodes hold {WEBHOOKS['harbor'].image}; "
        "see the log of the demo, and `image-puller status`"
    )


def test_rejected_push_ends_with_the_status(folder: Path, service: responses.RequestsMock) -> None:
    service.replace("POST", f"{URL}/webhooks/harbor", status=503)
    with pytest.raises(ImagePullerError, match="/webhooks/harbor answered 503"):
        push("harbor")


def test_push_without_a_demo_has_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", str(PORT))
    assert main.main(["demo", "push", "harbor"]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"{NO_DEMO}\n")


def test_push_after_a_killed_demo_has_what_to_do(
    folder: Path, service: responses.RequestsMock
) -> None:
    service.replace("POST", f"{URL}/webhooks/harbor", body=requests.ConnectionError("refused"))
    with pytest.raises(ImagePullerError) as failed:
        push("harbor")
    assert str(failed.value) == NO_DEMO


def test_push_while_the_demo_ends_has_what_to_do(
    folder: Path, service: responses.RequestsMock
) -> None:
    (folder / "harbor").unlink()
    with pytest.raises(ImagePullerError) as failed:
        push("harbor")
    assert str(failed.value) == NO_DEMO


# The folder


def test_folder_is_private_and_removed_at_the_end(temporary_files: Path) -> None:
    with demo_session.created(PORT, TOKENS) as folder:
        assert demo_session.found(str(PORT)) == folder
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {file.name: file.read_text() for file in folder.iterdir()} == TOKENS
        assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert demo_session.found(str(PORT)) is None
    assert list(temporary_files.iterdir()) == []


def test_folder_of_a_killed_demo_is_replaced(folder: Path, temporary_files: Path) -> None:
    with demo_session.created(PORT, {"read": "new"}) as again:
        assert again == folder
        assert [(file.name, file.read_text()) for file in again.iterdir()] == [("read", "new")]
    assert list(temporary_files.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_what_is_no_folder_is_neither_used_nor_followed(
    folder: Path, temporary_files: Path, kind: str
) -> None:
    target = temporary_files / "target"
    folder.rename(target)
    if kind == "file":
        folder.write_text("x")
    else:
        folder.symlink_to(target)
    assert demo_session.found(str(PORT)) is None
    with (
        pytest.raises(ImagePullerError, match=r"can't create its folder .*; remove what is there"),
        demo_session.created(PORT, {"read": "new"}),
    ):
        pass
    assert (target / "read").read_text() == TOKENS["read"]
    assert {file.name for file in temporary_files.iterdir()} == {"target", folder.name}
    folder.unlink()


def test_folder_of_another_user_does_not_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = folder.name
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    folder.rename(folder.with_name(name.replace(f"-{uid}-", f"-{uid + 1}-")))
    assert demo_session.found(str(PORT)) is None


def test_folder_that_others_may_read_does_not_count(folder: Path) -> None:
    folder.chmod(0o750)
    assert demo_session.found(str(PORT)) is None


# status and trigger-check with the demo's secrets


@pytest.mark.parametrize(
    ("command", "method", "path", "name"),
    [("status", "GET", "/status", "read"), ("trigger-check", "POST", "", "events")],
)
def test_command_without_a_secret_uses_that_of_the_demo(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, method: str, path: str, name: str
) -> None:
    monkeypatch.setenv("PORT", str(PORT))
    with responses.RequestsMock() as service:
        service.add(method, URL + path, json=NOTHING)
        assert main.main([command]) == 0
        assert authorization(service.calls[0].request) == f"Bearer {TOKENS[name]}"


@pytest.mark.parametrize("reason", ["another port", "a URL", "a folder of secrets"])
def test_command_for_another_service_does_not_send_the_secret_of_the_demo(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setenv("PORT", str(PORT + 1 if reason == "another port" else PORT))
    if reason == "a folder of secrets":
        monkeypatch.setenv("WEBHOOK_SECRETS_DIR", str(tmp_path))
    url = "https://puller.example.com" if reason == "a URL" else f"http://127.0.0.1:{PORT}"
    if reason == "another port":
        url = f"http://127.0.0.1:{PORT + 1}"
    with responses.RequestsMock() as service:
        service.get(f"{url}/status", json=NOTHING)
        assert main.main(["status", *(["--url", url] if reason == "a URL" else [])]) == 0
        assert "Authorization" not in service.calls[0].request.headers
