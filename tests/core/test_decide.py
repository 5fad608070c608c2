"""The decision: the new state and the outcomes of changes."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.core import decide, isolation, selection
from image_puller.core.changes import (
    Change,
    CheckDaemonSet,
    EnsureExists,
    Precondition,
    PullAgain,
    RegistryAnswer,
    TrackTag,
    UntrackTag,
)
from image_puller.core.daemonset import configuration_hash
from image_puller.core.decide import Outcome
from image_puller.core.state import Blocked, Refused, State, Tag, UnverifiedPush
from tests.support.building import at, configuration, deletion, digest, push, state_of
from tests.support.states import TWO, unverified_push

LATEST = {"IMAGES": "app=quay.io/org/app:latest"}
ANY = LATEST | {"IMAGE_TAG_POLICIES": "app=any"}


def names(state: State, entry: str = "app") -> list[str]:
    """Return the tracked tags of an entry."""
    return [tag.name for tag in state.entries[entry].tags]


def tracked(state: State, name: str) -> Tag:
    tag = state.entries["app"].tag(name)
    assert tag is not None
    return tag


def desired(config: Config, state: State) -> list[str]:
    """Return the tags that are desired beside the configured image."""
    return [
        tag.name for tag in selection.desired(config, config.entries[0], state.entries["app"].tags)
    ]


def outcomes(config: Config, *changes: Change) -> list[Outcome]:
    return list(decide.apply(config, state_of(config), changes)[1])


def test_a_push_is_tracked() -> None:
    config = configuration()
    before = state_of(config)

    after, (outcome,) = decide.apply(config, before, [push("1.2.4", 1, seconds=5)])

    assert outcome == Outcome.TRACKED
    tag = Tag(name="1.2.4", digest=digest(1), time=at(5))
    assert after == before.with_entry("app", replace(before.entries["app"], tags=(tag,)))


def test_a_push_changes_only_its_entry() -> None:
    config = configuration(IMAGES="app=quay.io/org/app:1.2.3;web=nginx:1.2.3")

    state = state_of(config, push("1.2.4", 1, entry="web"))

    assert (names(state, "app"), names(state, "web")) == ([], ["1.2.4"])


def test_the_same_push_again_changes_nothing() -> None:
    config = configuration()
    state = state_of(config, push("1.2.4", 1))

    assert decide.apply(config, state, [push("1.2.4", 1)]) == (state, (Outcome.UNCHANGED,))


def test_a_push_of_another_digest_mutates_the_tag() -> None:
    config = configuration()

    state = state_of(config, push("1.2.4", 1), push("1.2.4", 2, seconds=5))

    assert tracked(state, "1.2.4") == Tag(name="1.2.4", digest=digest(2), time=at(5), mutated=True)
    assert outcomes(config, push("1.2.4", 1), push("1.2.4", 2, seconds=5)) == [
        Outcome.TRACKED,
        Outcome.MUTATED,
    ]


def test_the_first_push_of_the_configured_tag_counts_as_a_mutation() -> None:
    config = configuration(**LATEST)

    state, (outcome,) = decide.apply(config, state_of(config), [push("latest", 1)])

    assert outcome == Outcome.MUTATED
    assert tracked(state, "latest").mutated


def test_a_push_without_a_digest_mutates_a_tracked_tag() -> None:
    """The content may be new. Only the same delivery, identified by its time, changes nothing."""
    config = configuration()
    state, first = decide.apply(config, state_of(config), [push("1.2.4", None)])
    state, second = decide.apply(config, state, [push("1.2.4", None, seconds=5)])

    assert (*first, *second) == (Outcome.TRACKED, Outcome.MUTATED)
    assert tracked(state, "1.2.4") == Tag(name="1.2.4", digest=None, time=at(5), mutated=True)
    assert decide.apply(config, state, [push("1.2.4", None, seconds=5)]) == (
        state,
        (Outcome.UNCHANGED,),
    )


def test_a_push_without_a_digest_removes_the_known_digest() -> None:
    state = state_of(configuration(), push("1.2.4", 1), push("1.2.4", None, seconds=5))

    assert tracked(state, "1.2.4").digest is None


def test_a_push_of_the_same_time_completes_one_without_a_digest() -> None:
    config = configuration()
    both = [push("1.2.4", None), push("1.2.4", 1)]
    state, outcomes = decide.apply(config, state_of(config), both)

    assert outcomes == (Outcome.TRACKED, Outcome.DIGEST_COMPLETED)
    assert tracked(state, "1.2.4") == Tag(name="1.2.4", digest=digest(1), time=at(0), mutated=False)
    assert state_of(config, *reversed(both)) == state
    assert state_of(config, *both, *both) == state


def test_an_older_push_changes_no_content() -> None:
    config = configuration(**LATEST)
    state = state_of(config, push("latest", 2, seconds=5))

    assert decide.apply(config, state, [push("latest", 1)]) == (state, (Outcome.OLDER,))


def test_an_older_push_of_other_content_marks_a_version_as_mutated() -> None:
    config = configuration()
    state, (_, outcome) = decide.apply(
        config, state_of(config), [push("1.2.4", 2, seconds=5), push("1.2.4", 1)]
    )

    assert outcome == Outcome.OLDER
    assert tracked(state, "1.2.4") == Tag(name="1.2.4", digest=digest(2), time=at(5), mutated=True)


def test_an_older_push_of_the_same_content_changes_nothing() -> None:
    config = configuration()
    state = state_of(config, push("1.2.4", 1, seconds=5))

    assert decide.apply(config, state, [push("1.2.4", 1)]) == (state, (Outcome.OLDER,))


def test_the_later_arrival_of_two_pushes_of_the_same_time_counts() -> None:
    state = state_of(configuration(**LATEST), push("latest", 1), push("latest", 2))

    assert tracked(state, "latest").digest == digest(2)


def test_a_later_push_of_the_same_content_outdates_an_older_push() -> None:
    config = configuration(**LATEST)
    state = state_of(config, push("latest", 1), push("latest", 2, seconds=1))
    state, (outcome,) = decide.apply(config, state, [push("latest", 2, seconds=9)])
    assert outcome == Outcome.UNCHANGED

    state, (outcome,) = decide.apply(config, state, [push("latest", 1, seconds=5)])
    assert outcome == Outcome.OLDER
    assert tracked(state, "latest").digest == digest(2)


def test_versions_are_ordered_by_precedence_whenever_they_were_pushed() -> None:
    pushes = [push(f"1.2.{n}", n, seconds=-n) for n in (9, 4, 10, 5)]

    assert names(state_of(configuration(), *pushes)) == ["1.2.10", "1.2.9", "1.2.5", "1.2.4"]


def test_other_tags_are_ordered_by_time() -> None:
    pushes = [push(tag, 1, seconds=n) for tag, n in (("b", 2), ("a", 1), ("c", 3))]

    assert names(state_of(configuration(**ANY), *pushes)) == ["c", "b", "a"]


def test_tags_of_the_same_time_are_ordered_by_arrival() -> None:
    state = state_of(configuration(**ANY), push("a", 1), push("b", 2), push("c", 3))

    assert names(state) == ["c", "b", "a"]


def test_a_duplicate_push_keeps_the_order_of_tags_of_the_same_time() -> None:
    config = configuration(**ANY)
    state = state_of(config, push("a", 1), push("b", 2))

    assert decide.apply(config, state, [push("a", 1)]) == (state, (Outcome.UNCHANGED,))


def test_a_later_push_of_the_same_content_makes_the_tag_the_newest() -> None:
    config = configuration(**ANY)
    state = state_of(config, push("a", 1), push("b", 2, seconds=1))

    state, (outcome,) = decide.apply(config, state, [push("a", 1, seconds=2)])

    assert outcome == Outcome.TRACKED
    assert names(state) == ["a", "b"]
    assert not tracked(state, "a").mutated


@pytest.mark.parametrize("tag", ["latest", "b"])
def test_a_later_push_of_the_newest_or_configured_tag_keeps_the_order(tag: str) -> None:
    config = configuration(**ANY)
    state = state_of(config, push("latest", 0), push("a", 1), push("b", 2, seconds=1))
    again = replace(push(tag, 0 if tag == "latest" else 2), time=at(9))

    assert decide.apply(config, state, [again])[1] == (Outcome.UNCHANGED,)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_tags_are_desired(keep: int) -> None:
    config = configuration(KEEP_TAGS=str(keep))
    state = state_of(config, *(push(f"1.2.{n}", n) for n in range(4, 12)))

    assert desired(config, state) == ["1.2.11", "1.2.10", "1.2.9"][:keep]


def test_the_configured_tag_does_not_count_as_one_of_the_newest() -> None:
    config = configuration(**ANY, KEEP_TAGS="2")
    pushes = [push(tag, 1, seconds=n) for n, tag in enumerate(["a", "b", "latest", "c"])]

    assert desired(config, state_of(config, *pushes)) == ["c", "b"]


def test_the_number_of_tracked_tags_is_bounded() -> None:
    config = configuration(KEEP_TAGS="2")
    state = state_of(config, *(push(f"1.2.{n}", n) for n in range(4, 99)))

    assert len(names(state)) == 2 + limits.SPARE_TAGS
    assert decide.apply(config, state, [push("1.2.4", 4)]) == (state, (Outcome.NOT_NEWEST,))


def test_the_configured_tag_stays_tracked_however_old_it_is() -> None:
    config = configuration(**ANY)
    later = [push(f"build-{n}", n, seconds=n) for n in range(1, 99)]

    state = state_of(config, push("latest", 0), *later)

    assert tracked(state, "latest").digest == digest(0)
    assert names(state)[-1] == "latest"


def test_a_deleted_tag_is_replaced_by_the_next_newest() -> None:
    config = configuration(KEEP_TAGS="2")
    state = state_of(config, *(push(f"1.2.{n}", n) for n in (4, 5, 6)))

    deleted = deletion("1.2.6", seconds=1)

    state, (outcome,) = decide.apply(config, state, [deleted])

    assert outcome == Outcome.UNTRACKED
    assert desired(config, state) == ["1.2.5", "1.2.4"]
    assert decide.apply(config, state, [deleted]) == (state, (Outcome.UNCHANGED,))


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (deletion("1.2.4", seconds=1), ["1.2.6", "1.2.5"]),
        (deletion("1.2.4", 4, seconds=1), ["1.2.6", "1.2.5"]),
        (deletion("1.2.4", 9, seconds=1), ["1.2.6", "1.2.5", "1.2.4"]),  # it was mutated since
        (deletion("1.2.6", 6, seconds=1), ["1.2.5", "1.2.4"]),  # its digest is unknown
        (deletion(None, 5, seconds=1), ["1.2.6", "1.2.4"]),
        (deletion(None, 6, seconds=1), ["1.2.6", "1.2.5", "1.2.4"]),
        (deletion(None, seconds=1), []),
        (deletion("1.2.7", seconds=1), ["1.2.6", "1.2.5", "1.2.4"]),
        (deletion("1.2.4", seconds=-1), ["1.2.6", "1.2.5", "1.2.4"]),  # it was pushed again since
        (deletion(None, seconds=-1), ["1.2.6", "1.2.5", "1.2.4"]),
    ],
)
def test_a_deletion_untracks_the_tags_that_it_names(change: UntrackTag, left: list[str]) -> None:
    config = configuration()
    state = state_of(config, push("1.2.4", 4), push("1.2.5", 5), push("1.2.6", None))

    after, (outcome,) = decide.apply(config, state, [change])

    assert names(after) == left
    is_unchanged = names(after) == names(state)
    assert outcome == (Outcome.UNCHANGED if is_unchanged else Outcome.UNTRACKED)


@pytest.mark.parametrize("change", [deletion("latest"), deletion(None), deletion(None, 1)])
def test_a_deleted_configured_tag_stays_tracked(change: UntrackTag) -> None:
    config = configuration(**LATEST)
    state = state_of(config, push("latest", 1))

    assert decide.apply(config, state, [change]) == (state, (Outcome.UNCHANGED,))


def test_a_check_changes_no_state() -> None:
    config = configuration()
    state = state_of(config, push("1.2.4", 1))

    assert decide.apply(config, state, [EnsureExists(), CheckDaemonSet()]) == (
        state,
        (Outcome.CHECKED, Outcome.CHECKED),
    )


def test_a_refused_tag_is_tracked_again_when_it_is_pushed_again() -> None:
    config = configuration()
    (entry,) = config.entries
    state = state_of(config)
    for tag in ("1.2.4", "1.2.5"):
        state = isolation.refuse(state, entry, Refused(name=tag, digest=None, reason="no"))

    state, (outcome,) = decide.apply(config, state, [push("1.2.4", 1)])

    assert outcome == Outcome.TRACKED
    assert [refused.name for refused in state.entries["app"].refused] == ["1.2.5"]


def refused_names(state: State) -> list[str]:
    return [refused.name for refused in state.entries["app"].refused]


def test_the_newest_refused_tags_are_kept() -> None:
    config = configuration()
    state = state_of(config)
    most = limits.REFUSED_TAGS
    for number in range(2 * most):
        refused = Refused(name=f"1.3.{number}", digest=None, reason="no")
        state = isolation.refuse(state, config.entries[0], refused)

    assert refused_names(state) == [f"1.3.{n}" for n in range(2 * most - 1, most - 1, -1)]


def test_all_refused_tags_of_one_check_are_kept() -> None:
    config = configuration(KEEP_TAGS=str(limits.KEEP_TAGS_MOST))
    assert config.keep_tags + limits.SPARE_TAGS + 1 <= limits.REFUSED_TAGS


def test_a_refusal_replaces_an_earlier_one_of_the_same_tag() -> None:
    config = configuration()
    state = state_of(config)
    for reason in ("no", "never"):
        refused = Refused(name="1.2.4", digest=None, reason=reason)
        state = isolation.refuse(state, config.entries[0], refused)

    assert state.entries["app"].refused == (refused,)


def test_a_refused_configured_image_is_never_dropped_for_refused_tags() -> None:
    config = configuration()
    state = state_of(config)
    most = limits.REFUSED_TAGS
    for tag in ("1.2.3", *(f"1.3.{number}" for number in range(2 * most))):
        refused = Refused(name=tag, digest=None, reason="no")
        state = isolation.refuse(state, config.entries[0], refused)

    assert refused_names(state) == ["1.2.3", *(f"1.3.{n}" for n in range(2 * most - 1, most, -1))]


def adopted(old: Config, new: Config, *changes: Change) -> State:
    """Return a state of the old configuration, with these changes live, fitted to the new one."""
    state = state_of(old, *changes)
    entries = {name: replace(each, live_tags=each.tags) for name, each in state.entries.items()}
    state = replace(
        state, template="old", blocked=Blocked(template="x", reason="y"), entries=entries
    )
    for entry in old.entries:
        state = isolation.refuse(state, entry, Refused(name="9.9.9", digest=None, reason="no"))
    return decide.adopt(new, state, configuration_hash(new))


def test_a_new_daemonset_has_no_tracked_tags() -> None:
    config = configuration(IMAGES=TWO)

    state = decide.adopt(config, State(configuration=""), "hash")

    assert state.configuration == "hash"
    assert [(e.image, e.tags, e.live_tags) for e in state.entries.values()] == [
        ("quay.io/org/app:1.2.3", (), None),
        ("quay.io/org/web:1.2.3", (), None),
    ]


def test_an_entry_with_another_image_loses_its_tags_and_others_do_not() -> None:
    old = configuration(IMAGES=TWO)
    new = configuration(IMAGES=TWO.replace("app:1.2.3", "app:1.2.4"))

    state = adopted(old, new, push("1.3.0", 1), push("1.3.0", 1, entry="web"))

    assert (names(state, "app"), names(state, "web")) == ([], ["1.3.0"])
    assert state.entries["app"].live_tags is None
    assert state.entries["web"].live_tags == state.entries["web"].tags


def test_an_entry_that_is_no_longer_configured_is_dropped() -> None:
    state = adopted(configuration(IMAGES=TWO), configuration(), push("1.3.0", 1))

    assert list(state.entries) == ["app"]
    assert names(state) == ["1.3.0"]


def test_entries_have_the_order_of_the_new_configuration() -> None:
    new = configuration(IMAGES=";".join(reversed(TWO.split(";"))))

    assert list(adopted(configuration(IMAGES=TWO), new).entries) == ["web", "app"]


def test_a_new_policy_keeps_the_tags_that_it_tracks() -> None:
    old = configuration(IMAGE_TAG_POLICIES="app=any")
    new = configuration(IMAGE_TAG_POLICIES="app=semver:^1.2")
    tags = ["1.4.0", "edge", "1.3.0", "2.0.0"]

    state = adopted(old, new, *(push(tag, 1, seconds=n) for n, tag in enumerate(tags)))

    assert names(state) == ["1.4.0", "1.3.0"]


def test_a_lower_keep_tags_untracks_the_oldest() -> None:
    pushes = [push(f"1.2.{n}", n) for n in range(4, 20)]

    state = adopted(configuration(KEEP_TAGS="5"), configuration(KEEP_TAGS="1"), *pushes)

    assert names(state) == [f"1.2.{n}" for n in (19, 18, 17, 16, 15)]


def test_a_new_configuration_forgets_refused_tags() -> None:
    state = adopted(configuration(), configuration(KEEP_TAGS="3"))

    assert state.blocked is None
    assert state.entries["app"].refused == ()


def test_the_same_configuration_again_changes_nothing() -> None:
    config = configuration(**ANY)
    state = state_of(config, push("a", 1), push("b", 2), push("latest", 3), push("c", 4))

    assert decide.adopt(config, state, state.configuration) == state


# Tags that each policy tracks. Hypothesis pushes them in any order, with any content and time.
POLICIES = {
    "auto": ["1.2.3", "1.2.4", "01.2.4", "1.2.5", "1.3.0", "1.10.0", "2.0.0", "2.0.1", "10.0.0"],
    "semver:*-0": ["1.2.3", "1.2.4-rc.1", "1.2.4", "v1.2.4", "1.9.0", "1.10.0", "2.0.0", "3.0.0"],
    "any": ["1.2.3", "latest", "edge", "a", "b", "c", "d", "e", "f", "g"],
    "exact": ["1.2.3"],
}
ORDERING = ["auto", "semver:*-0"]


def configured(policy: str) -> Config:
    return configuration(IMAGE_TAG_POLICIES=f"app={policy}", KEEP_TAGS="1")


def pushes_of(policy: str) -> st.SearchStrategy[list[TrackTag]]:
    """Return lists of pushes.

    Pushes of one tag may have the same time. Pushes of different tags may not, because their order
    would then be that of their arrival. A push with a digest never has the time of one without,
    because it would complete that one.
    """
    tags = POLICIES[policy]
    one = st.builds(
        lambda index, number, seconds: push(
            tags[index], number, seconds=seconds + index / 100 + (number is None) / 1000
        ),
        st.integers(0, len(tags) - 1),
        st.none() | st.integers(0, 2),
        st.integers(0, 9),
    )
    return st.lists(one, max_size=20)


History = tuple[str, list[TrackTag]]
"""A policy, and pushes in the order of their arrival."""


def histories(policies: Sequence[str]) -> st.SearchStrategy[History]:
    return st.sampled_from(policies).flatmap(lambda p: st.tuples(st.just(p), pushes_of(p)))


@given(histories([*POLICIES]))
@settings(max_examples=200, deadline=None)
def test_no_push_replaces_newer_content_or_tags(history: History) -> None:
    policy, pushes = history
    config = configured(policy)
    (entry,) = config.entries
    state = state_of(config)
    for each in pushes:
        before = state.entries["app"].tags
        state, _ = decide.apply(config, state, [each])
        after = state.entries["app"].tags
        for old in selection.newest(entry.tag, before, 1):
            (new,) = selection.newest(entry.tag, after, 1)
            if entry.policy.orders_tags:
                assert entry.policy.precedence(new.name) >= entry.policy.precedence(old.name)
            else:
                assert new.time >= old.time
        for old in before:
            same = state.entries["app"].tag(old.name)
            assert same is None or same.time >= old.time
            assert same is None or same.digest == old.digest or each.time >= old.time
            assert same is None or same.mutated or not old.mutated


@given(histories([*POLICIES]))
@settings(max_examples=200, deadline=None)
def test_the_same_pushes_again_change_nothing(history: History) -> None:
    policy, pushes = history
    config = configured(policy)
    state = state_of(config, *pushes)

    assert decide.apply(config, state, pushes)[0] == state


@given(histories([*POLICIES]))
@settings(max_examples=100, deadline=None)
def test_a_duplicate_of_the_last_push_changes_nothing(history: History) -> None:
    policy, pushes = history
    config = configured(policy)
    for count in range(1, len(pushes) + 1):
        state = state_of(config, *pushes[:count])

        after, (outcome,) = decide.apply(config, state, [pushes[count - 1]])

        assert after == state
        assert outcome in {Outcome.UNCHANGED, Outcome.OLDER, Outcome.NOT_NEWEST}


@given(histories(ORDERING), st.data())
@settings(max_examples=120, deadline=None)
def test_the_order_of_arrival_does_not_change_the_state(
    history: History, data: st.DataObject
) -> None:
    policy, pushes = history
    # Of two pushes of a tag at the same time the later arrival counts: those are left out.
    assume(len({(each.tag, each.time) for each in pushes}) == len(pushes))
    config = configured(policy)
    shuffled = data.draw(st.permutations(pushes))

    assert state_of(config, *shuffled) == state_of(config, *pushes)


@given(histories([*POLICIES]), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_pushes_decided_together_or_one_by_one_give_the_same_state(
    history: History, count: int
) -> None:
    policy, pushes = history
    config = configured(policy)
    first, one = decide.apply(config, state_of(config), pushes[:count])
    second, other = decide.apply(config, first, pushes[count:])

    assert decide.apply(config, state_of(config), pushes) == (second, one + other)


@given(histories([*POLICIES]))
@settings(max_examples=100, deadline=None)
def test_any_pushes_leave_a_bounded_number_of_tags(history: History) -> None:
    policy, pushes = history
    tags = names(state_of(configured(policy), *pushes))

    assert len(tags) <= 1 + 1 + limits.SPARE_TAGS
    assert len(set(tags)) == len(tags)


# Answers of registries, and unverified pushes


def answer_for(tag: str = "1.2.4", number: int | None = 1, *, seconds: float = 9) -> RegistryAnswer:
    """Return a registry's answer: the digest of that number, or that the tag is absent."""
    content = None if number is None else digest(number)
    return RegistryAnswer(entry="app", tag=tag, digest=content, time=at(seconds))


