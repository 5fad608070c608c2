"""The registry client with real registries: open, with passwords, with tokens, with TLS."""

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from e2e.harness.http_server import Server
from e2e.harness.processes import Process, listens
from e2e.harness.registry import HOST, LOCKED_HOST, PASSWORD, USER, Registry
from e2e.harness.workspace import ADDRESS, Workspace
from image_puller.errors import RefusedByRegistryError, RegistryUnavailableError
from image_puller.registries import pull_secrets
from image_puller.registries.client import Bounds, RegistryClient
from image_puller.values.reference import Reference, parse

ANOTHER_PORT, TOKEN_PORT = 5002, 5003
ANOTHER_HOST = f"{ADDRESS}:{ANOTHER_PORT}"
ISSUER, SERVICE = "e2e-issuer", "e2e-registry"
BASIC = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"

Making = Callable[..., Registry]


def keyring(host: str, password: str = PASSWORD) -> pull_secrets.Keyring:
    """Return the keyring of a pull secret for this host."""
    config = {"auths": {f"http://{host}": {"username": USER, "password": password}}}
    secret = {
        "metadata": {"name": "locked"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(json.dumps(config).encode()).decode()},
    }
    read, warnings = pull_secrets.read([secret])
    assert warnings == ()
    return read


def client(
    host: str,
    held: pull_secrets.Keyring | None = None,
    *more: str,
    bounds: Bounds | None = None,
) -> RegistryClient:
    """Return a client for a registry without TLS."""
    held = held or pull_secrets.Keyring()
    plain = (host, *more)
    return RegistryClient(
        hosts=[host],
        insecure_hosts=plain,
        credentials=held.credentials,
        bounds=bounds or Bounds(),
    )


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove proxy settings: no proxy reaches the tests' network."""
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def test_tags_and_digests_are_as_pushed(make_registry: Making) -> None:
    """Images and indexes, new, mutated and deleted tags."""
    with make_registry() as registry, client(HOST) as registries:
        name = parse(f"{HOST}/client/app")
        first = registry.push("client/app", "1.0", "one")
        second = registry.push_index("client/app", "2.0", "two")
        assert registries.digest(parse(f"{HOST}/client/app:1.0")) == first
        assert registries.digest(parse(f"{HOST}/client/app:2.0")) == second
        assert registries.digest(parse(f"{HOST}/client/app@{first}")) == first
        assert registries.digest(name) is None  # nobody pushed `latest`
        assert sorted(registries.tags(name)) == ["1.0", "2.0"]
        mutated = registry.push("client/app", "1.0", "other")
        assert registries.digest(parse(f"{HOST}/client/app:1.0")) == mutated
        registry.delete("client/app", mutated)
        assert registries.digest(parse(f"{HOST}/client/app:1.0")) is None
        assert registries.digest(parse(f"{HOST}/client/nothing:1")) is None
        assert registries.tags(parse(f"{HOST}/client/nothing")) == ()


def test_a_list_of_tags_on_several_pages_is_read_completely(make_registry: Making) -> None:
    """Whether or not this registry returns pages."""
    with make_registry() as registry, client(HOST, bounds=Bounds(tags_per_page=3)) as registries:
        for number in range(8):
            registry.push("client/many", f"1.{number}", "same")
        tags = registries.tags(parse(f"{HOST}/client/many"))
        assert sorted(tags) == [f"1.{number}" for number in range(8)]


def test_a_registry_with_passwords_accepts_only_the_right_one(make_registry: Making) -> None:
    """The error names the pull secret with the wrong password."""
    with make_registry(locked=True) as registry:
        digest = registry.push("client/app", "1.0", "locked")
        app = parse(f"{LOCKED_HOST}/client/app:1.0")
        with client(LOCKED_HOST, keyring(LOCKED_HOST)) as registries:
            assert registries.digest(app) == digest
            assert registries.tags(app) == ("1.0",)
        wrong = client(LOCKED_HOST, keyring(LOCKED_HOST, "wrong"))
        with wrong, pytest.raises(RefusedByRegistryError, match="pull secret locked"):
            wrong.digest(app)
        nobody = client(LOCKED_HOST)
        with nobody, pytest.raises(RefusedByRegistryError, match="name a pull secret"):
            nobody.digest(app)


def test_a_registry_can_be_asked_again_after_a_restart(make_registry: Making) -> None:
    """The registry has closed the connections of the client."""
    with make_registry() as registry, client(HOST) as registries:
        digest = registry.push("client/app", "1.0", "back")
        app = parse(f"{HOST}/client/app:1.0")
        assert registries.digest(app) == digest
        registry.stop()
        with pytest.raises(RegistryUnavailableError, match="no answer from"):
            registries.digest(app)
        registry.start()
        assert registries.digest(app) == digest


# Registries with TLS or with a token server


