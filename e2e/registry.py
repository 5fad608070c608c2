"""A real registry, and pushes to it by its HTTP API."""

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

import requests

from e2e.ground import ADDRESS, Ground, http_session
from e2e.processes import Process, answers

PORT = 5000
HOST = f"{ADDRESS}:{PORT}"  # what references begin with; 127.0.0.1:5000 is the same registry

CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class RegistryError(Exception):
    """The registry's refusal, with its HTTP status code."""

    def __init__(self, response: requests.Response) -> None:
        self.code = response.status_code
        request = response.request
        super().__init__(f"{request.method} {request.url}: {self.code} {response.text}")


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A place that the registry tells about pushes, with the Authorization header it sends."""

    url: str
    authorization: str


class Registry:
    """Debian's docker-registry; its webhooks tell of pulls and blobs too."""

    host = HOST

    def __init__(self, ground: Ground, webhooks: Sequence[Webhook] = ()) -> None:
        folder = ground.folder("registry")
        config = folder / "config.yml"  # JSON is YAML
        config.write_text(json.dumps(_configuration(str(folder / "images"), webhooks)))
        self._process = Process(
            name="docker-registry",
            command=(ground.program("docker-registry"), "serve", str(config)),
            environment=ground.environment(),
            log=ground.log("docker-registry"),
            is_ready=lambda: answers(f"http://{HOST}/v2/"),
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()

    def start(self) -> None:
        """Start it, with the images that it had."""
        self._process.start()

    def stop(self) -> None:
        """Stop it; notifications that were not delivered are lost."""
        self._process.stop()

    def push(self, repository: str, tag: str, content: str) -> str:
        """Push an image of one file, and return its digest: the same content, the same digest."""
        return self._put_manifest(repository, tag, self._image(repository, content, "amd64"))

    def push_index(self, repository: str, tag: str, content: str) -> str:
        """Push a multi-platform image as clients do: its images without a tag, the index last."""
        children = []
        for architecture in ("amd64", "arm64"):
            manifest = self._image(repository, content, architecture)
            self._put_manifest(repository, _digest(_canonical(manifest)), manifest)
            platform = {"architecture": architecture, "os": "linux"}
            children.append(_descriptor(MANIFEST, _canonical(manifest)) | {"platform": platform})
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": children}
        return self._put_manifest(repository, tag, index)

    def digest(self, repository: str, tag: str) -> str | None:
        """Return the digest that the tag has now, or None if there is no such tag."""
        path, accept = f"/v2/{repository}/manifests/{tag}", f"{MANIFEST}, {INDEX}"
        try:
            response = self._send("HEAD", path, headers={"Accept": accept})
        except RegistryError as error:
            if error.code == requests.codes.not_found:
                return None
            raise
        return response.headers["Docker-Content-Digest"]

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest and with it all its tags."""
        self._send("DELETE", f"/v2/{repository}/manifests/{digest}")

    def _image(self, repository: str, content: str, architecture: str) -> dict[str, Any]:
        layer = _archive(content.encode())
        # An uncompressed layer's diff_id is its digest.
        rootfs = {"type": "layers", "diff_ids": [_digest(layer)]}
        config = {"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs}
        for blob in (layer, _canonical(config)):
            self._put_blob(repository, blob)
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, _canonical(config)),
            "layers": [_descriptor(LAYER, layer)],
        }

    def _put_blob(self, repository: str, blob: bytes) -> None:
        upload = self._send("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
        path = upload.removeprefix(f"http://{HOST}")
        self._send("PUT", f"{path}&digest={_digest(blob)}", data=blob)

    def _put_manifest(self, repository: str, reference: str, manifest: dict[str, Any]) -> str:
        body = _canonical(manifest)
        headers = {"Content-Type": manifest["mediaType"]}
        path = f"/v2/{repository}/manifests/{reference}"
        self._send("PUT", path, data=body, headers=headers)
        return _digest(body)

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        with http_session() as session:
            response = session.request(method, f"http://{HOST}{path}", timeout=30, **options)
        if not response.ok:
            raise RegistryError(response)
        return response


def _configuration(images: str, webhooks: Sequence[Webhook]) -> dict[str, Any]:
    return {
        "version": 0.1,
        "http": {"addr": f":{PORT}"},
        "storage": {"filesystem": {"rootdirectory": images}, "delete": {"enabled": True}},
        "notifications": {
            "endpoints": [
                {
                    "name": f"webhook-{number}",
                    "url": webhook.url,
                    "headers": {"Authorization": [webhook.authorization]},
                    "timeout": "1s",  # its default
                    # Its defaults are 10 attempts at once, then one a second: tests are in a hurry.
                    "threshold": 1,
                    "backoff": "200ms",
                }
                for number, webhook in enumerate(webhooks)
            ]
        },
    }


def _archive(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("content")  # its time, owner and mode are constant
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"
