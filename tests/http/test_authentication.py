"""Authentication by shared secrets: every form in which senders send them, and their files."""

import base64
import errno
import hashlib
import hmac
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.cli.event_json import read_headers
from image_puller.errors import SecretsUnavailableError
from image_puller.events.sources import SOURCES
from image_puller.events.sources.scheme import Scheme, Signature
from image_puller.http.authentication import (
    Secrets,
    has_valid_header,
    has_valid_secret,
    has_valid_signature,
    is_valid_bearer,
    is_valid_path_secret,
    is_valid_url_secret,
    signatures,
)
from tests.support.samples import FIXTURES, sample

SECRETS = (b"first", b"second secret", "schlüssel".encode())


def basic(text: str | bytes) -> str:
    encoded = text if isinstance(text, bytes) else text.encode()
    return "Basic " + base64.b64encode(encoded).decode()


def as_wsgi_decodes_it(text: str) -> str:
    return text.encode().decode("latin-1")


@pytest.mark.parametrize(
    "authorization",
    [
        "first",
        "  first ",
        "second secret",
        "Bearer first",
        "bearer  first",
        "BEARER second secret",
        basic("anybody:first"),
        basic(":first"),
        basic("quay:second secret"),
        "basic " + basic(":first").removeprefix("Basic "),
        as_wsgi_decodes_it("schlüssel"),
        as_wsgi_decodes_it("Bearer schlüssel"),
        basic(":schlüssel"),
    ],
)
def test_secret_in_authorization_is_accepted_in_every_form(authorization: str) -> None:
    assert has_valid_secret(SECRETS, authorization)
    assert not has_valid_secret((), authorization)
    assert not has_valid_secret((b"another",), authorization)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Basic",
        "Basic ",
        "First",
        "firs",
        "first second secret",
        "Digest first",
        "Bearer Bearer first",
        basic("first"),
        basic("first:"),
        basic(":"),
        basic("anybody:first "),
        basic(b"\xff:\xff"),
        "Basic first",
        "Basic !!!",
        "Basic ü",
        "Bearer €",
        "schlüssel",
        "\udcff",
    ],
)
def test_wrong_or_malformed_authorization_is_rejected(authorization: str | None) -> None:
    assert not has_valid_secret(SECRETS, authorization)
    assert not is_valid_bearer(SECRETS, authorization)


def test_password_may_have_colons() -> None:
    assert has_valid_secret((b"a:b:c",), basic("user:a:b:c"))


def test_empty_secret_is_never_valid() -> None:
    for authorization in ("", "Bearer ", basic(":"), basic("")):
        assert not has_valid_secret((b"",), authorization)
    assert not is_valid_url_secret((b"",), "")


@pytest.mark.parametrize("authorization", ["Bearer first", "bearer first", " Bearer  first "])
def test_bearer_token_is_accepted(authorization: str) -> None:
    assert is_valid_bearer(SECRETS, authorization)


@pytest.mark.parametrize("authorization", ["first", basic(":first"), "Bearer", "Token first"])
def test_secret_in_another_form_is_not_a_bearer_token(authorization: str) -> None:
    assert not is_valid_bearer(SECRETS, authorization)


@pytest.mark.parametrize("secret", ["first", "second secret", "schlüssel"])
def test_secret_in_a_path_is_accepted(secret: str) -> None:
    assert is_valid_url_secret(SECRETS, secret)


@pytest.mark.parametrize("secret", ["", "/", "fir", "first//", " first", "\udcff", "schlussel"])
def test_wrong_secret_in_a_path_is_rejected(secret: str) -> None:
    assert not is_valid_path_secret(SECRETS, secret)
    assert not is_valid_url_secret(SECRETS, secret)


@pytest.mark.parametrize("secret", ["first", "a/b", "a//b/"])
def test_secret_in_a_path_may_be_followed_by_a_slash(secret: str) -> None:
    assert is_valid_path_secret((secret.encode(),), secret)
    assert is_valid_path_secret((secret.encode(),), f"{secret}/")
    assert not is_valid_url_secret((secret.encode(),), f"{secret}/")


