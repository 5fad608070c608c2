"""Who sends a request: secrets from files, in each of the forms in which senders show them."""

import base64
import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.cli.event_json import read_headers
from image_puller.events.sources import SOURCES
from image_puller.events.sources.scheme import Scheme, Signature
from image_puller.http.authentication import (
    Secrets,
    claims,
    proves,
    proves_body,
    proves_header,
    proves_in_url,
    proves_token,
)
from tests.support.samples import FIXTURES, sample

SECRETS = (b"first", b"second secret", "schlüssel".encode())


def basic(text: str | bytes) -> str:
    encoded = text if isinstance(text, bytes) else text.encode()
    return "Basic " + base64.b64encode(encoded).decode()


def as_wsgi_gives_it(text: str) -> str:
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
        as_wsgi_gives_it("schlüssel"),
        as_wsgi_gives_it("Bearer schlüssel"),
        basic(":schlüssel"),
    ],
)
def test_a_secret_is_proven(authorization: str) -> None:
    assert proves(SECRETS, authorization)
    assert not proves((), authorization)
    assert not proves((b"another",), authorization)


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
def test_nothing_else_proves_one(authorization: str | None) -> None:
    assert not proves(SECRETS, authorization)
    assert not proves_token(SECRETS, authorization)


def test_a_password_may_have_colons() -> None:
    assert proves((b"a:b:c",), basic("user:a:b:c"))


def test_no_secret_is_ever_empty() -> None:
    for authorization in ("", "Bearer ", basic(":"), basic("")):
        assert not proves((b"",), authorization)
    assert not proves_in_url((b"",), "")


@pytest.mark.parametrize("authorization", ["Bearer first", "bearer first", " Bearer  first "])
def test_a_token_is_a_bearers(authorization: str) -> None:
    assert proves_token(SECRETS, authorization)


@pytest.mark.parametrize("authorization", ["first", basic(":first"), "Bearer", "Token first"])
def test_a_token_is_nobody_elses(authorization: str) -> None:
    assert not proves_token(SECRETS, authorization)


@pytest.mark.parametrize("secret", ["first", "second secret", "schlüssel"])
def test_a_secret_may_stand_in_a_path(secret: str) -> None:
    assert proves_in_url(SECRETS, secret)


@pytest.mark.parametrize("secret", ["", "fir", "first/", " first", "\udcff", "schlussel"])
def test_no_other_may(secret: str) -> None:
    assert not proves_in_url(SECRETS, secret)


# Each sender's own scheme


def signed(name: str, headers: dict[str, str], body: bytes, *secrets: bytes) -> bool:
    return proves_body(claims(SOURCES[name].scheme, headers), secrets, body)


def sha256(secret: bytes, body: bytes) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def sha1(secret: bytes, body: bytes) -> str:
    return hmac.new(secret, body, hashlib.sha1).hexdigest()


def test_githubs_published_example_is_proven() -> None:
    # https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": f"sha256={digest}"}
    secret = b"It's a Secret to Everybody"
    assert signed("github", headers, b"Hello, World!", secret)
    assert not signed("github", headers, b"Hello, World", secret)
    assert not signed("github", headers, b"Hello, World!", b"it's a secret to everybody")


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
def test_a_samples_signature_is_proven_by_the_bytes_as_they_came(
    source: str, name: str, secret: bytes
) -> None:
    headers, body = sample(name)
    assert signed(source, dict(headers), body, b"another", secret)
    assert not signed(source, dict(headers), body, b"another")
    assert not signed(source, dict(headers), body + b"\n", secret)
    assert not signed(source, dict(headers), b"", secret)


SIGNED = {
    "github": ("x-hub-signature-256", "sha256=", sha256),
    "gitea": ("x-gitea-signature", "", sha256),
    "jfrog": ("x-jfrog-event-auth", "", sha256),
    "nexus": ("x-nexus-webhook-signature", "", sha1),
}
every_signer = pytest.mark.parametrize("name", SIGNED)


def test_who_signs_proves_itself_by_nothing_else() -> None:
    signers = {name for name, source in SOURCES.items() if source.scheme.signatures}
    assert signers == set(SIGNED)
    for name in signers:
        scheme = SOURCES[name].scheme
        assert not scheme.authorization
        assert not scheme.in_path
        assert not proves_header(scheme, SECRETS, {"authorization": "Bearer first"})


@every_signer
def test_a_signature_is_proven_by_any_of_several_secrets(name: str) -> None:
    header, prefix, sign = SIGNED[name]
    headers = {header: prefix + sign(b"new", b"body")}
    assert signed(name, headers, b"body", b"old", b"new")
    assert not signed(name, headers, b"body", b"old")
    assert not signed(name, headers, b"body")
    assert signed(name, {header: f" {headers[header]} "}, b"body", b"new")


@every_signer
def test_a_signature_that_is_empty_or_cut_off_or_no_digits_is_none(name: str) -> None:
    header, prefix, sign = SIGNED[name]
    digits = sign(b"secret", b"body")
    scheme = SOURCES[name].scheme
    assert len(claims(scheme, {header: prefix + digits})) == 1
    assert claims(scheme, {}) == ()
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
        assert claims(scheme, {header: value}) == ()


def test_the_prefix_belongs_to_the_scheme() -> None:
    digits = sha256(b"secret", b"body")
    assert claims(SOURCES["github"].scheme, {"x-hub-signature-256": digits}) == ()
    assert claims(SOURCES["gitea"].scheme, {"x-gitea-signature": f"sha256={digits}"}) == ()


def test_an_empty_secret_signs_nothing() -> None:
    headers = {"x-hub-signature-256": "sha256=" + sha256(b"", b"body")}
    assert not signed("github", headers, b"body", b"")
    assert not signed("github", headers, b"body")


