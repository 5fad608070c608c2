"""Authentication by shared secrets: secrets from files, compared in constant time.

A sender is authenticated before its request is parsed. `oidc` verifies signed tokens.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from image_puller.errors import SecretsUnavailableError
from image_puller.events.sources.scheme import Scheme, Signature

EVENTS = "events"
"""The name of the secrets for `POST /`."""
READ = "read"
"""The name of the secrets for `/status` and `/metrics`."""

_HEXADECIMAL = re.compile(r"[0-9a-fA-F]+", re.ASCII)


class Secrets:
    """The files of `WEBHOOK_SECRETS_DIR`, a mounted Secret.

    File `<name>` or `<name>.<anything>` holds one secret of that name. The files are read at each
    use, so a change takes effect at once. An empty file is no secret.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, name: str) -> tuple[bytes, ...]:
        """Return the secrets of a name: several during a rotation, none if none is set.

        Raises SecretsUnavailableError where a file is there and can't be read.
        """
        try:
            files = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _unavailable(self.folder, error) from error
        named = (file for file in files if file.name == name or file.name.startswith(f"{name}."))
        return tuple(secret for secret in map(_read, named) if secret)


def _read(file: Path) -> bytes:
    """Return a file's secret, or nothing if the file was just removed, or is a folder."""
    try:
        return file.read_bytes().strip()
    except (FileNotFoundError, IsADirectoryError):
        return b""
    except OSError as error:
        raise _unavailable(file, error) from error


def _unavailable(path: Path, error: OSError) -> SecretsUnavailableError:
    return SecretsUnavailableError(
        f"secrets can't be read from {path}: {error.strerror}; check the mode of the mounted "
        "Secret, and how many files the process may open"
    )


def has_valid_secret(secrets: tuple[bytes, ...], authorization: str | None) -> bool:
    """Whether an `Authorization` header has one of the secrets.

    It may be the whole header, a Bearer token or a Basic password.
    """
    if authorization is None:
        return False
    whole = _raw(authorization)
    offered = {whole}
    scheme, credentials = _credentials(whole)
    if scheme == b"bearer":
        offered.add(credentials)
    if scheme == b"basic":
        offered.add(_basic_password(credentials))
    return any(_is_one_of(secrets, secret) for secret in offered)


def is_valid_bearer(secrets: tuple[bytes, ...], authorization: str | None) -> bool:
    """Whether an `Authorization` header has one of the secrets as a Bearer token."""
    scheme, token = _credentials(_raw(authorization or ""))
    return scheme == b"bearer" and _is_one_of(secrets, token)


def is_valid_url_secret(secrets: tuple[bytes, ...], secret: str) -> bool:
    """Whether a parameter of a URL is one of the secrets."""
    return _is_one_of(secrets, secret.encode(errors="surrogateescape"))


def is_valid_path_secret(secrets: tuple[bytes, ...], rest: str) -> bool:
    """Whether the rest of a path is one of the secrets. Some senders add a slash to a URL."""
    return is_valid_url_secret(secrets, rest) or is_valid_url_secret(
        secrets, rest.removesuffix("/")
    )


def has_valid_header(
    scheme: Scheme, secrets: tuple[bytes, ...], headers: Mapping[str, str]
) -> bool:
    """Whether a header has one of the secrets. The names of `headers` are in lower case."""
    if scheme.authorization and has_valid_secret(secrets, headers.get("authorization")):
        return True
    return any(_is_one_of(secrets, _raw(headers.get(name, ""))) for name in scheme.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentSignature:
    """A signature that a request has, not yet compared with that of its body."""

    algorithm: str
    digest: bytes


def signatures(scheme: Scheme, headers: Mapping[str, str]) -> tuple[SentSignature, ...]:
    """Return the signatures in headers. If there are none, the body need not be read."""
    sent = (_signature(each, headers.get(each.header, "")) for each in scheme.signatures)
    return tuple(signature for signature in sent if signature is not None)


def _signature(scheme: Signature, value: str) -> SentSignature | None:
    """Return the signature in a header, or None if it is empty or malformed."""
    digits = value.strip()
    length = 2 * hashlib.new(scheme.algorithm, usedforsecurity=False).digest_size
    if not digits.startswith(scheme.prefix):
        return None
    digits = digits.removeprefix(scheme.prefix)
    if len(digits) != length or not _HEXADECIMAL.fullmatch(digits):
        return None
    return SentSignature(algorithm=scheme.algorithm, digest=bytes.fromhex(digits))


def has_valid_signature(
    signatures: tuple[SentSignature, ...], secrets: tuple[bytes, ...], body: bytes
) -> bool:
    """Whether one of the signatures is that of the body with one of the secrets."""
    hits = [
        hmac.compare_digest(hmac.digest(secret, body, signature.algorithm), signature.digest)
        for signature in signatures
        for secret in secrets
        if secret
    ]
    return any(hits)


def _raw(text: str) -> bytes:
    """Return the bytes of a header, which WSGI decodes as Latin-1 (PEP 3333).

    White space is that of bytes, as in the files: in Latin-1 a part of a letter may be a space.
    """
    return text.encode("latin-1", errors="replace").strip()


def _credentials(header: bytes) -> tuple[bytes, bytes]:
    """Return the scheme of an `Authorization` header, in lower case, and the rest."""
    scheme, _, rest = header.partition(b" ")
    return scheme.lower(), rest.strip()


def _is_one_of(secrets: tuple[bytes, ...], offered: bytes) -> bool:
    # Every secret is compared, so that the time reveals nothing about the one that is right.
    hits = [hmac.compare_digest(secret, offered) for secret in secrets]
    return bool(offered) and any(hits)


def _basic_password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