def waiting(state: State) -> list[tuple[str, str | None]]:
    """Return the unverified pushes, each as its tag and its digest."""
    return [(push.tag, push.digest) for push in state.entries["app"].unverified]


def test_an_unverified_push_is_kept_with_its_reason_and_tracks_no_tag() -> None:
    config = configuration()
    state = state_of(config, unverified_push(reason="x" * 999))
    (unverified,) = state.entries["app"].unverified
    assert unverified == UnverifiedPush(
        tag="1.2.4", digest=digest(1), time=at(0), reason="x" * limits.UNVERIFIED_CHARACTERS
    )
    assert names(state) == []


AWAITING: list[tuple[tuple[Change, ...], Change, str, list[tuple[str, str | None]]]] = [
    (
        (unverified_push(),),
        unverified_push(),
        "unchanged",
        [("1.2.4", digest(1))],
    ),  # delivered again
    ((unverified_push(),), unverified_push(seconds=5), "unchanged", [("1.2.4", digest(1))]),
    (
        (unverified_push(),),
        unverified_push(number=2, seconds=5),
        "awaiting_verification",
        [("1.2.4", digest(2))],
    ),
    ((unverified_push(seconds=5),), unverified_push(number=2), "unchanged", [("1.2.4", digest(1))]),
    ((unverified_push(number=None),), unverified_push(number=None), "unchanged", [("1.2.4", None)]),
    ((push("1.2.4", 1, seconds=5),), unverified_push(number=2), "older", []),
    ((push("1.2.4", 1),), unverified_push(seconds=5), "unchanged", []),
    (
        (push("1.2.4", 1),),
        unverified_push(number=2, seconds=5),
        "awaiting_verification",
        [("1.2.4", digest(2))],
    ),
]


