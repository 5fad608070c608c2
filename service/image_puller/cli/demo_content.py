"""What the demo has: the images in its registries, and the webhooks about new ones."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from image_puller.config.configuration import SLEEP_IMAGE
from image_puller.simulation import RegistryServer
from image_puller.simulation.registries import digest_of

_CLOUDEVENTS = "application/cloudevents+json"
_DISTRIBUTION = "application/vnd.docker.distribution.events.v2+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_HARBOR_IMAGE = "harbor.example.com/demo/workspace"
_QUAY_IMAGE = "quay.example.com/demo/notebook"
_DISTRIBUTION_IMAGE = "registry.example.com:5000/demo/runner"

IMAGES = {
    "workspace": f"{_HARBOR_IMAGE}:1.0.0",
    "notebook": f"{_QUAY_IMAGE}:latest",
    "runner": f"{_DISTRIBUTION_IMAGE}:v2.3.0",
}
"""The configured images, by entry."""
REGISTRIES = tuple(image.partition("/")[0] for image in IMAGES.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """The request by which a registry reports a push.

    `file` is the name of the secret. `prefix` stands before the secret in the Authorization header.
    `digest` is the content that the push brought.
    """

    source: str
    path: str
    file: str
    prefix: str
    content_type: str
    payload: Mapping[str, Any]
    image: str
    digest: str

    @property
    def body(self) -> str:
        """Return the payload as JSON."""
        return json.dumps(self.payload, separators=(",", ":"))

    def headers(self, token: str) -> dict[str, str]:
        """Return the headers of the request, with the secret's value."""
        return {"Authorization": self.prefix + token, "Content-Type": self.content_type}

    def curl(self, url: str, token: str) -> str:
        """Return the command that sends the request to the service at a URL, on one line."""
        headers = [f"{name}: {value}" for name, value in self.headers(token).items()]
        options = [word for header in headers for word in ("-H", header)]
        words = ("curl", "-sS", "-X", "POST", *options, "-d", self.body, url + self.path)
        return shlex.join(words)


def push_configured(registries: RegistryServer) -> None:
    """Push the images that are there before the service starts."""
    for image in (SLEEP_IMAGE, *IMAGES.values()):
        registries.push(image, _manifest(image, "first build"))


def push_new(registries: RegistryServer) -> None:
    """Push the images that the webhooks are about."""
    for webhook in WEBHOOKS.values():
        registries.push(webhook.image, _new_manifest(webhook.image))


def _new_manifest(image: str) -> dict[str, Any]:
    return _manifest(image, "second build")


def _manifest(image: str, build: str) -> dict[str, Any]:
    """Return the manifest of an image of one layer. Its content depends on the arguments only."""

    def descriptor(kind: str, size: int) -> dict[str, Any]:
        digest = hashlib.sha256(f"{image} {build} {kind}".encode()).hexdigest()
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}

    return {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": descriptor("config.v1+json", 500),
        "layers": [descriptor("layer.v1.tar+gzip", 1_000_000)],
    }


def _harbor() -> Webhook:
    image = f"{_HARBOR_IMAGE}:1.1.0"
    digest = digest_of(_new_manifest(image))
    resource = {"digest": digest, "tag": "1.1.0", "resource_url": image}
    return Webhook(
        source="harbor",
        path="/webhooks/harbor",
        file="harbor",
        prefix="",
        content_type="application/json",
        payload={
            "type": "PUSH_ARTIFACT",
            "occur_at": 1767225600,
            "operator": "ci",
            "event_data": {
                "resources": [resource],
                "repository": {"repo_full_name": "demo/workspace", "name": "workspace"},
            },
        },
        image=image,
        digest=digest,
    )


def _quay() -> Webhook:
    image = f"{_QUAY_IMAGE}:latest"
    return Webhook(
        source="quay",
        path="/webhooks/quay",
        file="quay",
        prefix="",
        content_type="application/json",
        payload={
            "repository": "demo/notebook",
            "namespace": "demo",
            "name": "notebook",
            "docker_url": _QUAY_IMAGE,
            "homepage": "https://quay.example.com/repository/demo/notebook",
            "updated_tags": ["latest"],
        },
        image=image,
        digest=digest_of(_new_manifest(image)),
    )


def _distribution() -> Webhook:
    image = f"{_DISTRIBUTION_IMAGE}:v2.4.0"
    digest = digest_of(_new_manifest(image))
    target = {
        "mediaType": _MANIFEST,
        "size": 500,
        "digest": digest,
        "repository": "demo/runner",
        "tag": "v2.4.0",
    }
    host = {"host": "registry.example.com:5000"}
    return Webhook(
        source="distribution",
        path="/webhooks/distribution",
        file="distribution",
        prefix="Bearer ",
        content_type=_DISTRIBUTION,
        payload={"events": [{"id": "1", "action": "push", "target": target, "request": host}]},
        image=image,
        digest=digest,
    )


def _cloudevent() -> Webhook:
    image = f"{_HARBOR_IMAGE}:1.2.0"
    digest = digest_of(_new_manifest(image))
    return Webhook(
        source="cloudevents",
        path="/",
        file="events",
        prefix="Bearer ",
        content_type=_CLOUDEVENTS,
        payload={
            "specversion": "1.0",
            "id": "1",
            "source": "/demo",
            "type": "io.image-puller.image.pushed",
            "data": {
                "registry": "harbor.example.com",
                "repository": "demo/workspace",
                "tag": "1.2.0",
                "digest": digest,
            },
        },
        image=image,
        digest=digest,
    )


WEBHOOKS = {each.source: each for each in (_harbor(), _quay(), _distribution(), _cloudevent())}
"""The webhook of each source, in the order in which the demo shows them."""
SECRETS = (*(webhook.file for webhook in WEBHOOKS.values()), "read")
"""The names of the secrets that the demo creates."""
