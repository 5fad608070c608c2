"""RegistryClient: the requests that it sends to registries, and how it reads their answers."""

import base64
import contextlib
import hashlib
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import certifi
import pytest
import requests
import responses
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from image_puller.errors import (
    ConfigurationError,
    RefusedByRegistryError,
    RegistryUnavailableError,
    UnknownRegistryError,
)
from image_puller.registries import client
from image_puller.registries.client import Bounds, RegistryClient
from image_puller.registries.pull_secrets import Credentials
from image_puller.values.reference import Reference, parse
from tests.support.clock import Seconds
from tests.support.dripping import BODY, CONTINUE, HEADERS, STATUS, DrippingServer
from tests.support.tls import self_signed, tls_server
from tests.support.waiting import TIMEOUT_SECONDS

APP = parse("quay.io/org/app:1.2")
MANIFEST = "https://quay.io/v2/org/app/manifests/1.2"
TAGS = "https://quay.io/v2/org/app/tags/list"
REALM = "https://auth.quay.io/token"
BEARER = f'Bearer realm="{REALM}",service="quay.io",scope="repository:org/app:pull"'
DIGEST = f"sha256:{'a' * 64}"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
ME = Credentials(secret="mine", username="me", password="pass")
OTHER = Credentials(secret="other", username="other", password="word")
TOKEN_ONLY = Credentials(secret="mine", username="<token>", identity_token="identity")
BASIC = "Basic bWU6cGFzcw=="
POOL = urllib3.HTTPSConnectionPool("quay.io")


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def web() -> Iterator[responses.RequestsMock]:
    """Simulate a web that has only the URLs that a test adds."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as web:
        yield web


@pytest.fixture
def new_client(clock: Seconds) -> Iterator[Callable[..., RegistryClient]]:
    clients = []

    def create(*credentials: Credentials, **options: Any) -> RegistryClient:
        options = {"hosts": ["quay.io", "docker.io"], "clock": clock, **options}
        clients.append(RegistryClient(credentials=lambda _: credentials, **options))
        return clients[-1]

    yield create
    for registries in clients:
        registries.close()


@pytest.fixture
def registries(new_client: Callable[..., RegistryClient]) -> RegistryClient:
    return new_client()


def add_manifest(web: responses.RequestsMock, url: str = MANIFEST, **options: Any) -> None:
    web.head(url, headers={"Docker-Content-Digest": DIGEST}, **options)


def add_challenge(
    web: responses.RequestsMock, challenge: str = BEARER, url: str = MANIFEST
) -> None:
    web.head(url, status=401, headers={"WWW-Authenticate": challenge})


def add_protected_manifest(web: responses.RequestsMock, *valid: str, url: str = MANIFEST) -> None:
    """Add a manifest that needs one of these Authorization headers."""

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        if request.headers.get("Authorization") in valid:
            return 200, {"Docker-Content-Digest": DIGEST}, ""
        return 401, {"WWW-Authenticate": BEARER}, ""

    web.add_callback("HEAD", url, answer)


def sent(web: responses.RequestsMock) -> list[tuple[str, str, str | None]]:
    """Return of each request its method, its URL without the query, and its authorization."""
    return [
        (
            str(call.request.method),
            str(call.request.url).partition("?")[0],
            call.request.headers.get("Authorization"),
        )
        for call in web.calls
    ]


def request_options(web: responses.RequestsMock) -> list[dict[str, Any]]:
    """Return the options of each request, such as its timeout."""
    return [vars(call.request)["req_kwargs"] for call in web.calls]


# Digests


def test_digest_is_read_from_the_header(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    add_manifest(web)
    assert registries.digest(APP) == DIGEST
    (call,) = web.calls
    accept = call.request.headers["Accept"].split(", ")
    assert len(accept) == 4
    assert all(kind.startswith("application/vnd.") for kind in accept)
    assert call.request.headers["User-Agent"].startswith("image-puller/")


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("quay.io/org/app", "https://quay.io/v2/org/app/manifests/latest"),
        (f"quay.io/org/app@{DIGEST}", f"https://quay.io/v2/org/app/manifests/{DIGEST}"),
        (f"quay.io/org/app:1@{DIGEST}", "https://quay.io/v2/org/app/manifests/1"),
        ("nginx:1", "https://registry-1.docker.io/v2/library/nginx/manifests/1"),
    ],
)
def test_reference_determines_the_url(
    web: responses.RequestsMock, registries: RegistryClient, image: str, url: str
) -> None:
    add_manifest(web, url)
    assert registries.digest(parse(image)) == DIGEST


@pytest.mark.parametrize("header", [None, "", "sha256:short", f"{DIGEST}, {DIGEST}", "latest"])
@pytest.mark.parametrize("status", [200, 405, 501])
def test_digest_is_computed_from_the_manifest_if_the_header_has_none(
    web: responses.RequestsMock, registries: RegistryClient, header: str | None, status: int
) -> None:
    body = json.dumps({"schemaVersion": 2})
    headers = {} if header is None else {"Docker-Content-Digest": header}
    web.head(MANIFEST, status=status, headers=headers)
    web.get(MANIFEST, body=body, content_type=f"{OCI_INDEX}; charset=utf-8")
    expected = hashlib.sha256(body.encode()).hexdigest()
    assert registries.digest(APP) == f"sha256:{expected}"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"body": "<html>", "content_type": "text/html"}, "'text/html', which is not an image"),
        ({"body": "<html>", "content_type": OCI_INDEX}, "answered no JSON"),
        ({"body": "[]", "content_type": OCI_INDEX}, "answered no JSON object"),
        ({"body": "[" * 100_000, "content_type": OCI_INDEX}, "answered no JSON"),
        ({"body": "{" + " " * client.ANSWER_BYTES, "content_type": OCI_INDEX}, "longer than"),
        (
            {"body": "{}", "content_type": OCI_INDEX, "headers": {"Content-Encoding": "gzip"}},
            "not an image manifest",
        ),
        ({"status": 500}, "answered 500"),
    ],
)
def test_digest_of_an_unusable_manifest_is_an_error(
    web: responses.RequestsMock, registries: RegistryClient, answer: dict[str, Any], problem: str
) -> None:
    web.head(MANIFEST)
    web.get(MANIFEST, **answer)
    with pytest.raises(RegistryUnavailableError, match=problem):
        registries.digest(APP)


def test_digest_of_a_missing_image_is_none(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    web.head(MANIFEST, status=404)
    assert registries.digest(APP) is None


def test_digest_of_an_image_deleted_between_two_requests_is_none(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    web.head(MANIFEST)
    web.get(MANIFEST, status=404)
    assert registries.digest(APP) is None


@pytest.mark.parametrize("status", [400, 402, 410, 418, 500, 502, 503, 504])
def test_other_status_makes_the_registry_unavailable(
    web: responses.RequestsMock, registries: RegistryClient, status: int
) -> None:
    web.head(MANIFEST, status=status)
    with pytest.raises(RegistryUnavailableError) as error:
        registries.digest(APP)
    assert f"registry quay.io can't be asked about {APP}: " in str(error.value)
    assert f"answered {status}" in str(error.value)
    assert "limits requests" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (requests.exceptions.SSLError("self-signed"), "is its CA configured"),
        (requests.exceptions.ProxyError("refused"), "see HTTPS_PROXY"),
        (requests.exceptions.ConnectTimeout("slow"), "no connection to quay.io in time"),
        (requests.exceptions.ReadTimeout("slow"), "too long to answer"),
        (urllib3.exceptions.ReadTimeoutError(POOL, "", "slow"), "too long to answer"),
        (urllib3.exceptions.ProtocolError("broken"), "no answer from quay.io"),
        (requests.exceptions.ConnectionError("no such name"), "no answer from quay.io"),
        (requests.exceptions.InvalidHeader("odd"), "no answer from quay.io"),
    ],
)
def test_failed_connection_makes_the_registry_unavailable(
    web: responses.RequestsMock, registries: RegistryClient, error: Exception, problem: str
) -> None:
    web.head(MANIFEST, body=error)
    with pytest.raises(RegistryUnavailableError, match=problem):
        registries.digest(APP)


# Hosts


@pytest.mark.parametrize(
    "registry",
    ["evil.example.com", "quay.io.evil.com", "quay.io:443", "QUAY.IO", "quay.io@evil.com", ""],
)
def test_registry_that_is_not_configured_is_not_asked(
    web: responses.RequestsMock, registries: RegistryClient, registry: str
) -> None:
    with pytest.raises(UnknownRegistryError, match="no entry of IMAGES and no alias names"):
        registries.digest(Reference(registry=registry, repository="app", tag="1"))
    assert not web.calls


@pytest.mark.parametrize(
    ("repository", "tag"),
    [
        ("../../admin", "1"),
        ("app?x=", "1"),
        ("app", "../x"),
        ("app", "1\r\nX: y"),
        ("", "1"),
        ("app#", "1"),
    ],
)
def test_registry_is_not_asked_about_a_malformed_image(
    web: responses.RequestsMock, registries: RegistryClient, repository: str, tag: str
) -> None:
    with pytest.raises(UnknownRegistryError, match="not the name of an image"):
        registries.digest(Reference(registry="quay.io", repository=repository, tag=tag))
    assert not web.calls


def test_malformed_host_is_not_asked(new_client: Callable[..., RegistryClient]) -> None:
    registries = new_client(hosts=["user@evil"], insecure_hosts=["also evil"])
    with pytest.raises(UnknownRegistryError, match="not the name of a host"):
        registries.digest(Reference(registry="user@evil", repository="app", tag="1"))


@pytest.mark.parametrize("host", ["10.0.0.1:5000", "registry.lab", "[::1]:5000", "localhost:80"])
def test_insecure_host_is_asked_by_plain_http(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient], host: str
) -> None:
    plain = f"http://{host}/v2/app/manifests/1"
    add_manifest(web, plain.replace(":80/", "/"))
    reference = parse(f"{host}/app:1")
    assert new_client(hosts=[host], insecure_hosts=[host]).digest(reference) == DIGEST
    with pytest.raises(RegistryUnavailableError):
        new_client(hosts=[host]).digest(reference)
    assert str(web.calls[-1].request.url).startswith("https://")


# Tokens


def add_token(web: responses.RequestsMock, realm: str = REALM, **document: Any) -> None:
    web.get(realm, json={"token": "abc", **document})


def test_token_is_fetched_from_the_realm_and_sent_to_the_registry(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    add_protected_manifest(web, "Bearer abc")
    add_token(web)
    assert registries.digest(APP) == DIGEST
    assert sent(web) == [
        ("HEAD", MANIFEST, None),
        ("GET", REALM, None),
        ("HEAD", MANIFEST, "Bearer abc"),
    ]
    assert parse_qs(urlsplit(str(web.calls[1].request.url)).query) == {
        "service": ["quay.io"],
        "scope": ["repository:org/app:pull"],
    }


def test_credentials_are_sent_only_to_the_realm(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    add_protected_manifest(web, "Bearer abc")
    add_token(web)
    assert new_client(ME).digest(APP) == DIGEST
    assert sent(web) == [
        ("HEAD", MANIFEST, None),
        ("GET", REALM, BASIC),
        ("HEAD", MANIFEST, "Bearer abc"),
    ]


def test_identity_token_is_posted_to_the_realm(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    add_protected_manifest(web, "Bearer abc")
    web.post(REALM, json={"access_token": "abc"})
    assert new_client(TOKEN_ONLY).digest(APP) == DIGEST
    assert parse_qs(str(web.calls[1].request.body)) == {
        "grant_type": ["refresh_token"],
        "client_id": ["image-puller"],
        "refresh_token": ["identity"],
        "service": ["quay.io"],
        "scope": ["repository:org/app:pull"],
    }
    assert sent(web)[1] == ("POST", REALM, None)


def test_identity_token_is_not_sent_to_the_target_of_a_redirect(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    add_challenge(web)
    web.post(REALM, status=307, headers={"Location": f"{REALM}/elsewhere"})
    with pytest.raises(RegistryUnavailableError, match="not followed"):
        new_client(TOKEN_ONLY).digest(APP)


@pytest.mark.parametrize(
    ("realm", "url"),
    [
        ("https://auth.example.com", "https://auth.example.com/"),
        ("https://auth.example.com/t?a=b", "https://auth.example.com/t?a=b"),
        ("https://auth.example.com?a=b", "https://auth.example.com/?a=b"),
        ("https://auth.example.com:8443/t#x", "https://auth.example.com:8443/t"),
        ("https://quay.io/v2/auth", "https://quay.io/v2/auth"),
        ("HTTPS://AUTH.example.com/t", "https://auth.example.com/t"),
    ],
)
def test_realm_may_have_any_form_of_url(
    web: responses.RequestsMock, registries: RegistryClient, realm: str, url: str
) -> None:
    add_challenge(web, f'Bearer realm="{realm}"')
    add_token(web, url)
    with pytest.raises(RefusedByRegistryError):
        registries.digest(APP)
    assert str(web.calls[1].request.url) == url  # the challenge has no service and no scope


@pytest.mark.parametrize(
    "realm",
    [
        "http://auth.quay.io/token",
        "http://quay.io/token",
        "https://10.0.0.1/token",
        "https://127.0.0.1/token",
        "https://127.1/token",
        "https://2130706433/token",
        "https://0x7f000001/token",
        "https://0x7f.0.0.0x1/token",
        "https://0177.0.0.1/token",
        "https://127.0.0.1./token",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/token",
        "https://[fe80::1]/token",
        "https://[::ffff:127.0.0.1]/token",
        "https://localhost/token",
        "https://LOCALHOST:8443/token",
        "https://localhost./token",
        "https://a.localhost/token",
        "https://localhost.localdomain/token",
        "https://ip6-localhost/token",
        "https://ip6-loopback/token",
        "https://quay.io@evil.example.com/token",
        "https://quay.io\\@evil.example.com/token",
        "https://evil.example.com\\.quay.io/token",
        "https://[::1/token",
        "https://auth.quay.io:x/token",
        "https://auth.quay.io /token",
        "https://auth.quay.io/to ken",
        "https://xn--\u00e9.example.com/token",
        "ftp://auth.quay.io/token",
        "file:///etc/passwd",
        "//auth.quay.io/token",
        "/token",
        "",
    ],
)
def test_forbidden_realm_is_not_asked(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient], realm: str
) -> None:
    add_challenge(web, 'Bearer realm="{}",service="s"'.format(realm.replace("\\", "\\\\")))
    with pytest.raises(RegistryUnavailableError, match="that is not asked"):
        new_client(ME).digest(APP)
    assert sent(web) == [("HEAD", MANIFEST, None)]


def test_insecure_registry_may_have_its_realm_on_another_insecure_host(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    url, realm = "http://10.0.0.1:5000/v2/app/manifests/1", "http://10.0.0.1:5001/token"
    add_challenge(web, f'Bearer realm="{realm}"', url)
    add_token(web, realm)
    hosts = {"hosts": ["10.0.0.1:5000"]}
    with pytest.raises(RegistryUnavailableError, match="that is not asked"):
        new_client(ME, insecure_hosts=["10.0.0.1:5000"], **hosts).digest(
            parse("10.0.0.1:5000/app:1")
        )
    plain = new_client(ME, insecure_hosts=["10.0.0.1:5000", "10.0.0.1:5001"], **hosts)
    with pytest.raises(RefusedByRegistryError):
        plain.digest(parse("10.0.0.1:5000/app:1"))
    assert sent(web) == [
        ("HEAD", url, None),
        ("HEAD", url, None),
        ("GET", realm, BASIC),
        ("HEAD", url, "Bearer abc"),
    ]


def test_registry_with_tls_may_not_have_a_realm_without_tls(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    add_challenge(web, 'Bearer realm="http://plain.example.com/token"')
    with pytest.raises(RegistryUnavailableError, match="that is not asked"):
        new_client(ME, insecure_hosts=["plain.example.com"]).digest(APP)


def test_token_is_used_again_until_it_expires(
    web: responses.RequestsMock, registries: RegistryClient, clock: Seconds
) -> None:
    add_protected_manifest(web, "Bearer abc")
    add_token(web, expires_in=300)
    for _ in range(3):
        registries.digest(APP)
    assert [method for method, *_ in sent(web)] == ["HEAD", "GET", "HEAD", "HEAD", "HEAD"]
    clock.now += 300
    registries.digest(APP)
    assert [method for method, *_ in sent(web)][5:] == ["HEAD", "GET", "HEAD"]


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [(None, 55), ("300", 55), (1.5, 55), (300, 295), (10**400, 3595), (0, 0), (-1, 0)],
)
def test_validity_of_a_token_is_bounded_and_has_a_default(
    web: responses.RequestsMock,
    registries: RegistryClient,
    clock: Seconds,
    expires_in: Any,
    seconds: int,
) -> None:
    add_protected_manifest(web, "Bearer abc")
    add_token(web, expires_in=expires_in)
    registries.digest(APP)
    clock.now += max(seconds - 1, 0)
    registries.digest(APP)
    assert len(web.calls) == (4 if seconds else 6)
    clock.now += 1
    registries.digest(APP)
    assert len(web.calls) == (7 if seconds else 9)


def test_token_that_the_registry_rejects_is_replaced(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    valid = ["Bearer old"]

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        if request.headers.get("Authorization") in valid:
            return 200, {"Docker-Content-Digest": DIGEST}, ""
        return 401, {"WWW-Authenticate": BEARER}, ""

    web.add_callback("HEAD", MANIFEST, answer)
    web.get(REALM, json={"token": "old"})
    web.get(REALM, json={"token": "new"})
    registries.digest(APP)
    valid[:] = ["Bearer new"]
    assert registries.digest(APP) == DIGEST


def test_token_of_one_registry_is_not_sent_to_another(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    """Even if the other registry has the same realm, service and scope in its challenge."""
    evil = MANIFEST.replace("quay.io", "evil.example.com")
    add_protected_manifest(web, "Bearer for-quay")
    add_protected_manifest(web, url=evil)
    web.get(REALM, json={"token": "for-quay"})
    web.get(REALM, json={"token": "for-evil"})
    hosts = ["quay.io", "evil.example.com"]
    registries = RegistryClient(
        hosts=hosts, credentials=lambda image: [ME] if image.registry == "quay.io" else []
    )
    registries.digest(APP)
    with pytest.raises(RefusedByRegistryError):
        registries.digest(parse("evil.example.com/org/app:1.2"))
    assert sent(web)[3:] == [
        ("HEAD", evil, None),
        ("GET", REALM, None),
        ("HEAD", evil, "Bearer for-evil"),
    ]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"body": "no"}, "auth.quay.io answered no JSON"),
        ({"json": []}, "auth.quay.io answered no JSON object"),
        ({"json": {}}, "answered no token"),
        ({"json": {"token": 1}}, "answered no token"),
        ({"json": {"token": "a\r\nX-Evil: b"}}, "answered no token"),
        ({"json": {"token": "ä"}}, "answered no token"),
        ({"json": {"token": ""}}, "answered no token"),
        ({"status": 404}, "token server auth.quay.io answered 404"),
        ({"status": 500}, "token server auth.quay.io answered 500"),
        ({"status": 429}, "auth.quay.io answered 429 and limits requests"),
        ({"body": " " * (client.ANSWER_BYTES + 1)}, "auth.quay.io is longer than"),
    ],
)
def test_token_server_without_a_token_makes_the_registry_unavailable(
    web: responses.RequestsMock, registries: RegistryClient, answer: dict[str, Any], problem: str
) -> None:
    add_challenge(web)
    web.get(REALM, **answer)
    with pytest.raises(RegistryUnavailableError, match=problem):
        registries.digest(APP)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_error_about_refused_credentials_has_token_server_and_pull_secret(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient], status: int
) -> None:
    add_challenge(web)
    web.get(REALM, status=status)
    with pytest.raises(RefusedByRegistryError) as error:
        new_client(ME).digest(APP)
    assert str(error.value) == (
        f"registry quay.io refuses access to {APP}: its token server auth.quay.io answered "
        f"{status}; check the credentials in pull secret mine"
    )


# Passwords and refusals


def test_password_is_sent_after_a_basic_challenge(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        if request.headers.get("Authorization") == BASIC:
            return 200, {"Docker-Content-Digest": DIGEST}, ""
        return 401, {"WWW-Authenticate": 'Basic realm="x"'}, ""

    web.add_callback("HEAD", MANIFEST, answer)
    registries = new_client(ME)
    assert [registries.digest(APP) for _ in range(2)] == [DIGEST, DIGEST]
    assert [header for _, _, header in sent(web)] == [None, BASIC, BASIC]


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "Negotiate",
        "Digest realm=x",
        'Basic realm="x"',
        "Bearer",
        "=",
        '"',
        "Basic " + " " * 9000,
    ],
)
def test_error_without_credentials_names_the_variable_for_pull_secrets(
    web: responses.RequestsMock, registries: RegistryClient, challenge: str
) -> None:
    add_challenge(web, challenge)
    if challenge == "Bearer":
        with pytest.raises(RegistryUnavailableError, match="its token server is ''"):
            registries.digest(APP)
        return
    with pytest.raises(RefusedByRegistryError) as error:
        registries.digest(APP)
    assert str(error.value) == (
        f"registry quay.io refuses access to {APP}: it answered 401; if the image exists, name a "
        "pull secret that covers it in IMAGE_PULL_SECRETS"
    )


def test_identity_token_is_not_sent_as_password(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    add_challenge(web, "Basic realm=x")
    with pytest.raises(RefusedByRegistryError):
        new_client(Credentials(secret="mine", identity_token="identity")).digest(APP)
    assert len(web.calls) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_credentials_are_tried_once_and_their_pull_secret_is_named(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient], status: int
) -> None:
    web.head(MANIFEST, status=status, headers={"WWW-Authenticate": 'Basic realm="x"'})
    registries = new_client(ME)
    with pytest.raises(RefusedByRegistryError, match=f"{status}; .* pull secret mine"):
        registries.digest(APP)
    calls = len(web.calls)
    with pytest.raises(RefusedByRegistryError):
        registries.digest(APP)
    assert len(web.calls) == calls + 1


def test_second_credentials_are_tried_if_the_first_are_refused(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    add_protected_manifest(web, "Bearer abc")

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        right = request.headers["Authorization"] == BASIC
        return (200, {}, '{"token": "abc"}') if right else (401, {}, "")

    web.add_callback("GET", REALM, answer)
    assert new_client(OTHER, ME).digest(APP) == DIGEST


def test_second_credentials_are_tried_if_the_first_find_no_image(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        match request.headers.get("Authorization"):
            case None:
                return 401, {"WWW-Authenticate": "Basic realm=x"}, ""
            case header if header == BASIC:
                return 200, {"Docker-Content-Digest": DIGEST}, ""
            case _:
                return 404, {}, ""

    web.add_callback("HEAD", MANIFEST, answer)
    assert new_client(OTHER, ME).digest(APP) == DIGEST
    assert new_client(OTHER, OTHER).digest(APP) is None


@pytest.mark.parametrize(
    "header",
    [
        BEARER,
        f'bearer  realm = "{REALM}" , service=quay.io, scope=repository:org/app:pull',
        f'Basic realm="x, y", {BEARER}',
        f"{BEARER}, Basic realm=x",
        f"Negotiate, {BEARER}",
        f'{BEARER},error="insufficient_scope"',
        f'{BEARER},realm="https://evil.example.com"',
        BEARER.replace("https:", "https\\:"),
    ],
)
def test_challenge_is_read_in_many_forms(
    web: responses.RequestsMock, registries: RegistryClient, header: str
) -> None:
    add_challenge(web, header)
    add_token(web)
    with pytest.raises(RefusedByRegistryError):
        registries.digest(APP)
    query = parse_qs(urlsplit(str(web.calls[1].request.url)).query)
    assert query == {"service": ["quay.io"], "scope": ["repository:org/app:pull"]}
    assert sent(web)[2][2] == "Bearer abc"


@given(st.text(st.sampled_from('Bearer asic="\\, \trealm'), max_size=200))
def test_random_challenge_is_read_or_ignored(header: str) -> None:
    challenge = client._challenge(header)
    assert challenge is None or challenge.scheme in {"bearer", "basic"}


@pytest.mark.parametrize("text", [" ", "a ", "a=", '"', '\\"', 'a="', "a=\\", ","])
def test_long_challenge_is_read_in_little_time(text: str) -> None:
    start = time.monotonic()
    client._challenge("Bearer " + text * 100_000)
    assert time.monotonic() - start < 1


# Redirects


def add_redirect(web: responses.RequestsMock, start: str, target: str, status: int = 307) -> None:
    web.head(start, status=status, headers={"Location": target})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(
    web: responses.RequestsMock, registries: RegistryClient, status: int
) -> None:
    add_redirect(web, MANIFEST, "/elsewhere", status)
    add_redirect(web, "https://quay.io/elsewhere", "https://cdn.example.com/x", status)
    add_manifest(web, "https://cdn.example.com/x")
    assert registries.digest(APP) == DIGEST


def test_redirect_to_another_host_and_back_has_no_credentials(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        if "Authorization" in request.headers:
            return 307, {"Location": "https://cdn.example.com/x"}, ""
        return 401, {"WWW-Authenticate": "Basic realm=x"}, ""

    web.add_callback("HEAD", MANIFEST, answer)
    add_redirect(web, "https://cdn.example.com/x", "https://quay.io/y")
    add_manifest(web, "https://quay.io/y")
    assert new_client(ME).digest(APP) == DIGEST
    assert [header for _, _, header in sent(web)] == [None, BASIC, None, None]


def test_challenge_of_another_host_is_not_answered(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    add_redirect(web, MANIFEST, "https://evil.example.com/x")
    add_challenge(web, "Basic realm=x", "https://evil.example.com/x")
    with pytest.raises(RefusedByRegistryError):
        new_client(ME).digest(APP)
    assert [header for _, _, header in sent(web)] == [None, None]


def test_redirect_of_the_realm_to_another_host_has_no_credentials(
    web: responses.RequestsMock, new_client: Callable[..., RegistryClient]
) -> None:
    add_protected_manifest(web, "Bearer abc")
    web.get(REALM, status=302, headers={"Location": "https://evil.example.com/x"})
    add_token(web, "https://evil.example.com/x")
    new_client(ME).digest(APP)
    assert sent(web)[2] == ("GET", "https://evil.example.com/x", None)


@pytest.mark.parametrize(
    "target",
    [
        "http://quay.io/x",
        "http://cdn.example.com/x",
        "https://10.0.0.1/x",
        "//127.0.0.1/x",
        "https://localhost/x",
        "https://169.254.169.254/latest/meta-data",
        "https://user@cdn.example.com/x",
        "https://[::1]/x",
        "https://[x/x",
        "https://\u00e9.example.com/x",
        "ftp://cdn.example.com/x",
        "https://cdn.example.com/ x",
        "",
    ],
)
def test_redirect_to_a_forbidden_target_is_not_followed(
    web: responses.RequestsMock, registries: RegistryClient, target: str
) -> None:
    add_redirect(web, MANIFEST, target)
    with pytest.raises(RegistryUnavailableError, match="not followed"):
        registries.digest(APP)
    assert len(web.calls) == 1


def test_redirect_loop_is_an_error(web: responses.RequestsMock, registries: RegistryClient) -> None:
    add_redirect(web, MANIFEST, MANIFEST)
    with pytest.raises(RegistryUnavailableError, match="more than 3 times"):
        registries.digest(APP)
    assert len(web.calls) == 4


# Limits and time


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {}, 60),
        (429, {"Retry-After": "5"}, 5),
        (429, {"Retry-After": " 5 "}, 5),
        (429, {"Retry-After": "0"}, 0),
        (429, {"Retry-After": "999999999"}, 3600),
        (429, {"Retry-After": "9" * 5000}, 60),
        (429, {"Retry-After": "soon"}, 60),
        (429, {"Retry-After": "-5"}, 60),
        (
            429,
            {
                "Retry-After": "Thu, 15 Jan 2026 12:00:30 GMT",
                "Date": "Thu, 15 Jan 2026 12:00:00 GMT",
            },
            30,
        ),
        (
            429,
            {
                "Retry-After": "Thu, 15 Jan 2026 12:00:00 GMT",
                "Date": "Thu, 15 Jan 2026 12:00:30 GMT",
            },
            0,
        ),
        (429, {"Retry-After": "Thu, 15 Jan 2026 12:00:30 GMT"}, 60),
        (
            429,
            {
                "Retry-After": "Thu, 15 Jan 2026 12:00:30",
                "Date": "Thu, 15 Jan 2026 12:00:00 GMT",
            },
            60,
        ),
        (503, {"Retry-After": "5"}, 5),
    ],
)
def test_registry_that_limits_requests_is_not_asked_until_the_limit_ends(
    web: responses.RequestsMock,
    registries: RegistryClient,
    clock: Seconds,
    status: int,
    headers: dict[str, str],
    seconds: float,
) -> None:
    web.head(MANIFEST, status=status, headers=headers)
    limited = rf"quay\.io .* limits requests for {seconds} s"
    with pytest.raises(RegistryUnavailableError, match=limited):
        registries.digest(APP)
    if seconds:
        clock.now += seconds - 1
        with pytest.raises(RegistryUnavailableError, match="for another 1 s"):
            registries.digest(parse("quay.io/org/other:1"))
        assert len(web.calls) == 1
    clock.now += 1
    web.upsert("HEAD", MANIFEST, headers={"Docker-Content-Digest": DIGEST})
    assert registries.digest(APP) == DIGEST


def test_other_registries_are_asked_while_one_limits_requests(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    web.head(MANIFEST, status=429)
    hub = "https://registry-1.docker.io/v2/library/nginx/manifests/1"
    add_manifest(web, hub)
    with pytest.raises(RegistryUnavailableError):
        registries.digest(APP)
    assert registries.digest(parse("nginx:1")) == DIGEST


def test_all_requests_of_a_question_share_its_timeout(
    web: responses.RequestsMock, registries: RegistryClient, clock: Seconds
) -> None:
    def late(_: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        clock.now += 3
        return 401, {"WWW-Authenticate": BEARER}, ""

    web.add_callback("HEAD", MANIFEST, late)
    with pytest.raises(RegistryUnavailableError, match="took too long"):
        registries.digest(APP, timeout=2.5)
    assert len(web.calls) == 1


def test_each_request_has_a_timeout(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    add_manifest(web)
    registries.digest(APP, timeout=8)
    registries.digest(APP, timeout=0.8)
    timeouts = [options["timeout"] for options in request_options(web)]
    assert timeouts == [(2.0, 8.0), (pytest.approx(0.8), pytest.approx(0.8))]


# Tags


def tag_page(tags: Any, link: str | None = None) -> dict[str, Any]:
    return {"json": {"name": "org/app", "tags": tags}, "headers": {"Link": link} if link else {}}


def test_tags_are_listed_page_by_page(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    web.get(
        f"{TAGS}?n=1000", **tag_page(["1", "2"], '</v2/org/app/tags/list?n=2&last=2>; rel="next"')
    )
    web.get(f"{TAGS}?n=2&last=2", **tag_page(["3"], f"<{TAGS}?n=2&last=3>; x=y; rel=next"))
    web.get(f"{TAGS}?n=2&last=3", **tag_page(["4"], '</before>; rel="prev"'))
    assert registries.tags(APP) == ("1", "2", "3", "4")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (None, ()),
        ([], ()),
        (["1", "1"], ("1",)),
        (["1", "../x", "a b", "", "x" * 129, DIGEST, 5, None, ["2"], "1\n", "ä", "2"], ("1", "2")),
    ],
)
def test_malformed_and_repeated_tags_are_left_out(
    web: responses.RequestsMock, registries: RegistryClient, tags: Any, expected: Sequence[str]
) -> None:
    web.get(TAGS, **tag_page(tags))
    assert registries.tags(APP) == expected


def test_missing_repository_has_no_tags(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    web.get(TAGS, status=404)
    assert registries.tags(APP) == ()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"status": 500}, "answered 500"),
        ({"body": "<html>"}, "no JSON"),
        ({"json": {"tags": "1"}}, "are not a list"),
        ({"body": " " * (client.ANSWER_BYTES + 1)}, "longer than"),
    ],
)
def test_malformed_list_of_tags_makes_the_registry_unavailable(
    web: responses.RequestsMock, registries: RegistryClient, answer: dict[str, Any], problem: str
) -> None:
    web.get(TAGS, **answer)
    with pytest.raises(RegistryUnavailableError, match=problem):
        registries.tags(APP)


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example.com/v2/org/app/tags/list?n=1",
        "//evil.example.com/x?n=1",
        "https://quay.io@evil.example.com/?n=1",
        "https://[x/?n=1",
        "https://quay.io/a b?n=1",
        "",
    ],
)
def test_next_page_on_another_host_is_not_asked(
    web: responses.RequestsMock, registries: RegistryClient, target: str
) -> None:
    web.get(TAGS, **tag_page(["1"], f'<{target}>; rel="next"'))
    with pytest.raises(RegistryUnavailableError, match="the next page of its tags is at"):
        registries.tags(APP)
    assert len(web.calls) == 1


def test_link_to_the_next_page_changes_only_the_query(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    """Behind a proxy that terminates TLS, links often have http or a part of the path."""
    web.get(f"{TAGS}?n=1000", **tag_page(["1"], '<http://quay.io/admin?last=1>; rel="next"'))
    web.get(f"{TAGS}?last=1", **tag_page(["2"], '</admin>; rel="next"'))
    assert registries.tags(APP) == ("1", "2")


@pytest.mark.parametrize(("bound", "value"), [("tag_pages", 3), ("tags", 2)])
def test_endless_list_of_tags_is_cut_off(
    web: responses.RequestsMock,
    new_client: Callable[..., RegistryClient],
    caplog: pytest.LogCaptureFixture,
    bound: str,
    value: int,
) -> None:
    registries = new_client(bounds=replace(Bounds(), **{bound: value}))
    numbers = iter(range(1000))

    def answer(_: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        tags = json.dumps({"tags": [str(next(numbers))]})
        return 200, {"Link": '<?last=x>; rel="next"'}, tags

    web.add_callback("GET", TAGS, answer)
    assert registries.tags(APP) == ("0", "1", "2")[:value]
    assert len(web.calls) == 3
    assert f"has too many tags: only the first {value} are used" in caplog.text


def test_list_of_tags_has_a_token_of_its_own(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    """Some registries have another scope for it."""
    add_protected_manifest(web, "Bearer abc")
    scope = BEARER.replace(":pull", ":metadata_read")
    web.get(TAGS, status=401, headers={"WWW-Authenticate": scope})
    web.get(TAGS, **tag_page(["1"]))
    add_token(web)
    assert registries.tags(APP) == ("1",)
    registries.digest(APP)
    registries.digest(APP)
    asked = [str(call.request.url) for call in web.calls if REALM in str(call.request.url)]
    assert ["metadata_read" in url for url in asked] == [True, False]


# The environment and the caches


def test_passwords_of_the_environment_are_not_sent(
    web: responses.RequestsMock,
    registries: RegistryClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    add_protected_manifest(web, "Bearer abc")
    add_token(web)
    registries.digest(APP)
    assert [header for _, _, header in sent(web)] == [None, None, "Bearer abc"]


def test_proxies_of_the_environment_are_used(
    web: responses.RequestsMock, registries: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", "quay.io")
    hub = "https://registry-1.docker.io/v2/library/nginx/manifests/1"
    add_manifest(web)
    add_manifest(web, hub)
    registries.digest(APP)
    registries.digest(parse("nginx:1"))
    proxies = [options["proxies"].get("https") for options in request_options(web)]
    assert proxies == [None, "http://proxy.example.com:3128"]


def test_cookies_are_not_kept(web: responses.RequestsMock, registries: RegistryClient) -> None:
    add_manifest(web, status=200)
    web.upsert("HEAD", MANIFEST, headers={"Docker-Content-Digest": DIGEST, "Set-Cookie": "a=b"})
    for _ in range(2):
        registries.digest(APP)
    assert "Cookie" not in web.calls[1].request.headers


def test_remembered_challenges_and_tokens_are_bounded(
    web: responses.RequestsMock,
    new_client: Callable[..., RegistryClient],
) -> None:
    registries = new_client(bounds=Bounds(remembered=2))
    for number in range(5):
        image = parse(f"quay.io/org/app-{number}:1")
        url = f"https://quay.io/v2/org/app-{number}/manifests/1"
        add_protected_manifest(web, "Bearer abc", url=url)
        add_token(web)
        registries.digest(image)
        assert len(registries._remembered.challenges) <= 2


# Over real connections


class _Handler(BaseHTTPRequestHandler):
    """A registry with one image. For other images its answers are endless or late."""

    protocol_version = "HTTP/1.1"
    connections: set[Any]

    def do_HEAD(self) -> None:
        type(self).connections.add(self.client_address)
        if "/silent/" in self.path:
            time.sleep(0.5)
        self.send_response(200)
        if "/app/" in self.path:
            self.send_header("Docker-Content-Digest", DIGEST)
        self.send_header("Content-Length", "5")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(307 if "/redirected/" in self.path else 200)
        self.send_header("Location", "/endless/")
        self.send_header("Content-Type", OCI_INDEX)
        self.end_headers()
        self.close_connection = True
        try:
            while True:
                self.wfile.write(b" " if "/slow/" in self.path else b" " * 65536)
                if "/slow/" in self.path:
                    time.sleep(0.02)
        except OSError:
            pass

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def host() -> Iterator[str]:
    """Start a real server, and return its host and port."""
    _Handler.connections = set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_connections_are_used_again(host: str) -> None:
    with RegistryClient(hosts=[host], insecure_hosts=[host]) as registries:
        for _ in range(3):
            assert registries.digest(parse(f"{host}/app:1")) == DIGEST
    assert len(_Handler.connections) == 1


def test_several_threads_can_ask_at_once(host: str) -> None:
    app = parse(f"{host}/app:1")
    with (
        RegistryClient(hosts=[host], insecure_hosts=[host]) as registries,
        ThreadPoolExecutor(8) as threads,
    ):
        assert set(threads.map(registries.digest, [app] * 40)) == {DIGEST}


@pytest.mark.parametrize(
    ("repository", "problem"),
    [
        ("endless", "longer than"),
        ("redirected", "longer than"),
        ("slow", "too long"),
        ("silent", "too long"),
    ],
)
def test_endless_or_late_answer_is_an_error(host: str, repository: str, problem: str) -> None:
    start = time.monotonic()
    with (
        RegistryClient(hosts=[host], insecure_hosts=[host]) as registries,
        pytest.raises(RegistryUnavailableError, match=problem),
    ):
        registries.digest(
            parse(f"{host}/{repository}:1"), timeout=0.2 if problem == "too long" else 5
        )
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("start", [b"", STATUS, HEADERS, CONTINUE, BODY])
@pytest.mark.parametrize("ask", [RegistryClient.digest, RegistryClient.tags])
def test_answer_that_drips_is_cut_off_at_the_deadline_and_its_connection_closed(
    start: bytes, ask: Callable[..., Any]
) -> None:
    with (
        DrippingServer(start) as server,
        RegistryClient(hosts=[server.host], insecure_hosts=[server.host]) as registries,
    ):
        began = time.monotonic()
        with pytest.raises(RegistryUnavailableError, match=r"too long to answer"):
            ask(registries, parse(f"{server.host}/app:1"), timeout=0.2)
        assert time.monotonic() - began < 1
        assert server.closed.wait(TIMEOUT_SECONDS)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_drips_is_cut_off_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with DrippingServer(HEADERS) as server:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://{server.host}")
        insecure = ["registry.example"] if scheme == "http" else []
        began = time.monotonic()
        with (
            RegistryClient(hosts=["registry.example"], insecure_hosts=insecure) as registries,
            pytest.raises(RegistryUnavailableError, match=r"registry\.example"),
        ):
            registries.digest(parse("registry.example/app:1"), timeout=0.2)
        assert time.monotonic() - began < 3  # the timeout of a connection is 2 s


_NESTED = [
    b"[" + b"[]," * (client.JSON_BYTES // 3 - 10) + b"[]]",
    b"[" + b'{"":0},' * (client.JSON_BYTES // 7 - 10) + b"{}]",
    (b"[" * 500 + b"]" * 500 + b",") * (client.JSON_BYTES // 1001 - 1),
    b"[" + b"1," * (client.JSON_BYTES // 2 - 10) + b"1]",
]


@pytest.mark.parametrize("nested", _NESTED, ids=["lists", "objects", "deep lists", "numbers"])
def test_answer_of_nested_values_fills_no_memory(
    web: responses.RequestsMock, registries: RegistryClient, nested: bytes
) -> None:
    web.get(TAGS, body=b'{"tags":' + nested + b"}")
    tracemalloc.start()
    try:
        with contextlib.suppress(RegistryUnavailableError):
            registries.tags(APP)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * client.JSON_BYTES


def test_page_of_the_longest_tags_is_read(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    page = [f"{number:0128}" for number in range(1000)]
    web.get(TAGS, json={"name": f"{'a' * 255}", "tags": page})
    assert registries.tags(APP) == tuple(page)


def test_digest_of_a_manifest_that_is_too_long_to_parse_is_computed(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    body = "{" + " " * client.JSON_BYTES
    web.head(MANIFEST)
    web.get(MANIFEST, body=body, content_type=OCI_INDEX)
    assert registries.digest(APP) == f"sha256:{hashlib.sha256(body.encode()).hexdigest()}"


def test_closed_port_makes_the_registry_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        with (
            RegistryClient(hosts=[host], insecure_hosts=[host]) as registries,
            pytest.raises(RegistryUnavailableError, match=f"no answer from {host}"),
        ):
            registries.digest(parse(f"{host}/app:1"))


# Certificates and credentials


def test_additional_ca_is_used_also_through_proxies(host: str) -> None:
    files: dict[str | None, Path] = {None: Path(certifi.where())}
    with RegistryClient(hosts=[host], insecure_hosts=[host], ca_files=files) as own:
        assert own.digest(parse(f"{host}/app:1")) == DIGEST
        proxied = own._adapters[None].proxy_manager_for("http://p:1")
        assert "ssl_context" in proxied.connection_pool_kw


class AnyImage(BaseHTTPRequestHandler):
    """A registry that has every image, without authentication."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Docker-Content-Digest", DIGEST)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


