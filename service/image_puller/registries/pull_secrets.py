"""Pull secrets: the credentials for an image, matched in the same way as by the kubelet."""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from image_puller.values.reference import Reference

_DOCKER_HUB = "docker.io"
_LEGACY_DOCKER_HUB = "index.docker.io"
_DATA_KEYS = {
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
    "kubernetes.io/dockercfg": ".dockercfg",
}
_HELPERS = ("credHelpers", "credsStore")
_SCHEME = re.compile(r"https?://")
_API_PATH = re.compile(r"/v[12]/")
_PORT = re.compile(r":([0-9]*)\Z")
_KEY_CHARACTERS = 200  # the length of a key in a warning


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The credentials in one entry of a pull secret. `secret` is its name, for messages."""

    secret: str
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePattern:
    """The images that a key of a pull secret covers. `host` has a glob for each label."""

    host: str
    port: str
    path: str

    def covers(self, reference: Reference) -> bool:
        """Whether the kubelet uses the credentials of this key for an image.

        Ports must be equal. A path covers all paths that begin with it.
        """
        target = _split(reference.name)
        globs, labels = self.host.split("."), target.host.split(".")
        return (
            self.port == target.port
            and len(globs) == len(labels)
            and target.path.startswith(self.path)
            and all(map(_matches, labels, globs))
        )

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return f"{self.host}{port}{self.path}"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The credentials of all pull secrets, the most specific key first."""

    entries: tuple[tuple[ImagePattern, Credentials], ...] = ()

    def credentials(self, reference: Reference) -> tuple[Credentials, ...]:
        """Return the credentials for an image, in the order to try. None means anonymous access.

        Docker Hub's legacy name `index.docker.io` counts only if no other key covers the image.
        """
        found = tuple(credentials for key, credentials in self.entries if key.covers(reference))
        if found or reference.registry != _DOCKER_HUB:
            return found
        return tuple(
            credentials for key, credentials in self.entries if str(key) == _LEGACY_DOCKER_HUB
        )


def read(secrets: Iterable[Mapping[str, Any]]) -> tuple[Keyring, tuple[str, ...]]:
    """Return the credentials in Secret objects of the API, and warnings that name the secret.

    An entry that can't be read does not affect the others.
    """
    entries: list[tuple[ImagePattern, Credentials]] = []
    warnings: list[str] = []
    for secret in secrets:
        name = str(secret["metadata"]["name"])
        try:
            document = _document(secret)
        except ValueError as error:
            warnings.append(f"pull secret {name}: {error}; the secret is ignored")
            continue
        warnings.extend(f"pull secret {name}: {problem}" for problem in _helper_problems(document))
        for key, entry in _entries(secret, document):
            try:
                entries.append((_parse_key(key), _credentials(name, entry)))
            except ValueError as error:
                shown = repr(key[:_KEY_CHARACTERS])
                warnings.append(f"pull secret {name}: {shown}: {error}; the entry is ignored")
    # The order is stable: of two secrets with the same key, the first one is tried first.
    entries.sort(key=lambda entry: str(entry[0]), reverse=True)
    return Keyring(tuple(entries)), tuple(warnings)


def _document(secret: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the Docker configuration in a Secret. Raises ValueError."""
    kind = secret.get("type")
    if kind not in _DATA_KEYS:
        raise ValueError(f"its type is {kind!r}, not one of {', '.join(_DATA_KEYS)}")
    key = _DATA_KEYS[kind]
    encoded = (secret.get("data") or {}).get(key)
    if not encoded:
        raise ValueError(f"it has no {key}")
    try:
        document = json.loads(base64.b64decode(encoded, validate=True))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its {key} is not JSON in base64") from error
    if not isinstance(document, dict):
        raise ValueError(f"its {key} is not a JSON object")
    auths = document.get("auths", {})
    if key == ".dockerconfigjson" and not isinstance(auths, dict):
        raise ValueError(f"the auths of its {key} are not a JSON object")
    return document


def _helper_problems(document: Mapping[str, Any]) -> Iterator[str]:
    for key in _HELPERS:
        if document.get(key):
            yield (
                f"{key} is ignored, because the service runs no credential helper; put a username "
                "and a password into auths"
            )


def _entries(secret: Mapping[str, Any], document: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    if secret["type"] == "kubernetes.io/dockercfg":
        return ((key, entry) for key, entry in document.items() if key not in _HELPERS)
    auths: dict[str, Any] = document.get("auths", {})
    return auths.items()


def _credentials(secret: str, entry: Any) -> Credentials:
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    known = ("username", "password", "identitytoken", "auth")
    texts = {key: entry.get(key) or "" for key in known}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"one of {', '.join(known)} is not a string")
    username, password = texts["username"], texts["password"]
    if texts["auth"]:  # has priority over the other two, as for the kubelet
        username, password = _decoded(texts["auth"])
    if not (username or texts["identitytoken"]):
        raise ValueError("it has neither auth nor a username nor an identitytoken")
    return Credentials(
        secret=secret,
        username=username,
        password=password,
        identity_token=texts["identitytoken"],
    )


def _decoded(auth: str) -> tuple[str, str]:
    stripped = auth.strip().rstrip("=")
    try:
        text = base64.b64decode(stripped + "=" * (-len(stripped) % 4), validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise ValueError("its auth is not base64 of username:password") from error
    username, colon, password = text.partition(":")
    if not colon:
        raise ValueError("its auth is not base64 of username:password")
    return username, password


def _parse_key(text: str) -> ImagePattern:
    """Parse a key, which may be a URL. The path of a registry's API is left out."""
    key = _split(_SCHEME.sub("", text, count=1))
    path = key.path
    if _API_PATH.match(path):
        path = path[3:]
    if not key.host:
        raise ValueError("it names no host")
    return ImagePattern(host=key.host, port=key.port, path="" if path == "/" else path)


def _split(name: str) -> ImagePattern:
    host, slash, path = name.partition("/")
    port = _PORT.search(host)
    return ImagePattern(
        host=(host[: port.start()] if port else host).lower(),
        port=port[1] if port else "",
        path=slash + path,
    )


def _matches(label: str, glob: str) -> bool:
    return label == glob or fnmatchcase(label, glob.replace("[^", "[!"))