@pytest.mark.parametrize("space", [b"\xa0", b"\x85", b"\x1c"])
@given(st.binary(min_size=1, max_size=4))
def test_secret_that_ends_or_begins_in_a_space_of_latin_1_is_accepted(
    space: bytes, middle: bytes
) -> None:
    """`\u00e0` ends in such a byte in UTF-8."""
    for secret in (middle + space, space + middle, "voil\u00e0".encode()):
        header = secret.strip().decode("latin-1")
        assert has_valid_secret((secret.strip(),), header)
        assert is_valid_bearer((secret.strip(),), f"Bearer {header}")
        scheme = Scheme(headers=("a",))
        assert has_valid_header(scheme, (secret.strip(),), {"a": header})


# The scheme of each sender


def is_signed(name: str, headers: dict[str, str], body: bytes, *secrets: bytes) -> bool:
    return has_valid_signature(signatures(SOURCES[name].scheme, headers), secrets, body)


def sha256(secret: bytes, body: bytes) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def sha1(secret: bytes, body: bytes) -> str:
    return hmac.new(secret, body, hashlib.sha1).hexdigest()


def test_published_example_of_github_has_a_valid_signature() -> None:
    # https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": f"sha256={digest}"}
    secret = b"It's a Secret to Everybody"
    assert is_signed("github", headers, b"Hello, World!", secret)
    assert not is_signed("github", headers, b"Hello, World", secret)
    assert not is_signed("github", headers, b"Hello, World!", b"it's a secret to everybody")


@pytest.mark.parametrize(
    ("source", "name", "secret"),
    [
        ("github", "github-package-form-encoded", b"It's a Secret to Everybody"),
        ("github", "github-package-published-npm", b"It's a Secret to Everybody"),
        ("jfrog", "jfrog-docker-pushed-no-origin", b"jfrog-shared-secret"),
        ("jfrog", "jfrog-artifact-deployed", b"jfrog-shared-secret"),
        ("nexus", "nexus-component-created-docker", b"nexus-secret"),
        ("nexus", "nexus-component-updated-docker", b"nexus-secret"),
    ],
)
def test_signature_of_a_sample_is_valid_for_exactly_its_bytes(
    source: str, name: str, secret: bytes
) -> None:
    headers, body = sample(name)
    assert is_signed(source, dict(headers), body, b"another", secret)
    assert not is_signed(source, dict(headers), body, b"another")
    assert not is_signed(source, dict(headers), body + b"\n", secret)
    assert not is_signed(source, dict(headers), b"", secret)


SIGNED = {
    "github": ("x-hub-signature-256", "sha256=", sha256),
    "gitea": ("x-gitea-signature", "", sha256),
    "jfrog": ("x-jfrog-event-auth", "", sha256),
    "nexus": ("x-nexus-webhook-signature", "", sha1),
}
for_every_signer = pytest.mark.parametrize("name", SIGNED)


def test_sender_that_signs_can_not_send_its_secret_in_authorization_or_path() -> None:
    signers = {name for name, source in SOURCES.items() if source.scheme.signatures}
    assert signers == set(SIGNED)
    for name in signers:
        scheme = SOURCES[name].scheme
        assert not scheme.authorization
        assert not scheme.in_path
        assert not has_valid_header(scheme, SECRETS, {"authorization": "Bearer first"})


@for_every_signer
def test_signature_with_any_of_several_secrets_is_valid(name: str) -> None:
    header, prefix, sign = SIGNED[name]
    headers = {header: prefix + sign(b"new", b"body")}
    assert is_signed(name, headers, b"body", b"old", b"new")
    assert not is_signed(name, headers, b"body", b"old")
    assert not is_signed(name, headers, b"body")
    assert is_signed(name, {header: f" {headers[header]} "}, b"body", b"new")