class TokenServer:
    """A server of tokens for the registry; only USER gets those for repositories under `me/`."""

    def __init__(self, folder: Path) -> None:
        self.key, self.certificate = folder / "key.pem", folder / "certificate.pem"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=e2e"),
            *("-keyout", str(self.key), "-out", str(self.certificate)),
        )
        self.asked: list[tuple[str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                authorization = self.headers.get("Authorization")
                (scope,) = parse_qs(urlsplit(self.path).query)["scope"]
                server.asked.append((scope, authorization))
                wrong = authorization not in (None, BASIC)
                self.send_response(401 if wrong else 200)
                self.end_headers()
                if not wrong:
                    token = server.token(scope, known=authorization == BASIC)
                    self.wfile.write(json.dumps({"token": token, "expires_in": 300}).encode())

            def log_message(self, *_: Any) -> None: ...

        self._server = Server((ADDRESS, TOKEN_PORT), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def token(self, scope: str, *, known: bool) -> str:
        """Return a token for a scope; without access if the scope needs USER."""
        kind, name, actions = scope.split(":")
        allowed = [] if name.startswith("me/") and not known else actions.split(",")
        now = int(time.time())
        lines = self.certificate.read_text().splitlines()
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(lines[1:-1])]}
        claims = {
            "iss": ISSUER,
            "sub": USER if known else "",
            "aud": SERVICE,
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": str(time.monotonic_ns()),
            "access": [{"type": kind, "name": name, "actions": allowed}],
        }
        signed = f"{_part(json.dumps(header).encode())}.{_part(json.dumps(claims).encode())}"
        signature = _openssl("dgst", "-sha256", "-sign", str(self.key), text=signed.encode())
        return f"{signed}.{_part(signature)}"

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _openssl(*arguments: str, text: bytes = b"") -> bytes:
    command = ("openssl", *arguments)
    return subprocess.run(command, input=text, check=True, capture_output=True).stdout


@pytest.fixture
def token_server(workspace: Workspace) -> Iterator[TokenServer]:
    """Run a token server during the test."""
    server = TokenServer(workspace.folder("tokens"))
    try:
        yield server
    finally:
        server.close()


@contextmanager
def another_registry(workspace: Workspace, images: Path, **settings: Any) -> Iterator[None]:
    """Run a registry with these images and settings at ANOTHER_HOST."""
    config = workspace.folder("another-registry") / "config.yml"
    address = {"addr": f":{ANOTHER_PORT}", **settings.pop("http", {})}
    storage = {"filesystem": {"rootdirectory": str(images)}}
    config.write_text(json.dumps({"version": 0.1, "http": address, "storage": storage} | settings))
    process = Process(
        name="another docker-registry",
        command=("docker-registry", "serve", str(config)),
        environment=workspace.environment(),
        log=workspace.log("another-registry"),
        is_ready=lambda: listens(ADDRESS, ANOTHER_PORT),
    )
    process.start()
    try:
        yield
    finally:
        process.kill()


def test_a_private_ca_is_trusted_if_it_is_configured(
    workspace: Workspace, make_registry: Making
) -> None:
    """Without the CA the error says what is missing."""
    folder = workspace.folder("tls")
    tls = {"certificate": str(folder / "certificate.pem"), "key": str(folder / "key.pem")}
    _openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=e2e"),
        *("-addext", f"subjectAltName=IP:{ADDRESS}"),
        *("-keyout", tls["key"], "-out", tls["certificate"]),
    )
    with make_registry() as registry:
        digest = registry.push("client/app", "1.0", "tls")
    app = Reference(registry=ANOTHER_HOST, repository="client/app", tag="1.0")
    with another_registry(workspace, registry.storage, http={"tls": tls}):
        for trusted in (None, ANOTHER_HOST):
            files: dict[str | None, Path] = {trusted: Path(tls["certificate"])}
            with RegistryClient(hosts=[ANOTHER_HOST], ca_files=files) as registries:
                assert registries.digest(app) == digest
        with (
            RegistryClient(hosts=[ANOTHER_HOST]) as registries,
            pytest.raises(RegistryUnavailableError, match="is its CA configured"),
        ):
            registries.digest(app)


def test_tokens_are_fetched_from_the_token_server_of_the_registry(
    workspace: Workspace, make_registry: Making, token_server: TokenServer
) -> None:
    """Anonymous tokens for public repositories, and tokens by password for others."""
    with make_registry() as registry:
        digests = {name: registry.push(name, "1.0", name) for name in ("open/app", "me/app")}
    token = {
        "realm": f"http://{ADDRESS}:{TOKEN_PORT}/token",
        "service": SERVICE,
        "issuer": ISSUER,
        "rootcertbundle": str(token_server.certificate),
    }
    with another_registry(workspace, registry.storage, auth={"token": token}):
        for held, name in ((None, "open/app"), (keyring(ANOTHER_HOST), "me/app")):
            token_server.asked.clear()
            app = Reference(registry=ANOTHER_HOST, repository=name, tag="1.0")
            with client(ANOTHER_HOST, held, f"{ADDRESS}:{TOKEN_PORT}") as registries:
                assert [registries.digest(app) for _ in range(3)] == [digests[name]] * 3
                assert registries.tags(app) == ("1.0",)
            # One token for all digests; the list of tags can use the same one.
            scope = f"repository:{name}:pull"
            assert set(token_server.asked) == {(scope, BASIC if held else None)}
            assert len(token_server.asked) <= 2
        mine = Reference(registry=ANOTHER_HOST, repository="me/app", tag="1.0")
        for refused in (None, keyring(ANOTHER_HOST, "wrong")):
            registries = client(ANOTHER_HOST, refused, f"{ADDRESS}:{TOKEN_PORT}")
            with registries, pytest.raises(RefusedByRegistryError):
                registries.digest(mine)
        token_server.asked.clear()
        strict = client(ANOTHER_HOST, keyring(ANOTHER_HOST))  # the token server is not configured
        with strict, pytest.raises(RegistryUnavailableError, match="that is not asked"):
            strict.digest(mine)
        assert token_server.asked == []
