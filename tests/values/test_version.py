"""Tests of versions in tags, and of their ranges."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_puller.errors import ImagePullerError
from image_puller.values.version import (
    LOWEST,
    Identifier,
    InvalidRangeError,
    Version,
    parse_range,
    read_full,
    read_semver,
)

RC = ((1, 0, "rc"), (0, 1, ""))

tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
full_tags = st.from_regex(
    r"v?[0-9]{1,3}(\.[0-9]{1,3}){2,3}([-.]?(rc|beta|DEV)[-.]?[0-9]{1,2})?(-alpine|-slim)?",
    fullmatch=True,
)
numbers = st.integers(0, 12).map(str)
semver_tags = st.from_regex(
    r"v?(0|[1-9][0-9]?)(\.(0|[1-9])){2}(-(rc|alpha|0|[1-9])(\.(0|[1-9]|x-y)){0,2})?", fullmatch=True
)


def full(tag: str) -> Version:
    version = read_full(tag)
    assert version is not None
    return version


def semver(tag: str) -> Version:
    version = read_semver(tag)
    assert version is not None
    return version


@pytest.mark.parametrize(
    ("tag", "prefix", "numbers", "prerelease", "suffix"),
    [
        ("1.2.3", "", (1, 2, 3), (), ""),
        ("v1.2.3", "v", (1, 2, 3), (), ""),
        ("V1.2.3", "V", (1, 2, 3), (), ""),
        ("1.2.3.4", "", (1, 2, 3, 4), (), ""),
        ("01.02.03", "", (1, 2, 3), (), ""),
        ("2024.01.15", "", (2024, 1, 15), (), ""),
        ("v99999999999.0.0", "v", (99999999999, 0, 0), (), ""),
        ("9" * 124 + ".0.0", "", (int("9" * 124), 0, 0), (), ""),
        ("1.2.3-alpine3.19", "", (1, 2, 3), (), "-alpine3.19"),
        ("1.2.3-1", "", (1, 2, 3), (), "-1"),
        ("1.2.3_alpine", "", (1, 2, 3), (), "_alpine"),
        ("4.8.3.Final", "", (4, 8, 3), (), ".Final"),
        ("26.1.3.Final-jdk17", "", (26, 1, 3), (), ".Final-jdk17"),
        ("1.2.3-rc.1", "", (1, 2, 3), RC, ""),
        ("1.2.3-rc1", "", (1, 2, 3), RC, ""),
        ("1.2.3-rc-1", "", (1, 2, 3), RC, ""),
        ("1.2.3rc1", "", (1, 2, 3), RC, ""),
        ("1.2.3.rc1", "", (1, 2, 3), RC, ""),
        ("1.2.3_rc1", "", (1, 2, 3), RC, ""),
        ("1.2.3-RC.01", "", (1, 2, 3), RC, ""),
        ("1.2.3.4-rc.1", "", (1, 2, 3, 4), RC, ""),
        ("1.2.3-rc.1-alpine", "", (1, 2, 3), RC, "-alpine"),
        ("1.2.3-alpha.2", "", (1, 2, 3), ((1, 0, "alpha"), (0, 2, "")), ""),
        ("1.2.3-beta.2", "", (1, 2, 3), ((1, 0, "beta"), (0, 2, "")), ""),
        ("1.2.3-pre.2", "", (1, 2, 3), ((1, 0, "pre"), (0, 2, "")), ""),
        ("1.2.3-dev.2", "", (1, 2, 3), ((1, 0, "dev"), (0, 2, "")), ""),
        ("1.2.3-SNAPSHOT.20240115", "", (1, 2, 3), ((1, 0, "snapshot"), (0, 20240115, "")), ""),
        # Without a number, or with two, it is a suffix, because such pre-releases have no order.
        ("1.2.3-SNAPSHOT", "", (1, 2, 3), (), "-SNAPSHOT"),
        ("1.2.3-dev", "", (1, 2, 3), (), "-dev"),
        ("1.2.3-beta", "", (1, 2, 3), (), "-beta"),
        ("1.2.3-rc.1.2", "", (1, 2, 3), (), "-rc.1.2"),
        ("1.2.3-dev-1a2b3c4", "", (1, 2, 3), (), "-dev-1a2b3c4"),
        ("1.2.3-alpine-rc.1", "", (1, 2, 3), (), "-alpine-rc.1"),
    ],
)
def test_full_version_is_split_into_its_parts(
    tag: str, prefix: str, numbers: tuple[int, ...], prerelease: tuple[Identifier, ...], suffix: str
) -> None:
    version = full(tag)

    assert version == Version(prefix=prefix, numbers=numbers, prerelease=prerelease, suffix=suffix)
    assert version.shape == (prefix, len(numbers), suffix)


@pytest.mark.parametrize(
    "tag",
    [
        *["", "1", "v1", "1.2", "v1.2", "3.11-slim", "20240115", "1234567", "latest", "next"],
        *[
            "nightly-20240115",
            "sha-1234567",
            "pr-123",
            "release-1.2.3",
            "1.2.x",
            "1.2.3x",
            "vv1.2.3",
        ],
        *["1.2.3-", "1.2.3.", "1..2.3", "1.2.3.4a", "1.2.3dev", "1.2.3+build", "1.2.3\n", " 1.2.3"],
        *["\u0661.\u0662.\u0663", "1.2.3-snap\N{LATIN SMALL LETTER LONG S}hot.1"],
        "9" * 125 + ".0.0",
        "1" * 9999 + ".0.0",
    ],
)
def test_other_tag_is_no_full_version(tag: str) -> None:
    assert read_full(tag) is None


@pytest.mark.parametrize(
    "ordered",
    [
        ["1.2.3", "1.2.4", "1.2.10", "1.10.0", "2.0.0", "10.0.0", "99999999999.0.0"],
        ["2023.12.31", "2024.01.15", "2024.1.16", "2024.02.01"],
        ["1.2.2", "1.2.3-rc.1", "1.2.3-RC2", "1.2.3-rc.10", "1.2.3", "1.2.4-rc.1", "1.2.4"],
        ["1.2.3-alpha.9", "1.2.3-beta.1", "1.2.3-rc.1"],
        ["1.2.3.4", "1.2.3.5", "1.2.4.0"],
    ],
)
def test_full_versions_are_ordered(ordered: list[str]) -> None:
    ranks = [full(tag).rank for tag in ordered]

    assert ranks == sorted(set(ranks))


def test_semver_versions_are_ordered_by_the_specification() -> None:
    ordered = ["alpha", "alpha.1", "alpha.beta", "beta", "beta.2", "beta.11", "rc.1"]
    tags = ["0.9.9", "1.0.0-0", "1.0.0-2", "1.0.0-10", *(f"1.0.0-{part}" for part in ordered)]
    ranks = [semver(tag).rank for tag in [*tags, "1.0.0", "1.0.1"]]

    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize(
    "tag", ["1.2.3", "v1.2.3", "0.0.0", "1.2.3-rc.1", "1.2.3--", "1.2.3-0a.x-y"]
)
def test_semver_tag_is_parsed(tag: str) -> None:
    version = semver(tag)

    assert version.prefix == ("v" if tag.startswith("v") else "")
    assert version.suffix == ""


@pytest.mark.parametrize(
    "tag",
    [
        *["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-01", "1.2.3-", "1.2.3-a..b", "1.2.3_a"],
        *["V1.2.3", "latest", "1.2.3\n", "1.2.3+build", "1" * 9999 + ".0.0"],
    ],
)
def test_other_tag_is_no_semver_version(tag: str) -> None:
    assert read_semver(tag) is None


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("1.2.3", "1.2.3 v1.2.3", "1.2.2 1.2.4 1.2.3-rc.1"),
        ("=v1.2.3", "1.2.3 v1.2.3", "1.2.4"),
        ("!=1.2.3", "1.2.2 1.2.4", "1.2.3 1.2.4-rc.1"),
        ("!=1.2", "1.1.9 1.3.0", "1.2.0 1.2.9"),
        (">1.2.3", "1.2.4 2.0.0", "1.2.3 1.2.2 2.0.0-rc.1"),
        (">1.2", "1.3.0", "1.2.0 1.2.9"),
        (">1", "2.0.0", "1.9.9"),
        (">*", "", "0.0.0 1.0.0"),
        (">=1.2.3", "1.2.3 99999999999.0.0", "1.2.2 1.2.3-rc.1"),
        ("=>1.2", "1.2.0 3.0.0", "1.1.9"),
        ("<1.2.3", "1.2.2 0.0.0", "1.2.3 1.2.3-rc.1"),
        ("<2", "1.9.9", "2.0.0 2.0.0-rc.1"),
        ("<=1.2.3", "1.2.3", "1.2.4"),
        ("=<1.2", "1.2.9", "1.3.0"),
        ("<=2.x", "2.9.9", "3.0.0"),
        ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0"),
        ("~>1.2", "1.2.0 1.2.9", "1.3.0"),
        ("~1", "1.0.0 1.9.9", "2.0.0"),
        ("~1.2.x", "1.2.0", "1.3.0"),
        ("~*", "0.0.0 9.9.9", ""),
        ("^1.2.3", "1.2.3 1.9.9", "1.2.2 2.0.0"),
        ("^1.2", "1.2.0 1.9.9", "2.0.0"),
        ("^1", "1.0.0 1.9.9", "2.0.0"),
        ("^1.x", "1.0.0", "2.0.0"),
        ("^0.2.3", "0.2.3 0.2.9", "0.3.0"),
        ("^0.2", "0.2.0", "0.3.0 1.0.0"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("^0.0.0", "0.0.0", "0.0.1"),
        ("^0.0", "0.0.0 0.0.9", "0.1.0"),
        ("^0", "0.0.0 0.9.9", "1.0.0"),
        ("^*", "0.0.0 9.9.9", ""),
        ("1.x", "1.0.0 1.9.9", "0.9.9 2.0.0"),
        ("1.2.*", "1.2.0 1.2.9", "1.3.0"),
        ("1.X.3", "1.0.0 1.9.9", "2.0.0"),
        ("*", "0.0.0 9" + "9" * 120 + ".0.0", "1.0.0-rc.1"),
        (">=1.2 <2", "1.2.0 1.9.9", "1.1.9 2.0.0"),
        (">= 1.2,<2", "1.2.0 1.9.9", "1.1.9 2.0.0"),
        (" >=1.2 , < 2 ", "1.2.0 1.9.9", "1.1.9 2.0.0"),
        (">=1.2 <2 !=1.3.1", "1.3.0", "1.3.1"),
        ("<1.2 || >=2 <3||4.0.0", "1.1.0 2.0.0 4.0.0", "1.2.0 3.0.0 4.0.1"),
        ("1.2 - 1.4", "1.2.0 1.4.9", "1.1.9 1.5.0"),
        ("1.2.3 - 1.4.0 !=1.3.0", "1.2.3 1.4.0", "1.2.2 1.3.0 1.4.1"),
        (">=1.2.3-0", "1.2.3-0 1.2.3-rc.1 1.2.3 1.2.4-alpha", "1.2.2"),
        (">=1.2.3-rc.2", "1.2.3-rc.2 1.2.3-rc.10", "1.2.3-rc.1 1.2.3-beta"),
        (">1.2.3-rc.2", "1.2.3-rc.2.0 1.2.3-rc.3 1.2.3", "1.2.3-rc.2"),
        ("<1.2.3-rc.2", "1.2.3-rc.1 1.2.2", "1.2.3-rc.2 1.2.3"),
        ("<=1.2.3-rc.2", "1.2.3-rc.2", "1.2.3-rc.3"),
        ("1.2.3-rc.2", "1.2.3-rc.2", "1.2.3-rc.2.0 1.2.3"),
        (">=1.2-0", "1.2.0-rc.1 1.3.0-rc.1", "1.1.9"),
        ("*-0", "1.0.0-rc.1 1.0.0", ""),
        ("^1.2.3-0", "1.2.3-rc.1 1.3.0-rc.1", "2.0.0-rc.1"),
        # One pre-release admits pre-releases in its terms joined by "and", but not after "or".
        (">=1.2.3-0 <2", "1.2.3-rc.1 1.3.0-rc.1 1.3.0", "2.0.0-rc.1 2.0.0"),
        (">=1.2.3-0 <2 || >3", "1.3.0-rc.1 4.0.0", "4.0.0-rc.1"),
        ("1.0.0-alpha.1 - 1.1.0", "1.0.0-alpha.2 1.1.0-rc.1 1.1.0", "1.0.0-alpha.0"),
    ],
)
def test_range_contains_the_versions_of_its_notation(text: str, inside: str, outside: str) -> None:
    versions = parse_range(text)

    assert [tag for tag in inside.split() if not versions.contains(semver(tag))] == []
    assert [tag for tag in outside.split() if versions.contains(semver(tag))] == []
    assert versions.text == text.strip()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the range, or one side of '||', is empty"),
        ("1.2 ||", "the range, or one side of '||', is empty"),
        ("|| 1.2", "the range, or one side of '||', is empty"),
        ("latest", "'latest' is not a range of versions"),
        (">=1.2 <two", "'<two' is not a range of versions"),
        (">=", "'>=' is not a range of versions"),
        ("1.2,", "'1.2,' is not a range of versions"),
        ("1.2,,1.3", "',1.3' is not a range of versions"),
        ("1.2 -", "'-' is not a range of versions"),
        (">1.2 - 1.4", "'- 1.4' is not a range of versions"),
        ("1.2 | 1.4", "'| 1.4' is not a range of versions"),
        ("1.2.3.4", "'1.2.3.4' is not a range of versions"),
        ("01.2", "'01.2' is not a range of versions"),
        ("1.2.3+build", "'1.2.3+build' is not a range of versions"),
        ("==1.2", "'==' is not an operator of ranges"),
        ("><1.2", "'><' is not an operator of ranges"),
        ("1" * 513, "a range has at most 512 characters"),
    ],
)
def test_error_names_the_wrong_part_of_a_range(text: str, problem: str) -> None:
    with pytest.raises(InvalidRangeError, match=f"^{re.escape(problem)}$") as error:
        parse_range(text)

    assert isinstance(error.value, ImagePullerError)


@given(tags | full_tags, tags | full_tags)
def test_equal_ranks_mean_equal_numbers_and_prereleases(one: str, other: str) -> None:
    first, second = read_full(one), read_full(other)
    if first is None or second is None:
        return
    assert (first.rank < second.rank) + (first.rank > second.rank) + (
        first.rank == second.rank
    ) == 1
    assert (first.rank == second.rank) == (
        (first.numbers, first.prerelease) == (second.numbers, second.prerelease)
    )
    assert first.rank > LOWEST


@given(semver_tags)
def test_version_is_in_the_ranges_that_include_their_bound(tag: str) -> None:
    version = semver(tag)
    text = tag.removeprefix("v")

    for operator in ("", "=", ">=", "<=", "~", "^"):
        assert parse_range(f"{operator}{text}").contains(version)
    for operator in ("!=", ">", "<"):
        assert not parse_range(f"{operator}{text}").contains(version)


@given(semver_tags, semver_tags)
def test_every_version_is_greater_than_a_bound_or_not(one: str, other: str) -> None:
    first, second = semver(one), semver(other)
    bound = other if second.prerelease else f"{other}, >=0-0"
    contained = [parse_range(operator + bound).contains(first) for operator in (">", "<=")]

    assert contained == [first.rank > second.rank, first.rank <= second.rank]


@given(st.text() | st.text(alphabet="0123.xX*v-<>=!~^ ,|rc\n"))
def test_any_text_is_a_range_or_rejected(text: str) -> None:
    try:
        versions = parse_range(text)
    except InvalidRangeError:
        return
    assert versions.contains(semver("1.2.3")) in {True, False}


@given(st.text() | tags)
def test_any_text_is_a_version_or_none(text: str) -> None:
    for read in (read_full, read_semver):
        version = read(text)
        assert version is None or len(version.numbers) >= 3
