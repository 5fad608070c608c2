"""A real registry, and pushes by its HTTP API."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import requests

from e2e.harness.oci_images import INDEX, MANIFEST, File, Image, canonical, descriptor, digest_of
from e2e.harness.processes import Process, listens
from e2e.harness.workspace import ADDRESS, TIMEOUT_SECONDS, Workspace, http_session

PORT = 5000
HOST = f"{ADDRESS}:{PORT}"  # the host in references; 127.0.0.1:5000 is the same registry
LOCKED_PORT = 5001
LOCKED_HOST = f"{ADDRESS}:{LOCKED_PORT}"
USER, PASSWORD = "user", "right"
# The output of htpasswd for them, with bcrypt, the only hash that the registry accepts.
HTPASSWD = f"{USER}:$2a$05$Io4Jr4WyRtzXHjCtZ2.kHeO9R1btsDbSZ1DpvZqK50jQz16qpDb06\n"

# A line of the access log for a request that got the content of a blob.
BLOB_FETCH = re.compile(r'"GET /v2/\S+/blobs/(sha256:[0-9a-f]{64}) HTTP/1\.1" 20[06] ')


class RegistryError(Exception):
    """The registry refused a request; `code` is the HTTP status code."""

    def __init__(self, response: requests.Response) -> None:
        self.code = response.status_code
        request = response.request
        super().__init__(f"{request.method} {request.url}: {self.code} {response.text}")


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A receiver of the registry's notifications, with the Authorization header for it."""

    url: str
    authorization: str


