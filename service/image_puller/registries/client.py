"""The client of container registries: the distribution API over HTTP.

No other module sends a request to a registry. `addresses` says which hosts may be asked.
"""

import base64
import hashlib
import json
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
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from image_puller import __version__, limits
from image_puller.errors import (
    ConfigurationError,
    RefusedByRegistryError,
    RegistryUnavailableError,
    UnknownRegistryError,
)
from image_puller.registries import addresses
from image_puller.registries.addresses import Address
from image_puller.registries.pull_secrets import Credentials
from image_puller.values.reference import Reference, is_digest, is_repository, is_tag

log = logging.getLogger(__name__)

ANSWER_BYTES = 4 * 1024 * 1024
"""Any answer; the distribution specification has registries take manifests of 4 MiB."""
REDIRECTS = 3
LIMITED_SECONDS = 60.0
"""How long a registry that limits requests is left alone where it does not say."""
LIMITED_SECONDS_MOST = 3600.0
TOKEN_SECONDS = 60.0
"""How long a token is good where its server does not say, as the specification has it."""
TOKEN_SECONDS_MOST = 3600.0

_MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_REDIRECTIONS = (301, 302, 303, 307, 308)
_REFUSALS = (401, 403)
_OK, _UNAUTHENTICATED, _NOT_FOUND, _TOO_MANY, _UNAVAILABLE = 200, 401, 404, 429, 503
_WITHOUT_HEAD = (405, 501)
_REALM_REFUSALS = (400, 401, 403)
_CHUNK = 64 * 1024
_HEADER_CHARACTERS = 8192  # of a challenge that are read
_TOKEN_MARGIN_SECONDS = 5.0  # a token that ends while it is on its way is of no use
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

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much is read of a listing of tags, and how much is remembered."""

    tags_per_page: int = 1000
    tag_pages: int = 100
    tags: int = 50_000
    remembered: int = 1000
    """Challenges, tokens and limited hosts, of each."""


@dataclass(frozen=True, slots=True)
class _Response:
    """A response, read as far as it was allowed to be; `body` is None where it was longer."""

    address: Address
    status: int
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class _Challenge:
    """What a registry says that it must be shown: `scheme` is bearer or basic."""

    scheme: str
    realm: str
    service: str
    scope: str


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked, of which registry, and until when an answer is of use."""

    reference: Reference
    base: Address
    clock: Clock
    deadline: float

    def unavailable(self, why: str) -> RegistryUnavailableError:
        message = f"registry {self.reference.registry} can't be asked about {self.reference}: {why}"
        return RegistryUnavailableError(message)

    def refused(self, why: str) -> RefusedByRegistryError:
        return RefusedByRegistryError(
            f"registry {self.reference.registry} does not show {self.reference}: {why}"
        )

    def remaining(self) -> float:
        """The seconds that are left; raises RegistryUnavailableError."""
        seconds = self.deadline - self.clock()
        if seconds <= 0:
            raise self.unavailable("it took too long to answer")
        return seconds


class _Authorization(AuthBase):
    """Sends exactly this header, or none: with it, requests looks for nothing in a .netrc."""

    def __init__(self, header: str | None) -> None:
        self._header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._header is not None:
            request.headers["Authorization"] = self._header
        return request


class _Session(requests.Session):
    """Looks at no redirect: even told not to follow it, requests would read its whole body."""

    def get_redirect_target(self, _: requests.Response) -> None:
        return None


