"""Pull secrets: the credentials for an image, and the warnings about a secret."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.registries import pull_secrets
from image_puller.registries.pull_secrets import Credentials
from image_puller.values.reference import parse

CONFIG_JSON = "kubernetes.io/dockerconfigjson"
CONFIG = "kubernetes.io/dockercfg"


def encoded(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.b64encode(text.encode()).decode()


def secret(document: Any, name: str = "pull", kind: str = CONFIG_JSON) -> dict[str, Any]:
    key = kind.replace("kubernetes.io/", ".")
    return {"metadata": {"name": name}, "type": kind, "data": {key: encoded(document)}}


def with_keys(*keys: str, name: str = "pull") -> dict[str, Any]:
    """Return a secret in which the password of each key is the key."""
    return secret({"auths": {key: {"username": "u", "password": key} for key in keys}}, name)


def passwords(image: str, *secrets: dict[str, Any]) -> list[str]:
    keyring, warnings = pull_secrets.read(secrets)
    assert warnings == ()
    return [each.password for each in keyring.credentials(parse(image))]


def warning_about(*secrets: dict[str, Any]) -> str:
    _, (warning,) = pull_secrets.read(secrets)
    return warning


# Keys and the images that they cover


@pytest.mark.parametrize(
    ("key", "image"),
    [
        ("quay.io", "quay.io/org/app"),
        ("https://quay.io", "quay.io/org/app"),
        ("http://quay.io", "quay.io/org/app"),
        ("https://quay.io/", "quay.io/org/app"),
        ("https://quay.io/v2/", "quay.io/org/app"),
        ("https://quay.io/v1/", "quay.io/org/app"),
        ("quay.io/v2/org", "quay.io/org/app"),
        ("QUAY.io", "quay.io/org/app"),
        ("quay.io/org", "quay.io/org/app"),
        ("quay.io/org", "quay.io/organisation/app"),  # the kubelet compares only the text, too
        ("quay.io/org/app", "quay.io/org/app"),
        ("*.example.com", "registry.example.com/app"),
        ("registry.*.com", "registry.example.com/app"),
        ("r?gistry.example.com", "registry.example.com/app"),
        ("r[ae]gistry.example.com", "registry.example.com/app"),
        ("r[^a]gistry.example.com", "registry.example.com/app"),
        ("*.*.com/team", "registry.example.com/team/app"),
        ("10.0.0.1:5000", "10.0.0.1:5000/app"),
        ("*.example.com:5000", "registry.example.com:5000/app"),
        ("[::1]:5000", "[::1]:5000/app"),
        ("localhost", "localhost/app"),
        ("docker.io", "nginx"),
        ("docker.io/library/nginx", "nginx"),
        ("https://index.docker.io/v1/", "nginx"),
        ("https://index.docker.io/v1/", "docker.io/org/app"),
        ("index.docker.io", "index.docker.io/org/app"),
        ("index.docker.io/v1/", "nginx"),
    ],
)
def test_key_covers_an_image(key: str, image: str) -> None:
    assert passwords(image, with_keys(key)) == [key]


@pytest.mark.parametrize(
    ("key", "image"),
    [
        ("quay.io", "ghcr.io/org/app"),
        ("quay.io/other", "quay.io/org/app"),
        ("quay.io/org/app/more", "quay.io/org/app"),
        ("quay.io:443", "quay.io/org/app"),
        ("10.0.0.1", "10.0.0.1:5000/app"),
        ("10.0.0.1:5000", "10.0.0.1:5001/app"),
        ("*.com", "registry.example.com/app"),
        ("*.example.com", "example.com/app"),
        ("*.example.com", "a.b.example.com/app"),
        ("*", "quay.io/org/app"),
        ("r[a]gistry.example.com", "registry.example.com/app"),
        ("registry.example.com.evil.org", "registry.example.com/app"),
        ("example.com", "registry.example.com/app"),
        ("https://index.docker.io/v1/", "quay.io/org/app"),
        ("index.docker.io/org", "docker.io/org/app"),
        ("registry-1.docker.io", "nginx"),
    ],
)
def test_key_does_not_cover_an_image(key: str, image: str) -> None:
    assert passwords(image, with_keys(key)) == []


def test_longest_path_is_tried_first_and_a_name_before_a_glob() -> None:
    keys = ("*.example.com", "a.example.com", "a.example.com/org", "a.example.com/org/app")
    assert passwords("a.example.com/org/app", with_keys(*keys)) == list(reversed(keys))


def test_of_two_secrets_with_the_same_key_the_first_is_tried_first() -> None:
    keyring, _ = pull_secrets.read([with_keys("quay.io", name=name) for name in ("a", "b")])
    assert [each.secret for each in keyring.credentials(parse("quay.io/app"))] == ["a", "b"]


def test_legacy_key_of_docker_hub_counts_only_if_no_other_key_covers_the_image() -> None:
    legacy = with_keys("https://index.docker.io/v1/")
    assert passwords("docker.io/org/app", legacy, with_keys("docker.io/org")) == ["docker.io/org"]


def test_without_secrets_there_are_no_credentials() -> None:
    assert passwords("quay.io/org/app") == []


# The entries of a secret


@pytest.mark.parametrize(
    ("entry", "credentials"),
    [
        ({"username": "u", "password": "p"}, Credentials(secret="s", username="u", password="p")),
        ({"auth": encoded("u:p:q")}, Credentials(secret="s", username="u", password="p:q")),
        (
            {"auth": encoded("u:p"), "username": "other", "password": "other"},
            Credentials(secret="s", username="u", password="p"),
        ),
        (
            {"auth": encoded("u:pa").rstrip("=")},
            Credentials(secret="s", username="u", password="pa"),
        ),
        ({"auth": encoded("ü:ß")}, Credentials(secret="s", username="ü", password="ß")),
        (
            {"auth": encoded("<token>:"), "identitytoken": "i"},
            Credentials(secret="s", username="<token>", identity_token="i"),
        ),
        ({"identitytoken": "i"}, Credentials(secret="s", identity_token="i")),
        (
            {"username": "u", "password": None, "email": 1},
            Credentials(secret="s", username="u"),
        ),
    ],
)
def test_entry_is_read_in_both_formats(entry: dict[str, Any], credentials: Credentials) -> None:
    for document, kind in (
        ({"auths": {"quay.io": entry}}, CONFIG_JSON),
        ({"quay.io": entry}, CONFIG),
    ):
        keyring, warnings = pull_secrets.read([secret(document, "s", kind)])
        assert warnings == ()
        assert keyring.credentials(parse("quay.io/app")) == (credentials,)


def test_representation_of_credentials_has_no_password_and_no_token() -> None:
    credentials = Credentials(secret="s", username="u", password="hidden", identity_token="hidden")
    assert "hidden" not in repr(credentials)


@pytest.mark.parametrize(
    ("key", "entry", "problem"),
    [
        ("quay.io", "text", "not a JSON object"),
        ("quay.io", {}, "neither auth nor a username nor an identitytoken"),
        ("quay.io", {"username": 1}, "not a string"),
        ("quay.io", {"auth": ["x"]}, "not a string"),
        ("quay.io", {"auth": encoded("no colon")}, "not base64 of username:password"),
        ("quay.io", {"auth": "%%%"}, "not base64 of username:password"),
        ("quay.io", {"auth": "ä"}, "not base64 of username:password"),
        ("quay.io", {"auth": base64.b64encode(b"\xff:\xff").decode()}, "not base64 of username"),
        ("", {"username": "u"}, "names no host"),
        ("https://", {"username": "u"}, "names no host"),
        ("/path", {"username": "u"}, "names no host"),
    ],
)
def test_unreadable_entry_is_a_warning_and_the_other_entries_are_read(
    key: str, entry: Any, problem: str
) -> None:
    good = {"username": "u", "password": "p"}
    document = {"auths": {key: entry, "ghcr.io": good}}
    keyring, (warning,) = pull_secrets.read([secret(document, "mine")])
    assert warning.startswith(f"pull secret mine: {key!r}: ")
    assert problem in warning
    assert warning.endswith("the entry is ignored")
    assert len(keyring.credentials(parse("ghcr.io/app"))) == 1


# Unusable secrets


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ({"type": "Opaque", "data": {}}, "its type is 'Opaque'"),
        ({}, "its type is None"),
        ({"type": CONFIG_JSON}, "has no .dockerconfigjson"),
        ({"type": CONFIG, "data": None}, "has no .dockercfg"),
        ({"type": CONFIG_JSON, "data": {".dockercfg": encoded({})}}, "has no .dockerconfigjson"),
        ({"type": CONFIG_JSON, "data": {".dockerconfigjson": "%"}}, "is not JSON in base64"),
        ({"type": CONFIG, "data": {".dockercfg": encoded("{")}}, "is not JSON in base64"),
        ({"type": CONFIG, "data": {".dockercfg": encoded("[" * 100_000)}}, "not JSON in base64"),
        ({"type": CONFIG, "data": {".dockercfg": encoded([])}}, "is not a JSON object"),
        (
            {"type": CONFIG_JSON, "data": {".dockerconfigjson": encoded({"auths": []})}},
            "auths of its .dockerconfigjson are not",
        ),
    ],
)
def test_unreadable_secret_is_a_warning_and_the_other_secrets_are_read(
    broken: dict[str, Any], problem: str
) -> None:
    named = {"metadata": {"name": "mine"}, **broken}
    keyring, (warning,) = pull_secrets.read([named, with_keys("quay.io")])
    assert warning.startswith("pull secret mine: ")
    assert problem in warning
    assert len(keyring.credentials(parse("quay.io/app"))) == 1


@pytest.mark.parametrize("helper", [{"credHelpers": {"quay.io": "ecr"}}, {"credsStore": "desktop"}])
@pytest.mark.parametrize("kind", [CONFIG, CONFIG_JSON])
def test_credential_helper_is_ignored_with_a_warning(helper: dict[str, Any], kind: str) -> None:
    warning = warning_about(secret(helper, "mine", kind))
    assert warning.startswith("pull secret mine: ")
    assert f"{next(iter(helper))} is ignored" in warning
    assert "put a username and a password into auths" in warning


def test_auths_are_read_beside_a_credential_helper() -> None:
    document = {"credHelpers": {"a": "b"}, "auths": {"quay.io": {"auth": encoded("u:p")}}}
    keyring, _ = pull_secrets.read([secret(document)])
    assert len(keyring.credentials(parse("quay.io/app"))) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["auths", "quay.io", "auth", "username", "[", "*.", ":"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(JSON, st.sampled_from([CONFIG, CONFIG_JSON]))
def test_random_secret_is_read_or_is_a_warning(document: Any, kind: str) -> None:
    keyring, _ = pull_secrets.read([secret(document, "s", kind)])
    keyring.credentials(parse("quay.io/org/app"))