@pytest.mark.parametrize(("before", "change", "outcome", "left"), AWAITING)
def test_the_latest_unverified_push_of_each_tag_waits(
    before: tuple[Change, ...],
    change: Change,
    outcome: str,
    left: list[tuple[str, str | None]],
) -> None:
    config = configuration()
    state, outcomes = decide.apply(config, state_of(config, *before), [change])
    assert (outcomes, waiting(state)) == ((outcome,), left)


def test_the_number_of_unverified_pushes_is_bounded_and_a_displaced_one_is_counted() -> None:
    config = configuration()
    changes = [unverified_push(f"1.3.{number}") for number in range(limits.UNVERIFIED_PUSHES + 1)]
    state, outcomes = decide.apply(config, state_of(config), changes)
    assert [tag for tag, _ in waiting(state)] == [change.tag for change in changes[1:]]
    assert {*outcomes[:-1]} == {"awaiting_verification"}
    assert outcomes[-1] == "displaced"


@pytest.mark.parametrize(
    "change", [push("1.2.4", 1, seconds=9), answer_for(), answer_for(number=2)]
)
def test_a_push_or_an_answer_settles_the_unverified_push_of_its_tag(change: Change) -> None:
    config = configuration()
    state = state_of(config, unverified_push(), unverified_push("1.2.5"), change)
    assert waiting(state) == [("1.2.5", digest(1))]
    assert names(state) == ["1.2.4"]