def test_githubs_older_header_is_not_looked_at() -> None:
    assert claims(SOURCES["github"].scheme, {"x-hub-signature": "sha1=" + sha1(b"s", b"b")}) == ()


@pytest.mark.parametrize(
    ("header", "prefix"),
    [("x-gitea-signature", ""), ("x-forgejo-signature", ""), ("x-hub-signature-256", "sha256=")],
)
def test_gitea_and_forgejo_sign_in_any_of_three_headers(header: str, prefix: str) -> None:
    value = prefix + sha256(b"secret", b"body")
    assert signed("gitea", {header: value}, b"body", b"secret")
    # What older versions without a secret send in the others proves nothing, and spoils nothing.
    empty = {"x-gitea-signature": "", "x-hub-signature-256": "sha256="}
    assert signed("gitea", empty | {header: value}, b"body", b"secret")
    assert not signed("gitea", empty, b"body", b"secret")


def test_gitea_signs_its_samples() -> None:
    # Their secret is not written down; that all headers hold one signature is.
    text = (FIXTURES / "gitea-package-created-npm.headers.txt").read_text("utf-8")
    shown = claims(SOURCES["gitea"].scheme, read_headers(text))
    assert len(shown) == 2
    assert len(set(shown)) == 1


@pytest.mark.parametrize(
    ("name", "header"), [("jfrog", "x-jfrog-event-auth"), ("ecr", "x-api-key")]
)
def test_some_show_the_secret_in_a_header_of_their_own(name: str, header: str) -> None:
    scheme = SOURCES[name].scheme
    assert proves_header(scheme, SECRETS, {header: "first"})
    assert proves_header(scheme, SECRETS, {header: as_wsgi_gives_it("schlüssel")})
    for value in ("", " ", "firs", "Bearer first", "\udcff"):
        assert not proves_header(scheme, (*SECRETS, b""), {header: value})
    assert not proves_header(scheme, SECRETS, {})
    assert not proves_header(scheme, (), {header: "first"})


def test_a_secret_of_64_digits_may_be_shown_or_sign() -> None:
    secret = b"a" * 64
    headers = {"x-jfrog-event-auth": secret.decode()}
    assert proves_header(SOURCES["jfrog"].scheme, (secret,), headers)
    headers = {"x-jfrog-event-auth": sha256(secret, b"body")}
    assert not proves_header(SOURCES["jfrog"].scheme, (secret,), headers)
    assert signed("jfrog", headers, b"body", secret)


@pytest.mark.parametrize(
    "name", [name for name, source in SOURCES.items() if source.scheme.authorization]
)
def test_all_others_show_it_in_authorization(name: str) -> None:
    scheme = SOURCES[name].scheme
    for value in ("first", "Bearer first", basic("x:first")):
        assert proves_header(scheme, SECRETS, {"authorization": value})
    assert not proves_header(scheme, SECRETS, {"authorization": "other"})
    assert not proves_header(scheme, SECRETS, {})


@given(st.text(), st.binary(), st.lists(st.binary(min_size=1), max_size=3))
def test_no_text_is_a_signature_by_chance(text: str, body: bytes, secrets: list[bytes]) -> None:
    scheme = Scheme(
        signatures=(Signature(header="a"), Signature(header="a", algorithm="sha1", prefix="x="))
    )
    assert not proves_body(claims(scheme, {"a": text}), tuple(secrets), body)


# The folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / name.replace("_", ".")).write_text(text)


def test_each_file_of_a_name_holds_one_secret(folder: Path) -> None:
    write(folder, quay="a\n", quay_old=" b ", quay_x_y="c", quayside="d", harbor="e")
    assert Secrets(folder).of("quay") == (b"a", b"b", b"c")
    assert Secrets(folder).of("harbor") == (b"e",)
    assert Secrets(folder).of("gitlab") == ()


def test_an_empty_file_is_no_secret(folder: Path) -> None:
    write(folder, quay="", quay_old=" \n\t")
    assert Secrets(folder).of("quay") == ()


def test_a_folder_that_is_not_there_holds_none(folder: Path) -> None:
    assert Secrets(folder / "nowhere").of("quay") == ()
    write(folder, file="x")
    assert Secrets(folder / "file").of("quay") == ()


def test_secrets_are_read_again_when_their_files_change(folder: Path) -> None:
    secrets = Secrets(folder)
    write(folder, quay="a")
    assert secrets.of("quay") == (b"a",)
    write(folder, quay="b", quay_new="c")
    assert secrets.of("quay") == (b"b", b"c")
    (folder / "quay").unlink()
    assert secrets.of("quay") == (b"c",)


def test_secrets_are_read_as_kubernetes_mounts_them(folder: Path) -> None:
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


def test_what_can_not_be_read_hides_no_other_secret(folder: Path) -> None:
    write(folder, quay="a")
    (folder / "quay.folder").mkdir()
    (folder / "quay.gone").symlink_to("nowhere")
    assert Secrets(folder).of("quay") == (b"a",)


def test_every_secret_is_compared_in_constant_time_whichever_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for secret in (*SECRETS, b"none of them"):
        header = as_wsgi_gives_it(secret.decode())
        assert proves_in_url(SECRETS, secret.decode()) is (secret in SECRETS)
        assert proves_token(SECRETS, f"Bearer {header}") is (secret in SECRETS)
        assert proves_header(Scheme(headers=("a",)), SECRETS, {"a": header}) is (secret in SECRETS)
        assert compared == list(SECRETS) * 3
        compared.clear()
        headers = {"x-hub-signature-256": "sha256=" + sha256(secret, b"body")}
        assert signed("github", headers, b"body", *SECRETS) is (secret in SECRETS)
        assert len(compared) == len(SECRETS)
        compared.clear()
