"""Who sends a request: secrets from files, compared in constant time, before anything is parsed."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from image_puller.events.sources.scheme import Scheme, Signature

EVENTS = "events"
"""The name under which tokens for `POST /` are kept."""
READ = "read"
"""The name under which tokens for `/status` and `/metrics` are kept."""

_HEXADECIMAL = re.compile(r"[0-9a-fA-F]+", re.ASCII)


class Secrets:
    """The files of `WEBHOOK_SECRETS_DIR`, a mounted Secret.

    File `<name>` or `<name>.<anything>` holds one secret of that name. They are read at each use,
    so a changed file counts at once; an empty file is no secret.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, name: str) -> tuple[bytes, ...]:
        """The secrets of that name: several while one is rotated, none where none is set."""
        try:
            files = sorted(self.folder.iterdir())
        except OSError:
            return ()
        named = (file for file in files if file.name == name or file.name.startswith(f"{name}."))
        return tuple(secret for secret in map(_read, named) if secret)


def _read(file: Path) -> bytes:
    """A file's secret; one that can't be read (just removed, a folder) has none."""
    try:
        return file.read_bytes().strip()
    except OSError:
        return b""


def proves(secrets: tuple[bytes, ...], authorization: str | None) -> bool:
    """Whether an `Authorization` header proves one of the secrets.

    Senders put it there as it is, as a Bearer token, or as a Basic password.
    """
    if authorization is None:
        return False
    offered = {_raw(authorization)}
    scheme, _, credentials = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        offered.add(_raw(credentials))
    if scheme.lower() == "basic":
        offered.add(_basic_password(credentials.strip()))
    return any(_is_one_of(secrets, secret) for secret in offered)


def proves_token(secrets: tuple[bytes, ...], authorization: str | None) -> bool:
    """Whether an `Authorization` header proves one of the secrets as a Bearer token."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    return scheme.lower() == "bearer" and _is_one_of(secrets, _raw(token))


def proves_in_url(secrets: tuple[bytes, ...], secret: str) -> bool:
    """Whether a part of a URL (the rest of a path, `access_token`) is one of the secrets."""
    return _is_one_of(secrets, secret.encode(errors="surrogateescape"))


def proves_header(scheme: Scheme, secrets: tuple[bytes, ...], headers: Mapping[str, str]) -> bool:
    """Whether headers alone, by their names in lower case, prove one of the secrets."""
    if scheme.authorization and proves(secrets, headers.get("authorization")):
        return True
    return any(_is_one_of(secrets, _raw(headers.get(name, ""))) for name in scheme.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A signature as it was sent, to be checked against the body."""

    algorithm: str
    digest: bytes


def claims(scheme: Scheme, headers: Mapping[str, str]) -> tuple[Claim, ...]:
    """The signatures that headers show. Without any there is no need to read the body."""
    shown = (
        _claim(signature, headers.get(signature.header, "")) for signature in scheme.signatures
    )
    return tuple(claim for claim in shown if claim is not None)


def _claim(signature: Signature, value: str) -> Claim | None:
    """One that is empty or cut off is none."""
    digits = value.strip()
    length = 2 * hashlib.new(signature.algorithm, usedforsecurity=False).digest_size
    if not digits.startswith(signature.prefix):
        return None
    digits = digits.removeprefix(signature.prefix)
    if len(digits) != length or not _HEXADECIMAL.fullmatch(digits):
        return None
    return Claim(algorithm=signature.algorithm, digest=bytes.fromhex(digits))


def proves_body(claims: tuple[Claim, ...], secrets: tuple[bytes, ...], body: bytes) -> bool:
    """Whether one of the signatures is that of the body, made with one of the secrets."""
    hits = [
        hmac.compare_digest(hmac.digest(secret, body, claim.algorithm), claim.digest)
        for claim in claims
        for secret in secrets
        if secret
    ]
    return any(hits)


def _raw(text: str) -> bytes:
    """The bytes of a header, which WSGI gives as Latin-1 (PEP 3333)."""
    return text.strip().encode("latin-1", errors="replace")


def _is_one_of(secrets: tuple[bytes, ...], offered: bytes) -> bool:
    # Every secret is compared, so that the time tells nothing about which one was close.
    hits = [hmac.compare_digest(secret, offered) for secret in secrets]
    return bool(offered) and any(hits)


def _basic_password(credentials: str) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
