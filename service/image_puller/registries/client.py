"""The client of container registries: the distribution API over HTTP.

No other module sends requests to a registry. `addresses` decides which hosts may be asked.
"""

import base64
import hashlib
import logging
import re
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import requests
import urllib3
from requests.auth import AuthBase

from image_puller import __version__, limits
from image_puller.errors import (
    ConfigurationError,
    RefusedByRegistryError,
    RegistryUnavailableError,
    UnknownRegistryError,
)
from image_puller.outbound import Adapter
from image_puller.registries import addresses
from image_puller.registries.addresses import Address
from image_puller.registries.pull_secrets import Credentials
from image_puller.values import artifact, bounded_json
from image_puller.values.reference import Reference, is_digest, is_repository, is_tag

log = logging.getLogger(__name__)

ANSWER_BYTES = 4 * 1024 * 1024
"""The length of an answer. The distribution specification allows manifests of 4 MiB."""
JSON_BYTES = 512 * 1024
"""The length of an answer that is parsed.

A page of 1,000 tags of 128 characters has 132 KB. Registries that know no pages, such as
Distribution 2, send all tags at once: 20,000 tags of 23 characters fit.
"""
REDIRECTS = 3
LIMITED_SECONDS = 60.0
"""How long a host that limits requests is not asked, if its answer has no time."""
LIMITED_SECONDS_MOST = 3600.0
TOKEN_SECONDS = 60.0
"""How long a token is valid if its answer has no time. The specification sets this default."""
TOKEN_SECONDS_MOST = 3600.0

_MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_REDIRECTIONS = (301, 302, 303, 307, 308)
_REFUSALS = (401, 403)
_OK, _UNAUTHENTICATED, _NOT_FOUND, _TOO_MANY_REQUESTS, _UNAVAILABLE = 200, 401, 404, 429, 503
_SERVER_ERROR = 500
_WITHOUT_HEAD = (405, 501)
_REALM_REFUSALS = (400, 401, 403)
_CHUNK_BYTES = 64 * 1024
_HEADER_CHARACTERS = 8192  # the length of a header that is read
_TOKEN_MARGIN_SECONDS = 5.0  # so that a token does not expire during a request
_PRINTABLE = re.compile(r"[!-~]+")
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_CHALLENGE_PART = re.compile(
    rf"[\s,]*(?:(?P<key>{_NAME})\s*=\s*"
    rf'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]*))'
    rf"|(?P<scheme>{_NAME}))(?=[\s,]|\Z)"
)
_LINK = re.compile(r"<([^<>]*)>([^<>]*)")
_NEXT = re.compile(r'\brel\s*=\s*"?next\b', re.IGNORECASE)

Monotonic = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of the list of tags that is read, and of the caches."""

    tags_per_page: int = 1000
    tag_pages: int = 100
    tags: int = 50_000
    remembered: int = 1000
    """The length of each cache: challenges, tokens, kinds, and hosts that limit requests."""


@dataclass(frozen=True, slots=True)
class _Response:
    """A response. `body` is None if it is longer than `ANSWER_BYTES`."""

    address: Address
    status: int
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class _Challenge:
    """A registry's `WWW-Authenticate` header. `scheme` is bearer or basic."""

    scheme: str
    realm: str
    service: str
    scope: str


@dataclass(frozen=True, slots=True)
class _Request:
    """A question to a registry about an image, with its deadline."""

    reference: Reference
    base: Address
    clock: Monotonic
    deadline: float

    def unavailable(self, why: str) -> RegistryUnavailableError:
        message = f"registry {self.reference.registry} can't be asked about {self.reference}: {why}"
        return RegistryUnavailableError(message)

    def refused(self, why: str) -> RefusedByRegistryError:
        return RefusedByRegistryError(
            f"registry {self.reference.registry} refuses access to {self.reference}: {why}"
        )

    def remaining(self) -> float:
        """Return the seconds until the deadline. Raises RegistryUnavailableError after it."""
        seconds = self.deadline - self.clock()
        if seconds <= 0:
            raise self.unavailable("it took too long to answer")
        return seconds


