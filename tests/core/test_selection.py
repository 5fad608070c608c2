"""The selection of tags: the configured one, and the newest others."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller import limits
from image_puller.core import daemonset, decide, isolation, selection
from image_puller.core.changes import TrackTag
from image_puller.core.selection import trimmed
from image_puller.core.state import Refused, Tag, UnverifiedPush, encode
from tests.support.building import at, configuration, deletion, digest, push, state_of


def tags(*names: str) -> tuple[Tag, ...]:
    return tuple(Tag(name=name, digest=None, time=at(0)) for name in names)


@pytest.mark.parametrize(
    ("configured", "count", "kept"),
    [
        ("a", 2, ["c", "b"]),
        ("a", 5, ["c", "b", "d"]),
        ("a", 0, []),
        ("b", 1, ["c"]),
        ("other", 2, ["c", "a"]),
        (None, 1, ["c"]),
    ],
)
def test_the_newest_tags_are_without_the_configured_one(
    configured: str | None, count: int, kept: list[str]
) -> None:
    found = selection.newest(configured, tags("c", "a", "b", "d"), count)

    assert [tag.name for tag in found] == kept


@pytest.mark.parametrize(
    ("configured", "kept"),
    [("b", ["c", "a", "b"]), ("d", ["c", "a", "d"]), ("other", ["c", "a"]), (None, ["c", "a"])],
)
def test_the_configured_tag_is_kept_in_its_place_beside_the_newest(
    configured: str | None, kept: list[str]
) -> None:
    found = selection.configured_and_newest(configured, tags("c", "a", "b", "d"), 2)

    assert [tag.name for tag in found] == kept


@pytest.mark.parametrize("image", [f"nginx@{digest(7)}", f"nginx:latest@{digest(7)}"])
def test_a_digest_entry_has_no_configured_tag_when_trimmed(image: str) -> None:
    """There, the tag `latest` is one of the others."""
    config = configuration(IMAGES=f"app={image}", KEEP_TAGS="1")
    state = state_of(config)
    entry = replace(state.entries["app"], tags=tags("b", "latest"), live_tags=tags("b", "latest"))

    found = trimmed(state.with_entry("app", entry), 1).entries["app"]

    assert [tag.name for tag in found.tags] == ["b"]
    assert found.live_tags == found.tags


def test_a_trimmed_state_keeps_the_newest_unverified_pushes_without_reasons() -> None:
    pushes = tuple(
        UnverifiedPush(tag=f"1.3.{n}", digest=digest(n), time=at(n), reason="x" * 200)
        for n in range(8)
    )
    state = state_of(configuration())
    entry = replace(state.entries["app"], unverified=pushes)

    left = trimmed(state.with_entry("app", entry), 2).entries["app"].unverified

    assert [push.tag for push in left] == ["1.3.6", "1.3.7"]
    assert all(len(push.reason) < 40 for push in left)


def test_a_trimmed_state_keeps_what_is_desired() -> None:
    config = configuration(KEEP_TAGS="2")
    state = state_of(config, *(push(f"1.2.{n}", n, seconds=n) for n in range(4, 9)))

    tracked = trimmed(state, 2).entries["app"]

    assert [tag.name for tag in tracked.tags] == ["1.2.8", "1.2.7"]


@pytest.mark.parametrize("image", ["quay.io/org/app:stable", "quay.io/org/app"])
def test_a_trimmed_state_keeps_the_configured_tag(image: str) -> None:
    config = configuration(IMAGES=f"app={image}", IMAGE_TAG_POLICIES="app=any", KEEP_TAGS="2")
    configured = config.entries[0].tag
    assert configured is not None
    later = [push(f"build-{n}", n, seconds=n) for n in range(1, 6)]
    state = state_of(config, push(configured, 0), *later)

    tracked = trimmed(state, 2).entries["app"]

    assert [tag.name for tag in tracked.tags] == ["build-5", "build-4", configured]


def test_a_trimmed_state_drops_refused_tags() -> None:
    state = state_of(configuration())
    refused = (Refused(name="1.2.6", digest=None, reason="no"),)
    entry = replace(state.entries["app"], live_tags=(), refused=refused)
    state = state.with_entry("app", entry)

    assert trimmed(state, 1).entries["app"].refused == ()


def test_a_trimmed_state_keeps_a_refused_configured_image_refused() -> None:
    config = configuration()
    refused = Refused(name="1.2.3", digest=None, reason="no")
    state = isolation.refuse(state_of(config, push("1.2.4", 1)), config.entries[0], refused)

    assert trimmed(state, 2).entries["app"].refuses("1.2.3")


policies = st.sampled_from(["auto", "any", "exact", "semver:*"])
tag_names = st.sampled_from(
    ["1.2.3", "1.2.4", "1.2.5", "1.2.6", "1.2.7", "1.2.8", "1.3.0", "2.0.0"]
)


@given(
    policies,
    st.integers(1, 3),
    st.lists(st.builds(push, tag_names, st.none() | st.integers(0, 2), seconds=st.integers(0, 9))),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_trimming_never_grows_a_state_and_never_changes_its_template(
    policy: str, keep: int, pushes: list[TrackTag], is_live: bool
) -> None:
    config = configuration(IMAGE_TAG_POLICIES=f"app={policy}", KEEP_TAGS=str(keep))
    tracked = [each for each in pushes if config.entries[0].policy.tracks(each.tag)]
    state = state_of(config, *tracked[:-1])
    if is_live:
        entry = state.entries["app"]
        state = state.with_entry("app", replace(entry, live_tags=entry.tags))
    state, _ = decide.apply(config, state, tracked[-1:])

    shorter = trimmed(state, keep)

    assert len(encode(shorter)) <= len(encode(state))
    assert daemonset.template_hash(config, shorter) == daemonset.template_hash(config, state)


def test_the_largest_state_of_many_images_fits_once_it_is_trimmed() -> None:
    names = [f"app-{n}" for n in range(150)]
    config = configuration(IMAGES=";".join(f"{name}=quay.io/org/{name}:1.2.3" for name in names))
    pushes = [push(f"1.3.{n}", n, seconds=n, entry=name) for name in names for n in range(6)]
    state = state_of(config, *pushes)
    for name, entry in state.entries.items():
        state = state.with_entry(name, replace(entry, live_tags=tuple(reversed(entry.tags))))

    assert len(encode(state).encode()) > limits.STATE_BYTES
    assert len(encode(trimmed(state, config.keep_tags)).encode()) <= limits.STATE_BYTES


# Two spellings of one version


def test_two_spellings_of_one_version_with_one_digest_count_as_one() -> None:
    config = configuration(IMAGE_TAG_POLICIES="app=semver:>=1", KEEP_TAGS="2")
    pushes = [push("1.3.0", 3), push("v1.3.0", 3), push("1.4.0", 4), push("v1.4.0", 4)]
    state = state_of(config, *pushes)
    found = selection.desired(config, config.entries[0], state.entries["app"].tags)
    assert [tag.name for tag in found] == ["v1.4.0", "v1.3.0"]


@pytest.mark.parametrize(("one", "other"), [(3, 4), (None, None), (3, None)])
def test_two_spellings_with_different_or_unknown_digests_count_apart(
    one: int | None, other: int | None
) -> None:
    config = configuration(IMAGE_TAG_POLICIES="app=semver:>=1", KEEP_TAGS="2")
    state = state_of(config, push("1.3.0", one), push("v1.3.0", other), push("1.2.9", 1))
    found = selection.desired(config, config.entries[0], state.entries["app"].tags)
    assert [tag.name for tag in found] == ["v1.3.0", "1.3.0"]


def test_the_other_spelling_is_desired_when_the_first_is_deleted() -> None:
    config = configuration(IMAGE_TAG_POLICIES="app=semver:>=1", KEEP_TAGS="2")
    pushes = (push("1.3.0", 3), push("v1.3.0", 3))
    state = state_of(config, *pushes, deletion("v1.3.0", seconds=1))
    found = selection.desired(config, config.entries[0], state.entries["app"].tags)
    assert [tag.name for tag in found] == ["1.3.0"]
