"""Quarantine: what comes back instead of content that fails, and when it is tried again."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.core import daemonset, decide, isolation, rollout, selection
from image_puller.core.changes import (
    Change,
    NoteHeld,
    Precondition,
    PullAgain,
    QuarantineTag,
    RegistryAnswer,
    SetMaxUnavailable,
    UntrackTag,
)
from image_puller.core.decide import Outcome
from image_puller.core.state import State
from tests.support.building import NOON, at, configuration, deletion, digest, push, state_of
from tests.support.states import TWO, changed, images, live, shown

LATEST = {"IMAGES": "app=quay.io/org/app:latest"}


def fails(
    tag: str,
    number: int | None,
    *,
    entry: str = "app",
    pulled: bool = False,
    is_shown: bool = False,
    back_to: int | None = None,
    pushed: float = 0,
) -> QuarantineTag:
    """Return the change that puts content aside that fails on every node."""
    return QuarantineTag(
        entry=entry,
        tag=tag,
        digest=None if number is None else digest(number),
        pushed=at(pushed),
        since=at(60),
        reason="ErrImagePull: not found",
        pulled=pulled,
        is_shown=is_shown,
        back_to=None if back_to is None else digest(back_to),
    )


def held(tag: str, number: int, *, entry: str = "app") -> NoteHeld:
    return NoteHeld(entry=entry, tag=tag, digest=digest(number), pushed=NOON)


def answer(
    state: State, tag: str, number: int | None, *, seconds: float = 600, entry: str = "app"
) -> RegistryAnswer:
    """Return what a registry answered to a question that was asked in this state."""
    known = state.entries[entry].tag(tag)
    return RegistryAnswer(
        entry=entry,
        tag=tag,
        digest=None if number is None else digest(number),
        time=at(seconds),
        precondition=Precondition(
            is_tracked=known is not None, digest=None if known is None else known.digest
        ),
    )


def rolled(config: Config, state: State, *changes: Change) -> State:
    """Return the state after changes whose template is live."""
    return rollout.advance(config, changed(config, state, *changes), NOON)


def outcome(config: Config, state: State, change: Change) -> Outcome:
    return decide.apply(config, state, [change])[1][0]


def kept(config: Config, state: State) -> list[tuple[str, str, bool]]:
    """Return each desired image with its tag, whether it is always pulled."""
    return [
        (each.container, each.image.rpartition("/")[2], each.always)
        for each in daemonset.desired_images(config, state)
    ]


def is_gone(state: State) -> bool:
    """Return whether the entry tracks no tag, and none is quarantined."""
    entry = state.entries["app"]
    return not entry.tags and not entry.quarantined


# What comes back


def test_a_new_tag_that_fails_leaves_the_template_and_a_displaced_tag_comes_back() -> None:
    config = configuration(KEEP_TAGS="1")
    before = live(config, push("1.2.4", 1))
    state = rolled(config, before, push("1.2.5", 2))
    assert images(config, state) == ["app:1.2.3", "app:1.2.5"]
    after = changed(config, state, fails("1.2.5", 2))
    assert images(config, after) == ["app:1.2.3", "app:1.2.4"]
    assert daemonset.template_hash(config, after) == before.template
    (found,) = after.entries["app"].quarantined
    assert (found.tag.digest, found.since, found.reason) == (
        digest(2),
        at(60),
        "ErrImagePull: not found",
    )


def test_a_mutated_version_that_can_not_be_pulled_goes_back_to_the_template_before() -> None:
    config = configuration()
    before = live(config, push("1.2.4", 1))
    state = rolled(config, before, push("1.2.4", 2, seconds=1))
    after = changed(config, state, fails("1.2.4", 2))
    # So pods that still have that template stay.
    assert daemonset.template_hash(config, after) == before.template


def test_a_mutable_tag_that_can_not_be_pulled_goes_back_by_digest() -> None:
    config = configuration(**LATEST)
    state = rolled(config, live(config, push("latest", 1)), push("latest", 2, seconds=1))
    after = changed(config, state, fails("latest", 2))
    assert kept(config, after) == [("app", f"app:latest@{digest(1)}", False)]
    assert shown(config, after)[0][1] == digest(1)


def test_a_version_whose_container_can_not_run_goes_back_by_digest() -> None:
    config = configuration()
    state = rolled(config, live(config, push("1.2.3", 1)), push("1.2.3", 2, seconds=1))
    after = changed(config, state, fails("1.2.3", 2, pulled=True))
    assert kept(config, after) == [("app", f"app:1.2.3@{digest(1)}", False)]


def test_a_configured_tag_whose_content_was_not_known_goes_back_to_what_nodes_have() -> None:
    config = configuration(**LATEST)
    state = rolled(config, live(config), push("latest", 2))
    after = changed(config, state, fails("latest", 2))
    assert kept(config, after) == [("app", "app:latest", False)]
    assert shown(config, after) == [("app:latest", None)]


def test_a_configured_image_without_previous_content_stays() -> None:
    config = configuration(**LATEST)
    state = rolled(config, state_of(config, push("latest", 1)))
    assert outcome(config, state, fails("latest", 1)) is Outcome.UNCHANGED


def test_a_tag_goes_back_to_content_that_a_node_has_else_to_the_first() -> None:
    config = configuration()
    state = live(config, push("1.2.4", 1))
    state = rolled(config, state, push("1.2.4", 2, seconds=1))
    state = rolled(config, state, push("1.2.4", 3, seconds=2))
    for back_to, kept in ((None, 1), (1, 1), (2, 2), (3, 1)):
        after = changed(config, state, fails("1.2.4", 3, back_to=back_to))
        assert shown(config, after)[1][1] == digest(kept)
        assert after.entries["app"].previous == ()


def test_the_first_and_the_latest_previous_contents_are_kept_until_one_is_held() -> None:
    config = configuration()
    state = live(config, push("1.2.4", 1))
    for number in range(2, 9):
        state = rolled(config, state, push("1.2.4", number, seconds=number))
    assert [each.digest for each in state.entries["app"].previous] == [*map(digest, (1, 6, 7))]
    state = rolled(config, state, push("1.2.4", 6, seconds=9))
    assert [each.digest for each in state.entries["app"].previous] == [digest(1)]
    state = rolled(config, state, push("1.2.4", 1, seconds=10))
    assert state.entries["app"].previous == ()


def test_content_that_a_node_holds_is_the_previous_content_of_the_next() -> None:
    config = configuration()
    state = rolled(config, live(config, push("1.2.4", 1)), push("1.2.4", 2, seconds=1))
    assert outcome(config, state, held("1.2.4", 1)) is Outcome.UNCHANGED
    assert outcome(config, state, held("1.2.4", 2)) is Outcome.HELD
    state = changed(config, state, held("1.2.4", 2))
    assert state.entries["app"].previous == ()
    assert outcome(config, state, held("1.2.4", 2)) is Outcome.UNCHANGED
    state = rolled(config, state, push("1.2.4", 3, seconds=2))
    after = changed(config, state, fails("1.2.4", 3))
    assert after.entries["app"].tags[0].digest == digest(2)


def test_other_content_than_that_which_fails_stays() -> None:
    config = configuration()
    state = live(config, push("1.2.4", 1))
    for change in (fails("1.2.4", 2), fails("1.2.5", 1), fails("1.2.3", 1)):
        assert outcome(config, state, change) is Outcome.UNCHANGED
    unknown = live(config, push("1.2.4", None, seconds=5))
    assert outcome(config, unknown, fails("1.2.4", None)) is Outcome.UNCHANGED
    assert outcome(config, unknown, fails("1.2.4", None, pushed=5)) is Outcome.QUARANTINED


def test_a_mutated_tag_goes_back_to_its_place() -> None:
    config = configuration(IMAGE_TAG_POLICIES="app=any", KEEP_TAGS="1")
    before = live(config, push("a", 1), push("b", 2, seconds=1))
    state = rolled(config, before, push("a", 3, seconds=2))
    assert images(config, state) == ["app:1.2.3", "app:a"]
    assert images(config, changed(config, state, fails("a", 3))) == ["app:1.2.3", "app:b"]


# When it is tried again


def quarantined(config: Config, tag: str = "1.2.4", first: int | None = 1) -> State:
    """Return the state after a push that failed on every node."""
    before = live(config) if first is None else live(config, push(tag, first))
    state = rolled(config, before, push(tag, 2, seconds=10))
    return rolled(config, state, fails(tag, 2))


@pytest.mark.parametrize("first", [1, None])
def test_a_later_push_tries_the_tag_again(first: int | None) -> None:
    config = configuration()
    state = quarantined(config, first=first)
    for number in (2, 3):
        change = push("1.2.4", number, seconds=20)
        assert outcome(config, state, change) is Outcome.MUTATED
        after = changed(config, state, change)
        assert shown(config, after)[1] == ("app:1.2.4", digest(number))
        assert after.entries["app"].quarantined == ()
        again = changed(config, rolled(config, after), fails("1.2.4", number))
        assert images(config, again) == images(config, state)
        assert shown(config, again) == shown(config, state)


def test_the_same_push_delivered_again_does_not_try_the_tag_again() -> None:
    config = configuration()
    state = quarantined(config)
    assert outcome(config, state, push("1.2.4", 2, seconds=10)) is Outcome.QUARANTINED
    assert outcome(config, state, push("1.2.4", 1)) is Outcome.OLDER
    assert outcome(config, state, push("1.2.4", 3, seconds=5)) is Outcome.OLDER
    for change in (push("1.2.4", 2, seconds=10), push("1.2.4", 3, seconds=5)):
        assert changed(config, state, change) == state


def test_a_push_of_the_previous_content_ends_the_quarantine() -> None:
    config = configuration()
    after = changed(config, quarantined(config), push("1.2.4", 1, seconds=20))
    assert after.entries["app"].quarantined == ()
    assert shown(config, after)[1] == ("app:1.2.4", digest(1))


@pytest.mark.parametrize("first", [1, None])
def test_an_answer_tries_the_tag_again_only_with_news(first: int | None) -> None:
    config = configuration()
    state = quarantined(config, first=first)
    seen = changed(config, state, answer(state, "1.2.4", 2))
    assert shown(config, seen)[1] == ("app:1.2.4", digest(2))
    state = changed(config, rolled(config, seen), fails("1.2.4", 2))
    for seconds in (600, 1200, 86400):
        unchanged = answer(state, "1.2.4", 2, seconds=seconds)
        assert outcome(config, state, unchanged) is Outcome.QUARANTINED
        assert changed(config, state, unchanged) == state
    gone = changed(config, state, answer(state, "1.2.4", None, seconds=700))
    assert shown(config, gone) == shown(config, state)
    back = changed(config, gone, answer(gone, "1.2.4", 2, seconds=1300))
    assert shown(config, back)[1] == ("app:1.2.4", digest(2))
    other = changed(config, state, answer(state, "1.2.4", 3, seconds=700))
    assert shown(config, other)[1] == ("app:1.2.4", digest(3))


def test_content_that_nodes_found_at_the_registry_is_no_news_there() -> None:
    config = configuration()
    state = rolled(config, live(config), push("1.2.4", 2))
    state = rolled(config, state, fails("1.2.4", 2, is_shown=True))
    assert outcome(config, state, answer(state, "1.2.4", 2)) is Outcome.QUARANTINED


def test_an_answer_with_the_previous_content_ends_the_quarantine() -> None:
    config = configuration(**LATEST)
    state = quarantined(config, "latest")
    after = changed(config, state, answer(state, "latest", 1))
    assert kept(config, after) == [("app", "app:latest", True)]
    assert shown(config, after) == [("app:latest", digest(1))]
    assert after.entries["app"].quarantined == ()


def test_a_quarantined_tag_that_is_not_among_the_newest_any_more_is_forgotten() -> None:
    config = configuration(KEEP_TAGS="1")
    newer = [push(f"1.3.{number}", number, seconds=20) for number in range(1 + limits.SPARE_TAGS)]
    state = changed(config, quarantined(config, first=None), *newer)
    after = changed(config, state, push("1.2.4", 2, seconds=30))
    assert after.entries["app"] == replace(state.entries["app"], quarantined=())


def test_an_answer_from_before_a_change_or_soon_after_the_push_counts_not() -> None:
    config = configuration()
    state = quarantined(config)
    soon = answer(state, "1.2.4", 3, seconds=limits.SETTLING_SECONDS)
    assert outcome(config, state, soon) is Outcome.OLDER
    stale = answer(live(config), "1.2.4", 2)
    assert outcome(config, state, stale) is Outcome.OLDER


def test_a_quarantined_tag_that_its_registry_lacks_is_given_up_after_an_hour() -> None:
    config = configuration()
    for first in (1, None):
        state = quarantined(config, first=first)
        hour = 60 + limits.UNVERIFIED_SECONDS
        kept = changed(config, state, answer(state, "1.2.4", None, seconds=hour - 1))
        assert len(kept.entries["app"].quarantined) == 1
        gone = changed(config, state, answer(state, "1.2.4", None, seconds=hour))
        assert is_gone(gone)


def test_a_configured_tag_that_its_registry_lacks_stays_quarantined() -> None:
    config = configuration(**LATEST)
    state = quarantined(config, "latest")
    after = changed(config, state, answer(state, "latest", None, seconds=1e6))
    assert shown(config, after) == shown(config, state)


@pytest.mark.parametrize(
    "change", [deletion("1.2.4", seconds=99), deletion("1.2.4", 2, seconds=99)]
)
@pytest.mark.parametrize("first", [1, None])
def test_a_deleted_tag_leaves_the_quarantine(change: UntrackTag, first: int | None) -> None:
    config = configuration()
    after = changed(config, quarantined(config, first=first), change)
    assert is_gone(after)


def test_a_deleted_configured_tag_stays_quarantined() -> None:
    config = configuration(**LATEST)
    state = quarantined(config, "latest")
    assert shown(config, changed(config, state, deletion("latest", seconds=99))) == shown(
        config, state
    )


def test_a_tag_that_is_no_image_leaves_the_quarantine() -> None:
    config = configuration()
    for first in (1, None):
        state = quarantined(config, first=first)
        chart = replace(answer(state, "1.2.4", 2), other_kind="a Helm chart")
        assert outcome(config, state, chart) is Outcome.NOT_IMAGE
        assert is_gone(changed(config, state, chart))


def test_a_new_configuration_tries_quarantined_tags_again_and_can_go_back() -> None:
    old, new = configuration(**LATEST), configuration(CACHING_MEMORY_LIMIT="30Mi", **LATEST)
    state = decide.adopt(new, quarantined(old, "latest"), daemonset.configuration_hash(new))
    assert shown(new, state) == [("app:latest", digest(2))]
    again = changed(new, rolled(new, state), fails("latest", 2))
    assert kept(new, again) == [("app", f"app:latest@{digest(1)}", False)]


def test_a_quarantined_tag_is_not_pulled_again() -> None:
    config = configuration(**LATEST)
    state = quarantined(config, "latest")
    again = PullAgain(entry="app", tag="latest", digest=digest(1), time=at(99))
    assert outcome(config, state, again) is Outcome.UNCHANGED
    assert rollout.pull_unqueryable(config, state, at(1e6), {("app", "latest")}) == state


def test_a_refusal_does_not_bring_failing_content_back() -> None:
    config = configuration(**LATEST)
    state = rolled(config, live(config, push("latest", 1)), push("latest", 2, seconds=1))
    state = changed(config, state, fails("latest", 2))

    def admits(candidate: State) -> str | None:
        found = [image for image, _ in shown(config, candidate)]
        return "no digests here" if any("@" in image for image in found) else None

    found = isolation.isolate(config, state, admits)
    assert digest(2) not in {each for _, each in shown(config, found)}
    assert found.blocked is None


def test_the_number_of_quarantined_tags_is_bounded_and_those_with_previous_content_stay() -> None:
    config = configuration(KEEP_TAGS="1")
    state = quarantined(config)
    for number in range(5, 20):
        state = changed(config, state, push(f"1.2.{number}", number, seconds=number))
        state = changed(config, state, fails(f"1.2.{number}", number))
    found = [each.tag.name for each in state.entries["app"].quarantined]
    assert len(found) == 1 + limits.SPARE_TAGS + 1
    assert found[:2] == ["1.2.4", "1.2.19"]
    assert shown(config, state)[1] == ("app:1.2.4", digest(1))


def test_a_state_without_reserves_keeps_what_its_template_depends_on() -> None:
    config = configuration(**LATEST)
    state = changed(config, quarantined(config, "latest"), push("1.0.0", 1))
    short = selection.trimmed(state, config.keep_tags)
    assert daemonset.template_hash(config, short) == daemonset.template_hash(config, state)
    assert short.entries["app"].quarantined[0].reason == "left out to save space"


def test_the_bound_of_nodes_is_no_part_of_template_or_structure() -> None:
    config = configuration(ROLLOUT_MAX_UNAVAILABLE="1")
    state = live(config)
    raised = changed(config, state, SetMaxUnavailable(3))
    assert raised == replace(state, max_unavailable=3)
    assert not rollout.is_pending(config, raised)
    assert not rollout.needs_trial(config, raised)
    assert outcome(config, raised, SetMaxUnavailable(3)) is Outcome.UNCHANGED
    assert outcome(config, raised, SetMaxUnavailable(None)) is Outcome.BOUND_CHANGED


# Any sequence of changes

ENTRIES = st.sampled_from(["app", "web"])
TAGS = st.sampled_from(["1.2.3", "1.2.4", "1.2.5"])
NUMBERS = st.integers(1, 3)


def answered(tag: str, number: int | None, seconds: float, entry: str) -> RegistryAnswer:
    content = None if number is None else digest(number)
    return RegistryAnswer(entry=entry, tag=tag, digest=content, time=at(seconds))


CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(push, TAGS, st.none() | NUMBERS, seconds=st.integers(0, 9), entry=ENTRIES),
    st.builds(fails, TAGS, NUMBERS, entry=ENTRIES, pulled=st.booleans(), is_shown=st.booleans()),
    st.builds(held, TAGS, NUMBERS, entry=ENTRIES),
    st.builds(answered, TAGS, st.none() | NUMBERS, st.integers(0, 9999), ENTRIES),
    st.builds(SetMaxUnavailable, st.none() | st.integers(1, 9)),
)


def after_rollouts(config: Config, changes: list[Change]) -> State:
    """Return the state of a live DaemonSet after changes, of which each was rolled out."""
    state = live(config)
    for change in changes:
        state = rolled(config, state, change)
    return state


@given(st.lists(CHANGES, max_size=10))
@settings(max_examples=300, deadline=None)
def test_the_configured_images_are_always_desired(changes: list[Change]) -> None:
    config = configuration(IMAGES=TWO)
    state = after_rollouts(config, changes)
    found = [each.container for each in daemonset.desired_images(config, state)]
    assert {"app", "web"} <= set(found)


@given(st.lists(CHANGES, max_size=8), CHANGES)
@settings(max_examples=300, deadline=None)
def test_any_change_again_changes_nothing(before: list[Change], change: Change) -> None:
    config = configuration(IMAGES=TWO)
    once = changed(config, after_rollouts(config, before), change)
    assert changed(config, once, change) == once


@given(st.lists(CHANGES, max_size=8), TAGS, NUMBERS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_failure_lets_nothing_go_that_was_there_before_the_push(
    before: list[Change], tag: str, number: int, pulled: bool
) -> None:
    config = configuration(IMAGES=TWO)
    state = after_rollouts(config, before)
    state = replace(state, entries={n: replace(e, previous=()) for n, e in state.entries.items()})
    pushed = push(tag, number, seconds=10_000)
    if outcome(config, state, pushed) not in (Outcome.TRACKED, Outcome.MUTATED):
        return
    tried = rolled(config, state, pushed)
    after = changed(config, tried, fails(tag, number, pulled=pulled))

    def contents(of: State) -> set[tuple[str, str | None]]:
        return {(each.container, each.expected) for each in daemonset.desired_images(config, of)}

    assert contents(state) <= contents(after) or contents(tried) == contents(state)


@given(st.lists(CHANGES, max_size=8), TAGS, NUMBERS)
@settings(max_examples=300, deadline=None)
def test_a_new_push_is_tried_again_whatever_failed_before(
    before: list[Change], tag: str, number: int
) -> None:
    config = configuration(IMAGES=TWO)
    after = changed(config, after_rollouts(config, before), push(tag, number, seconds=20_000))
    found = after.entries["app"].tag(tag)
    assert found is not None
    assert found.digest == digest(number)
    assert after.entries["app"].quarantine(tag) is None


@given(st.lists(CHANGES, max_size=10))
@settings(max_examples=200, deadline=None)
def test_another_entry_is_not_touched(changes: list[Change]) -> None:
    config = configuration(IMAGES=TWO)
    state = after_rollouts(config, changes)
    for tag in ("1.2.3", "1.2.4", "1.2.5"):
        for number in (1, 2, 3):
            after = changed(config, state, fails(tag, number))
            assert after.entries["web"] == state.entries["web"]


def test_the_same_failure_seen_twice_rolls_once() -> None:
    config = configuration()
    state = rolled(config, live(config, push("1.2.4", 1)), push("1.2.4", 2, seconds=1))
    state = rolled(config, state, fails("1.2.4", 2))
    assert not rollout.is_pending(config, changed(config, state, fails("1.2.4", 2)))