def test_an_unverified_push_after_the_answer_still_waits() -> None:
    config = configuration()
    assert waiting(state_of(config, unverified_push(seconds=10), answer_for(seconds=9))) == [
        ("1.2.4", digest(1))
    ]


def test_a_new_policy_keeps_the_unverified_pushes_that_it_tracks() -> None:
    state = state_of(configuration(), unverified_push(), unverified_push("1.2.5"))
    config = configuration(IMAGE_TAG_POLICIES="app=semver:>=1.2.5")
    assert waiting(decide.adopt(config, state, "other")) == [("1.2.5", digest(1))]


def with_refused(config: Config, tag: str, number: int | None) -> State:
    """Return a state in which the cluster refused a tag with the digest of that number."""
    entry = config.entries[0]
    content = None if number is None else digest(number)
    refused = Refused(name=tag, digest=content, reason="no")
    return isolation.refuse(state_of(config), entry, refused)


@pytest.mark.parametrize(("number", "is_tried"), [(1, False), (None, False), (2, True)])
def test_an_answer_tries_a_refused_tag_again_only_with_other_content(
    number: int | None, is_tried: bool
) -> None:
    config = configuration()
    before = with_refused(config, "1.2.4", number)
    after, (outcome,) = decide.apply(config, before, [answer_for()])
    assert outcome == ("tracked" if is_tried else "refused")
    assert names(after) == (["1.2.4"] if is_tried else [])
    assert after.entries["app"].refuses("1.2.4") is not is_tried


