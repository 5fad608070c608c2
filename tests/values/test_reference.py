"""Tests of image references."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.errors import ImagePullerError
from image_puller.values.reference import (
    InvalidReferenceError,
    Reference,
    is_digest,
    is_repository,
    is_tag,
    normalise_name,
    parse,
)

SHA256 = "sha256:" + "0123456789abcdef" * 4
SHA384 = "sha384:" + "a" * 96
SHA512 = "sha512:" + "b" * 128
OTHER_DIGEST = "multihash+base58:" + "0aF" * 11

components = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
paths = st.lists(components, min_size=1, max_size=4).map("/".join)
hosts = st.one_of(
    st.from_regex(r"[a-z0-9]{1,8}(-{1,2}[a-z0-9]{1,4})?\.[a-z]{2,5}(:[0-9]{1,5})?", fullmatch=True),
    st.sampled_from(["localhost", "localhost:5000", "[::1]", "[fd00::a1]:5000", "harbor:443"]),
    st.sampled_from(["docker.io", "127.0.0.1:5000", "REGISTRY", "Registry", "xn--7o8h.com"]),
)
tags = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
digests = st.sampled_from([None, SHA256, SHA384, SHA512, OTHER_DIGEST])


@st.composite
def references(draw: st.DrawFn) -> Reference:
    registry, repository = normalise_name(draw(hosts), draw(paths))
    return Reference(registry=registry, repository=repository, tag=draw(tags), digest=draw(digests))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        (f"nginx@{SHA256}", f"docker.io/library/nginx@{SHA256}"),
        (f"nginx:1.27@{SHA256}", f"docker.io/library/nginx:1.27@{SHA256}"),
        ("bitnami/redis", "docker.io/bitnami/redis"),
        ("docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("Docker.IO/nginx:1", "docker.io/library/nginx:1"),
        ("index.docker.io/nginx", "docker.io/library/nginx"),
        ("index.docker.io/bitnami/redis:7", "docker.io/bitnami/redis:7"),
        ("docker.io/library/nginx", "docker.io/library/nginx"),
        # Container runtimes store the image under this name.
        ("registry-1.docker.io/library/nginx", "registry-1.docker.io/library/nginx"),
        ("localhost", "docker.io/library/localhost"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("localhost/app", "localhost/app"),
        ("localhost:5000/app:dev", "localhost:5000/app:dev"),
        ("quay.io/org/team/app:v1", "quay.io/org/team/app:v1"),
        ("Quay.IO:443/org/app", "quay.io:443/org/app"),
        ("LOCALHOST/app", "localhost/app"),
        ("HARBOR/app", "HARBOR/app"),
        ("harbor/app", "docker.io/harbor/app"),
        ("harbor:443/app", "harbor:443/app"),
        ("[::1]/app", "[::1]/app"),
        ("[2001:DB8::1]:5000/app:1", "[2001:db8::1]:5000/app:1"),
        ("a.b/c_d/e__f/g---h/i.j", "a.b/c_d/e__f/g---h/i.j"),
        ("xn--7o8h.com/app", "xn--7o8h.com/app"),
        ("gcr.io/example.com/project/app", "gcr.io/example.com/project/app"),
        (f"a.b/c@{SHA512}", f"a.b/c@{SHA512}"),
        (f"a.b/c@{OTHER_DIGEST}", f"a.b/c@{OTHER_DIGEST}"),
        ("a.b/" + "c" * 255 + ":" + "t" * 128, "a.b/" + "c" * 255 + ":" + "t" * 128),
        ("docker.io/" + "a" * 64, "docker.io/library/" + "a" * 64),
        ("a" * 64 + ":1", "docker.io/library/" + "a" * 64 + ":1"),
    ],
)
def test_reference_is_normalised(text: str, normal: str) -> None:
    assert str(parse(text)) == normal


def test_reference_is_split_into_its_parts() -> None:
    reference = parse(f"Quay.io:443/org/app:v1@{SHA256}")

    assert reference == Reference(
        registry="quay.io:443", repository="org/app", tag="v1", digest=SHA256
    )
    assert reference.name == "quay.io:443/org/app"


def test_missing_tag_stays_none() -> None:
    assert parse("nginx").tag is None
    assert parse("nginx").digest is None


MALFORMED_REPOSITORY = (
    "the repository is not of a-z 0-9, with single separators . _ __ - / between them"
)
MALFORMED_TAG = "the tag is not 1 to 128 of A-Z a-z 0-9 _ . -"
MALFORMED_DIGEST = "the digest is not of the form sha256:<64 digits of 0-f>"
MALFORMED_HOST = "the registry is not of the form host or host:port"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it names no repository"),
        (":1", "it names no repository"),
        (f"@{SHA256}", "it names no repository"),
        ("quay.io/", "it names no repository"),
        ("Nginx", "the repository must be in lower case"),
        ("quay.io/Org/app", "the repository must be in lower case"),
        ("quay.io/org//app", MALFORMED_REPOSITORY),
        ("quay.io/org/app/", MALFORMED_REPOSITORY),
        ("/app", MALFORMED_REPOSITORY),
        ("a___b", MALFORMED_REPOSITORY),
        ("a..b/c", MALFORMED_HOST),
        ("x/a..b", MALFORMED_REPOSITORY),
        ("x/a._b", MALFORMED_REPOSITORY),
        ("x/-a", MALFORMED_REPOSITORY),
        ("x/a-", MALFORMED_REPOSITORY),
        ("nginx ", MALFORMED_REPOSITORY),
        ("nginx\n", MALFORMED_REPOSITORY),
        ("ñandú", MALFORMED_REPOSITORY),
        ("https://quay.io/app", MALFORMED_HOST),
        ("-a.b/c", MALFORMED_HOST),
        ("a-.b/c", MALFORMED_HOST),
        ("a.b:/c", MALFORMED_HOST),
        ("a.b:port/c", MALFORMED_HOST),
        ("É/c", MALFORMED_HOST),
        ("\N{KELVIN SIGN}.io/c", MALFORMED_HOST),
        ("[::1/c", MALFORMED_HOST),
        ("[abc]/c", MALFORMED_HOST),
        ("[fe80::1%eth0]/c", MALFORMED_HOST),
        ("a" * 252 + ".com/c", MALFORMED_HOST),
        ("a.b/" + "c" * 256, "the repository has more than 255 characters"),
        ("c" * 248, "the repository has more than 255 characters"),
        ("nginx:", MALFORMED_TAG),
        ("nginx:-1", MALFORMED_TAG),
        ("nginx:1.2.3+build", MALFORMED_TAG),
        ("nginx:" + "t" * 129, MALFORMED_TAG),
        ("nginx:1\n", MALFORMED_TAG),
        ("nginx@", MALFORMED_DIGEST),
        ("nginx@sha256:abc", MALFORMED_DIGEST),
        (f"nginx@{SHA256.upper()[7:]}", MALFORMED_DIGEST),
        (f"nginx@{SHA256}0", MALFORMED_DIGEST),
        (f"nginx@{SHA256}@{SHA256}", MALFORMED_DIGEST),
        ("a" * 64, "64 hexadecimal digits are an image ID, not a name"),
    ],
)
def test_error_names_the_wrong_part_of_a_reference(text: str, problem: str) -> None:
    with pytest.raises(InvalidReferenceError) as error:
        parse(text)

    assert str(error.value) == f"{text[:80]!r} is not an image reference: {problem}"


def test_error_is_one_of_the_project_and_a_value_error() -> None:
    assert issubclass(InvalidReferenceError, ImagePullerError)
    assert issubclass(InvalidReferenceError, ValueError)


@pytest.mark.parametrize(
    ("registry", "repository", "normal"),
    [
        ("docker.io", "nginx", ("docker.io", "library/nginx")),
        ("index.docker.io", "nginx", ("docker.io", "library/nginx")),
        ("registry-1.docker.io", "nginx", ("docker.io", "library/nginx")),
        ("registry.hub.docker.com", "bitnami/redis", ("docker.io", "bitnami/redis")),
        ("Registry-1.Docker.IO", "library/nginx", ("docker.io", "library/nginx")),
        ("Quay.IO", "org/app", ("quay.io", "org/app")),
        ("quay.io", "app", ("quay.io", "app")),
        ("HARBOR", "app", ("HARBOR", "app")),
        ("harbor", "app", ("harbor", "app")),
        ("harbor.example.com:8443", "ext.mcr.microsoft.com/app", None),
        ("docker.io", "", ("docker.io", "")),
        ("", "", ("", "")),
        ("\N{KELVIN SIGN}.io", "app", None),
    ],
)
def test_separate_host_and_path_are_normalised(
    registry: str, repository: str, normal: tuple[str, str] | None
) -> None:
    assert normalise_name(registry, repository) == (normal or (registry, repository))


@pytest.mark.parametrize(
    "text", ["latest", "1", "_", "v1.2.3-rc.1", "A" * 128, "sha256-abc.sig", "1__2--3.."]
)
def test_tag_is_recognised(text: str) -> None:
    assert is_tag(text)


@pytest.mark.parametrize("text", ["", ".1", "-1", "a" * 129, "1+2", "a b", "a\n", "é", "٣", "a/b"])
def test_malformed_tag_is_recognised(text: str) -> None:
    assert not is_tag(text)


@pytest.mark.parametrize("text", [SHA256, SHA384, SHA512, OTHER_DIGEST, "a:" + "0" * 32])
def test_digest_is_recognised(text: str) -> None:
    assert is_digest(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        SHA256[:-1],
        SHA256 + "0",
        SHA256 + "\n",
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha512:" + "a" * 64,
        "a:" + "0" * 31,
        "a:" + "0" * 254,
        "1a:" + "0" * 32,
        "a++b:" + "0" * 32,
        "sha256:" + "٣" * 64,
    ],
)
def test_malformed_digest_is_recognised(text: str) -> None:
    assert not is_digest(text)


@pytest.mark.parametrize("text", ["nginx", "library/nginx", "a-b/c.d/e__f", "0", "a" * 255])
def test_repository_is_recognised(text: str) -> None:
    assert is_repository(text)


@pytest.mark.parametrize("text", ["", "/", "a/", "A", "a:1", "a" * 256, "a b", "a\n", "é"])
def test_malformed_repository_is_recognised(text: str) -> None:
    assert not is_repository(text)


@given(references())
def test_printed_reference_parses_to_the_same_reference(reference: Reference) -> None:
    assert parse(str(reference)) == reference


@given(references())
def test_normalised_reference_prints_unchanged(reference: Reference) -> None:
    text = str(reference)

    assert str(parse(text)) == text


@given(references())
def test_parsed_name_is_normalised(reference: Reference) -> None:
    assert normalise_name(reference.registry, reference.repository) == (
        reference.registry,
        reference.repository,
    )


@given(st.text() | st.text(alphabet="aA0._-/:@[]+é\n"))
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidReferenceError:
        return
    assert parse(str(reference)) == reference
    assert is_repository(reference.repository)
    assert reference.tag is None or is_tag(reference.tag)
    assert reference.digest is None or is_digest(reference.digest)


@given(st.text(), st.text())
def test_normalising_twice_changes_nothing(registry: str, repository: str) -> None:
    once = normalise_name(registry, repository)

    assert normalise_name(*once) == once


@pytest.mark.parametrize("unit", ["a", "a-", "a_", "a.", "a/", "A", ":", "@", "[", "-", "\ud800"])
def test_long_text_is_rejected_fast(unit: str) -> None:
    text = unit * 200_000
    started = time.perf_counter()

    for candidate in (text, text + "!", f"a.b/{text}!", f"{text}.b/c!", f"a@a{text}:", f"a:{text}"):
        with pytest.raises(InvalidReferenceError):
            parse(candidate)
        assert not any(accepts(candidate) for accepts in (is_tag, is_digest, is_repository))

    assert time.perf_counter() - started < 5