@for_every_signer
def test_malformed_signature_is_not_read(name: str) -> None:
    header, prefix, sign = SIGNED[name]
    digits = sign(b"secret", b"body")
    scheme = SOURCES[name].scheme
    assert len(signatures(scheme, {header: prefix + digits})) == 1
    assert signatures(scheme, {}) == ()
    for value in (
        "",
        prefix,
        *(prefix + digits[:cut] for cut in range(len(digits))),
        prefix + digits + "00",
        prefix + digits[:-2] + "zz",
        prefix + digits[:-1] + "\u0661",  # a digit, but not of ASCII
        prefix + digits[:4] + "  " + digits[6:],  # bytes.fromhex would skip them
        f"sha512={digits}",
        f"{prefix}0x{digits[2:]}",
    ):
        assert signatures(scheme, {header: value}) == ()


def test_signature_needs_the_prefix_of_its_scheme() -> None:
    digits = sha256(b"secret", b"body")
    assert signatures(SOURCES["github"].scheme, {"x-hub-signature-256": digits}) == ()
    assert signatures(SOURCES["gitea"].scheme, {"x-gitea-signature": f"sha256={digits}"}) == ()


def test_signature_with_an_empty_secret_is_invalid() -> None:
    headers = {"x-hub-signature-256": "sha256=" + sha256(b"", b"body")}
    assert not is_signed("github", headers, b"body", b"")
    assert not is_signed("github", headers, b"body")


def test_older_header_of_github_is_not_read() -> None:
    assert (
        signatures(SOURCES["github"].scheme, {"x-hub-signature": "sha1=" + sha1(b"s", b"b")}) == ()
    )


@pytest.mark.parametrize(
    ("header", "prefix"),
    [("x-gitea-signature", ""), ("x-forgejo-signature", ""), ("x-hub-signature-256", "sha256=")],
)
def test_gitea_and_forgejo_sign_in_any_of_three_headers(header: str, prefix: str) -> None:
    value = prefix + sha256(b"secret", b"body")
    assert is_signed("gitea", {header: value}, b"body", b"secret")
    # Older versions without a secret send empty signatures in the other headers.
    empty = {"x-gitea-signature": "", "x-hub-signature-256": "sha256="}
    assert is_signed("gitea", empty | {header: value}, b"body", b"secret")
    assert not is_signed("gitea", empty, b"body", b"secret")


def test_samples_of_gitea_have_one_signature_in_two_headers() -> None:
    # The secret of the samples is unknown, so the signature itself is not checked.
    text = (FIXTURES / "gitea-package-created-npm.headers.txt").read_text("utf-8")
    sent = signatures(SOURCES["gitea"].scheme, read_headers(text))
    assert len(sent) == 2
    assert len(set(sent)) == 1


@pytest.mark.parametrize(
    ("name", "header"), [("jfrog", "x-jfrog-event-auth"), ("ecr", "x-api-key")]
)
def test_some_senders_send_the_secret_in_a_header_of_their_own(name: str, header: str) -> None:
    scheme = SOURCES[name].scheme
    assert has_valid_header(scheme, SECRETS, {header: "first"})
    assert has_valid_header(scheme, SECRETS, {header: as_wsgi_decodes_it("schlüssel")})
    for value in ("", " ", "firs", "Bearer first", "\udcff"):
        assert not has_valid_header(scheme, (*SECRETS, b""), {header: value})
    assert not has_valid_header(scheme, SECRETS, {})
    assert not has_valid_header(scheme, (), {header: "first"})


def test_secret_of_64_digits_may_be_sent_or_may_sign() -> None:
    secret = b"a" * 64
    headers = {"x-jfrog-event-auth": secret.decode()}
    assert has_valid_header(SOURCES["jfrog"].scheme, (secret,), headers)
    headers = {"x-jfrog-event-auth": sha256(secret, b"body")}
    assert not has_valid_header(SOURCES["jfrog"].scheme, (secret,), headers)
    assert is_signed("jfrog", headers, b"body", secret)


@pytest.mark.parametrize(
    "name", [name for name, source in SOURCES.items() if source.scheme.authorization]
)
def test_all_other_senders_send_the_secret_in_authorization(name: str) -> None:
    scheme = SOURCES[name].scheme
    for value in ("first", "Bearer first", basic("x:first")):
        assert has_valid_header(scheme, SECRETS, {"authorization": value})
    assert not has_valid_header(scheme, SECRETS, {"authorization": "other"})
    assert not has_valid_header(scheme, SECRETS, {})