@pytest.mark.parametrize(
    ("change", "is_dropped"),
    [
        (deletion("1.2.4"), True),
        (deletion("1.2.4", 1), True),
        (deletion("1.2.4", 2), False),
        (deletion("1.2.5"), False),
        (deletion(None, 1), True),
        (deletion(None, 2), False),
        (deletion(None), True),
    ],
)
def test_a_refused_tag_is_dropped_when_it_is_deleted(change: UntrackTag, is_dropped: bool) -> None:
    config = configuration()
    before = with_refused(config, "1.2.4", 1)
    after, (outcome,) = decide.apply(config, before, [change])
    assert outcome == ("untracked" if is_dropped else "unchanged")
    assert refused_names(after) == ([] if is_dropped else ["1.2.4"])


def test_a_refused_configured_image_is_kept_when_it_is_deleted() -> None:
    config = configuration()
    before = with_refused(config, "1.2.3", 1)
    assert decide.apply(config, before, [deletion("1.2.3")])[0] == before


def test_an_answer_about_a_version_that_is_not_newest_tracks_nothing() -> None:
    config = configuration(KEEP_TAGS="1")
    newer = [push(f"1.3.{number}", 1) for number in range(1 + limits.SPARE_TAGS)]
    state = state_of(config, *newer)
    assert decide.apply(config, state, [answer_for()]) == (state, (Outcome.NOT_NEWEST,))