class _Authorization(AuthBase):
    """Sets exactly this header, or none. Without it, requests would read a .netrc file."""

    def __init__(self, header: str | None) -> None:
        self._header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._header is not None:
            request.headers["Authorization"] = self._header
        return request


class _Session(requests.Session):
    """Ignores redirects. Otherwise requests reads their whole body, even if it follows none."""

    def get_redirect_target(self, _: requests.Response) -> None:
        return None


def _no_credentials(_: Reference) -> Sequence[Credentials]:
    return ()


@dataclass(slots=True)
class _Remembered:
    """Caches that several threads share. A cache that is full is cleared."""

    most: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    challenges: dict[tuple[str, str], _Challenge] = field(default_factory=dict)
    tokens: dict[tuple[Any, ...], tuple[str, float]] = field(default_factory=dict)
    limited: dict[str, float] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def put(self, cache: dict[Any, Any], key: Any, value: Any) -> None:
        with self.lock:
            if len(cache) >= self.most and key not in cache:
                cache.clear()
            cache[key] = value


class RegistryClient:
    """Asks registries by the distribution API, for several threads at once.

    Only registries in `hosts` are asked. `hosts` and `insecure_hosts` are written as in references
    (`docker.io`, `host:port`). `credentials` returns the credentials for an image, in the order to
    try. `ca_files` has files of CA certificates by host; that of None is for all hosts. They are
    trusted beside the usual ones. A registry's file is trusted also where its answers lead to, such
    as its token server, unless that host has a file of its own.
    Proxies and CA bundles come from the environment, as with requests. Passwords do not.
    """

    def __init__(
        self,
        *,
        hosts: Collection[str],
        credentials: Callable[[Reference], Sequence[Credentials]] = _no_credentials,
        insecure_hosts: Collection[str] = (),
        ca_files: Mapping[str | None, Path] = {},
        clock: Monotonic = time.monotonic,
        bounds: Bounds = Bounds(),
    ) -> None:
        """Raise ConfigurationError if files have no certificates, with a line for each."""
        self._hosts = frozenset(host.lower() for host in hosts)
        insecure = (addresses.parse(f"http://{host}/") for host in insecure_hosts)
        self._insecure = frozenset(address.netloc for address in insecure if address)
        self._credentials = credentials
        self._clock = clock
        self._bounds = bounds
        self._remembered = _Remembered(bounds.remembered)
        self._adapters = _adapters(ca_files)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections. A later question opens new ones."""
        for adapter in self._adapters.values():
            adapter.close()

    def digest(
        self, reference: Reference, *, timeout: float = limits.QUESTION_SECONDS
    ) -> str | None:
        """Return the digest that the registry has for a tag now, or None if it has no such image.

        Without a tag the question is about the reference's digest, without either about `latest`.
        Raises UnknownRegistryError, RefusedByRegistryError and RegistryUnavailableError.
        """
        request = self._new_request(reference, timeout)
        path = f"/v2/{reference.repository}/manifests/{_version(reference)}"
        accept = {"Accept": ", ".join(_MANIFEST_TYPES)}
        response = self._ask(request, "HEAD", path, accept)
        if response.status == _OK:
            digest = response.headers.get("Docker-Content-Digest", "")
            if is_digest(digest):
                return digest
        if response.status == _OK or response.status in _WITHOUT_HEAD:
            response = self._ask(request, "GET", path, accept)
            if response.status == _OK:
                return _digest_of_manifest(request, response)
        if response.status == _NOT_FOUND:
            return None
        raise request.unavailable(f"it answered {response.status}")

    def other_kind(
        self, reference: Reference, *, timeout: float = limits.QUESTION_SECONDS
    ) -> str | None:
        """Return what the manifest with the reference's digest is, or None if it is an image's.

        A digest is asked about once, because its content never changes. What a registry does not
        show counts as an image. Raises as `digest` does.
        """
        known = self._remembered.kinds.get(str(reference.digest))
        if known is not None:
            return known or None
        request = self._new_request(reference, timeout)
        path = f"/v2/{reference.repository}/manifests/{reference.digest}"
        response = self._ask(request, "GET", path, {"Accept": ", ".join(_MANIFEST_TYPES)})
        if response.status >= _SERVER_ERROR and response.status not in _WITHOUT_HEAD:
            raise request.unavailable(f"it answered {response.status} for the manifest")
        manifest = _manifest(response)
        if manifest is None:
            return None
        kind = artifact.other_kind(manifest)
        self._remembered.put(self._remembered.kinds, str(reference.digest), kind or "")
        return kind

    def tags(self, name: Reference, *, timeout: float = limits.QUESTION_SECONDS) -> tuple[str, ...]:
        """Return the tags of a repository, in the registry's order; none if it does not exist.

        Malformed tags are left out. A list that is too long is cut off, with a warning in the log.
        Raises as `digest` does.
        """
        request = self._new_request(name, timeout)
        path = f"/v2/{name.repository}/tags/list"
        found: dict[str, None] = {}
        query = f"n={self._bounds.tags_per_page}"
        for _ in range(self._bounds.tag_pages):
            response = self._ask(request, "GET", f"{path}?{query}", {"Accept": "application/json"})
            if response.status == _NOT_FOUND:
                return ()
            if response.status != _OK:
                raise request.unavailable(f"it answered {response.status}")
            found.update(dict.fromkeys(_tags_of_page(request, response)))
            next_query = _next_query(request, response)
            if next_query is None:
                return tuple(found)
            if len(found) > self._bounds.tags:
                break
            query = next_query
        tags = tuple(found)[: self._bounds.tags]
        log.warning("%s has too many tags: only the first %d are used", name.name, len(tags))
        return tags

    def _new_request(self, reference: Reference, timeout: float) -> _Request:
        registry = reference.registry
        if registry not in self._hosts:
            raise UnknownRegistryError(
                f"no entry of IMAGES and no alias names registry {registry[:80]!r}, "
                "so it is not asked"
            )
        if not is_repository(reference.repository) or not _has_valid_version(reference):
            raise UnknownRegistryError(f"{str(reference)[:80]!r} is not the name of an image")
        base = addresses.of_registry(registry, self._insecure)
        if base is None:
            raise UnknownRegistryError(f"registry {registry[:80]!r} is not the name of a host")
        return _Request(reference, base, self._clock, self._clock() + timeout)

    def _ask(
        self, request: _Request, method: str, path: str, headers: Mapping[str, str]
    ) -> _Response:
        """Return the answer to the first credentials that have access to the image.

        Some registries answer 404 instead of 403, so the next credentials are tried after either.
        """
        missing: list[_Response] = []
        refusals: list[RefusedByRegistryError] = []
        for credentials in self._credentials(request.reference) or (None,):
            try:
                response = self._ask_as(credentials, request, method, path, headers)
            except RefusedByRegistryError as error:
                refusals.append(error)
                continue
            if response.status != _NOT_FOUND:
                return response
            missing.append(response)
        if not missing:
            raise refusals[0]
        return missing[0]

    def _ask_as(
        self,
        credentials: Credentials | None,
        request: _Request,
        method: str,
        path: str,
        headers: Mapping[str, str],
    ) -> _Response:
        """Return the answer to these credentials. Raises RefusedByRegistryError."""
        address = request.base.at(path)
        first = self._remembered_authorization(request, method, credentials)
        response = self._send(request, method, address, headers, first)
        if response.status == _UNAUTHENTICATED and response.address.origin == address.origin:
            challenge = _challenge(response.headers.get("WWW-Authenticate", ""))
            second = challenge and self._new_authorization(request, method, challenge, credentials)
            if second and second != first:
                response = self._send(request, method, address, headers, second)
        if response.status in _REFUSALS:
            raise request.refused(f"it answered {response.status}; {_advice(credentials)}")
        return response

    def _remembered_authorization(
        self, request: _Request, method: str, credentials: Credentials | None
    ) -> str | None:
        """Return the Authorization header for the last challenge, if it is still valid.

        It saves the request that the registry would answer with a challenge.
        """
        challenge = self._remembered.challenges.get((request.reference.name, method))
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            return _basic(credentials)
        key = (request.base.origin, credentials, challenge)
        token, until = self._remembered.tokens.get(key, (None, 0.0))
        return token if self._clock() < until else None

    def _new_authorization(
        self,
        request: _Request,
        method: str,
        challenge: _Challenge,
        credentials: Credentials | None,
    ) -> str | None:
        """Return the Authorization header that a challenge asks for, and remember the challenge."""
        name = (request.reference.name, method)
        self._remembered.put(self._remembered.challenges, name, challenge)
        if challenge.scheme == "basic":
            return _basic(credentials)
        asked = self._clock()
        token, seconds = self._token(request, challenge, credentials)
        # The registry is part of the key, so that no registry gets the token of another one.
        key = (request.base.origin, credentials, challenge)
        self._remembered.put(self._remembered.tokens, key, (token, asked + seconds))
        return token

    def _token(
        self, request: _Request, challenge: _Challenge, credentials: Credentials | None
    ) -> tuple[str, float]:
        """Return a token from a registry's realm, as a header, and its validity in seconds."""
        realm = addresses.parse(challenge.realm)
        if realm is None or not addresses.may_lead(request.base, realm, self._insecure):
            raise request.unavailable(
                f"its token server is {challenge.realm[:200]!r}, and that is not asked: "
                "a token server on another host must have a name and https"
            )
        asked = {"service": challenge.service, "scope": challenge.scope}
        asked = {name: text for name, text in asked.items() if text}
        accept = {"Accept": "application/json"}
        if credentials is not None and credentials.identity_token:
            response = self._send(
                request,
                "POST",
                realm,
                accept,
                form={
                    **asked,
                    "grant_type": "refresh_token",
                    "client_id": "image-puller",
                    "refresh_token": credentials.identity_token,
                },
            )
        else:
            path = realm.path or "/"
            joint = "&" if "?" in path else "?"
            path += joint + urlencode(asked) if asked else ""
            response = self._send(request, "GET", realm.at(path), accept, _basic(credentials))
        if response.status in _REALM_REFUSALS:
            raise request.refused(
                f"its token server {realm.netloc} answered {response.status}; "
                f"{_advice(credentials)}"
            )
        return _token_of(request, realm, response)

    def _send(
        self,
        request: _Request,
        method: str,
        address: Address,
        headers: Mapping[str, str],
        authorization: str | None = None,
        form: Mapping[str, str] | None = None,
    ) -> _Response:
        """Return the answer after redirects. Another host gets no credentials."""
        for _ in range(REDIRECTS + 1):
            response = self._send_once(request, method, address, headers, authorization, form)
            if response.status not in _REDIRECTIONS:
                return response
            location = response.headers.get("Location", "")
            target = addresses.resolve(address, location)
            if (
                target is None
                or form is not None
                or not addresses.may_lead(address, target, self._insecure)
            ):
                raise request.unavailable(
                    f"{address.netloc} redirects to {location[:200]!r}, and that is not followed"
                )
            if target.origin != address.origin:
                authorization = None
            address = target
        raise request.unavailable(f"{address.netloc} redirects more than {REDIRECTS} times")

    def _send_once(
        self,
        request: _Request,
        method: str,
        address: Address,
        headers: Mapping[str, str],
        authorization: str | None,
        form: Mapping[str, str] | None,
    ) -> _Response:
        self._check_not_limited(request, address)
        seconds = request.remaining()
        try:
            received = self._session(request, address).request(
                method,
                str(address),
                headers=headers,
                data=form,
                auth=_Authorization(authorization),
                timeout=(min(limits.CONNECT_SECONDS, seconds), seconds),
                allow_redirects=False,
                stream=True,
            )
            with received:
                body = _body(request, received)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise request.unavailable(_failure(address, error)) from error
        response = _Response(address, received.status_code, received.headers, body)
        self._check_rate_limit(request, response)
        return response

    def _session(self, request: _Request, address: Address) -> requests.Session:
        """Return a session without cookies. All sessions share the connections."""
        session = _Session()
        hosts = (address.netloc, request.base.netloc)
        own = next((host for host in hosts if host in self._adapters), None)
        session.mount("https://", self._adapters[own])
        session.mount("http://", self._adapters[own])
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.headers["User-Agent"] = f"image-puller/{__version__}"
        session.headers["Accept-Encoding"] = "identity"
        return session

    def _check_not_limited(self, request: _Request, address: Address) -> None:
        """Raise RegistryUnavailableError while a host limits requests."""
        seconds = self._remembered.limited.get(address.netloc, 0.0) - self._clock()
        if seconds > 0:
            raise request.unavailable(
                f"{address.netloc} limits requests for another {seconds:.0f} s"
            )

    def _check_rate_limit(self, request: _Request, response: _Response) -> None:
        """Raise RegistryUnavailableError if a host limits requests, and remember how long."""
        wanted = _retry_after(response.headers)
        if response.status == _TOO_MANY_REQUESTS or (
            response.status == _UNAVAILABLE and wanted is not None
        ):
            seconds = min(LIMITED_SECONDS if wanted is None else wanted, LIMITED_SECONDS_MOST)
            until = self._clock() + seconds
            self._remembered.put(self._remembered.limited, response.address.netloc, until)
            raise request.unavailable(
                f"{response.address.netloc} answered {response.status} and limits requests for "
                f"{seconds:.0f} s; credentials in IMAGE_PULL_SECRETS often raise a limit"
            )


