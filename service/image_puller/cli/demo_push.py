"""`image-puller demo push`: sends a webhook to the running demo, and waits for its nodes."""

import threading
from http import HTTPStatus
from pathlib import Path
from typing import Any

from image_puller.cli import demo_content, demo_session, service_client
from image_puller.cli.demo_content import Webhook
from image_puller.controller.clock import Clock
from image_puller.errors import ImagePullerError
from image_puller.http.authentication import READ

WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.2


def run(source: str, port: str, clock: Clock) -> None:
    """Send the webhook of a source, and wait until all nodes hold the pushed image.

    Raises ImagePullerError where no demo listens on the port, and after `WAIT_SECONDS`.
    """
    webhook = demo_content.WEBHOOKS[source]
    folder = demo_session.found(port)
    if folder is None:
        raise _no_demo(port)
    url = f"http://127.0.0.1:{port}"
    try:
        _send(webhook, url, _secret(folder, webhook.file))
        _wait(webhook, url, _secret(folder, READ), clock)
    except (service_client.NoAnswerError, FileNotFoundError) as error:
        raise _no_demo(port) from error


def _no_demo(port: str) -> ImagePullerError:
    return ImagePullerError(
        f"no demo runs on port {port}; start one with `image-puller demo` in another terminal, "
        "or set PORT to the port of the one that runs"
    )


def _secret(folder: Path, name: str) -> str:
    return (folder / name).read_text()


def _send(webhook: Webhook, url: str, token: str) -> None:
    answer = service_client.send(
        "POST",
        url + webhook.path,
        webhook.file,
        headers=webhook.headers(token),
        data=webhook.body.encode(),
    )
    phrase = HTTPStatus(answer.status_code).phrase
    print(f"POST {url}{webhook.path}: {answer.status_code} {phrase}", flush=True)


def _wait(webhook: Webhook, url: str, token: str, clock: Clock) -> None:
    """Print a line for each node that holds the image, until all of them do."""
    print(f"Waiting for the nodes to pull {webhook.image}.", flush=True)
    deadline = clock.monotonic() + WAIT_SECONDS
    never_notified = threading.Condition()
    printed: set[str] = set()
    while True:
        headers = service_client.bearer(token.encode())
        status = service_client.send("GET", f"{url}/status", READ, headers=headers).json()
        nodes = _nodes(webhook, status)
        for name in sorted(nodes):
            if name not in printed and _holds(nodes[name]):
                printed.add(name)
                print(f"{name} holds it.", flush=True)
        if printed and len(printed) == status["daemonset"].get("desired"):
            print(f"All {len(printed)} nodes have the pushed digest, {webhook.digest}.")
            return
        if clock.monotonic() >= deadline:
            raise ImagePullerError(_too_late(webhook, nodes, printed))
        with never_notified:
            clock.wait(never_notified, _POLL_SECONDS)


def _nodes(webhook: Webhook, status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what `/status` has of each node about the pushed image, with the pushed digest."""
    for image in status["images"]:
        if image["image"] == webhook.image and image["digest"] == webhook.digest:
            nodes: dict[str, dict[str, Any]] = image["nodes"]
            return nodes
    return {}


def _holds(node: dict[str, Any]) -> bool:
    return bool(node["held"]) and node["imageID"] == "same"


def _too_late(webhook: Webhook, nodes: dict[str, dict[str, Any]], holding: set[str]) -> str:
    reasons = "; ".join(
        f"{name}: {node.get('reason', 'it has other content')}"
        for name, node in sorted(nodes.items())
        if name not in holding
    )
    return (
        f"after {WAIT_SECONDS:.0f} s {len(holding)} of {len(nodes)} nodes hold {webhook.image}"
        f"{f' ({reasons})' if reasons else ''}; see the log of the demo, and `image-puller status`"
    )
