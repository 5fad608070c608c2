"""OCI images made of bytes in memory: equal images have equal digests."""

import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from e2e.harness.workspace import Workspace

SLEEP = Path(__file__).parents[2] / "sleep"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]

CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"  # uncompressed, to save time
MANIFEST = "application/vnd.oci.image.manifest.v1+json"

Json = dict[str, Any]


@dataclass(frozen=True)
class File:
    """A file of a layer."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image: one layer with these files, and one more layer for each of `layers`.

    Equal bytes in `layers` are the same layer in all images.
    """

    files: Mapping[str, File]
    layers: Sequence[bytes] = ()
    entrypoint: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    directory: str = ""
    volumes: Sequence[str] = ()
    stop_signal: str = ""
    architecture: str = ARCHITECTURE

    @cached_property
    def blobs(self) -> list[bytes]:
        """The blobs that a registry needs before the manifest: layers, then the config."""
        return [*self._archives, self._config()]

    def manifest(self) -> Json:
        """Return the manifest, as an object."""
        *layers, config = self.blobs
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, config),
            "layers": [descriptor(LAYER, layer) for layer in layers],
        }

    @property
    def digest(self) -> str:
        """The digest of the manifest, by which registries and nodes know the image."""
        return digest_of(canonical(self.manifest()))

    @property
    def layer_digests(self) -> list[str]:
        """The digests of the layers, that of `files` first."""
        return [digest_of(layer) for layer in self._archives]

    def archive(self, name: str) -> bytes:
        """Return the image as an OCI archive, which runtimes import under this name."""
        manifest = canonical(self.manifest())
        named = descriptor(MANIFEST, manifest) | {"annotations": {"io.containerd.image.name": name}}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]}
        files = {
            "oci-layout": File(canonical({"imageLayoutVersion": "1.0.0"})),
            "index.json": File(canonical(index)),
        }
        for blob in (*self.blobs, manifest):
            files[f"blobs/{digest_of(blob).replace(':', '/')}"] = File(blob)
        return tar(files)

    @cached_property
    def _archives(self) -> list[bytes]:
        more = ({f"layer-{digest_of(layer)[7:19]}": File(layer)} for layer in self.layers)
        return [tar(self.files), *map(tar, more)]

    def _config(self) -> bytes:
        config = {
            "Entrypoint": list(self.entrypoint),
            "Env": [f"{name}={value}" for name, value in self.environment.items()],
            "User": self.user,
            "WorkingDir": self.directory,
            "Volumes": {path: {} for path in self.volumes},
            "StopSignal": self.stop_signal,
        }
        # An uncompressed layer's diff_id is its digest.
        rootfs = {"type": "layers", "diff_ids": self.layer_digests}
        return canonical(
            {
                "architecture": self.architecture,
                "os": "linux",
                "config": {key: value for key, value in config.items() if value},
                "rootfs": rootfs,
            }
        )


def tar(files: Mapping[str, File]) -> bytes:
    """Pack files into an archive; times and owners are constant."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, file in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(file.content), file.mode
            archive.addfile(entry, io.BytesIO(file.content))
    return packed.getvalue()


def canonical(document: Json) -> bytes:
    """Return the JSON text from which digests are computed."""
    return json.dumps(document, sort_keys=True).encode()


def descriptor(media_type: str, content: bytes) -> Json:
    """Return the descriptor by which manifests and indexes refer to the content."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def digest_of(content: bytes) -> str:
    """Return the digest of these bytes."""
    return f"sha256:{sha256(content).hexdigest()}"


@cache
def sleep_image(workspace: Workspace) -> Image:
    """Return an image of the product's own sleep, which runs until it is stopped.

    It needs no libraries, so it is small; tests use it wherever they need a container that runs.
    """
    build = workspace.folder("sleep")
    command = ("make", "--silent", f"ARCH={ARCHITECTURE}", f"BUILD={build}")
    subprocess.run(command, cwd=SLEEP, check=True)
    program = (build / ARCHITECTURE / "sleep").read_bytes()
    return Image(
        files={"sleep": File(program, 0o755)},
        entrypoint=("/sleep", "infinity"),
        user="65532:65532",
    )
