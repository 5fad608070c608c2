"""Tests of the entries of `IMAGES`."""

import pytest

from image_puller.config.entries import Entry, parse_entries

DIGEST = "sha256:" + "0" * 64
NAME = "must be a name of lower-case letters, digits and '-', 63 characters at most, not "
TAG = "the tag is not 1 to 128 of A-Z a-z 0-9 _ . -"
POLICIES = "auto, exact, any, pinned, semver:<range>, glob:<pattern>, regex:<pattern>"


def parsed(
    text: str, **policies: str
) -> tuple[tuple[Entry, ...], tuple[str, ...], tuple[str, ...]]:
    return parse_entries(text, policies)


def entries(text: str, **policies: str) -> tuple[Entry, ...]:
    found, warnings, problems = parsed(text, **policies)
    assert (warnings, problems) == ((), ())
    return found


def test_entries_have_the_order_of_images() -> None:
    found = entries("b=quay.io/org/b:1;\n  a = nginx ;\n")

    assert [(entry.name, entry.image) for entry in found] == [
        ("b", "quay.io/org/b:1"),
        ("a", "nginx"),
    ]


def test_entry_has_its_image_as_written_and_parsed() -> None:
    (entry,) = entries("web=Quay.io/org/web:v1")

    assert entry.image == "Quay.io/org/web:v1"
    assert str(entry.reference) == "quay.io/org/web:v1"


@pytest.mark.parametrize(
    ("image", "tag", "configured"),
    [
        ("nginx", "latest", "latest"),
        ("nginx:1.27", "1.27", "1.27"),
        (f"nginx@{DIGEST}", None, DIGEST),
        (f"nginx:1.27@{DIGEST}", None, DIGEST),
    ],
)
def test_entry_has_its_configured_tag_or_digest(
    image: str, tag: str | None, configured: str
) -> None:
    (entry,) = entries(f"web={image}")

    assert (entry.tag, entry.configured) == (tag, configured)


def test_two_entries_may_have_one_image() -> None:
    assert len(entries("a=nginx;b=nginx")) == 2


def test_policy_belongs_to_the_entry_of_its_name() -> None:
    app, web = entries("app=quay.io/app:1.2.3;web=nginx:1.2.3", web="semver:^1")

    assert (app.policy.text, web.policy.text) == ("auto", "semver:^1")


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("quay.io/org/app:1", "not of the form name=image"),
        (f"app@{DIGEST}", "not of the form name=image"),
        ("app=", "not of the form name=image"),
        ("a=x:1,b=y:2", "not of the form name=image"),
        ("a=b=c", "not of the form name=image"),
        (
            "=nginx",
            f"{NAME}''",
        ),
        (
            "my_app=nginx",
            f"{NAME}'my_app'",
        ),
        (
            "install-sleep=nginx",
            "'install-sleep' is the name of the install container; choose another name",
        ),
        (
            "app=quay.io/Org/app",
            "'quay.io/Org/app' is not an image reference: the repository must be in lower case",
        ),
        (
            "app=nginx:1.2.3+build",
            f"'nginx:1.2.3+build' is not an image reference: {TAG}",
        ),
    ],
)
def test_malformed_entry_is_a_warning_and_stops_no_other(item: str, problem: str) -> None:
    found, warnings, problems = parsed(f"first=nginx:1;{item};last=nginx:2")

    assert [entry.name for entry in found] == ["first", "last"]
    assert warnings == (f"IMAGES: {item!r}: {problem}; the entry is ignored",)
    assert problems == ()


def test_last_of_two_entries_with_one_name_counts() -> None:
    found, warnings, problems = parsed("a=nginx:1;b=nginx:2;a=nginx:3")

    assert [(entry.name, entry.tag) for entry in found] == [("b", "2"), ("a", "3")]
    assert warnings == ("IMAGES: the name 'a' is used twice; the last entry counts",)
    assert problems == ()


def test_malformed_second_entry_with_one_name_does_not_count() -> None:
    found, warnings, _ = parsed("a=nginx:1;a=:3")

    assert [entry.tag for entry in found] == ["1"]
    assert len(warnings) == 1


def test_malformed_policy_is_a_problem() -> None:
    found, warnings, problems = parsed("a=nginx:1;b=nginx:2;c=nginx:3", a="newest", c="semver")

    assert [entry.name for entry in found] == ["b"]
    assert warnings == ()
    assert problems == (
        f"IMAGE_TAG_POLICIES: a: 'newest' is not one of the policies {POLICIES}",
        "IMAGE_TAG_POLICIES: c: 'semver' is not of the form semver:<range>",
    )


def test_policy_without_entry_is_a_warning() -> None:
    _, warnings, problems = parsed("a=nginx:1", b="any")

    assert warnings == ("IMAGE_TAG_POLICIES: no valid entry of IMAGES is called 'b'",)
    assert problems == ()


def test_empty_items_are_no_entries() -> None:
    assert parsed(" ; ") == ((), (), ())
