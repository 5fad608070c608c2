"""The key sets of token issuers, read from URLs and files, and kept for a while."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from image_puller import __version__, limits, outbound
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

Monotonic = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A key set, and when it was requested."""

    key_set: KeySet
    since: float


class CachedKeys:
    """Keeps one issuer's keys, for several threads at once: one reads, the others wait for it.

    The keys are read again once they are older than `lasts` seconds, and for an unknown key. They
    are never read twice within `limits.KEYS_AGAIN_SECONDS`, because anybody can invent a key's id.
    """

    def __init__(
        self,
        read: Callable[[], KeySet],
        *,
        lasts: float = limits.KEYS_LAST_SECONDS,
        answer_seconds: float = limits.KEYS_ANSWER_SECONDS,
        clock: Monotonic = time.monotonic,
    ) -> None:
        self._read = read
        self._lasts = lasts
        self._answer_seconds = answer_seconds
        self._clock = clock
        self._reading = threading.Lock()
        self._kept: _Kept | None = None
        self._tried: float | None = None
        self._failure = ""

    def current(self, key_id: str) -> KeySet:
        """Return a key set that is new enough to decide whether the issuer has this key.

        Raises KeysUnavailableError if there is none now. The sender tries again.
        """
        asked = self._clock()
        known = self._known(key_id, asked)
        if known is not None:
            return known
        if not self._reading.acquire(timeout=self._answer_seconds):
            raise KeysUnavailableError("an issuer's keys are still being read")
        try:
            return self._known(key_id, asked) or self._read_again(key_id)
        finally:
            self._reading.release()

    def _known(self, key_id: str, asked: float) -> KeySet | None:
        """Return the kept key set, if it has the key or was read after `asked`."""
        kept = self._kept
        if kept is None or asked - kept.since > self._lasts:
            return None
        return kept.key_set if key_id in kept.key_set.keys or kept.since >= asked else None

    def _read_again(self, key_id: str) -> KeySet:
        now = self._clock()
        if self._tried is not None and now - self._tried < limits.KEYS_AGAIN_SECONDS:
            raise KeysUnavailableError(
                self._failure
                or f"the issuer's keys, read {now - self._tried:.0f} s ago, have no key "
                f"{quote(key_id)}; they are not read again yet"
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


def of(
    where: str | Path | None,
    issuer: Callable[[], tuple[str, bytes]],
    *,
    clock: Monotonic = time.monotonic,
) -> CachedKeys:
    """Return the keys at a URL, in a file, or without either those of the API server.

    A file is cheap to read, so it is read again soon.
    """
    if where is None:
        return CachedKeys(lambda: from_issuer(issuer), clock=clock)
    if isinstance(where, Path):
        return CachedKeys(lambda: from_file(where), lasts=limits.KEYS_AGAIN_SECONDS, clock=clock)
    return CachedKeys(lambda: from_url(where, clock=clock), clock=clock)


def from_issuer(ask: Callable[[], tuple[str, bytes]]) -> KeySet:
    """Return the key set of an issuer, with its name. Raises KeysUnavailableError.

    `ask` returns the name and the document of the key set.
    """
    try:
        name, document = ask()
        return key_set(document, name)
    except (ImagePullerError, ValueError) as error:
        raise KeysUnavailableError(
            f"token keys can't be read from the API server: {error}"
        ) from error


def from_url(
    url: str, *, clock: Monotonic = time.monotonic, seconds: float = limits.KEYS_ANSWER_SECONDS
) -> KeySet:
    """Return the key set at a URL. Raises KeysUnavailableError, also after so many seconds.

    Proxies and CA bundles come from the environment, as with requests. Passwords do not.
    """
    deadline = clock() + seconds
    try:
        with (
            outbound.session() as session,
            session.get(
                url,
                headers=_HEADERS,
                auth=outbound.without_credentials,
                allow_redirects=False,
                stream=True,
                timeout=seconds / 2,
            ) as answer,
        ):
            if answer.status_code != _OK:
                raise KeysUnavailableError(
                    f"token keys can't be read from {url}: it answered {answer.status_code}"
                )
            return key_set(_body(answer, deadline, clock))
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise KeysUnavailableError(f"token keys can't be read from {url}: {error}") from error


def from_file(file: Path) -> KeySet:
    """Return the key set in a file. Raises KeysUnavailableError."""
    try:
        with file.open("rb") as opened:
            return key_set(_bounded(opened.read(limits.KEYS_BYTES + 1)))
    except (OSError, ValueError) as error:
        raise KeysUnavailableError(f"token keys can't be read from file {file}: {error}") from error


def _body(answer: requests.Response, deadline: float, clock: Monotonic) -> bytes:
    """Return the body. Raises ValueError if it is too long or too slow."""
    body = b""
    while chunk := answer.raw.read1(_CHUNK_BYTES, decode_content=False):
        body = _bounded(body + chunk)
        if clock() > deadline:
            raise ValueError("it answers too slowly")
    return body


def _bounded(body: bytes) -> bytes:
    if len(body) > limits.KEYS_BYTES:
        raise ValueError(f"it is longer than {limits.KEYS_BYTES} bytes")
    return body
