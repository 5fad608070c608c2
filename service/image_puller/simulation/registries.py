"""Container registries in memory: images are pushed by calls, and read by the distribution API.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

import hashlib
import json
import re
import threading
from types import TracebackType
from typing import Self

from image_puller.simulation import image_names
from image_puller.simulation.responses import Json
from image_puller.simulation.server import Request, Response, Server
from image_puller.values.reference import Reference

_OK, _NOT_FOUND, _METHOD_NOT_ALLOWED = 200, 404, 405
_MANIFEST = re.compile(r"/v2/(?P<repository>[^?#]+)/manifests/(?P<version>[^/]+)")
_TAGS = re.compile(r"/v2/(?P<repository>[^?#]+)/tags/list")
_VERSION_HEADER = {"Docker-Distribution-API-Version": "registry/2.0"}


class RegistryServer:
    """Registries of any name behind one HTTP proxy, to be used in a `with` statement. Thread-safe.

    A client that uses `url` as its proxy for plain HTTP reaches each registry by its own name.
    `digests` gets the digest of each pushed image by its full name, as `SimulatedCluster.images`
    needs it.
    """

    def __init__(self, digests: dict[str, str] | None = None) -> None:
        self._digests = {} if digests is None else digests
        self._manifests: dict[str, dict[str, Json]] = {}
        """The manifests of each repository, by tag and by digest."""
        self._lock = threading.Lock()
        self._server = Server(self._serve, name="simulated registries")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        """The URL of the proxy."""
        return self._server.url

    def push(self, image: str, manifest: Json) -> str:
        """Store the manifest of a tag, and return its digest."""
        reference = image_names.resolve(image)
        if reference is None or reference.tag is None:
            raise ValueError(f"{image!r} is not an image with a tag")
        digest = digest_of(manifest)
        with self._lock:
            stored = self._manifests.setdefault(reference.name, {})
            stored |= {reference.tag: manifest, digest: manifest}
        self._digests |= {str(reference): digest, f"{reference.name}@{digest}": digest}
        return digest

    def _serve(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _error(_METHOD_NOT_ALLOWED, "UNSUPPORTED", "the registry is read-only")
        if request.path == "/v2/":
            return Response(_OK, {}, _VERSION_HEADER)
        # A client sends the name of a registry in the URL to its proxy, and as the host.
        registry = request.headers.get("host", "").lower()
        if found := _MANIFEST.fullmatch(request.path):
            name = Reference(registry=registry, repository=found["repository"]).name
            return self._manifest(name, found["version"])
        if found := _TAGS.fullmatch(request.path):
            reference = Reference(registry=registry, repository=found["repository"])
            return self._tags(reference, request.query)
        return _error(_NOT_FOUND, "UNSUPPORTED", f"the registry has no {request.path}")

    def _manifest(self, name: str, version: str) -> Response:
        with self._lock:
            manifest = self._manifests.get(name, {}).get(version)
        if manifest is None:
            return _error(_NOT_FOUND, "MANIFEST_UNKNOWN", f"{name} has no {version}")
        headers = {
            **_VERSION_HEADER,
            "Content-Type": str(manifest["mediaType"]),
            "Docker-Content-Digest": digest_of(manifest),
        }
        return Response(_OK, _text(manifest), headers)

    def _tags(self, reference: Reference, query: dict[str, str]) -> Response:
        """Return the tags in order, after `last`, and at most `n` of them."""
        with self._lock:
            stored = self._manifests.get(reference.name)
        if stored is None:
            return _error(_NOT_FOUND, "NAME_UNKNOWN", f"there is no {reference.name}")
        tags = sorted(tag for tag in stored if ":" not in tag and tag > query.get("last", ""))
        page = tags[: int(query.get("n", len(tags)))]
        headers = dict(_VERSION_HEADER)
        if page and page != tags:
            path = f"/v2/{reference.repository}/tags/list?n={query['n']}&last={page[-1]}"
            headers["Link"] = f'<{path}>; rel="next"'
        return Response(_OK, {"name": reference.repository, "tags": page}, headers)


def digest_of(manifest: Json) -> str:
    """Return the digest of a manifest as the registries store it."""
    return f"sha256:{hashlib.sha256(_text(manifest).encode()).hexdigest()}"


def _text(manifest: Json) -> str:
    return json.dumps(manifest, separators=(",", ":"))


def _error(status: int, code: str, message: str) -> Response:
    body = {"errors": [{"code": code, "message": message, "detail": None}]}
    return Response(status, body, dict(_VERSION_HEADER))
