"""Webhook requests as a registry would send them, over as many connections as a test wants."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256

import requests

from e2e.harness.installation import SECRET
from e2e.harness.kubernetes_api import Json
from e2e.harness.oci_images import MANIFEST
from e2e.harness.registry import HOST
from e2e.harness.workspace import TIMEOUT_SECONDS, http_session, wait_until

CONTENT_TYPE = "application/vnd.docker.distribution.events.v2+json"


def notification(repository: str, tag: str, content: str, *, time: str | None = None) -> Json:
    """Return what the registry says of a push; equal content has an equal digest."""
    digest = f"sha256:{sha256(content.encode()).hexdigest()}"
    event = {
        "id": f"{repository}:{tag}@{digest}",
        "timestamp": time or datetime.now(UTC).isoformat(),
        "action": "push",
        "target": {
            "mediaType": MANIFEST,
            "size": 100,
            "digest": digest,
            "repository": repository,
            "tag": tag,
        },
        "request": {"host": HOST, "method": "PUT"},
    }
    return {"events": [event]}


def send(session: requests.Session, url: str, body: Json) -> requests.Response:
    """Send one request, and return what it was answered."""
    return session.post(
        f"{url}/webhooks/distribution",
        json=body,
        headers={"Authorization": f"Bearer {SECRET}", "Content-Type": CONTENT_TYPE},
        timeout=TIMEOUT_SECONDS,
    )


def deliver(session: requests.Session, url: str, body: Json) -> int:
    """Send a request until it is not answered 503, as registries do, and return the status code."""
    return until_taken(lambda: send(session, url, body)).status_code


def until_taken(send: Callable[[], requests.Response]) -> requests.Response:
    """Send until the answer is not 503, which a stall of the machine may be, and return it."""

    def attempt() -> tuple[requests.Response] | None:
        answer = send()
        return None if answer.status_code == requests.codes.service_unavailable else (answer,)

    (answer,) = wait_until(attempt, "an answer other than 503")
    return answer


def post(url: str, body: Json) -> int:
    """Deliver one request over a connection of its own."""
    with http_session() as session:
        return deliver(session, url, body)


def post_once(url: str, body: Json) -> requests.Response:
    """Send one request over a connection of its own, whatever it is answered."""
    with http_session() as session:
        return send(session, url, body)


def post_all(urls: Sequence[str], bodies: Sequence[Json], *, connections: int) -> list[int]:
    """Send all over so many connections, each to one of the services in turn, in rising order."""
    queue = iter(bodies)

    def run(connection: int) -> list[int]:
        with http_session() as session:
            url = urls[connection % len(urls)]
            # A list's iterator hands each element to one thread, in order.
            return [deliver(session, url, body) for body in queue]

    with ThreadPoolExecutor(connections) as pool:
        return [code for codes in pool.map(run, range(connections)) for code in codes]
