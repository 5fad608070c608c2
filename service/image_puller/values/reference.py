"""Image references by the distribution grammar: https://github.com/distribution/reference."""

import re
from dataclasses import dataclass

from image_puller.errors import ImagePullerError

_DOCKER_HUB = "docker.io"
_LEGACY_DOCKER_HUB = "index.docker.io"
_DOCKER_HUB_API = frozenset({"registry-1.docker.io", "registry.hub.docker.com"})
_NAME_LENGTH = 255  # characters of a path, and of a host
_DIGEST_LENGTH = 255  # the grammar sets no limit, but input from senders needs one
_ENCODED_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}

# Adjacent repetitions have no character in common, so matching takes linear time.
_LABEL = r"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[A-Fa-f0-9]*:[A-Fa-f0-9:]*\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[A-Fa-f0-9]{32,}")
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")


class InvalidReferenceError(ImagePullerError, ValueError):
    """A text is not an image reference. The message names the wrong part."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"{text[:80]!r} is not an image reference: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An image by its full name, with its registry and repository.

    Without tag and digest it names a repository.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Return the repository with its registry, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def pull_tag(self) -> str | None:
        """Return the tag that a runtime pulls the image by, or None where a digest is given."""
        return None if self.digest else self.tag or "latest"

    def __str__(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.name}{tag}{digest}"


def parse(text: str) -> Reference:
    """Parse a reference as container runtimes do, including Docker Hub's short names.

    The host becomes lower-case. A missing tag stays None. The `str` of a reference parses to the
    same reference. Raises InvalidReferenceError.
    """
    if _IMAGE_ID.fullmatch(text):
        raise InvalidReferenceError(text, "64 hexadecimal digits are an image ID, not a name")
    tagged, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise InvalidReferenceError(text, "the digest is not of the form sha256:<64 digits of 0-f>")
    name, tag = _split_tag(tagged)
    if tag is not None and not is_tag(tag):
        raise InvalidReferenceError(text, "the tag is not 1 to 128 of A-Z a-z 0-9 _ . -")
    host, path = _split_host(name)
    if not _is_host(host):
        raise InvalidReferenceError(text, "the registry is not of the form host or host:port")
    registry, repository = _qualify(host, path)
    problem = _problem_of(repository)
    if problem is not None:
        raise InvalidReferenceError(text, problem)
    return Reference(registry=registry, repository=repository, tag=tag, digest=digest or None)


def normalise_name(registry: str, repository: str) -> tuple[str, str]:
    """Return a host and a path in the form in which `parse` returns them.

    In addition, the hosts of Docker Hub's API become docker.io. Nothing is validated.
    """
    host, path = _qualify(registry, repository)
    return _qualify(_DOCKER_HUB, path) if host in _DOCKER_HUB_API else (host, path)


def is_tag(text: str) -> bool:
    """Whether the grammar allows this tag."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether the grammar allows this digest. For SHA-2, check the exact length and lower case."""
    if len(text) > _DIGEST_LENGTH or not _DIGEST.fullmatch(text):
        return False
    algorithm, _, encoded = text.partition(":")
    length = _ENCODED_LENGTHS.get(algorithm)
    return length is None or (len(encoded) == length and encoded == encoded.lower())


def is_repository(text: str) -> bool:
    """Whether the grammar allows this path of a repository, without a host."""
    return _problem_of(text) is None


def _split_tag(text: str) -> tuple[str, str | None]:
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:  # there is no colon, or it belongs to a port
        return text, None
    return name, tag


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    return (first, rest) if slash and _looks_like_host(first) else (_DOCKER_HUB, name)


def _looks_like_host(part: str) -> bool:
    return (
        part == "localhost"
        or part.startswith("[")
        or "." in part
        or ":" in part
        or part != part.lower()
    )


def _is_host(text: str) -> bool:
    return len(text) <= _NAME_LENGTH and _HOST.fullmatch(text) is not None


def _qualify(host: str, path: str) -> tuple[str, str]:
    lowered = host.lower() if host.isascii() else host
    if not _looks_like_host(lowered):  # `host/app` would be an image of Docker Hub
        lowered = host
    registry = _DOCKER_HUB if lowered == _LEGACY_DOCKER_HUB else lowered
    official = registry == _DOCKER_HUB and path != "" and "/" not in path
    return registry, f"library/{path}" if official else path


def _problem_of(repository: str) -> str | None:
    if not repository:
        return "it names no repository"
    if len(repository) > _NAME_LENGTH:
        return f"the repository has more than {_NAME_LENGTH} characters"
    if _REPOSITORY.fullmatch(repository):
        return None
    if repository != repository.lower():
        return "the repository must be in lower case"
    return "the repository is not of a-z 0-9, with single separators . _ __ - / between them"