@given(st.text(), st.binary(), st.lists(st.binary(min_size=1), max_size=3))
def test_random_text_is_no_valid_signature(text: str, body: bytes, secrets: list[bytes]) -> None:
    scheme = Scheme(
        signatures=(Signature(header="a"), Signature(header="a", algorithm="sha1", prefix="x="))
    )
    assert not has_valid_signature(signatures(scheme, {"a": text}), tuple(secrets), body)


# The files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / name.replace("_", ".")).write_text(text)


def test_each_file_of_a_name_has_one_secret(folder: Path) -> None:
    write(folder, quay="a\n", quay_old=" b ", quay_x_y="c", quayside="d", harbor="e")
    assert Secrets(folder).of("quay") == (b"a", b"b", b"c")
    assert Secrets(folder).of("harbor") == (b"e",)
    assert Secrets(folder).of("gitlab") == ()


def test_empty_file_is_no_secret(folder: Path) -> None:
    write(folder, quay="", quay_old=" \n\t")
    assert Secrets(folder).of("quay") == ()


def test_missing_folder_has_no_secrets(folder: Path) -> None:
    assert Secrets(folder / "nowhere").of("quay") == ()


def test_secrets_that_can_not_be_read_are_an_error_and_not_none(folder: Path) -> None:
    write(folder, harbor="a")
    with pytest.raises(SecretsUnavailableError, match=r"harbor: Not a directory"):
        Secrets(folder / "harbor").of("quay")
    (folder / "quay").symlink_to("quay")
    with pytest.raises(SecretsUnavailableError, match=r"quay: Too many levels of symbolic links"):
        Secrets(folder).of("quay")
    assert Secrets(folder).of("harbor") == (b"a",)


@pytest.mark.parametrize("method", ["iterdir", "read_bytes"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_no_fault_of_the_system_counts_as_no_secret(
    folder: Path, monkeypatch: pytest.MonkeyPatch, method: str, number: int
) -> None:
    write(folder, quay="a")

    def fail(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, method, fail)
    with pytest.raises(SecretsUnavailableError, match=os.strerror(number)):
        Secrets(folder).of("quay")


def test_secrets_are_read_again_when_their_files_change(folder: Path) -> None:
    secrets = Secrets(folder)
    write(folder, quay="a")
    assert secrets.of("quay") == (b"a",)
    write(folder, quay="b", quay_new="c")
    assert secrets.of("quay") == (b"b", b"c")
    (folder / "quay").unlink()
    assert secrets.of("quay") == (b"c",)


def test_secrets_are_read_from_a_mounted_secret_and_after_its_update(folder: Path) -> None:
    for version, text in (("..one", "a"), ("..two", "b")):
        (folder / version).mkdir()
        write(folder / version, quay=text)
    (folder / "..data").symlink_to("..one")
    (folder / "quay").symlink_to("..data/quay")
    secrets = Secrets(folder)
    assert secrets.of("quay") == (b"a",)
    (folder / "..new").symlink_to("..two")
    (folder / "..new").rename(folder / "..data")
    assert secrets.of("quay") == (b"b",)


def test_folder_or_file_that_was_just_removed_hides_no_other_secret(folder: Path) -> None:
    write(folder, quay="a")
    (folder / "quay.folder").mkdir()
    (folder / "quay.gone").symlink_to("nowhere")
    assert Secrets(folder).of("quay") == (b"a",)


def test_every_secret_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for secret in (*SECRETS, b"none of them"):
        header = as_wsgi_decodes_it(secret.decode())
        assert is_valid_url_secret(SECRETS, secret.decode()) is (secret in SECRETS)
        assert is_valid_bearer(SECRETS, f"Bearer {header}") is (secret in SECRETS)
        assert has_valid_header(Scheme(headers=("a",)), SECRETS, {"a": header}) is (
            secret in SECRETS
        )
        assert compared == list(SECRETS) * 3
        compared.clear()
        headers = {"x-hub-signature-256": "sha256=" + sha256(secret, b"body")}
        assert is_signed("github", headers, b"body", *SECRETS) is (secret in SECRETS)
        assert len(compared) == len(SECRETS)
        compared.clear()
