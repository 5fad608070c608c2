"""RegistryClient over the distribution API: what is asked of whom, and what the answers mean."""

import base64
import hashlib
import json
import socket
import threading
import time
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

from image_puller.errors import ConfigurationError
from image_puller.registries import client as module
from image_puller.registries.client import (
    Bounds,
    RefusedByRegistryError,
    RegistryClient,
    RegistryUnavailableError,
    UnknownRegistryError,
)
from image_puller.registries.pull_secrets import Credentials
from image_puller.values.reference import Reference, parse

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


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def web() -> Iterator[responses.RequestsMock]:
    """The web, in which there is nothing but what a test puts there."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as web:
        yield web


@pytest.fixture
def asking(clock: Clock) -> Iterator[Callable[..., RegistryClient]]:
    made = []

    def make(*credentials: Credentials, **options: Any) -> RegistryClient:
        options = {"hosts": ["quay.io", "docker.io"], "clock": clock, **options}
        made.append(RegistryClient(credentials=lambda _: credentials, **options))
        return made[-1]

    yield make
    for registries in made:
        registries.close()


@pytest.fixture
def registries(asking: Callable[..., RegistryClient]) -> RegistryClient:
    return asking()


def found(web: responses.RequestsMock, url: str = MANIFEST, **options: Any) -> None:
    web.head(url, headers={"Docker-Content-Digest": DIGEST}, **options)


def challenged(web: responses.RequestsMock, challenge: str = BEARER, url: str = MANIFEST) -> None:
    web.head(url, status=401, headers={"WWW-Authenticate": challenge})


def locked(web: responses.RequestsMock, *valid: str, url: str = MANIFEST) -> None:
    """A manifest that is shown to whoever sends one of these Authorization headers."""

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        if request.headers.get("Authorization") in valid:
            return 200, {"Docker-Content-Digest": DIGEST}, ""
        return 401, {"WWW-Authenticate": BEARER}, ""

    web.add_callback("HEAD", url, answer)


def sent(web: responses.RequestsMock) -> list[tuple[str, str, str | None]]:
    """Each request: its method, its URL without the query, its Authorization header."""
    return [
        (
            str(call.request.method),
            str(call.request.url).partition("?")[0],
            call.request.headers.get("Authorization"),
        )
        for call in web.calls
    ]


# Digests


def test_the_digest_is_that_of_the_registrys_header(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    found(web)
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
def test_each_reference_has_its_url(
    web: responses.RequestsMock, registries: RegistryClient, image: str, url: str
) -> None:
    found(web, url)
    assert registries.digest(parse(image)) == DIGEST


@pytest.mark.parametrize("told", [None, "", "sha256:short", f"{DIGEST}, {DIGEST}", "latest"])
@pytest.mark.parametrize("status", [200, 405, 501])
def test_where_the_header_is_no_digest_the_manifest_is_read(
    web: responses.RequestsMock, registries: RegistryClient, told: str | None, status: int
) -> None:
    body = json.dumps({"schemaVersion": 2})
    web.head(
        MANIFEST, status=status, headers={} if told is None else {"Docker-Content-Digest": told}
    )
    web.get(MANIFEST, body=body, content_type=f"{OCI_INDEX}; charset=utf-8")
    expected = hashlib.sha256(body.encode()).hexdigest()
    assert registries.digest(APP) == f"sha256:{expected}"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"body": "<html>", "content_type": "text/html"}, "'text/html', which is no image's"),
        ({"body": "<html>", "content_type": OCI_INDEX}, "answered no JSON"),
        ({"body": "[]", "content_type": OCI_INDEX}, "answered no JSON object"),
        ({"body": "[" * 100_000, "content_type": OCI_INDEX}, "answered no JSON"),
        ({"body": "{" + " " * module.ANSWER_BYTES, "content_type": OCI_INDEX}, "far more than"),
        (
            {"body": "{}", "content_type": OCI_INDEX, "headers": {"Content-Encoding": "gzip"}},
            "no image's manifest",
        ),
        ({"status": 500}, "answered 500"),
    ],
)
def test_a_manifest_that_is_none_has_no_digest(
    web: responses.RequestsMock, registries: RegistryClient, answer: dict[str, Any], problem: str
) -> None:
    web.head(MANIFEST)
    web.get(MANIFEST, **answer)
    with pytest.raises(RegistryUnavailableError, match=problem):
        registries.digest(APP)


def test_an_image_that_is_not_there_is_none(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    web.head(MANIFEST, status=404)
    assert registries.digest(APP) is None


def test_so_is_one_that_goes_between_two_requests(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    web.head(MANIFEST)
    web.get(MANIFEST, status=404)
    assert registries.digest(APP) is None


@pytest.mark.parametrize("status", [400, 402, 410, 418, 500, 502, 503, 504])
def test_other_answers_are_for_later(
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
        (urllib3.exceptions.ReadTimeoutError(None, "", "slow"), "too long to answer"),
        (urllib3.exceptions.ProtocolError("broken"), "no answer from quay.io"),
        (requests.exceptions.ConnectionError("no such name"), "no answer from quay.io"),
        (requests.exceptions.InvalidHeader("odd"), "no answer from quay.io"),
    ],
)
def test_a_registry_that_can_not_be_reached_is_for_later(
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
def test_a_registry_that_nobody_named_is_not_asked(
    web: responses.RequestsMock, registries: RegistryClient, registry: str
) -> None:
    with pytest.raises(UnknownRegistryError, match="named by no entry of IMAGES"):
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
def test_what_is_no_name_of_an_image_is_not_asked_for(
    web: responses.RequestsMock, registries: RegistryClient, repository: str, tag: str
) -> None:
    with pytest.raises(UnknownRegistryError, match="not the name of an image"):
        registries.digest(Reference(registry="quay.io", repository=repository, tag=tag))
    assert not web.calls


def test_a_host_that_is_none_is_not_asked(asking: Callable[..., RegistryClient]) -> None:
    registries = asking(hosts=["user@evil"], insecure_hosts=["also evil"])
    with pytest.raises(UnknownRegistryError, match="not the name of a host"):
        registries.digest(Reference(registry="user@evil", repository="app", tag="1"))


@pytest.mark.parametrize("host", ["10.0.0.1:5000", "registry.lab", "[::1]:5000", "localhost:80"])
def test_a_host_without_tls_is_asked_by_plain_http_if_the_configuration_says_so(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient], host: str
) -> None:
    plain = f"http://{host}/v2/app/manifests/1"
    found(web, plain.replace(":80/", "/"))
    reference = parse(f"{host}/app:1")
    assert asking(hosts=[host], insecure_hosts=[host]).digest(reference) == DIGEST
    with pytest.raises(RegistryUnavailableError):
        asking(hosts=[host]).digest(reference)
    assert str(web.calls[-1].request.url).startswith("https://")


# Tokens


def token(web: responses.RequestsMock, realm: str = REALM, **document: Any) -> None:
    web.get(realm, json={"token": "abc", **document})


def test_a_token_is_fetched_from_the_realm_and_shown_to_the_registry(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    locked(web, "Bearer abc")
    token(web)
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


def test_credentials_go_to_the_realm_and_nowhere_else(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
) -> None:
    locked(web, "Bearer abc")
    token(web)
    assert asking(ME).digest(APP) == DIGEST
    assert sent(web) == [
        ("HEAD", MANIFEST, None),
        ("GET", REALM, BASIC),
        ("HEAD", MANIFEST, "Bearer abc"),
    ]


def test_an_identity_token_is_posted_to_the_realm(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
) -> None:
    locked(web, "Bearer abc")
    web.post(REALM, json={"access_token": "abc"})
    assert asking(TOKEN_ONLY).digest(APP) == DIGEST
    assert parse_qs(str(web.calls[1].request.body)) == {
        "grant_type": ["refresh_token"],
        "client_id": ["image-puller"],
        "refresh_token": ["identity"],
        "service": ["quay.io"],
        "scope": ["repository:org/app:pull"],
    }
    assert sent(web)[1] == ("POST", REALM, None)


def test_an_identity_token_is_not_sent_on_to_where_a_realm_redirects(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
) -> None:
    challenged(web)
    web.post(REALM, status=307, headers={"Location": f"{REALM}/elsewhere"})
    with pytest.raises(RegistryUnavailableError, match="not followed"):
        asking(TOKEN_ONLY).digest(APP)


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
def test_realms_may_have_any_form_of_url(
    web: responses.RequestsMock, registries: RegistryClient, realm: str, url: str
) -> None:
    challenged(web, f'Bearer realm="{realm}"')
    token(web, url)
    with pytest.raises(RefusedByRegistryError):
        registries.digest(APP)
    assert str(web.calls[1].request.url) == url  # no service and no scope were asked for


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
def test_a_forged_realm_is_not_asked(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient], realm: str
) -> None:
    challenged(web, 'Bearer realm="{}",service="s"'.format(realm.replace("\\", "\\\\")))
    with pytest.raises(RegistryUnavailableError, match="that is not asked"):
        asking(ME).digest(APP)
    assert sent(web) == [("HEAD", MANIFEST, None)]


def test_a_plain_registry_may_have_its_realm_on_another_plain_host_that_is_configured(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
) -> None:
    url, realm = "http://10.0.0.1:5000/v2/app/manifests/1", "http://10.0.0.1:5001/token"
    challenged(web, f'Bearer realm="{realm}"', url)
    token(web, realm)
    hosts = {"hosts": ["10.0.0.1:5000"]}
    with pytest.raises(RegistryUnavailableError, match="that is not asked"):
        asking(ME, insecure_hosts=["10.0.0.1:5000"], **hosts).digest(parse("10.0.0.1:5000/app:1"))
    plain = asking(ME, insecure_hosts=["10.0.0.1:5000", "10.0.0.1:5001"], **hosts)
    with pytest.raises(RefusedByRegistryError):
        plain.digest(parse("10.0.0.1:5000/app:1"))
    assert sent(web) == [
        ("HEAD", url, None),
        ("HEAD", url, None),
        ("GET", realm, BASIC),
        ("HEAD", url, "Bearer abc"),
    ]


def test_a_registry_with_tls_has_no_realm_without(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
) -> None:
    challenged(web, 'Bearer realm="http://plain.example.com/token"')
    with pytest.raises(RegistryUnavailableError, match="that is not asked"):
        asking(ME, insecure_hosts=["plain.example.com"]).digest(APP)


def test_a_token_is_used_again_until_it_ends(
    web: responses.RequestsMock, registries: RegistryClient, clock: Clock
) -> None:
    locked(web, "Bearer abc")
    token(web, expires_in=300)
    for _ in range(3):
        registries.digest(APP)
    assert [method for method, *_ in sent(web)] == ["HEAD", "GET", "HEAD", "HEAD", "HEAD"]
    clock.now += 300
    registries.digest(APP)
    assert [method for method, *_ in sent(web)][5:] == ["HEAD", "GET", "HEAD"]


@pytest.mark.parametrize(
    ("told", "seconds"),
    [(None, 55), ("300", 55), (1.5, 55), (300, 295), (10**400, 3595), (0, 0), (-1, 0)],
)
def test_how_long_a_token_is_good(
    web: responses.RequestsMock, registries: RegistryClient, clock: Clock, told: Any, seconds: int
) -> None:
    locked(web, "Bearer abc")
    token(web, expires_in=told)
    registries.digest(APP)
    clock.now += max(seconds - 1, 0)
    registries.digest(APP)
    assert len(web.calls) == (4 if seconds else 6)
    clock.now += 1
    registries.digest(APP)
    assert len(web.calls) == (7 if seconds else 9)


def test_a_token_that_is_no_longer_taken_is_replaced(
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


def test_one_registrys_token_is_not_told_to_another(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
) -> None:
    """Though that one claims the same realm, service and scope."""
    evil = MANIFEST.replace("quay.io", "evil.example.com")
    locked(web, "Bearer for-quay")
    locked(web, url=evil)
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
        ({"body": " " * (module.ANSWER_BYTES + 1)}, "far more than it should"),
    ],
)
def test_a_token_server_that_gives_no_token_is_for_later(
    web: responses.RequestsMock, registries: RegistryClient, answer: dict[str, Any], problem: str
) -> None:
    challenged(web)
    web.get(REALM, **answer)
    with pytest.raises(RegistryUnavailableError, match=problem):
        registries.digest(APP)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_token_server_that_refuses_the_credentials_is_named(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient], status: int
) -> None:
    challenged(web)
    web.get(REALM, status=status)
    with pytest.raises(RefusedByRegistryError) as error:
        asking(ME).digest(APP)
    assert str(error.value) == (
        f"registry quay.io does not show {APP}: its token server auth.quay.io answered {status}; "
        "see whether the credentials in pull secret mine are still right"
    )


# Passwords and refusals


def test_a_registry_that_wants_a_password_gets_it(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
) -> None:
    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        if request.headers.get("Authorization") == BASIC:
            return 200, {"Docker-Content-Digest": DIGEST}, ""
        return 401, {"WWW-Authenticate": 'Basic realm="x"'}, ""

    web.add_callback("HEAD", MANIFEST, answer)
    registries = asking(ME)
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
def test_without_credentials_the_message_says_where_to_name_some(
    web: responses.RequestsMock, registries: RegistryClient, challenge: str
) -> None:
    challenged(web, challenge)
    if challenge == "Bearer":
        with pytest.raises(RegistryUnavailableError, match="for a token to ''"):
            registries.digest(APP)
        return
    with pytest.raises(RefusedByRegistryError) as error:
        registries.digest(APP)
    assert str(error.value) == (
        f"registry quay.io does not show {APP}: it answered 401; if the image is there, name a "
        "pull secret that covers it in IMAGE_PULL_SECRETS"
    )


def test_an_identity_token_is_no_password(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
) -> None:
    challenged(web, "Basic realm=x")
    with pytest.raises(RefusedByRegistryError):
        asking(Credentials(secret="mine", identity_token="identity")).digest(APP)
    assert len(web.calls) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_credentials_are_named_and_tried_once(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient], status: int
) -> None:
    web.head(MANIFEST, status=status, headers={"WWW-Authenticate": 'Basic realm="x"'})
    registries = asking(ME)
    with pytest.raises(RefusedByRegistryError, match=f"{status}; .* pull secret mine"):
        registries.digest(APP)
    known = len(web.calls)
    with pytest.raises(RefusedByRegistryError):
        registries.digest(APP)
    assert len(web.calls) == known + 1


def test_the_second_credentials_are_tried_where_the_first_are_refused(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
) -> None:
    locked(web, "Bearer abc")

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        right = request.headers["Authorization"] == BASIC
        return (200, {}, '{"token": "abc"}') if right else (401, {}, "")

    web.add_callback("GET", REALM, answer)
    assert asking(OTHER, ME).digest(APP) == DIGEST


def test_what_one_does_not_find_another_one_may(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
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
    assert asking(OTHER, ME).digest(APP) == DIGEST
    assert asking(OTHER, OTHER).digest(APP) is None


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
def test_challenges_have_many_forms(
    web: responses.RequestsMock, registries: RegistryClient, header: str
) -> None:
    challenged(web, header)
    token(web)
    with pytest.raises(RefusedByRegistryError):
        registries.digest(APP)
    query = parse_qs(urlsplit(str(web.calls[1].request.url)).query)
    assert query == {"service": ["quay.io"], "scope": ["repository:org/app:pull"]}
    assert sent(web)[2][2] == "Bearer abc"


@given(st.text(st.sampled_from('Bearer asic="\\, \trealm'), max_size=200))
def test_any_challenge_is_read_or_left(header: str) -> None:
    challenge = module._challenge(header)
    assert challenge is None or challenge.scheme in {"bearer", "basic"}


@pytest.mark.parametrize("text", [" ", "a ", "a=", '"', '\\"', 'a="', "a=\\", ","])
def test_a_long_challenge_takes_no_long_time(text: str) -> None:
    start = time.monotonic()
    module._challenge("Bearer " + text * 100_000)
    assert time.monotonic() - start < 1


# Redirects


def redirect(web: responses.RequestsMock, start: str, target: str, status: int = 307) -> None:
    web.head(start, status=status, headers={"Location": target})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(
    web: responses.RequestsMock, registries: RegistryClient, status: int
) -> None:
    redirect(web, MANIFEST, "/elsewhere", status)
    redirect(web, "https://quay.io/elsewhere", "https://cdn.example.com/x", status)
    found(web, "https://cdn.example.com/x")
    assert registries.digest(APP) == DIGEST


def test_another_host_gets_no_credentials_and_coming_back_brings_none(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
) -> None:
    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        if "Authorization" in request.headers:
            return 307, {"Location": "https://cdn.example.com/x"}, ""
        return 401, {"WWW-Authenticate": "Basic realm=x"}, ""

    web.add_callback("HEAD", MANIFEST, answer)
    redirect(web, "https://cdn.example.com/x", "https://quay.io/y")
    found(web, "https://quay.io/y")
    assert asking(ME).digest(APP) == DIGEST
    assert [header for _, _, header in sent(web)] == [None, BASIC, None, None]


def test_another_host_that_asks_for_credentials_gets_none(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
) -> None:
    redirect(web, MANIFEST, "https://evil.example.com/x")
    challenged(web, "Basic realm=x", "https://evil.example.com/x")
    with pytest.raises(RefusedByRegistryError):
        asking(ME).digest(APP)
    assert [header for _, _, header in sent(web)] == [None, None]


def test_neither_does_another_host_that_the_realm_redirects_to(
    web: responses.RequestsMock, asking: Callable[..., RegistryClient]
) -> None:
    locked(web, "Bearer abc")
    web.get(REALM, status=302, headers={"Location": "https://evil.example.com/x"})
    token(web, "https://evil.example.com/x")
    asking(ME).digest(APP)
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
def test_a_redirect_to_where_nothing_is_to_be_had_is_not_followed(
    web: responses.RequestsMock, registries: RegistryClient, target: str
) -> None:
    redirect(web, MANIFEST, target)
    with pytest.raises(RegistryUnavailableError, match="not followed"):
        registries.digest(APP)
    assert len(web.calls) == 1


def test_redirects_in_a_circle_end(web: responses.RequestsMock, registries: RegistryClient) -> None:
    redirect(web, MANIFEST, MANIFEST)
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
def test_a_registry_that_limits_requests_is_left_alone_as_long_as_it_asks(
    web: responses.RequestsMock,
    registries: RegistryClient,
    clock: Clock,
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


def test_other_registries_are_asked_meanwhile(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    web.head(MANIFEST, status=429)
    hub = "https://registry-1.docker.io/v2/library/nginx/manifests/1"
    found(web, hub)
    with pytest.raises(RegistryUnavailableError):
        registries.digest(APP)
    assert registries.digest(parse("nginx:1")) == DIGEST


def test_all_requests_of_a_question_share_its_time(
    web: responses.RequestsMock, registries: RegistryClient, clock: Clock
) -> None:
    def late(_: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        clock.now += 3
        return 401, {"WWW-Authenticate": BEARER}, ""

    web.add_callback("HEAD", MANIFEST, late)
    with pytest.raises(RegistryUnavailableError, match="took too long"):
        registries.digest(APP, timeout=2.5)
    assert len(web.calls) == 1


def test_each_request_has_a_time_out(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    found(web)
    registries.digest(APP, timeout=8)
    registries.digest(APP, timeout=0.8)
    timeouts = [call.request.req_kwargs["timeout"] for call in web.calls]  # type: ignore[attr-defined]
    assert timeouts == [(2.0, 8.0), (pytest.approx(0.8), pytest.approx(0.8))]


# Tags


def page(tags: Any, link: str | None = None) -> dict[str, Any]:
    return {"json": {"name": "org/app", "tags": tags}, "headers": {"Link": link} if link else {}}


def test_tags_are_listed_page_by_page(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    web.get(f"{TAGS}?n=1000", **page(["1", "2"], '</v2/org/app/tags/list?n=2&last=2>; rel="next"'))
    web.get(f"{TAGS}?n=2&last=2", **page(["3"], f"<{TAGS}?n=2&last=3>; x=y; rel=next"))
    web.get(f"{TAGS}?n=2&last=3", **page(["4"], '</before>; rel="prev"'))
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
def test_what_is_no_tag_is_left_out(
    web: responses.RequestsMock, registries: RegistryClient, tags: Any, expected: Sequence[str]
) -> None:
    web.get(TAGS, **page(tags))
    assert registries.tags(APP) == expected


def test_a_repository_that_is_not_there_has_no_tags(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    web.get(TAGS, status=404)
    assert registries.tags(APP) == ()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"status": 500}, "answered 500"),
        ({"body": "<html>"}, "no JSON"),
        ({"json": {"tags": "1"}}, "is no list"),
        ({"body": " " * (module.ANSWER_BYTES + 1)}, "far more"),
    ],
)
def test_a_list_that_can_not_be_read_is_for_later(
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
def test_a_list_that_goes_on_elsewhere_is_not_followed(
    web: responses.RequestsMock, registries: RegistryClient, target: str
) -> None:
    web.get(TAGS, **page(["1"], f'<{target}>; rel="next"'))
    with pytest.raises(RegistryUnavailableError, match="goes on at"):
        registries.tags(APP)
    assert len(web.calls) == 1


def test_a_link_changes_nothing_but_the_query(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    """A proxy that ends TLS often makes the registry write http, or cuts the path."""
    web.get(f"{TAGS}?n=1000", **page(["1"], '<http://quay.io/admin?last=1>; rel="next"'))
    web.get(f"{TAGS}?last=1", **page(["2"], '</admin>; rel="next"'))
    assert registries.tags(APP) == ("1", "2")


@pytest.mark.parametrize(("bound", "value"), [("tag_pages", 3), ("tags", 2)])
def test_a_list_without_end_is_cut_off(
    web: responses.RequestsMock,
    asking: Callable[..., RegistryClient],
    caplog: pytest.LogCaptureFixture,
    bound: str,
    value: int,
) -> None:
    registries = asking(bounds=replace(Bounds(), **{bound: value}))
    numbers = iter(range(1000))

    def answer(_: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        tags = json.dumps({"tags": [str(next(numbers))]})
        return 200, {"Link": '<?last=x>; rel="next"'}, tags

    web.add_callback("GET", TAGS, answer)
    assert registries.tags(APP) == ("0", "1", "2")[:value]
    assert len(web.calls) == 3
    assert "has more tags than are read" in caplog.text


def test_tags_have_a_token_of_their_own(
    web: responses.RequestsMock, registries: RegistryClient
) -> None:
    """Some registries have another scope for listing."""
    locked(web, "Bearer abc")
    scope = BEARER.replace(":pull", ":metadata_read")
    web.get(TAGS, status=401, headers={"WWW-Authenticate": scope})
    web.get(TAGS, **page(["1"]))
    token(web)
    assert registries.tags(APP) == ("1",)
    registries.digest(APP)
    registries.digest(APP)
    asked = [str(call.request.url) for call in web.calls if REALM in str(call.request.url)]
    assert ["metadata_read" in url for url in asked] == [True, False]


# What the environment may say, and what is kept


def test_passwords_of_the_environment_are_never_sent(
    web: responses.RequestsMock,
    registries: RegistryClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    locked(web, "Bearer abc")
    token(web)
    registries.digest(APP)
    assert [header for _, _, header in sent(web)] == [None, None, "Bearer abc"]


def test_proxies_of_the_environment_are_used(
    web: responses.RequestsMock, registries: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", "quay.io")
    hub = "https://registry-1.docker.io/v2/library/nginx/manifests/1"
    found(web)
    found(web, hub)
    registries.digest(APP)
    registries.digest(parse("nginx:1"))
    proxies = [call.request.req_kwargs["proxies"].get("https") for call in web.calls]  # type: ignore[attr-defined]
    assert proxies == [None, "http://proxy.example.com:3128"]


def test_cookies_are_not_kept(web: responses.RequestsMock, registries: RegistryClient) -> None:
    found(web, status=200)
    web.upsert("HEAD", MANIFEST, headers={"Docker-Content-Digest": DIGEST, "Set-Cookie": "a=b"})
    for _ in range(2):
        registries.digest(APP)
    assert "Cookie" not in web.calls[1].request.headers


def test_remembered_challenges_and_tokens_are_bounded(
    web: responses.RequestsMock,
    asking: Callable[..., RegistryClient],
) -> None:
    registries = asking(bounds=Bounds(remembered=2))
    for number in range(5):
        image = parse(f"quay.io/org/app-{number}:1")
        url = f"https://quay.io/v2/org/app-{number}/manifests/1"
        locked(web, "Bearer abc", url=url)
        token(web)
        registries.digest(image)
        assert len(registries._remembered.challenges) <= 2


# Over the wire


class _Handler(BaseHTTPRequestHandler):
    """A registry with one image, and others whose answers never end, or come late."""

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
        self.send_response(307 if "/moved/" in self.path else 200)
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
def wire() -> Iterator[str]:
    _Handler.connections = set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_connections_are_used_again(wire: str) -> None:
    with RegistryClient(hosts=[wire], insecure_hosts=[wire]) as registries:
        for _ in range(3):
            assert registries.digest(parse(f"{wire}/app:1")) == DIGEST
    assert len(_Handler.connections) == 1


def test_several_threads_may_ask_at_once(wire: str) -> None:
    app = parse(f"{wire}/app:1")
    with (
        RegistryClient(hosts=[wire], insecure_hosts=[wire]) as registries,
        ThreadPoolExecutor(8) as threads,
    ):
        assert set(threads.map(registries.digest, [app] * 40)) == {DIGEST}


@pytest.mark.parametrize(
    ("repository", "problem"),
    [
        ("endless", "far more"),
        ("mutated", "far more"),
        ("slow", "too long"),
        ("silent", "too long"),
    ],
)
def test_answers_without_end_end(wire: str, repository: str, problem: str) -> None:
    start = time.monotonic()
    with (
        RegistryClient(hosts=[wire], insecure_hosts=[wire]) as registries,
        pytest.raises(RegistryUnavailableError, match=problem),
    ):
        registries.digest(
            parse(f"{wire}/{repository}:1"), timeout=5 if problem == "far more" else 0.2
        )
    assert time.monotonic() - start < 5


def test_a_registry_that_is_away_is_for_later() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{nobody.getsockname()[1]}"
        with (
            RegistryClient(hosts=[host], insecure_hosts=[host]) as registries,
            pytest.raises(RegistryUnavailableError, match=f"no answer from {host}"),
        ):
            registries.digest(parse(f"{host}/app:1"))


# Trust


def test_a_ca_of_ones_own_is_trusted_beside_the_others(wire: str) -> None:
    with RegistryClient(hosts=[wire], insecure_hosts=[wire], ca_file=Path(certifi.where())) as own:
        assert own.digest(parse(f"{wire}/app:1")) == DIGEST
        assert "ssl_context" in own._adapter.proxy_manager_for("http://p:1").connection_pool_kw


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_a_file_without_certificates_is_said(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"ca\.pem holds no CA certificates"):
        RegistryClient(hosts=[], ca_file=file)


def test_basic_credentials_may_have_any_characters() -> None:
    held = Credentials(secret="s", username="ü", password="a:ß\r\n")
    header = str(module._basic(held))
    assert base64.b64decode(header.removeprefix("Basic ")).decode() == "ü:a:ß\r\n"
    assert "\n" not in header


def test_names_that_are_too_long_for_dns_are_for_later(
    asking: Callable[..., RegistryClient],
) -> None:
    host = f"{'a' * 70}.example.com"
    with pytest.raises(RegistryUnavailableError):
        asking(hosts=[host]).digest(Reference(registry=host, repository="app", tag="1"))
