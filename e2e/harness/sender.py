"""Webhook requests like those of a registry, over any number of connections."""

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
    """Return the notification of a push; equal content has an equal digest."""
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
    """Send one request, and return the answer."""
    return session.post(
        f"{url}/webhooks/distribution",
        json=body,
        headers={"Authorization": f"Bearer {SECRET}", "Content-Type": CONTENT_TYPE},
        timeout=TIMEOUT_SECONDS,
    )


def deliver(session: requests.Session, url: str, body: Json) -> int:
    """Send a request until the answer is not 503, as registries do; return the status code."""
    return until_taken(lambda: send(session, url, body)).status_code


def until_taken(send: Callable[[], requests.Response]) -> requests.Response:
    """Send until the answer is not 503, which can come from a busy machine; return it."""

    def attempt() -> tuple[requests.Response] | None:
        answer = send()
        return None if answer.status_code == requests.codes.service_unavailable else (answer,)

    (answer,) = wait_until(attempt, "an answer other than 503")
    return answer


def post(url: str, body: Json) -> int:
    """Deliver one request over a new connection, and return the status code."""
    with http_session() as session:
        return deliver(session, url, body)


def post_once(url: str, body: Json) -> requests.Response:
    """Send one request over a new connection, and return the answer, even a 503."""
    with http_session() as session:
        return send(session, url, body)


def post_all(urls: Sequence[str], bodies: Sequence[Json], *, connections: int) -> list[int]:
    """Send all bodies in order over this number of connections, spread over the services."""
    queue = iter(bodies)

    def run(connection: int) -> list[int]:
        with http_session() as session:
            url = urls[connection % len(urls)]
            # The threads share the iterator, and each body goes to one of them.
            return [deliver(session, url, body) for body in queue]

    with ThreadPoolExecutor(connections) as pool:
        return [code for codes in pool.map(run, range(connections)) for code in codes]
