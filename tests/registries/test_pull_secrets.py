"""Pull secrets: which credentials an image is asked for with, and what is wrong with a secret."""

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
    """A secret in which the password of each key is the key."""
    return secret({"auths": {key: {"username": "u", "password": key} for key in keys}}, name)


def passwords(image: str, *secrets: dict[str, Any]) -> list[str]:
    keyring, warnings = pull_secrets.read(secrets)
    assert warnings == ()
    return [held.password for held in keyring.credentials(parse(image))]


def the_warning(*secrets: dict[str, Any]) -> str:
    _, (warning,) = pull_secrets.read(secrets)
    return warning


# Which key covers which image


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
        ("quay.io/org", "quay.io/organisation/app"),  # a prefix of text, as for the kubelet
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
def test_a_key_covers_an_image(key: str, image: str) -> None:
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
def test_a_key_does_not_cover_an_image(key: str, image: str) -> None:
    assert passwords(image, with_keys(key)) == []


def test_the_longest_path_is_tried_first_and_a_name_before_a_glob() -> None:
    keys = ("*.example.com", "a.example.com", "a.example.com/org", "a.example.com/org/app")
    assert passwords("a.example.com/org/app", with_keys(*keys)) == list(reversed(keys))


def test_of_two_secrets_with_one_key_that_named_first_is_tried_first() -> None:
    keyring, _ = pull_secrets.read([with_keys("quay.io", name=name) for name in ("a", "b")])
    assert [held.secret for held in keyring.credentials(parse("quay.io/app"))] == ["a", "b"]


def test_docker_hubs_legacy_key_counts_only_where_no_other_does() -> None:
    legacy = with_keys("https://index.docker.io/v1/")
    assert passwords("docker.io/org/app", legacy, with_keys("docker.io/org")) == ["docker.io/org"]


def test_without_secrets_there_are_no_credentials() -> None:
    assert passwords("quay.io/org/app") == []


# What an entry holds


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
def test_an_entry_holds_credentials(entry: dict[str, Any], credentials: Credentials) -> None:
    for document, kind in (
        ({"auths": {"quay.io": entry}}, CONFIG_JSON),
        ({"quay.io": entry}, CONFIG),
    ):
        keyring, warnings = pull_secrets.read([secret(document, "s", kind)])
        assert warnings == ()
        assert keyring.credentials(parse("quay.io/app")) == (credentials,)


def test_nothing_secret_is_printed() -> None:
    held = Credentials(secret="s", username="u", password="hidden", identity_token="hidden")
    assert "hidden" not in repr(held)


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
def test_an_entry_that_can_not_be_read_is_a_warning_and_stops_no_other(
    key: str, entry: Any, problem: str
) -> None:
    good = {"username": "u", "password": "p"}
    document = {"auths": {key: entry, "ghcr.io": good}}
    keyring, (warning,) = pull_secrets.read([secret(document, "mine")])
    assert warning.startswith(f"pull secret mine: {key!r}: ")
    assert problem in warning
    assert warning.endswith("the entry is ignored")
    assert len(keyring.credentials(parse("ghcr.io/app"))) == 1


# Secrets that can't be used


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ({"type": "Opaque", "data": {}}, "its type is 'Opaque'"),
        ({}, "its type is None"),
        ({"type": CONFIG_JSON}, "holds no .dockerconfigjson"),
        ({"type": CONFIG, "data": None}, "holds no .dockercfg"),
        ({"type": CONFIG_JSON, "data": {".dockercfg": encoded({})}}, "holds no .dockerconfigjson"),
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
def test_a_secret_that_can_not_be_read_is_a_warning_and_stops_no_other(
    broken: dict[str, Any], problem: str
) -> None:
    named = {"metadata": {"name": "mine"}, **broken}
    keyring, (warning,) = pull_secrets.read([named, with_keys("quay.io")])
    assert warning.startswith("pull secret mine: ")
    assert problem in warning
    assert len(keyring.credentials(parse("quay.io/app"))) == 1


@pytest.mark.parametrize("helper", [{"credHelpers": {"quay.io": "ecr"}}, {"credsStore": "desktop"}])
@pytest.mark.parametrize("kind", [CONFIG, CONFIG_JSON])
def test_credential_helpers_are_refused_with_a_message(helper: dict[str, Any], kind: str) -> None:
    warning = the_warning(secret(helper, "mine", kind))
    assert warning.startswith("pull secret mine: ")
    assert f"{next(iter(helper))} is refused" in warning
    assert "put a username and a password into auths" in warning


def test_beside_a_helper_what_is_in_auths_still_counts() -> None:
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
def test_whatever_a_secret_holds_it_is_read_or_warned_of(document: Any, kind: str) -> None:
    keyring, _ = pull_secrets.read([secret(document, "s", kind)])
    keyring.credentials(parse("quay.io/org/app"))
