"""GitHub Packages: https://docs.github.com/en/webhooks/webhook-events-and-payloads#package.

The events `package` and `registry_package` differ only in the key of their object. Their times are
not those of the push, so they count as absent.
"""

from collections.abc import Iterator
from typing import Any

from image_puller.events.event import Event, Ignored, ImagePushed
from image_puller.events.payload import field, optional
from image_puller.events.sources.image import host_and_path, image_event
from image_puller.events.sources.reasons import Reason, of_artifact
from image_puller.values.artifact import other_kind
from image_puller.values.reference import is_digest

_REGISTRY = "ghcr.io"
_PUSHES = ("published", "updated", "create")  # "create" was sent until 2021
_CONTAINERS = ("container", "docker")
_KINDS = ("package_type", "ecosystem", "registry.type")
_DIGESTS = (
    "package_version.version",
    "package_version.name",
    "package_version.container_metadata.manifest.digest",
    "package_version.container_metadata.tag.digest",
)


def decode(payload: Any) -> Iterator[Event]:
    """Yield the event of a package's version. Other events are ignored."""
    package = optional(payload, "package", dict) or optional(payload, "registry_package", dict)
    if package is None:
        yield Ignored(reason=Reason.TEST if "zen" in payload else Reason.UNKNOWN_TYPE)
    elif optional(payload, "action", str) not in _PUSHES:
        yield Ignored(reason=Reason.UNKNOWN_TYPE)
    elif not any(_text(package, kind).lower() in _CONTAINERS for kind in _KINDS):
        yield Ignored(reason=Reason.ARTIFACT)
    else:
        yield _pushed(package)


def _pushed(package: dict[str, Any]) -> Event:
    if kind := other_kind(_manifest(package)):
        return Ignored(reason=of_artifact(kind))
    name, tag_of_url = _split(_text(package, "package_version.package_url"))
    registry, repository = host_and_path(name or _name(package))
    digests = (_text(package, path) for path in _DIGESTS)
    return image_event(
        ImagePushed,
        registry=registry.lower(),
        repository=repository.lower(),
        tag=_tag(package) or tag_of_url,
        digest=next(filter(is_digest, digests), None),
        time=None,
    )


def _manifest(package: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest in the names of OCI. GitHub writes its keys in snake case."""
    path = "package_version.container_metadata.manifest"
    manifest = optional(package, path, dict) or {}
    config, layers = manifest.get("config"), manifest.get("layers")
    return {
        "artifactType": manifest.get("artifact_type"),
        "config": {"mediaType": config.get("media_type") if isinstance(config, dict) else None},
        "layers": [
            {"mediaType": layer.get("media_type")}
            for layer in (layers if isinstance(layers, list) else [])
            if isinstance(layer, dict)
        ],
    }


def _split(url: str) -> tuple[str, str]:
    """Return the name and the tag of a `package_url`, which may end in a colon without a tag."""
    whole = url.partition("@")[0]
    name, colon, tag = whole.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (whole, "")


def _name(package: dict[str, Any]) -> str:
    """Return the name of a package without a `package_url`, as payloads had it until 2021.

    Until 2020 `registry.url` was the image's full address.
    """
    namespace = _text(package, "namespace")
    if namespace:
        return f"{_REGISTRY}/{namespace}/{field(package, 'name', str)}"
    host, path = host_and_path(_text(package, "registry.url"))
    if host == _REGISTRY:
        return f"{host}/{path}"
    owner, name = field(package, "owner.login", str), field(package, "name", str)
    return f"{_REGISTRY}/{owner}/{name}"


def _tag(package: dict[str, Any]) -> str:
    if optional(package, "package_version.container_metadata", dict):
        return _text(package, "package_version.container_metadata.tag.name")
    return _text(package, "package_version.version")  # until 2020


def _text(package: dict[str, Any], path: str) -> str:
    return optional(package, path, str) or ""
