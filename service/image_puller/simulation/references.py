"""Images as kubelets and container runtimes read them."""

import hashlib

from image_puller.values import reference
from image_puller.values.reference import InvalidReferenceError, Reference


def resolve(image: str) -> Reference | None:
    """Read a container's image; None if it is outside the grammar (`InvalidImageName`).

    As in a container runtime there is a tag or a digest: a digest makes it forget the tag, and
    without either `latest` is meant.
    """
    try:
        read = reference.parse(image)
    except InvalidReferenceError:
        return None
    tag = None if read.digest else read.tag or "latest"
    return Reference(
        registry=read.registry, repository=read.repository, tag=tag, digest=read.digest
    )


def default_pull_policy(image: str) -> str:
    """Say how a container pulls that does not say: `latest` always, whatever its digest."""
    try:
        read = reference.parse(image)
    except InvalidReferenceError:
        return "IfNotPresent"
    latest = read.tag == "latest" or not (read.tag or read.digest)
    return "Always" if latest else "IfNotPresent"


def derived_digest(image: Reference) -> str:
    """Give an image that nobody pushed a digest of its own: the same for the same name."""
    return image.digest or f"sha256:{hashlib.sha256(str(image).encode()).hexdigest()}"
