"""Tests of tag policies."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.config.policy import (
    InvalidPolicyError,
    NotTracked,
    Policy,
    ReasonKind,
    is_mutable,
    parse,
)
from image_puller.errors import ImagePullerError
from image_puller.values.version import Version, read_full, read_semver

DIGEST = "sha256:" + "0" * 64
ALL_POLICIES = "auto, exact, any, pinned, semver:<range>, glob:<pattern>, regex:<pattern>"

tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
version_tags = st.from_regex(
    r"v?[0-9]{1,2}(\.[0-9]{1,2}){2,3}(-(rc|beta)\.?[0-9])?(-alpine)?", fullmatch=True
)
policies = st.sampled_from(
    ["auto", "exact", "any", "pinned", "semver:*-0", "semver:^1", "glob:v*", "regex:v?[0-9]+"]
)


def reason_kind(policy: Policy, tag: str) -> ReasonKind:
    reason = policy.reason(tag)
    assert reason is not None
    return reason.kind


def full(tag: str) -> Version:
    version = read_full(tag)
    assert version is not None
    return version


def auto(tag: str) -> Policy:
    return parse("auto", tag, None)


# The configured tag, tags that it tracks, and tags that it does not track.
VERSIONS_UNDER_AUTO = [
    (
        "1.2.3",
        "1.2.4 1.3.0 2.0.0 10.0.0 01.02.04",
        "1.2.2 0.9.9 01.02.03 1.2.4-rc.1 1.2.4-alpine 1.2.3.1 v1.2.4 1.3 2 latest",
    ),
    (
        "v1.2.3",
        "v1.2.4 v2.0.0",
        "v1.2.2 v1.2.4-rc.1 v1.2.4-alpine v1.2.3.1 1.2.4 v1.3 v2",
    ),
    ("v1.2.3-alpine", "v1.2.4-alpine", "v1.2.4 1.2.4-alpine v1.2.4-slim v1.2.4-rc.1-alpine"),
    (
        "1.2.3-alpine3.19",
        "1.2.4-alpine3.19",
        "1.2.4 1.2.4-alpine3.20 1.2.4-alpine 1.2.2-alpine3.19 1.2.3-alpine3.20",
    ),
    (
        "1.2.3-rc.1",
        "1.2.3-rc.2 1.2.3-rc.10 1.2.3 1.2.4 1.3.0-rc.1 1.2.3-rc2 1.2.3-RC.2",
        "1.2.3-rc.0 1.2.2 1.2.3-beta.2 1.2.4-beta.1 1.2.3-rc 1.2.3-rc.2-alpine v1.2.3 1.2.3-rc1",
    ),
    ("1.2.3-alpha.1", "1.2.3-alpha.2 1.2.3", "1.2.3-beta.1 1.2.3-rc.1"),
    ("1.2.3-beta.1", "1.2.3-beta.2 1.2.3", "1.2.3-rc.1"),
    ("1.2.3-pre.1", "1.2.3-pre.2 1.2.3", "1.2.3-rc.1"),
    ("1.2.3-dev.1", "1.2.3-dev.2 1.2.3", "1.2.3-rc.1"),
    ("1.2.3-snapshot.1", "1.2.3-SNAPSHOT.2 1.2.3", "1.2.3-rc.1 1.2.4-SNAPSHOT"),
    ("1.2.3-rc.1-alpine", "1.2.3-rc.2-alpine 1.2.3-alpine", "1.2.3 1.2.3-rc.2"),
    ("1.2.3-SNAPSHOT", "1.2.4-SNAPSHOT", "1.2.4 1.2.4-snapshot.1"),
    ("1.2.3-dev", "1.2.4-dev", "1.2.3 1.2.4"),
    ("1.2.3.4", "1.2.3.5 1.2.4.0", "1.2.4 1.2.3.3 1.2.3.4.5"),
    ("2024.01.15", "2024.01.16 2024.2.1 2025.01.01", "2024.01.14 2024.1.15 20240116"),
    ("01.02.03", "01.02.04 1.2.4 01.10.00", "1.2.3 01.02.02"),
    ("v99999999999.0.0", "v99999999999.0.1 v100000000000.0.0", "v99999999998.9.9"),
]
MUTABLE_TAGS = [
    *["20240115", "1", "15", "v1", "1.2", "3.11-slim", "latest", "next", "nightly-20240115"],
    *["1234567", "sha-1234567", "pr-123"],
]


@pytest.mark.parametrize(("configured", "tracked", "excluded"), VERSIONS_UNDER_AUTO)
def test_auto_tracks_newer_versions_of_the_same_shape(
    configured: str, tracked: str, excluded: str
) -> None:
    policy = auto(configured)

    assert [tag for tag in tracked.split() if not policy.tracks(tag)] == []
    assert [tag for tag in excluded.split() if policy.tracks(tag)] == []
    assert policy.tracks(configured)
    assert policy.orders_tags
    assert not any(
        policy.precedence(tag) < policy.precedence(configured) for tag in tracked.split()
    )


@pytest.mark.parametrize("configured", MUTABLE_TAGS)
def test_auto_on_a_mutable_tag_tracks_only_that_tag(configured: str) -> None:
    policy = auto(configured)

    assert policy.tracks(configured)
    assert not policy.orders_tags
    for tag in [
        *MUTABLE_TAGS,
        "20240116",
        "2",
        "v2",
        "1.3",
        "1.2.3",
        "3.12-slim",
        "nightly-20240116",
    ]:
        assert policy.tracks(tag) == (tag == configured)


@pytest.mark.parametrize(
    "policy", ["auto", "any", "exact", "pinned", "glob:*", "regex:.*", "semver:*"]
)
@pytest.mark.parametrize("text", ["1.2.3+build", "1.2.4+build", "", "a" * 129, "1.2.4\n", "é"])
def test_malformed_tag_is_never_tracked(policy: str, text: str) -> None:
    for configured in ("1.2.3", text):
        reason = parse(policy, configured, None).reason(text)

        assert reason == NotTracked(
            ReasonKind.NOT_A_TAG, "not a tag by the grammar of image references"
        )


@pytest.mark.parametrize("tag", [None, "1.2.3", "latest"])
def test_auto_on_a_digest_is_pinned(tag: str | None) -> None:
    policy = parse("auto", tag, DIGEST)

    assert not policy.tracks("1.2.3")
    assert not policy.tracks("latest")
    assert not policy.orders_tags


@pytest.mark.parametrize("text", ["auto", "exact"])
def test_missing_tag_and_digest_mean_latest(text: str) -> None:
    policy = parse(text, None, None)

    assert policy.tracks("latest")
    assert not policy.tracks("1.2.3")


def test_exact_tracks_only_the_configured_tag_even_with_a_digest() -> None:
    policy = parse("exact", "1.2.3", DIGEST)

    assert policy.tracks("1.2.3")
    assert not policy.tracks("1.2.4")
    assert not policy.orders_tags


def test_exact_on_a_digest_alone_is_pinned() -> None:
    assert reason_kind(parse("exact", None, DIGEST), "1") is ReasonKind.PINNED


def test_any_tracks_every_tag() -> None:
    policy = parse(" any ", "1.2.3", None)

    assert policy.tracks("1.2.2")
    assert policy.tracks("latest")
    assert not policy.orders_tags
    assert policy.text == "any"


def test_pinned_tracks_not_even_the_configured_tag() -> None:
    assert reason_kind(parse("pinned", "1.2.3", None), "1.2.3") is ReasonKind.PINNED


@pytest.mark.parametrize(
    ("text", "configured", "tracked", "excluded"),
    [
        ("semver:>=1.2 <2", "1.2.3", "1.2.4 v1.3.0", "1.2.2 2.0.0 1.3 1.3.0-rc.1 latest"),
        ("semver: ^1 ", "latest", "latest 1.0.0", "1.0 2.0.0 next"),
        ("semver:^1", "0.1.0", "0.1.0 1.0.0", "0.1.1"),
        ("semver:^1", None, "latest 1.0.0", "2.0.0"),
        ("semver:>=1-0", "1.0.0-rc.1", "1.0.0-rc.2 1.0.0", "1.0.0-rc.0 1.0.0-beta"),
        ("glob:v1.*", "v1.0", "v1.0 v1.1 v1.", "v2 V1.1 xv1.1"),
        ("glob:[ab]?", "x", "x a1 b2", "c1 a a12"),
        ("glob:[!v]*", "x", "a1", "v1"),
        ("glob:latest", "1", "1 latest", "latest2"),
        (r"regex:v\d+", "x", "x v1 v12", "v v1a av1"),
        ("regex:a|b", "x", "a b", "ab"),
        (r"regex:v?\d+(\.\d+)*", "x", "v1 1.2.3", "v1."),
    ],
)
def test_policy_with_argument_tracks_the_tags_that_fit_it(
    text: str, configured: str | None, tracked: str, excluded: str
) -> None:
    policy = parse(text, configured, None)

    assert [tag for tag in tracked.split() if not policy.tracks(tag)] == []
    assert [tag for tag in excluded.split() if policy.tracks(tag)] == []
    assert policy.orders_tags == text.startswith("semver:")


def test_explicit_policy_has_precedence_over_a_configured_digest() -> None:
    assert parse("semver:*", None, DIGEST).tracks("1.2.3")
    assert not parse("semver:*", None, DIGEST).tracks("latest")
    assert parse("any", "1.2.3", DIGEST).tracks("1.2.4")


@pytest.mark.parametrize(
    ("text", "configured", "tag", "kind", "detail"),
    [
        ("pinned", "1", "1", ReasonKind.PINNED, "the entry is pinned"),
        ("auto", "15", "16", ReasonKind.OTHER_TAG, "only the configured 15 is tracked"),
        (
            "auto",
            "1.2.3",
            "latest",
            ReasonKind.NO_VERSION,
            "not a full version like the configured 1.2.3",
        ),
        (
            "auto",
            "1.2.3",
            "v1.2.4",
            ReasonKind.OTHER_SHAPE,
            "not of the same shape as the configured 1.2.3",
        ),
        (
            "auto",
            "1.2.3",
            "1.2.4-rc.1",
            ReasonKind.PRERELEASE,
            "a pre-release unlike the configured 1.2.3",
        ),
        ("auto", "1.2.3", "1.2.2", ReasonKind.NOT_NEWER, "not newer than the configured 1.2.3"),
        ("semver:^1", "1.2.3", "1.2", ReasonKind.NO_VERSION, "not a SemVer version"),
        ("semver:^1", "1.2.3", "2.0.0", ReasonKind.OUT_OF_RANGE, "not in the range ^1"),
        (
            "semver:^1",
            "1.2.3",
            "1.3.0-rc.1",
            ReasonKind.OUT_OF_RANGE,
            "not in the range ^1; pre-releases need a range that names one",
        ),
        (
            "semver:^1",
            "1.2.3",
            "1.2.2",
            ReasonKind.NOT_NEWER,
            "not newer than the configured 1.2.3",
        ),
        ("glob:v*", "v1", "1", ReasonKind.NO_MATCH, "does not match glob:v*"),
        ("regex: v.*", "v1", "1", ReasonKind.NO_MATCH, "does not match regex:v.*"),
    ],
)
def test_reason_names_the_rule_that_excludes_the_tag(
    text: str, configured: str, tag: str, kind: ReasonKind, detail: str
) -> None:
    reason = parse(text, configured, None).reason(tag)

    assert reason == NotTracked(kind, detail)
    assert str(reason) == detail


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "newest",
            f"'newest' is not one of the policies {ALL_POLICIES}",
        ),
        ("", "'' is not one of the policies auto, "),
        ("AUTO", "'AUTO' is not one of the policies auto, "),
        ("auto:1", "'auto:1' is not one of the policies auto, "),
        ("x" * 200, f"'{'x' * 80}' is not one of the policies auto, "),
        ("semver", "'semver' is not of the form semver:<range>"),
        ("semver: ", "'semver:' is not of the form semver:<range>"),
        ("glob:", "'glob:' is not of the form glob:<pattern>"),
        ("regex", "'regex' is not of the form regex:<pattern>"),
        ("semver:latest", "'semver:latest': 'latest' is not a range of versions"),
        ("semver:1 ||", "'semver:1 ||': the range, or one side of '||', is empty"),
        (
            "regex:(a",
            "'regex:(a' is not a regular expression: missing ), unterminated subpattern",
        ),
        ("regex:[[:digit:]]+", "'regex:[[:digit:]]+' is not a regular expression: Possible nested"),
        ("regex:a{99999999999}", "'regex:a{99999999999}' is not a regular expression: "),
        ("regex:(?L)a", "'regex:(?L)a' is not a regular expression: "),
        ("regex:" + "(" * 9999, f"'regex:{'(' * 74}' is not a regular expression: "),
    ],
)
def test_malformed_policy_is_rejected_with_the_mistake(text: str, problem: str) -> None:
    with pytest.raises(InvalidPolicyError, match=f"^{re.escape(problem)}") as error:
        parse(text, "1.2.3", None)

    assert isinstance(error.value, ImagePullerError)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize(
    "tag", [*MUTABLE_TAGS, "1.2.3-SNAPSHOT", "1.2.3-snapshot", "1.2.3+build", ""]
)
def test_tag_that_is_no_full_version_is_mutable(tag: str) -> None:
    assert is_mutable(tag)


@pytest.mark.parametrize(
    "tag", [row[0] for row in VERSIONS_UNDER_AUTO if row[0] != "1.2.3-SNAPSHOT"]
)
def test_full_version_is_not_mutable(tag: str) -> None:
    assert not is_mutable(tag)


def test_equal_policies_compare_equal() -> None:
    assert parse("auto", "1.2.3", None) == parse("auto", "1.2.3", None)
    assert parse("semver:^1", None, None) == parse("semver:^1", None, None)
    assert parse("glob:v*", None, None) == parse("glob:v*", None, None)


def test_tag_that_is_no_version_sorts_before_all_versions() -> None:
    policy = parse("semver:*-0", "latest", None)
    ordered = ["latest", "next", "0.0.0-0", "1.2.3-rc.1", "1.2.3", "v1.2.3", "1.2.4"]

    assert sorted(set(ordered), key=policy.precedence) == ordered


def test_glob_does_not_backtrack() -> None:
    policy = parse("glob:" + "*a" * 60 + "b", "x", None)
    started = time.perf_counter()

    assert not policy.tracks("a" * 128)
    assert time.perf_counter() - started < 1


@given(policies, tags | version_tags, tags | version_tags)
def test_precedence_is_a_total_order(text: str, one: str, other: str) -> None:
    policy = parse(text, "1.2.3", None)
    first, second = policy.precedence(one), policy.precedence(other)

    assert (first < second) + (first > second) + (one == other) == 1


@given(version_tags, version_tags)
def test_auto_tracks_only_newer_tags_than_the_configured_one(configured: str, pushed: str) -> None:
    policy = auto(configured)

    if policy.tracks(pushed) and pushed != configured:
        assert full(pushed).rank > full(configured).rank
        assert policy.precedence(pushed) > policy.precedence(configured)
        assert not auto(pushed).tracks(configured)


@given(version_tags, version_tags)
def test_semver_tracks_only_newer_tags_than_the_configured_one(
    configured: str, pushed: str
) -> None:
    policy = parse("semver:*-0", configured, None)

    if policy.tracks(pushed) and pushed != configured:
        old, new = read_semver(configured), read_semver(pushed)
        assert new is not None
        assert old is None or new.rank > old.rank
        assert policy.precedence(pushed) > policy.precedence(configured)


@given(policies, st.none() | tags, tags)
def test_configured_tag_is_tracked_unless_the_entry_is_pinned(
    text: str, configured: str | None, pushed: str
) -> None:
    policy = parse(text, configured, None)

    assert policy.tracks(configured or "latest") == (text != "pinned")
    assert policy.tracks(pushed) == (policy.reason(pushed) is None)


@given(
    st.text()
    | st.builds(
        "{}:{}".format,
        st.sampled_from(["semver", "glob", "regex"]),
        st.text() | st.text(alphabet="ab01[]()?*+{},|^$\\-!&~.<>= ", max_size=30),
    ),
    st.none() | st.text(max_size=10) | tags,
    st.sampled_from([None, DIGEST]),
)
def test_any_text_is_a_policy_or_rejected(
    text: str, configured: str | None, digest: str | None
) -> None:
    try:
        policy = parse(text, configured, digest)
    except InvalidPolicyError:
        return
    assert policy.tracks("ab01") in {True, False}
    assert policy.precedence("ab01")
