import pytest

from image_puller.config.entries import parse_entries

DIGEST = "sha256:" + "0" * 64
NAME = "must be a name of lower-case letters, digits and '-', 63 characters at most, not "
TAG = "the tag is not 1 to 128 of A-Z a-z 0-9 _ . -"
POLICIES = "auto, exact, any, pinned, semver:<range>, glob:<pattern>, regex:<pattern>"


def read(text, **policies):
    return parse_entries(text, policies)


def entries(text, **policies):
    found, warnings, problems = read(text, **policies)
    assert (warnings, problems) == ((), ())
    return found


def test_entries_stand_in_the_order_of_images():
    found = entries("b=quay.io/org/b:1;\n  a = nginx ;\n")

    assert [(entry.name, entry.image) for entry in found] == [
        ("b", "quay.io/org/b:1"),
        ("a", "nginx"),
    ]


def test_an_entry_has_its_image_as_written_and_as_meant():
    (entry,) = entries("web=Quay.io/org/web:v1")

    assert entry.image == "Quay.io/org/web:v1"
    assert str(entry.reference) == "quay.io/org/web:v1"


@pytest.mark.parametrize(
    ("image", "tag", "label"),
    [
        ("nginx", "latest", "latest"),
        ("nginx:1.27", "1.27", "1.27"),
        (f"nginx@{DIGEST}", None, DIGEST),
        (f"nginx:1.27@{DIGEST}", None, DIGEST),
    ],
)
def test_a_tag_is_what_the_image_is_pulled_by(image, tag, label):
    (entry,) = entries(f"web={image}")

    assert (entry.tag, entry.label) == (tag, label)


def test_two_names_may_have_one_image():
    assert len(entries("a=nginx;b=nginx")) == 2


def test_a_policy_belongs_to_the_entry_of_its_name():
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
def test_a_malformed_entry_is_a_warning_and_stops_no_other(item, problem):
    found, warnings, problems = read(f"first=nginx:1;{item};last=nginx:2")

    assert [entry.name for entry in found] == ["first", "last"]
    assert warnings == (f"IMAGES: {item!r}: {problem}; the entry is ignored",)
    assert problems == ()


def test_of_doubles_the_last_counts():
    found, warnings, problems = read("a=nginx:1;b=nginx:2;a=nginx:3")

    assert [(entry.name, entry.tag) for entry in found] == [("b", "2"), ("a", "3")]
    assert warnings == ("IMAGES: the name 'a' is used twice; the last entry counts",)
    assert problems == ()


def test_a_malformed_double_does_not_count():
    found, warnings, _ = read("a=nginx:1;a=:3")

    assert [entry.tag for entry in found] == ["1"]
    assert len(warnings) == 1


def test_a_policy_that_can_not_be_read_is_a_problem():
    found, warnings, problems = read("a=nginx:1;b=nginx:2;c=nginx:3", a="newest", c="semver")

    assert [entry.name for entry in found] == ["b"]
    assert warnings == ()
    assert problems == (
        f"IMAGE_TAG_POLICIES: a: 'newest' is none of the policies {POLICIES}",
        "IMAGE_TAG_POLICIES: c: 'semver' is not of the form semver:<range>",
    )


def test_a_policy_without_an_entry_is_a_warning():
    _, warnings, problems = read("a=nginx:1", b="any")

    assert warnings == ("IMAGE_TAG_POLICIES: no valid entry of IMAGES is called 'b'",)
    assert problems == ()


def test_nothing_at_all_is_no_entry():
    assert read(" ; ") == ((), (), ())