def test_a_mutated_tag_is_pulled_again_once() -> None:
    config = configuration(**LATEST)
    mutated = state_of(config, push("latest", 1), push("latest", 2, seconds=1))
    again = PullAgain(entry="app", tag="latest", digest=digest(2), time=at(60))

    pulled, (outcome,) = decide.apply(config, mutated, [again])

    assert outcome == "pulled_again"
    assert tracked(pulled, "latest") == replace(tracked(mutated, "latest"), pulled_again=True)
    assert pulled.pulled_again_at == at(60)
    assert decide.apply(config, pulled, [again]) == (pulled, ("unchanged",))
    mutated_again = state_of(config, push("latest", 1), push("latest", 3, seconds=2))
    assert decide.apply(config, mutated_again, [again]) == (mutated_again, ("unchanged",))
    assert decide.apply(config, state_of(config), [again])[1] == ("unchanged",)


def test_a_tag_that_is_mutated_again_may_be_pulled_again() -> None:
    config = configuration(**LATEST)
    state = state_of(config, push("latest", 1), push("latest", 2, seconds=1))
    again = PullAgain(entry="app", tag="latest", digest=digest(2), time=at(60))
    mutated = decide.apply(config, state, [again, push("latest", 3, seconds=61)])[0]
    assert tracked(mutated, "latest").pulled_again is False


CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(unverified_push, st.sampled_from(["1.2.4", "1.2.5"]), st.none() | st.integers(1, 3),
              seconds=st.integers(0, 9)),
    st.builds(answer_for, st.sampled_from(["1.2.4", "1.2.5"]), st.none() | st.integers(1, 3),
              seconds=st.integers(0, 9)),
    st.builds(push, st.sampled_from(["1.2.4", "1.2.5"]), st.none() | st.integers(1, 3),
              seconds=st.integers(0, 9)),
)  # fmt: skip


@given(st.lists(CHANGES, max_size=6), CHANGES)
def test_any_change_applied_again_changes_nothing(before: list[Change], change: Change) -> None:
    config = configuration()
    once = decide.apply(config, state_of(config, *before), [change])[0]
    assert decide.apply(config, once, [change])[0] == once


@given(st.lists(CHANGES, max_size=8))
def test_an_unconfirmed_push_is_never_tracked(changes: list[Change]) -> None:
    config = configuration()
    state = state_of(config, *changes)
    confirmed = {c.tag for c in changes if isinstance(c, TrackTag | RegistryAnswer)}
    assert set(names(state)) <= confirmed


# Registries that announce pushes early, and clocks that differ


def test_an_answer_soon_after_a_push_does_not_contradict_it() -> None:
    config = configuration()
    state = state_of(config, push("1.2.4", 1), push("1.2.4", 2, seconds=60))
    for number in (1, None):
        early = answer_for(number=number, seconds=60 + limits.SETTLING_SECONDS - 1)
        assert decide.apply(config, state, [early]) == (state, (Outcome.OLDER,))
    late = answer_for(number=1, seconds=60 + limits.SETTLING_SECONDS)
    assert decide.apply(config, state, [late])[1] == (Outcome.MUTATED,)
    late = answer_for(number=None, seconds=60 + limits.SETTLING_SECONDS)
    assert decide.apply(config, state, [late])[1] == (Outcome.UNTRACKED,)


def test_an_answer_can_contradict_a_confirmed_tag_at_once() -> None:
    config = configuration()
    confirmed = state_of(config, push("1.2.4", 2), answer_for(number=2, seconds=1))
    assert tracked(confirmed, "1.2.4").confirmed
    assert decide.apply(config, confirmed, [answer_for(number=1, seconds=2)])[1] == (
        Outcome.MUTATED,
    )
    assert decide.apply(config, confirmed, [answer_for(number=None, seconds=2)])[1] == (
        Outcome.UNTRACKED,
    )


def test_a_push_of_other_content_has_to_be_confirmed_again() -> None:
    config = configuration()
    state = state_of(config, push("1.2.4", 2), answer_for(number=2, seconds=1))
    mutated = decide.apply(config, state, [push("1.2.4", 3, seconds=2)])[0]
    assert not tracked(mutated, "1.2.4").confirmed


