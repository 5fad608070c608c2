"""Who sends a request: secrets from files, in each of the forms in which senders show them."""

import base64
from pathlib import Path

import pytest

from image_puller.authentication import Secrets, proves, proves_path, proves_token

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
    assert not proves_path((b"",), "")


@pytest.mark.parametrize("authorization", ["Bearer first", "bearer first", " Bearer  first "])
def test_a_token_is_a_bearers(authorization: str) -> None:
    assert proves_token(SECRETS, authorization)


@pytest.mark.parametrize("authorization", ["first", basic(":first"), "Bearer", "Token first"])
def test_a_token_is_nobody_elses(authorization: str) -> None:
    assert not proves_token(SECRETS, authorization)


@pytest.mark.parametrize("secret", ["first", "second secret", "schlüssel"])
def test_a_secret_may_stand_in_a_path(secret: str) -> None:
    assert proves_path(SECRETS, secret)


@pytest.mark.parametrize("secret", ["", "fir", "first/", " first", "\udcff", "schlussel"])
def test_no_other_may(secret: str) -> None:
    assert not proves_path(SECRETS, secret)


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
