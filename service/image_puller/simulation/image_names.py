"""Image names as kubelets and container runtimes resolve them."""

import hashlib

from image_puller.values import reference
from image_puller.values.reference import InvalidReferenceError, Reference


def resolve(image: str) -> Reference | None:
    """Return the full name of a container's image, or None if the name is not valid.

    As in a container runtime, the result has a tag or a digest. A digest replaces the tag, and an
    image without either has the tag `latest`.
    """
    try:
        parsed = reference.parse(image)
    except InvalidReferenceError:
        return None
    tag = None if parsed.digest else parsed.tag or "latest"
    return Reference(
        registry=parsed.registry, repository=parsed.repository, tag=tag, digest=parsed.digest
    )


def default_pull_policy(image: str) -> str:
    """Return the default `imagePullPolicy`: `Always` for `latest`, also with a digest."""
    try:
        parsed = reference.parse(image)
    except InvalidReferenceError:
        return "IfNotPresent"
    latest = parsed.tag == "latest" or not (parsed.tag or parsed.digest)
    return "Always" if latest else "IfNotPresent"


def derived_digest(image: Reference) -> str:
    """Return the digest of an image that no test has set. It depends only on the image name."""
    return image.digest or f"sha256:{hashlib.sha256(str(image).encode()).hexdigest()}"