@pytest.mark.parametrize("number", [1, None])
@pytest.mark.parametrize("seconds", [-999, 5, 999])
def test_an_answer_is_ignored_after_a_change_since_the_question(
    number: int | None, seconds: float
) -> None:
    """The times do not matter, because the clocks of registries and replicas differ."""
    config = configuration()
    state = state_of(config, push("1.2.4", 2, seconds=seconds))
    then = Precondition(is_tracked=True, digest=digest(1))
    for known in (then, Precondition(is_tracked=False, digest=None)):
        answer = replace(answer_for(number=number, seconds=9999), precondition=known)
        assert decide.apply(config, state, [answer]) == (state, (Outcome.OLDER,))


def test_an_answer_is_ignored_after_a_deletion_since_the_question() -> None:
    config = configuration()
    then = Precondition(is_tracked=True, digest=digest(1))
    answer = replace(answer_for(seconds=9999), precondition=then)
    assert decide.apply(config, state_of(config), [answer])[1] == (Outcome.OLDER,)


# Times by different clocks


@pytest.mark.parametrize("behind", [1, 8, 30, limits.CLOCK_TOLERANCE_SECONDS])
@pytest.mark.parametrize("number", [2, None])
def test_a_push_counts_whose_registrys_clock_is_behind_that_of_the_check(
    behind: float, number: int | None
) -> None:
    config = configuration(**LATEST)
    found = state_of(config, answer_for("latest", 1, seconds=60))

    state, (outcome,) = decide.apply(config, found, [push("latest", number, seconds=60 - behind)])

    assert outcome == Outcome.IN_DOUBT
    assert tracked(state, "latest").digest == (None if number is None else digest(number))


def test_a_push_from_before_the_tolerance_is_older_than_a_check() -> None:
    config = configuration(**LATEST)
    found = state_of(config, answer_for("latest", 1, seconds=999))
    late = push("latest", 2, seconds=999 - limits.CLOCK_TOLERANCE_SECONDS - 1)

    assert decide.apply(config, found, [late]) == (found, (Outcome.OLDER,))


@pytest.mark.parametrize("own", [True, False])
def test_a_push_counts_whose_time_is_before_the_receipt_of_another(own: bool) -> None:
    config = configuration(**LATEST)
    before = push("latest", 1, seconds=30, own_clock=True)

    state, (outcome,) = decide.apply(
        config, state_of(config, before), [push("latest", 2, own_clock=own)]
    )

    assert (outcome, tracked(state, "latest").digest) == (Outcome.IN_DOUBT, digest(2))


def test_a_late_retry_stays_older_after_a_push_in_doubt() -> None:
    config = configuration(**LATEST)
    changes: list[Change] = [
        answer_for("latest", 1, seconds=60),
        push("latest", 3, seconds=40),
    ]
    state = state_of(config, *changes)

    assert decide.apply(config, state, [push("latest", 2, seconds=20)]) == (
        state,
        (Outcome.OLDER,),
    )


@pytest.mark.parametrize("behind", [8, 30])
def test_a_deletion_counts_whose_registrys_clock_is_behind(behind: float) -> None:
    config = configuration()
    found = state_of(config, answer_for("1.2.4", 1, seconds=60))

    state, (outcome,) = decide.apply(config, found, [deletion("1.2.4", seconds=60 - behind)])

    assert (outcome, names(state)) == (Outcome.IN_DOUBT, [])


def test_a_new_tag_is_the_newest_although_its_registrys_clock_is_behind() -> None:
    config = configuration(**ANY, KEEP_TAGS="1")
    state = state_of(config, push("a", 1, seconds=60, own_clock=True), push("b", 2, seconds=40))

    assert desired(config, state) == ["b"]


def test_the_webhook_of_content_that_a_check_found_gives_its_own_time() -> None:
    """So a late retry of an earlier push can be compared with it exactly."""
    config = configuration(**LATEST)
    both: list[Change] = [
        answer_for("latest", 2, seconds=60),
        push("latest", 2, seconds=50),
    ]
    state = state_of(config, *both)

    assert (tracked(state, "latest").time, tracked(state, "latest").own_clock) == (at(50), False)
    assert decide.apply(config, state, both)[0] == state
    assert decide.apply(config, state, [push("latest", 1, seconds=45)])[1] == (Outcome.OLDER,)


def test_another_report_of_a_push_does_not_change_the_order_of_tags() -> None:
    config = configuration(**ANY)
    received = [push("a", 1, seconds=9, own_clock=True), push("b", 2, seconds=20, own_clock=True)]
    state = state_of(config, *received)

    assert names(decide.apply(config, state, [push("a", 1, seconds=5)])[0]) == ["b", "a"]


def test_of_two_pushes_of_the_same_time_the_registry_is_asked() -> None:
    config = configuration(**LATEST)
    state = state_of(config, push("latest", 1))

    state, (outcome,) = decide.apply(config, state, [push("latest", 2)])

    assert outcome == Outcome.IN_DOUBT
    known = Precondition(is_tracked=True, digest=digest(2))
    answer = replace(answer_for("latest", 1, seconds=1), precondition=known)
    assert decide.apply(config, state, [answer]) == (state, (Outcome.OLDER,))
    decisive = replace(answer, is_decisive=True)
    state, (outcome,) = decide.apply(config, state, [decisive])
    assert (outcome, tracked(state, "latest").digest) == (Outcome.MUTATED, digest(1))


def test_the_registry_decides_between_unverified_pushes_of_the_same_time() -> None:
    config = configuration()
    state = state_of(config, unverified_push(number=1), unverified_push(number=2))
    assert waiting(state) == [("1.2.4", None)]
    assert decide.apply(config, state, [unverified_push(number=2)])[0] == state


