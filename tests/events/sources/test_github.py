"""Tests of the webhooks of GitHub Packages."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from image_puller.errors import BadEventError
from image_puller.events.event import Event, Ignored, ImagePushed
from image_puller.events.sources import decode
from tests.support.samples import sample

DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER = "sha256:" + "fedcba9876543210" * 4
SHORT = "sha256:6c62fb45fe66bfb1ea9a66abc38f6a0cc974292b"
VERSION: dict[str, Any] = {
    "version": DIGEST,
    "name": DIGEST,
    "body": {"repository": {}},
    "created_at": "0001-01-01T00:00:00Z",
    "container_metadata": {
        "tag": {"name": "v1", "digest": DIGEST},
        "manifest": {"digest": DIGEST},
    },
    "package_url": "ghcr.io/Acme/team/app:v1",
}
PACKAGE: dict[str, Any] = {
    "name": "team/app",
    "namespace": "Acme",
    "owner": {"login": "Acme"},
    "ecosystem": "CONTAINER",
    "package_type": "CONTAINER",
    "updated_at": "2026-08-20T10:11:12Z",
    "registry": {"type": "CONTAINER", "url": "https://CONTAINER.pkg.github.com/Acme"},
    "package_version": VERSION,
}


def pushed(
    tag: str | None = "v1",
    digest: str | None = DIGEST,
    *,
    registry: str | None = "ghcr.io",
    repository: str = "acme/team/app",
) -> Event:
    return ImagePushed(registry=registry, repository=repository, tag=tag, digest=digest)


def decoded(
    package: dict[str, Any], action: str | None = "published", key: str = "package"
) -> tuple[Event, ...]:
    payload = {"action": action, key: package, "repository": {"full_name": "Acme/another"}}
    return decode("github", {}, json.dumps(payload).encode())


def version(**changes: Any) -> dict[str, Any]:
    return PACKAGE | {"package_version": VERSION | changes}


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("github-package-published-npm", Ignored(reason="artifact that is no image")),
        (
            "github-package-form-encoded",
            pushed(
                "0e2a89b",
                "sha256:89160c587d0c36bf54090497a465445c14980ba48efbcf3b0d03c49b76f3feb8",
                repository="theryangeary/www",
            ),
        ),
    ],
)
def test_sample_decodes_to_its_event(name: str, event: Event) -> None:
    assert decode("github", *sample(name)) == (event,)


@pytest.mark.parametrize("key", ["package", "registry_package"])
@pytest.mark.parametrize(
    ("action", "event"),
    [
        ("published", pushed()),
        ("updated", pushed()),
        ("create", pushed()),
        ("deleted", Ignored(reason="unknown type")),
        (None, Ignored(reason="unknown type")),
    ],
)
def test_action_on_a_package_decodes_to_its_event(
    key: str, action: str | None, event: Event
) -> None:
    assert decoded(PACKAGE, action, key) == (event,)


@pytest.mark.parametrize(
    ("kinds", "is_image"),
    [
        ({"package_type": "npm", "ecosystem": "docker", "registry": None}, True),
        ({"package_type": "docker", "ecosystem": None, "registry": None}, True),
        ({"package_type": None, "ecosystem": "", "registry": {"type": "Docker"}}, True),
        ({"package_type": "npm", "ecosystem": "npm", "registry": {"type": "npm"}}, False),
        ({"package_type": None, "ecosystem": None, "registry": None}, False),
    ],
)
def test_any_of_three_fields_shows_an_image(kinds: dict[str, Any], is_image: bool) -> None:
    other = Ignored(reason="artifact that is no image")
    assert decoded(PACKAGE | kinds) == (pushed() if is_image else other,)


@pytest.mark.parametrize(
    ("package", "event"),
    [
        (version(package_url="ghcr.io/Acme/team/app:"), pushed()),
        (version(package_url="ghcr.io/Acme/team/app"), pushed()),
        (version(package_url=f"ghcr.io/Acme/team/app@{DIGEST}"), pushed()),
        (version(package_url=f"ghcr.io/Acme/team/app:v1@{DIGEST}"), pushed()),
        (
            version(package_url="containers.ghe.example.com:8443/acme/app"),
            pushed(registry="containers.ghe.example.com:8443", repository="acme/app"),
        ),
        (version(package_url=""), pushed()),
        (version(package_url=":v1"), pushed()),
        (version(package_url="ghcr.io"), Ignored(reason="repository outside the grammar")),
        (version(package_url=None) | {"namespace": "Acme/team", "name": "app"}, pushed()),
        (version(package_url=None) | {"namespace": None}, pushed()),
        (
            version(package_url=None)
            | {"namespace": None, "registry": {"url": "https://ghcr.io/Acme/Old"}},
            pushed(repository="acme/old"),
        ),
        (version(package_url=None) | {"namespace": None, "registry": None}, pushed()),
    ],
)
def test_name_is_that_of_the_package_and_not_of_the_git_repository(
    package: dict[str, Any], event: Event
) -> None:
    assert decoded(package) == (event,)


def metadata(
    tag: str = "", digest: str | None = None, manifest: str | None = None
) -> dict[str, Any]:
    return {"tag": {"name": tag, "digest": digest}, "manifest": {"digest": manifest}}


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({"package_url": "ghcr.io/acme/team/app:v2"}, pushed()),
        ({"container_metadata": metadata(), "package_url": "ghcr.io/acme/team/app:v2"}, pushed("v2")),  # noqa: E501
        ({"container_metadata": metadata(), "package_url": "ghcr.io/acme/team/app:"}, pushed(None)),
        ({"container_metadata": metadata(DIGEST)}, pushed(None)),
        ({"container_metadata": metadata("v1", SHORT, SHORT)}, pushed()),
        ({"version": None}, pushed()),
        ({"body": "a text"}, pushed()),  # or an object: fluxcd/notification-controller#393
        ({"body": {"repository": {"owner": None}}}, pushed()),
        ({"version": SHORT, "name": "v1", "container_metadata": metadata("v1", DIGEST, OTHER)}, pushed(digest=OTHER)),  # noqa: E501
        ({"version": None, "name": None, "container_metadata": metadata("v1", OTHER)}, pushed(digest=OTHER)),  # noqa: E501
        ({"version": "v3", "name": "", "container_metadata": None}, pushed("v3", None)),
        ({"container_metadata": None}, pushed(None)),
        ({"container_metadata": metadata("sha256-" + "a" * 64 + ".att")}, Ignored(reason="signature or attestation")),  # noqa: E501
        ({"version": "", "name": "", "container_metadata": metadata(), "package_url": "ghcr.io/a/b:"}, Ignored(reason="neither tag nor digest")),  # noqa: E501
    ],
)  # fmt: skip
def test_digest_comes_from_the_version_and_tag_from_its_metadata(
    changes: dict[str, Any], event: Event
) -> None:
    assert decoded(version(**changes)) == (event,)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"zen": "Keep it logically awesome.", "hook_id": 1}, "test"),
        ({"action": "opened", "issue": {}}, "unknown type"),
        ({}, "unknown type"),
    ],
)
def test_other_event_is_ignored(payload: Any, reason: str) -> None:
    assert decode("github", {}, json.dumps(payload).encode()) == (Ignored(reason=reason),)


@pytest.mark.parametrize("encode", [urlencode, lambda form: f"payload={quote(form['payload'])}&x="])
def test_form_is_decoded(encode: Callable[[dict[str, str]], str]) -> None:
    payload = {"action": "published", "package": PACKAGE | {"description": "a+b & ü = 100%"}}
    assert decode("github", {}, encode({"payload": json.dumps(payload)}).encode()) == (pushed(),)


def test_notification_inside_a_cloudevent_is_decoded() -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "https://github.com/acme",
        "ce-type": "dev.knative.source.github.package",
        "content-type": "application/json",
    }
    body = json.dumps({"action": "published", "package": PACKAGE}).encode()
    assert decode("github", headers, body) == (pushed(),)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload is not an object: []"),
        ({"package": 1}, "'package' is not an object: 1"),
        (
            {"action": "published", "package": {"package_type": 1}},
            "'package_type' is not a string: 1",
        ),
        (
            {"action": "published", "package": {"package_type": "docker"}},
            "'owner.login' is missing",
        ),
        (
            {"action": "published", "package": {"package_type": "docker", "namespace": "a"}},
            "'name' is missing",
        ),
        (
            {"action": "published", "package": version(container_metadata=[])},
            "'package_version.container_metadata' is not an object: []",
        ),
    ],
)
def test_malformed_notification_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(BadEventError) as error:
        decode("github", {}, json.dumps(payload).encode())
    assert str(error.value) == message


@pytest.mark.parametrize("body", [b"payload=", b"payload=%7B", b"payload=%ff", b"other=%7B%7D"])
def test_form_without_json_is_rejected(body: bytes) -> None:
    with pytest.raises(BadEventError, match=r"^not JSON: "):
        decode("github", {}, body)


# What a package is

HELM = "application/vnd.cncf.helm.config.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@pytest.mark.parametrize(
    ("manifest", "event"),
    [
        ({"config": {"media_type": CONFIG}, "layers": [{"media_type": LAYER}]}, pushed()),
        ({"config": {}, "layers": []}, pushed()),
        ({"config": "x", "layers": "x"}, pushed()),
        ({"config": {"media_type": HELM}}, Ignored(reason="chart")),
        ({"artifact_type": "text/spdx+json"}, Ignored(reason="artifact that is no image")),
        (
            {"config": {"media_type": CONFIG}, "layers": [{"media_type": "application/json"}, 1]},
            Ignored(reason="artifact that is no image"),
        ),
    ],
)
def test_manifest_shows_whether_a_package_is_an_image(
    manifest: dict[str, Any], event: Event
) -> None:
    metadata = {"tag": {"name": "v1"}, "manifest": {"digest": DIGEST} | manifest}
    assert decoded(version(container_metadata=metadata)) == (event,)