def _adapters(ca_files: Mapping[str | None, Path]) -> dict[str | None, Adapter]:
    """Return the adapters by `Address.netloc`, and one for all other hosts (None)."""
    adapters: dict[str | None, Adapter] = {None: Adapter()}
    problems = []
    for registry, file in ca_files.items():
        base = None if registry is None else addresses.of_registry(registry, ())
        try:
            adapters[base.netloc if base else registry] = Adapter(_context(file))
        except ConfigurationError as error:
            problems.append(str(error))
    if problems:
        raise ConfigurationError("\n".join(problems))
    return adapters


def _context(ca_file: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()
        context.load_verify_locations(ca_file)
        # Certificates of private CAs often lack extensions that container runtimes don't check.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    except OSError as error:
        problem = f"REGISTRY_CA_FILE: {ca_file} has no CA certificates: {error}"
        raise ConfigurationError(problem) from error
    return context


def _version(reference: Reference) -> str:
    return reference.tag or reference.digest or "latest"


def _has_valid_version(reference: Reference) -> bool:
    return is_tag(_version(reference)) or is_digest(_version(reference))


def _body(request: _Request, received: requests.Response) -> bytes | None:
    """Return the body without decoding, or None if it is longer than `ANSWER_BYTES`.

    Raises RegistryUnavailableError after the deadline.
    """
    body = bytearray()
    while chunk := received.raw.read1(_CHUNK_BYTES, decode_content=False):
        body += chunk
        if len(body) > ANSWER_BYTES:
            return None
        request.remaining()
    return bytes(body)


def _failure(address: Address, error: Exception) -> str:
    where = address.netloc
    if isinstance(error, requests.exceptions.SSLError):
        return f"no trusted TLS connection to {where} ({error}); is its CA configured?"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"no connection to {where} through the proxy ({error}); see HTTPS_PROXY and NO_PROXY"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return f"no connection to {where} in time ({error})"
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
        return f"{where} took too long to answer ({error})"
    return f"no answer from {where} ({error})"


def _json(request: _Request, response: _Response) -> Mapping[str, Any]:
    if response.body is None or len(response.body) > JSON_BYTES:
        raise request.unavailable(
            f"the answer of {response.address.netloc} is longer than {JSON_BYTES} bytes"
        )
    try:
        value = bounded_json.load(response.body)
    except ValueError as error:
        raise request.unavailable(f"{response.address.netloc} answered no JSON: {error}") from error
    if not isinstance(value, dict):
        raise request.unavailable(f"{response.address.netloc} answered no JSON object")
    return value


def _manifest(response: _Response) -> Mapping[str, Any] | None:
    """Return the manifest of a response, or None where it has none."""
    if response.status != _OK or response.body is None or len(response.body) > JSON_BYTES:
        return None
    try:
        value = bounded_json.load(response.body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _digest_of_manifest(request: _Request, response: _Response) -> str:
    """Return the digest of a manifest. Raises RegistryUnavailableError if it is none.

    A proxy may answer with a web page instead.
    """
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    if kind not in _MANIFEST_TYPES or "Content-Encoding" in response.headers:
        raise request.unavailable(f"it answered {kind[:80]!r}, which is not an image manifest")
    if response.body is None or len(response.body) <= JSON_BYTES:
        _json(request, response)
    return f"sha256:{hashlib.sha256(response.body or b'').hexdigest()}"


def _tags_of_page(request: _Request, response: _Response) -> Iterator[str]:
    tags = _json(request, response).get("tags")
    if tags is not None and not isinstance(tags, list):
        raise request.unavailable("its tags are not a list")
    return (tag for tag in tags or () if isinstance(tag, str) and is_tag(tag))


def _next_query(request: _Request, response: _Response) -> str | None:
    """Return the query of the next page, or None on the last page.

    Only the query of the link is used, so that a link can't change the path.
    """
    header = response.headers.get("Link", "")[:_HEADER_CHARACTERS]
    link = next((url for url, rest in _LINK.findall(header) if _NEXT.search(rest)), None)
    if link is None:
        return None
    target = addresses.resolve(response.address, link)
    if target is None or target.host != response.address.host:
        raise request.unavailable(
            f"the next page of its tags is at {link[:200]!r}, and that is not asked"
        )
    return target.path.partition("?")[2] or None


def _challenge(header: str) -> _Challenge | None:
    """Return the challenge that asks for a token, or else the one that asks for a password."""
    offered: dict[str, dict[str, str]] = {}
    parameters: dict[str, str] = {}
    text = header[:_HEADER_CHARACTERS]
    position = 0
    while part := _CHALLENGE_PART.match(text, position):
        position = part.end()
        if part["scheme"]:
            parameters = offered.setdefault(part["scheme"].lower(), {})
        else:
            value = part["plain"] if part["quoted"] is None else _unquoted(part["quoted"])
            parameters.setdefault(part["key"].lower(), value)
    for scheme in ("bearer", "basic"):
        if scheme in offered:
            parts = (offered[scheme].get(key, "") for key in ("realm", "service", "scope"))
            return _Challenge(scheme, *parts)
    return None


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _basic(credentials: Credentials | None) -> str | None:
    if credentials is None or not credentials.username:
        return None
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _token_of(request: _Request, realm: Address, response: _Response) -> tuple[str, float]:
    if response.status != _OK:
        raise request.unavailable(f"its token server {realm.netloc} answered {response.status}")
    document = _json(request, response)
    token = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or not _PRINTABLE.fullmatch(token):
        raise request.unavailable(f"its token server {realm.netloc} answered no token")
    expires_in = document.get("expires_in")
    seconds = expires_in if isinstance(expires_in, int) else TOKEN_SECONDS
    return f"Bearer {token}", min(seconds, TOKEN_SECONDS_MOST) - _TOKEN_MARGIN_SECONDS


def _advice(credentials: Credentials | None) -> str:
    if credentials is None:
        return "if the image exists, name a pull secret that covers it in IMAGE_PULL_SECRETS"
    return f"check the credentials in pull secret {credentials.secret}"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in `Retry-After`: a number, or a time by the clock of the host."""
    text = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        then, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError):
        return None