def test_an_answer_about_an_unchanged_confirmed_tag_counts_whatever_its_time() -> None:
    config = configuration(**LATEST)
    confirmed = state_of(config, push("latest", 1, seconds=90), answer_for("latest", 1, seconds=95))
    known = Precondition(is_tracked=True, digest=digest(1))
    answer = replace(answer_for("latest", 2, seconds=70), precondition=known)

    assert decide.apply(config, confirmed, [answer])[1] == (Outcome.MUTATED,)


def test_a_deleted_manifest_untracks_all_its_tags() -> None:
    config = configuration(KEEP_TAGS="5")
    pushes = [push("1.2.4", 1), push("1.2.5", 1), push("1.2.6", 2), push("1.2.7", None)]
    state = state_of(config, *pushes)

    state, (outcome,) = decide.apply(
        config, state, [deletion("1.2.4", 1, seconds=5, with_all_tags=True)]
    )

    assert (outcome, names(state)) == (Outcome.UNTRACKED, ["1.2.7", "1.2.6"])
    for late in pushes[:2]:
        assert decide.apply(config, state, [late]) == (state, (Outcome.OLDER,))


def test_a_deleted_manifest_untracks_the_named_tag_whose_digest_is_unknown() -> None:
    config = configuration()
    state = state_of(config, push("1.2.4", None), push("1.2.5", None))

    state, _ = decide.apply(config, state, [deletion("1.2.4", 1, seconds=5, with_all_tags=True)])

    assert names(state) == ["1.2.5"]


# The memory of deletions


@pytest.mark.parametrize(
    "deleted",
    [deletion("1.2.4", seconds=5), deletion(None, 1, seconds=5), deletion(None, seconds=5)],
)
def test_a_late_push_stays_deleted(deleted: UntrackTag) -> None:
    config = configuration()
    late = push("1.2.4", 1, seconds=3)
    state = state_of(config, late, deleted)

    assert decide.apply(config, state, [late]) == (state, (Outcome.OLDER,))
    again = push("1.2.4", 1, seconds=6)
    state, (outcome,) = decide.apply(config, state, [again])
    assert (outcome, names(state)) == (Outcome.TRACKED, ["1.2.4"])


def test_a_deletion_counts_for_a_push_that_arrives_after_it() -> None:
    config = configuration()
    state = state_of(config, deletion("1.2.4", seconds=5))

    assert decide.apply(config, state, [push("1.2.4", 1, seconds=3)])[1] == (Outcome.OLDER,)
    assert names(state_of(config, deletion("1.2.4", seconds=5), push("1.2.5", 1))) == ["1.2.5"]


@pytest.mark.parametrize("seconds", [-limits.CLOCK_TOLERANCE_SECONDS, -30, 0])
def test_a_push_is_in_doubt_whose_time_is_not_after_that_of_a_deletion(seconds: float) -> None:
    config = configuration()
    state = state_of(config, deletion("1.2.4", own_clock=True))

    state, (outcome,) = decide.apply(config, state, [push("1.2.4", 1, seconds=seconds)])

    assert (outcome, names(state)) == (Outcome.IN_DOUBT, ["1.2.4"])


def test_an_answer_from_before_a_deletion_tracks_nothing() -> None:
    config = configuration()
    state = state_of(config, deletion("1.2.4", seconds=10, own_clock=True))

    assert decide.apply(config, state, [answer_for(seconds=9)]) == (state, (Outcome.OLDER,))
    assert decide.apply(config, state, [answer_for(seconds=11)])[1] == (Outcome.TRACKED,)


def test_the_newest_deletions_are_remembered() -> None:
    config = configuration()
    many = [deletion(f"1.3.{number}", seconds=number) for number in range(2 * limits.DELETIONS)]
    state = state_of(config, *many, deletion("1.3.15", seconds=99), deletion("1.3.15", seconds=1))

    remembered = [(each.tag, each.time) for each in state.entries["app"].deleted]
    assert len(remembered) == limits.DELETIONS
    assert remembered[-1] == ("1.3.15", at(99))


@pytest.mark.parametrize("other", ["latest", "1.2.3", "1.0.0"])
def test_a_deletion_of_a_tag_that_is_not_tracked_is_not_remembered(other: str) -> None:
    config = configuration()
    assert decide.apply(config, state_of(config), [deletion(other)])[0] == state_of(config)


def test_a_deletion_of_an_unknown_digest_is_not_remembered() -> None:
    """CNCF Distribution reports the deletion of a blob like that of a manifest."""
    config = configuration()
    assert decide.apply(config, state_of(config), [deletion(None, 9)])[0] == state_of(config)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["1.2.4", "1.2.5"]), st.none() | st.integers(1, 3)),
    max_size=limits.DELETIONS,
)


@given(EVENTS, st.randoms(use_true_random=False))
def test_pushes_and_deletions_end_the_same_in_whatever_order_they_arrive(
    events: Sequence[tuple[str, int | None]], random: Random
) -> None:
    """A number is a push of that content, and None a deletion. Each has its own second."""
    config = configuration()
    changes: list[Change] = [
        deletion(tag, seconds=second) if number is None else push(tag, number, seconds=second)
        for second, (tag, number) in enumerate(events)
    ]
    arrived = [*changes, *changes]
    random.shuffle(arrived)

    def contents(state: State) -> list[tuple[str, str | None]]:
        return [(tag.name, tag.digest) for tag in state.entries["app"].tags]

    assert contents(state_of(config, *arrived)) == contents(state_of(config, *changes))