def test_one_ca_file_is_for_all_registries(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with tls_server(AnyImage, certificate) as one, tls_server(AnyImage, certificate) as two:
        hosts = [f"127.0.0.1:{one}", f"127.0.0.1:{two}"]
        with RegistryClient(hosts=hosts, ca_files={None: certificate}) as registries:
            assert [registries.digest(parse(f"{host}/app:1")) for host in hosts] == [DIGEST] * 2


def test_ca_file_of_a_registry_is_for_that_registry_only(tmp_path: Path) -> None:
    first, second = self_signed(tmp_path), self_signed(tmp_path)
    with tls_server(AnyImage, first) as one, tls_server(AnyImage, second) as two:
        own, other = f"127.0.0.1:{one}", f"127.0.0.1:{two}"
        with RegistryClient(hosts=[own, other], ca_files={own: first, other: second}) as both:
            assert both.digest(parse(f"{own}/app:1")) == DIGEST
            assert both.digest(parse(f"{other}/app:1")) == DIGEST
        swapped = RegistryClient(hosts=[own, other], ca_files={own: second})
        for host in (own, other):
            with swapped, pytest.raises(RegistryUnavailableError, match="is its CA configured"):
                swapped.digest(parse(f"{host}/app:1"))


@pytest.mark.parametrize("own_file", [False, True], ids=["of the registry", "of its own"])
def test_token_server_is_trusted_by_the_ca_file_of_the_registry_or_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, own_file: bool
) -> None:
    names = ("registry.example.com", "auth.example.com")
    certificates = {name: self_signed(tmp_path, name) for name in names}
    joint = tmp_path / "joint.pem"
    joint.write_text("".join(file.read_text() for file in certificates.values()))

    class Token(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"token": "t"}')

        def log_message(self, *_: Any) -> None: ...

    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more: resolve("127.0.0.1" if host in names else host, *more),
    )
    with tls_server(Token, certificates["auth.example.com"]) as tokens:
        realm = f"https://auth.example.com:{tokens}/token"

        class Protected(AnyImage):
            def do_HEAD(self) -> None:
                if self.headers.get("Authorization") == "Bearer t":
                    super().do_HEAD()
                    return
                self.send_response(401)
                self.send_header("WWW-Authenticate", f'Bearer realm="{realm}"')
                self.end_headers()

        with tls_server(Protected, certificates["registry.example.com"]) as port:
            host = f"registry.example.com:{port}"
            files: dict[str | None, Path] = {host: joint}
            if own_file:
                files = {
                    host: certificates["registry.example.com"],
                    f"auth.example.com:{tokens}": certificates["auth.example.com"],
                }
            with RegistryClient(hosts=[host], ca_files=files) as registries:
                assert registries.digest(parse(f"{host}/app:1")) == DIGEST


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_all_files_without_certificates_are_one_error(tmp_path: Path, text: str | None) -> None:
    one, two = tmp_path / "one.pem", tmp_path / "two.pem"
    for file in (one, two):
        if text is not None:
            file.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        RegistryClient(hosts=[], ca_files={"one.example.com": one, "two.example.com": two})
    problems = str(error.value).split("\n")
    assert [problem.partition(": ")[0] for problem in problems] == ["REGISTRY_CA_FILE"] * 2
    assert "one.pem has no CA certificates" in problems[0]
    assert "two.pem has no CA certificates" in problems[1]


