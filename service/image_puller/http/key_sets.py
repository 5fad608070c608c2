"""The key sets of issuers, from their URLs and files: kept, and read again when they must be."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from image_puller import __version__, limits
from image_puller.errors import ImagePullerError, KeysUnavailableError
from image_puller.events.payload import quote
from image_puller.http.oidc import KeySet, key_set

_CHUNK_BYTES = 64 * 1024
_OK = 200
_HEADERS = {
    "Accept": "application/jwk-set+json, application/json",
    "Accept-Encoding": "identity",
    "User-Agent": f"image-puller/{__version__}",
}

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A key set, and when it was asked for."""

    key_set: KeySet
    since: float


class CachedKeys:
    """One issuer's keys, for several threads at once: one of them reads, the others wait for it.

    They are read again once they are older than `lasts` seconds, and for a key that is not among
    them; but never twice within `limits.KEYS_AGAIN_SECONDS`, because anybody can make up a key's
    id. What can't be told before that raises KeysUnavailableError: whoever asked comes again.
    """

    def __init__(
        self,
        read: Callable[[], KeySet],
        *,
        lasts: float = limits.KEYS_LAST_SECONDS,
        clock: Clock = time.monotonic,
    ) -> None:
        self._read = read
        self._lasts = lasts
        self._clock = clock
        self._reading = threading.Lock()
        self._kept: _Kept | None = None
        self._tried: float | None = None
        self._failure = ""

    def current(self, key_id: str) -> KeySet:
        """A key set that is new enough to tell whether there is such a key."""
        asked = self._clock()
        known = self._known(key_id, asked)
        if known is not None:
            return known
        if not self._reading.acquire(timeout=limits.KEYS_ANSWER_SECONDS):
            raise KeysUnavailableError("an issuer's keys are still being read")
        try:
            return self._known(key_id, asked) or self._read_again(key_id)
        finally:
            self._reading.release()

    def _known(self, key_id: str, asked: float) -> KeySet | None:
        """What is kept, if it has the key, or was read after somebody asked."""
        kept = self._kept
        if kept is None or asked - kept.since > self._lasts:
            return None
        return kept.key_set if key_id in kept.key_set.keys or kept.since >= asked else None

    def _read_again(self, key_id: str) -> KeySet:
        now = self._clock()
        if self._tried is not None and now - self._tried < limits.KEYS_AGAIN_SECONDS:
            raise KeysUnavailableError(
                self._failure
                or f"there is no key {quote(key_id)} among those that were read "
                f"{now - self._tried:.0f} s ago; they are not read again yet"
            )
        self._tried = now
        try:
            found = self._read()
        except KeysUnavailableError as error:
            self._failure = str(error)
            raise
        self._failure = ""
        self._kept = _Kept(found, now)
        return found


def of(where: str | Path | None, issuer: Callable[[], tuple[str, bytes]]) -> CachedKeys:
    """The keys at a URL, in a file, or (without either) of an issuer that is asked for them.

    A file is cheap to read, so that one that has changed counts soon.
    """
    if where is None:
        return CachedKeys(lambda: from_issuer(issuer))
    if isinstance(where, Path):
        return CachedKeys(lambda: from_file(where), lasts=limits.KEYS_AGAIN_SECONDS)
    return CachedKeys(lambda: from_url(where))


def from_issuer(ask: Callable[[], tuple[str, bytes]]) -> KeySet:
    """The key set of an issuer that says who it is; raises KeysUnavailableError."""
    try:
        name, document = ask()
        return key_set(document, name)
    except (ImagePullerError, ValueError) as error:
        raise KeysUnavailableError(f"no keys from the API server: {error}") from error


def from_url(url: str) -> KeySet:
    """The key set at a URL; raises KeysUnavailableError.

    Proxies and CA bundles come from the environment, as with requests; passwords never do.
    """
    ends = time.monotonic() + limits.KEYS_ANSWER_SECONDS
    try:
        with (
            requests.Session() as session,
            session.get(
                url,
                headers=_HEADERS,
                auth=_nobody,
                allow_redirects=False,
                stream=True,
                timeout=limits.KEYS_ANSWER_SECONDS / 2,
            ) as answer,
        ):
            if answer.status_code != _OK:
                raise KeysUnavailableError(f"no keys from {url}: it answered {answer.status_code}")
            return key_set(_body(answer, ends))
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise KeysUnavailableError(f"no keys from {url}: {error}") from error


def from_file(file: Path) -> KeySet:
    """The key set in a file; raises KeysUnavailableError."""
    try:
        with file.open("rb") as opened:
            return key_set(_bounded(opened.read(limits.KEYS_BYTES + 1)))
    except (OSError, ValueError) as error:
        raise KeysUnavailableError(f"no keys from file {file}: {error}") from error


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """With it, requests looks for no password in a .netrc."""
    return request


def _body(answer: requests.Response, ends: float) -> bytes:
    """The body, if it is not too long and does not come too slowly."""
    body = b""
    while chunk := answer.raw.read1(_CHUNK_BYTES, decode_content=False):
        body = _bounded(body + chunk)
        if time.monotonic() > ends:
            raise ValueError("it answers too slowly")
    return body


def _bounded(body: bytes) -> bytes:
    if len(body) > limits.KEYS_BYTES:
        raise ValueError(f"it is longer than {limits.KEYS_BYTES} bytes")
    return body
