"""What a manifest describes: a container image, or another artifact such as a Helm chart.

https://github.com/opencontainers/image-spec/blob/main/manifest.md
"""

from collections.abc import Iterator, Mapping
from typing import Any

IMAGE_CONFIGS = (
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
)
_ATTESTATION = ("vnd.docker.reference.type", "attestation-manifest")
_CHARACTERS = 100
_NO_IMAGES = "an index without images"


def other_kind(manifest: Mapping[str, Any]) -> str | None:
    """Return what a manifest is where it is no image: a media type. Return None for an image.

    What a manifest does not say counts as an image's, because old manifests say little.
    """
    kind = _text(manifest, "artifactType")
    if kind and kind not in IMAGE_CONFIGS:
        return kind[:_CHARACTERS]
    if "manifests" in manifest:
        parts = [*_objects(manifest, "manifests")]
        return _NO_IMAGES if parts and not any(map(_may_be_image, parts)) else None
    config = manifest.get("config")
    kind = _text(config, "mediaType") if isinstance(config, Mapping) else ""
    if kind and kind not in IMAGE_CONFIGS:
        return kind[:_CHARACTERS]
    layers = [_text(layer, "mediaType") for layer in _objects(manifest, "layers")]
    # Signatures and attestations may have the configuration of an image, but not its layers.
    if layers and not any(map(_may_be_layer, layers)):
        return layers[0][:_CHARACTERS]
    return None


def _may_be_image(part: Mapping[str, Any]) -> bool:
    kind = _text(part, "mediaType")
    annotations = part.get("annotations")
    name, value = _ATTESTATION
    if isinstance(annotations, Mapping) and annotations.get(name) == value:
        return False
    if _text(part, "artifactType") not in ("", *IMAGE_CONFIGS):
        return False
    # The index of a build cache has layers.
    return not kind or "manifest" in kind or ".index." in kind


def _may_be_layer(kind: str) -> bool:
    return not kind or "tar" in kind or "image." in kind


def _objects(manifest: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    values = manifest.get(name)
    listed = values if isinstance(values, list) else []
    return (each for each in listed if isinstance(each, Mapping))


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    return text if isinstance(text, str) else ""
