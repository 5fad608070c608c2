"""The simulated registries: the service's own client reads them through their proxy."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from image_puller.registries.client import Bounds, RegistryClient
from image_puller.simulation import RegistryServer, SimulatedCluster
from image_puller.simulation.registries import digest_of
from image_puller.values.reference import parse

HOSTS = ("registry.example.com", "registry.example.com:5000")
APP = "registry.example.com/team/app"


def manifest(number: int) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "annotations": {"number": str(number)},
    }


@pytest.fixture
def digests() -> dict[str, str]:
    return {}


@pytest.fixture
def server(digests: dict[str, str]) -> Iterator[RegistryServer]:
    with RegistryServer(digests) as server:
        yield server


@pytest.fixture
def client(server: RegistryServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryClient]:
    """Return a client that reaches the registries as the demo's service does."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    bounds = Bounds(tags_per_page=2)
    with RegistryClient(hosts=HOSTS, insecure_hosts=HOSTS, bounds=bounds) as client:
        yield client


def get(server: RegistryServer, url: str, method: str = "GET") -> requests.Response:
    return requests.request(method, url, proxies={"http": server.url}, timeout=5)


def test_client_reads_the_digest_of_a_pushed_tag(
    server: RegistryServer, client: RegistryClient
) -> None:
    pushed = server.push(f"{APP}:1.0.0", manifest(1))
    assert client.digest(parse(f"{APP}:1.0.0")) == pushed
    assert client.digest(parse(f"{APP}@{pushed}")) == pushed


def test_second_push_replaces_the_digest_of_a_tag(
    server: RegistryServer, client: RegistryClient
) -> None:
    first = server.push(f"{APP}:latest", manifest(1))
    second = server.push(APP, manifest(2))
    assert first != second
    assert client.digest(parse(f"{APP}:latest")) == second
    assert client.digest(parse(f"{APP}@{first}")) == first


def test_tag_that_was_not_pushed_does_not_exist(
    server: RegistryServer, client: RegistryClient
) -> None:
    server.push(f"{APP}:1.0.0", manifest(1))
    assert client.digest(parse(f"{APP}:1.0.1")) is None
    assert client.digest(parse("registry.example.com/other:1.0.0")) is None
    assert client.tags(parse("registry.example.com/other")) == ()


def test_each_registry_has_its_own_images(server: RegistryServer, client: RegistryClient) -> None:
    here = server.push(f"{APP}:1.0.0", manifest(1))
    there = server.push("registry.example.com:5000/team/app:1.0.0", manifest(2))
    assert client.digest(parse(f"{APP}:1.0.0")) == here
    assert client.digest(parse("registry.example.com:5000/team/app:1.0.0")) == there


def test_client_lists_tags_over_several_pages(
    server: RegistryServer, client: RegistryClient
) -> None:
    for number in range(5):
        server.push(f"{APP}:1.{number}.0", manifest(number))
    assert client.tags(parse(APP)) == ("1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0")


def test_digest_is_that_of_the_body(server: RegistryServer) -> None:
    pushed = server.push(f"{APP}:1.0.0", manifest(1))
    answer = get(server, "http://registry.example.com/v2/team/app/manifests/1.0.0")
    assert (
        pushed == f"sha256:{hashlib.sha256(answer.content).hexdigest()}" == digest_of(manifest(1))
    )
    assert answer.headers["Docker-Content-Digest"] == pushed
    assert answer.headers["Content-Type"] == "application/vnd.oci.image.manifest.v1+json"
    assert answer.json() == manifest(1)


def test_answer_to_head_has_no_body(server: RegistryServer) -> None:
    pushed = server.push(f"{APP}:1.0.0", manifest(1))
    url = "http://registry.example.com/v2/team/app/manifests/1.0.0"
    with requests.Session() as session:
        session.proxies["http"] = server.url
        answer = session.head(url, timeout=5)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["Docker-Content-Digest"] == pushed
        assert session.get(url, timeout=5).json() == manifest(1)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/team/app/manifests/2.0.0", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/team/other/tags/list", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/_catalog", 404, "UNSUPPORTED"),
        ("PUT", "/v2/team/app/manifests/2.0.0", 405, "UNSUPPORTED"),
    ],
)
def test_error_has_the_code_of_the_specification(
    server: RegistryServer, method: str, path: str, status: int, code: str
) -> None:
    server.push(f"{APP}:1.0.0", manifest(1))
    answer = get(server, f"http://registry.example.com{path}", method)
    assert answer.status_code == status
    assert [error["code"] for error in answer.json()["errors"]] == [code]


def test_api_is_version_2(server: RegistryServer) -> None:
    answer = get(server, "http://registry.example.com/v2/")
    assert answer.status_code == 200
    assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"


@pytest.mark.parametrize("image", ["BAD", f"{APP}@sha256:{'a' * 64}"])
def test_push_needs_an_image_with_a_tag(server: RegistryServer, image: str) -> None:
    with pytest.raises(ValueError, match="is not an image with a tag"):
        server.push(image, manifest(1))


def test_push_without_a_cluster_is_possible() -> None:
    with RegistryServer() as server:
        assert server.push(f"{APP}:1.0.0", manifest(1)) == digest_of(manifest(1))


def test_nodes_pull_what_was_pushed() -> None:
    with (
        SimulatedCluster(nodes=1, only_images=True) as cluster,
        RegistryServer(cluster.images) as server,
    ):
        pushed = server.push("nginx:1.29.1", manifest(1))
        assert cluster.images == {
            "docker.io/library/nginx:1.29.1": pushed,
            f"docker.io/library/nginx@{pushed}": pushed,
        }