class _Adapter(HTTPAdapter):
    """Trusts a CA beside those that are trusted anyway, through proxies too."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._more = {} if context is None else {"ssl_context": context}
        super().__init__()

    def init_poolmanager(
        self,
        connections: int,
        maxsize: int,
        block: bool = False,  # noqa: FBT001, FBT002 - as its base class has it
        **options: Any,
    ) -> None:
        super().init_poolmanager(connections, maxsize, block, **options, **self._more)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, **options, **self._more)


def _nobody(_: Reference) -> Sequence[Credentials]:
    return ()


@dataclass(slots=True)
class _Remembered:
    """Caches that several threads share; each forgets everything rather than grow for ever."""

    most: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    challenges: dict[tuple[str, str], _Challenge] = field(default_factory=dict)
    tokens: dict[tuple[Any, ...], tuple[str, float]] = field(default_factory=dict)
    limited: dict[str, float] = field(default_factory=dict)

    def put(self, cache: dict[Any, Any], key: Any, value: Any) -> None:
        with self.lock:
            if len(cache) >= self.most and key not in cache:
                cache.clear()
            cache[key] = value


class RegistryClient:
    """The registries that are named, asked by the distribution API; for several threads at once.

    `hosts` and `insecure_hosts` are written as references write them (`docker.io`, `host:port`).
    `credentials` tells what to ask for an image with, in the order to try. Proxies and CA bundles
    come from the environment, as with requests; passwords never do.
    """

    def __init__(
        self,
        *,
        hosts: Collection[str],
        credentials: Callable[[Reference], Sequence[Credentials]] = _nobody,
        insecure_hosts: Collection[str] = (),
        ca_file: Path | None = None,
        clock: Clock = time.monotonic,
        bounds: Bounds = Bounds(),
    ) -> None:
        """Raises ConfigurationError where `ca_file` holds no certificates."""
        self._hosts = frozenset(host.lower() for host in hosts)
        insecure = (addresses.parse(f"http://{host}/") for host in insecure_hosts)
        self._insecure = frozenset(address.netloc for address in insecure if address)
        self._credentials = credentials
        self._clock = clock
        self._bounds = bounds
        self._remembered = _Remembered(bounds.remembered)
        self._adapter = _Adapter(None if ca_file is None else _context(ca_file))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes connections that are kept; a later question opens new ones."""
        self._adapter.close()

    def digest(
        self, reference: Reference, *, timeout: float = limits.QUESTION_SECONDS
    ) -> str | None:
        """The digest that the registry has for a tag now; None where it has no such image.

        Without a tag the reference's digest is asked for, without either `latest`. Raises
        UnknownRegistryError, RefusedByRegistryError and RegistryUnavailableError.
        """
        request = self._new_request(reference, timeout)
        path = f"/v2/{reference.repository}/manifests/{_asked(reference)}"
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

    def tags(self, name: Reference, *, timeout: float = limits.QUESTION_SECONDS) -> tuple[str, ...]:
        """The tags of a repository, in the registry's order; none where there is no such one.

        What is no tag by the grammar is left out. A list that is too long is cut off, and that is
        logged. Raises as `digest` does.
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
            following = _next_query(request, response)
            if following is None:
                return tuple(found)
            if len(found) > self._bounds.tags:
                break
            query = following
        log.warning("%s has more tags than are read: %d are considered", name.name, len(found))
        return tuple(found)[: self._bounds.tags]

    def _new_request(self, reference: Reference, timeout: float) -> _Request:
        registry = reference.registry
        if registry not in self._hosts:
            raise UnknownRegistryError(
                f"registry {registry[:80]!r} is named by no entry of IMAGES and by no alias: "
                "it is not asked"
            )
        if not is_repository(reference.repository) or not _is_named(reference):
            raise UnknownRegistryError(f"{str(reference)[:80]!r} is not the name of an image")
        base = addresses.of_registry(registry, self._insecure)
        if base is None:
            raise UnknownRegistryError(f"registry {registry[:80]!r} is not the name of a host")
        return _Request(reference, base, self._clock, self._clock() + timeout)

    def _ask(
        self, request: _Request, method: str, path: str, headers: Mapping[str, str]
    ) -> _Response:
        """The answer to whoever may see it; what one of them does not find another one may."""
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
        """The answer to one of the credentials; raises RefusedByRegistryError."""
        address = request.base.at(path)
        shown = self._known_proof(request, method, credentials)
        response = self._send(request, method, address, headers, shown)
        if response.status == _UNAUTHENTICATED and response.address.origin == address.origin:
            challenge = _challenge(response.headers.get("WWW-Authenticate", ""))
            proof = challenge and self._new_proof(request, method, challenge, credentials)
            if proof and proof != shown:
                response = self._send(request, method, address, headers, proof)
        if response.status in _REFUSALS:
            raise request.refused(f"it answered {response.status}; {_advice(credentials)}")
        return response

    def _known_proof(
        self, request: _Request, method: str, credentials: Credentials | None
    ) -> str | None:
        """What the registry took last time, as long as it is good: it saves being refused first."""
        challenge = self._remembered.challenges.get((request.reference.name, method))
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            return _basic(credentials)
        key = (request.base.origin, credentials, challenge)
        token, until = self._remembered.tokens.get(key, (None, 0.0))
        return token if self._clock() < until else None

    def _new_proof(
        self,
        request: _Request,
        method: str,
        challenge: _Challenge,
        credentials: Credentials | None,
    ) -> str | None:
        """The Authorization header that a challenge asks for."""
        name = (request.reference.name, method)
        self._remembered.put(self._remembered.challenges, name, challenge)
        if challenge.scheme == "basic":
            return _basic(credentials)
        asked = self._clock()
        token, seconds = self._token(request, challenge, credentials)
        # The registry is part of the key: what one may see must not be told to another.
        key = (request.base.origin, credentials, challenge)
        self._remembered.put(self._remembered.tokens, key, (token, asked + seconds))
        return token

    def _token(
        self, request: _Request, challenge: _Challenge, credentials: Credentials | None
    ) -> tuple[str, float]:
        """A token from a registry's realm as a header, and how many seconds it is good for."""
        realm = addresses.parse(challenge.realm)
        if realm is None or not addresses.may_lead(request.base, realm, self._insecure):
            raise request.unavailable(
                f"it sends the service for a token to {challenge.realm[:200]!r}, and that is not "
                "asked: another host must have a name and https"
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
        """The answer at the end of the redirects, on whose way other hosts get no credentials."""
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
        self._wait_for(request, address)
        seconds = request.remaining()
        try:
            received = self._session().request(
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
        self._heed_limit(request, response)
        return response

    def _session(self) -> requests.Session:
        """A session with nothing in it but the connections, which all of them share."""
        session = _Session()
        session.mount("https://", self._adapter)
        session.mount("http://", self._adapter)
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.headers["User-Agent"] = f"image-puller/{__version__}"
        session.headers["Accept-Encoding"] = "identity"
        return session

    def _wait_for(self, request: _Request, address: Address) -> None:
        """Raises RegistryUnavailableError while a host wants to be left alone."""
        seconds = self._remembered.limited.get(address.netloc, 0.0) - self._clock()
        if seconds > 0:
            raise request.unavailable(
                f"{address.netloc} limits requests for another {seconds:.0f} s"
            )

    def _heed_limit(self, request: _Request, response: _Response) -> None:
        told = _retry_after(response.headers)
        if response.status == _TOO_MANY or (response.status == _UNAVAILABLE and told is not None):
            seconds = min(LIMITED_SECONDS if told is None else told, LIMITED_SECONDS_MOST)
            until = self._clock() + seconds
            self._remembered.put(self._remembered.limited, response.address.netloc, until)
            raise request.unavailable(
                f"{response.address.netloc} answered {response.status} and limits requests for "
                f"{seconds:.0f} s; credentials in IMAGE_PULL_SECRETS often raise a limit"
            )


def _context(ca_file: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()
        context.load_verify_locations(ca_file)
        # Private CAs often leave out extensions that no container runtime asks for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    except OSError as error:
        raise ConfigurationError(f"{ca_file} holds no CA certificates: {error}") from error
    return context


def _asked(reference: Reference) -> str:
    return reference.tag or reference.digest or "latest"


def _is_named(reference: Reference) -> bool:
    return is_tag(_asked(reference)) or is_digest(_asked(reference))


def _body(request: _Request, received: requests.Response) -> bytes | None:
    """The body as it was sent, if it comes in time; None where it is longer than allowed."""
    body = bytearray()
    while chunk := received.raw.read1(_CHUNK, decode_content=False):
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
        return f"no way to {where} through the proxy ({error}); see HTTPS_PROXY and NO_PROXY"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return f"no connection to {where} in time ({error})"
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
        return f"{where} took too long to answer ({error})"
    return f"no answer from {where} ({error})"


def _json(request: _Request, response: _Response) -> Mapping[str, Any]:
    if response.body is None:
        raise request.unavailable(f"{response.address.netloc} answered far more than it should")
    try:
        value = json.loads(response.body)
    except (ValueError, RecursionError) as error:
        raise request.unavailable(f"{response.address.netloc} answered no JSON") from error
    if not isinstance(value, dict):
        raise request.unavailable(f"{response.address.netloc} answered no JSON object")
    return value


def _digest_of_manifest(request: _Request, response: _Response) -> str:
    """The digest of what a registry sent, if it is a manifest: not a proxy's page for people."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    if kind not in _MANIFEST_TYPES or "Content-Encoding" in response.headers:
        raise request.unavailable(f"it answered {kind[:80]!r}, which is no image's manifest")
    _json(request, response)
    return f"sha256:{hashlib.sha256(response.body or b'').hexdigest()}"


def _tags_of_page(request: _Request, response: _Response) -> Iterator[str]:
    tags = _json(request, response).get("tags")
    if tags is not None and not isinstance(tags, list):
        raise request.unavailable("its list of tags is no list")
    return (tag for tag in tags or () if isinstance(tag, str) and is_tag(tag))


def _next_query(request: _Request, response: _Response) -> str | None:
    """The query of the next page; None on the last one.

    The path stays our own, so a link may say nothing but where to go on.
    """
    header = response.headers.get("Link", "")[:_HEADER_CHARACTERS]
    link = next((url for url, rest in _LINK.findall(header) if _NEXT.search(rest)), None)
    if link is None:
        return None
    target = addresses.resolve(response.address, link)
    if target is None or target.host != response.address.host:
        raise request.unavailable(f"its list of tags goes on at {link[:200]!r}: not followed")
    return target.path.partition("?")[2] or None


def _challenge(header: str) -> _Challenge | None:
    """The challenge that can be met: a token, else a password."""
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
            told = offered[scheme]
            realm, service, scope = (told.get(key, "") for key in ("realm", "service", "scope"))
            return _Challenge(scheme, realm, service, scope)
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
    told = document.get("expires_in")
    seconds = told if isinstance(told, int) else TOKEN_SECONDS
    return f"Bearer {token}", min(seconds, TOKEN_SECONDS_MOST) - _TOKEN_MARGIN_SECONDS


def _advice(credentials: Credentials | None) -> str:
    if credentials is None:
        return "if the image is there, name a pull secret that covers it in IMAGE_PULL_SECRETS"
    return f"see whether the credentials in pull secret {credentials.secret} are still right"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a host asks for, as a number or as a time by its own clock."""
    text = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        then, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError):
        return None
