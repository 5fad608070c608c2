"""What the words of a container runtime say about the cause of a failure. Pure."""

import re
from enum import Enum, auto

_QUOTED = re.compile(r'"[^"]*"')
"""Names of images and URLs are quoted in messages. They can contain any word."""

_NEVER_PULLED = ("ErrImage", "ImagePull", "InvalidImageName", "ImageInspect", "RegistryUnavailable")
_BARE = re.compile(r'ImagePullBackOff: Back-off pulling image "[^"]*"')
"""During its back-off, a kubelet of some versions does not repeat why the pull failed."""
_TRANSIENT = re.compile(
    r"\btime(?:d )?out\b|deadline exceeded|no such host|server misbehaving|temporary failure"
    r"|connection (?:refused|reset)|no route to host|network is unreachable|broken pipe|\beof\b"
    r"|\btls\b|\bx509\b|certificate|too ?many ?requests|\b429\b|registryunavailable"
    r"|\b5\d\d (?:internal server error|bad gateway|service unavailable|gateway time-?out)"
)
_NODE = re.compile(r"no space left|disk quota exceeded|read-only file system|input/output error")
_PLATFORM = re.compile(
    r"no match for platform|no matching manifest|does not match the specified platform"
    r"|image found in (?:image index|manifest list) for|exec format error"
)
_DEFINITE = re.compile(
    r"\bnot found\b|manifest unknown|name unknown|does not exist|unauthorized|forbidden"
    r"|\bdenied\b|authorization failed|authentication required|invalidimagename"
)


class Cause(Enum):
    """What a failure depends on."""

    IMAGE = auto()
    """The image: it is missing, may not be pulled, or its container can't run."""
    PLATFORM = auto()
    """The image and the architecture of the node."""
    NODE = auto()
    """The node, for example its disk."""
    TRANSIENT = auto()
    """The registry or the network, now. Whatever is not known counts as this too."""


def is_pull(reason: str) -> bool:
    """Whether the image could not be pulled. Otherwise its container can't run."""
    return reason.startswith(_NEVER_PULLED)


def is_told(reason: str) -> bool:
    """Whether a reason has the runtime's words."""
    return _BARE.fullmatch(reason) is None


def cause(reason: str) -> Cause:
    """Return the cause that the reason of a container names."""
    words = _QUOTED.sub("", reason).lower()
    if _TRANSIENT.search(words):
        return Cause.TRANSIENT
    if _NODE.search(words):
        return Cause.NODE
    if _PLATFORM.search(words):
        return Cause.PLATFORM
    if not is_pull(reason) or _DEFINITE.search(words):
        return Cause.IMAGE
    return Cause.TRANSIENT