def test_basic_credentials_may_have_any_characters() -> None:
    credentials = Credentials(secret="s", username="ü", password="a:ß\r\n")
    header = str(client._basic(credentials))
    assert base64.b64decode(header.removeprefix("Basic ")).decode() == "ü:a:ß\r\n"
    assert "\n" not in header


def test_name_that_is_too_long_for_dns_makes_the_registry_unavailable(
    new_client: Callable[..., RegistryClient],
) -> None:
    host = f"{'a' * 70}.example.com"
    with pytest.raises(RegistryUnavailableError):
        new_client(hosts=[host]).digest(Reference(registry=host, repository="app", tag="1"))


# What a manifest is

BY_DIGEST = parse(f"quay.io/org/app@{DIGEST}")
MANIFEST_BY_DIGEST = f"https://quay.io/v2/org/app/manifests/{DIGEST}"


@pytest.mark.parametrize("config", ["application/vnd.cncf.helm.config.v1+json", None])
def test_manifest_is_asked_once_what_it_is(
    web: responses.RequestsMock, registries: RegistryClient, config: str | None
) -> None:
    web.get(MANIFEST_BY_DIGEST, json={"config": {"mediaType": config}})
    assert [registries.other_kind(BY_DIGEST) for _ in range(3)] == [config] * 3
    assert len(web.calls) == 1


@pytest.mark.parametrize(
    ("status", "body"), [(404, "{}"), (405, "{}"), (501, "{}"), (200, "[]"), (200, "<p>")]
)
def test_manifest_that_its_registry_does_not_show_counts_as_an_image(
    web: responses.RequestsMock, registries: RegistryClient, status: int, body: str
) -> None:
    web.get(MANIFEST_BY_DIGEST, status=status, body=body)
    assert registries.other_kind(BY_DIGEST) is None


def test_question_what_a_manifest_is_fails_where_its_registry_fails(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    web.get(MANIFEST_BY_DIGEST, status=500)
    with pytest.raises(RegistryUnavailableError):
        registries.other_kind(BY_DIGEST)


def test_manifest_that_is_too_long_counts_as_an_image(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    chart = '{"config": {"mediaType": "a chart"}}'
    web.get(MANIFEST_BY_DIGEST, body=chart + " " * client.ANSWER_BYTES)
    assert registries.other_kind(BY_DIGEST) is None