class Registry:
    """Debian's docker-registry, which also sends notifications of pulls and blobs.

    A locked one accepts only the password of `USER`, and runs beside the other at `LOCKED_HOST`.
    """

    def __init__(
        self, workspace: Workspace, webhooks: Sequence[Webhook] = (), *, locked: bool = False
    ) -> None:
        folder = workspace.folder("registry")
        self.host = LOCKED_HOST if locked else HOST
        self._credentials = (USER, PASSWORD) if locked else None
        config = folder / "config.yml"  # JSON is YAML
        self.storage = folder / "images"
        settings = _configuration(self.host, str(self.storage), webhooks)
        if locked:
            (folder / "htpasswd").write_text(HTPASSWD)
            realm = {"realm": "e2e", "path": str(folder / "htpasswd")}
            settings["auth"] = {"htpasswd": realm}
        config.write_text(json.dumps(settings))
        self._process = Process(
            name="docker-registry",
            command=("docker-registry", "serve", str(config)),
            environment=workspace.environment(),
            log=workspace.log("docker-registry"),
            is_ready=lambda: listens(ADDRESS, LOCKED_PORT if locked else PORT),
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()

    def start(self) -> None:
        """Start it; it still has its images."""
        self._process.start()

    def stop(self) -> None:
        """Stop it; notifications that were not delivered are lost."""
        self._process.stop()

    def forget_notifications(self) -> None:
        """Lose the notifications that were not delivered, so that earlier pushes stay unknown.

        A configured tag that was pushed while the service knows it is always held by a container.
        """
        self.stop()
        self.start()

    def push(self, repository: str, tag: str, content: str) -> str:
        """Push an image of one file, and return its digest; equal content has an equal digest."""
        return self.push_image(repository, tag, _image_of(content, "amd64"))

    def push_image(self, repository: str, tag: str, image: Image) -> str:
        """Push an image, and return its digest."""
        return self.put_manifest(repository, tag, self.put_blobs(repository, image))

    def push_index(
        self,
        repository: str,
        tag: str,
        content: str,
        *,
        architectures: Sequence[str] = ("amd64", "arm64"),
    ) -> str:
        """Push a multi-platform image as clients do: its images without a tag, the index last."""
        children = []
        for architecture in architectures:
            manifest = self.put_blobs(repository, _image_of(content, architecture))
            self.put_manifest(repository, digest_of(canonical(manifest)), manifest)
            platform = {"architecture": architecture, "os": "linux"}
            children.append(descriptor(MANIFEST, canonical(manifest)) | {"platform": platform})
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": children}
        return self.put_manifest(repository, tag, index)

    def push_artifact(self, repository: str, tag: str, content: str) -> str:
        """Push an OCI artifact, which has an empty config, and return its digest."""
        config, layer = b"{}", content.encode()
        for blob in (config, layer):
            self._put_blob(repository, blob)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.example.model",
            "config": descriptor("application/vnd.oci.empty.v1+json", config),
            "layers": [descriptor("application/vnd.example.model", layer)],
        }
        return self.put_manifest(repository, tag, manifest)

    def push_layout(
        self, repository: str, tag: str, layout: Path, *, label: str | None = None
    ) -> str:
        """Push the image of an OCI layout, and return its digest; a label changes the digest."""

        def read(described: dict[str, Any]) -> bytes:
            digest: str = described["digest"]
            return (layout / "blobs" / digest.replace(":", "/")).read_bytes()

        (described,) = json.loads((layout / "index.json").read_text())["manifests"]
        body = read(described)
        manifest = json.loads(body)
        config = read(manifest["config"])
        if label is not None:
            labelled = json.loads(config)
            labelled["config"].setdefault("Labels", {})["e2e"] = label
            config = canonical(labelled)
            manifest["config"] = descriptor(manifest["config"]["mediaType"], config)
            body = canonical(manifest)
        for blob in (config, *map(read, manifest["layers"])):
            self._put_blob(repository, blob)
        headers = {"Content-Type": described["mediaType"]}
        self._send("PUT", f"/v2/{repository}/manifests/{tag}", data=body, headers=headers)
        return digest_of(body)

    def put_blobs(self, repository: str, image: Image) -> dict[str, Any]:
        """Upload the blobs of an image, and return its manifest, which is not pushed yet."""
        for blob in image.blobs:
            self._put_blob(repository, blob)
        return image.manifest()

    def put_manifest(self, repository: str, reference: str, manifest: dict[str, Any]) -> str:
        """Push a manifest or index, and return its digest."""
        body = canonical(manifest)
        headers = {"Content-Type": manifest["mediaType"]}
        path = f"/v2/{repository}/manifests/{reference}"
        self._send("PUT", path, data=body, headers=headers)
        return digest_of(body)

    def digest(self, repository: str, tag: str) -> str | None:
        """Return the current digest of the tag, or None if there is no such tag."""
        path, accept = f"/v2/{repository}/manifests/{tag}", f"{MANIFEST}, {INDEX}"
        try:
            response = self._send("HEAD", path, headers={"Accept": accept})
        except RegistryError as error:
            if error.code == requests.codes.not_found:
                return None
            raise
        return response.headers["Docker-Content-Digest"]

    def manifest(self, repository: str, reference: str) -> dict[str, Any]:
        """Return the manifest or index of a tag or digest."""
        path, accept = f"/v2/{repository}/manifests/{reference}", f"{MANIFEST}, {INDEX}"
        manifest: dict[str, Any] = self._send("GET", path, headers={"Accept": accept}).json()
        return manifest

    def blob(self, repository: str, digest: str) -> bytes:
        """Return the content of a blob."""
        return self._send("GET", f"/v2/{repository}/blobs/{digest}").content

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest with all its tags."""
        self._send("DELETE", f"/v2/{repository}/manifests/{digest}")

    def blob_fetches(self) -> Counter[str]:
        """Count the fetches of each blob, by digest, since the registry was made."""
        return Counter(BLOB_FETCH.findall(self._process.log.read_text()))

    def failed_notifications(self) -> int:
        """Count the notifications that could not be delivered."""
        return self._process.log.read_text().count("error writing event")

    def _put_blob(self, repository: str, blob: bytes) -> None:
        upload = self._send("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
        path = upload.removeprefix(f"http://{self.host}")
        self._send("PUT", f"{path}&digest={digest_of(blob)}", data=blob)

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        with http_session() as session:
            session.auth = self._credentials
            response = session.request(
                method, f"http://{self.host}{path}", timeout=TIMEOUT_SECONDS, **options
            )
        if not response.ok:
            raise RegistryError(response)
        return response


def _configuration(host: str, images: str, webhooks: Sequence[Webhook]) -> dict[str, Any]:
    return {
        "version": 0.1,
        "http": {"addr": f":{host.rpartition(':')[2]}"},
        "storage": {"filesystem": {"rootdirectory": images}, "delete": {"enabled": True}},
        "notifications": {
            "endpoints": [
                {
                    "name": f"webhook-{number}",
                    "url": webhook.url,
                    "headers": {"Authorization": [webhook.authorization]},
                    "timeout": "1s",  # its default
                    # The defaults are 10 attempts at once, then one a second: too slow.
                    "threshold": 1,
                    "backoff": "200ms",
                }
                for number, webhook in enumerate(webhooks)
            ]
        },
    }


def _image_of(content: str, architecture: str) -> Image:
    return Image(files={"content": File(content.encode())}, architecture=architecture)
