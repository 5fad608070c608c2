"""Catching up: pushes and deletions whose webhook was missed."""

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.core import catch_up, decide
from image_puller.core.catch_up import Findings, Question
from image_puller.core.changes import Change, Precondition, RegistryAnswer, TrackTag
from image_puller.core.decide import Outcome
from image_puller.core.state import State
from image_puller.values.answers import Absent, Answer, Present, Unanswered
from image_puller.values.reference import Reference, parse
from tests.support.building import at, configuration, deletion, digest, push, state_of
from tests.support.states import unverified_push

NAME = "quay.io/org/app"
NOW = at(600)


def config_of(image: str = "1.2.3", policy: str = "auto") -> Config:
    return configuration(IMAGES=f"app={NAME}:{image}", IMAGE_TAG_POLICIES=f"app={policy}")


def asked(config: Config, state: State, *listed: str) -> list[str]:
    """Return the tags that are asked about, where these are listed."""
    listings = {parse(NAME): listed} if listed else {}
    return [question.tag for question in catch_up.questions(config, state, listings)]


def answer_of(value: int | str | None) -> Answer:
    """Return an answer: a digest by its number, None for absent, a reason for unanswered."""
    match value:
        case int():
            return Present(digest(value))
        case str():
            return Unanswered(value)
        case None:
            return Absent()


def found(config: Config, state: State, **answers: int | str | None) -> Findings:
    """Return the findings of answers about tags. The tag 1.2.3 is written `v1_2_3`."""
    by_reference = {
        parse(f"{NAME}:{name.removeprefix('v').replace('_', '.')}"): answer_of(value)
        for name, value in answers.items()
    }
    questions = [Question(entry="app", reference=reference) for reference in by_reference]
    return catch_up.findings(config, state, questions, by_reference, time=NOW)


def after(config: Config, state: State, findings: Findings) -> tuple[State, tuple[Outcome, ...]]:
    """Return the state after the findings, and the outcomes."""
    return decide.apply(config, state, findings.changes)


def names(state: State) -> list[str]:
    return [tag.name for tag in state.entries["app"].tags]


# Questions


def test_the_configured_tag_and_all_tracked_tags_are_asked_about() -> None:
    config = config_of()
    state = state_of(config, push("1.2.4", 1), push("1.2.5", 1))
    assert asked(config, state) == ["1.2.3", "1.2.5", "1.2.4"]


def test_a_pinned_image_is_not_asked_about() -> None:
    config = config_of(policy="pinned")
    assert asked(config, state_of(config)) == []
    config = configuration(IMAGES=f"app={NAME}@{digest(1)}")
    assert asked(config, state_of(config)) == []


def test_as_many_newer_versions_are_asked_about_as_can_be_tracked() -> None:
    config = config_of()
    listed = ["latest", "1.2.2", "1.2.3", *(f"1.3.{n}" for n in range(9)), "2.0.0-rc.1", "2.0.0"]
    newest = ["2.0.0", *(f"1.3.{n}" for n in range(8, 3, -1))]
    assert asked(config, state_of(config), *listed) == ["1.2.3", *newest]
    assert len(newest) == config.keep_tags + limits.SPARE_TAGS


def test_tags_are_listed_only_where_the_policy_orders_them() -> None:
    for policy in ("any", "glob:*", "regex:.*", "exact"):
        config = config_of(policy=policy)
        assert catch_up.repositories(config) == ()
        assert asked(config, state_of(config), "1.2.4", "9.9.9") == ["1.2.3"]
    for policy in ("auto", "semver:>=1"):
        config = config_of(policy=policy)
        assert catch_up.repositories(config) == (parse(NAME),)
        assert asked(config, state_of(config), "1.2.4") == ["1.2.3", "1.2.4"]


def test_a_repository_of_two_entries_is_listed_once() -> None:
    config = configuration(IMAGES=f"a={NAME}:1.0.0;b={NAME}:2.0.0;c={NAME}:latest")
    assert catch_up.repositories(config) == (parse(NAME),)


def test_known_tags_are_asked_about_where_tags_can_not_be_listed() -> None:
    config = config_of()
    listings = {parse(NAME): Unanswered("unavailable")}
    questions = catch_up.questions(config, state_of(config), listings)
    assert [question.tag for question in questions] == ["1.2.3"]
    assert catch_up.unlisted(listings) == ("unavailable",)


# Findings


def test_another_digest_mutates_the_tag() -> None:
    config = config_of("latest")
    state = state_of(config, push("latest", 1))
    mutated, outcomes = after(config, state, found(config, state, latest=2))
    (tag,) = mutated.entries["app"].tags
    assert (tag.digest, tag.mutated, tag.time) == (digest(2), True, NOW)
    assert outcomes == ("mutated",)


def test_the_known_digest_confirms_the_tag() -> None:
    config = config_of("latest")
    state = state_of(config, push("latest", 1))
    once, outcomes = after(config, state, found(config, state, latest=1))
    (tag,) = once.entries["app"].tags
    assert (tag.digest, tag.mutated, tag.time, tag.confirmed) == (digest(1), True, at(0), True)
    assert outcomes == ("unchanged",)
    assert after(config, once, found(config, once, latest=1)) == (once, ("unchanged",))


def test_the_first_digest_of_the_configured_tag_is_no_mutation() -> None:
    config = config_of("latest")
    state = state_of(config)
    completed, outcomes = after(config, state, found(config, state, latest=1))
    (tag,) = completed.entries["app"].tags
    assert (tag.digest, tag.mutated) == (digest(1), False)
    assert outcomes == ("tracked",)


def test_a_missing_digest_is_completed() -> None:
    config = config_of("latest")
    state = state_of(config, push("latest", None))
    completed, outcomes = after(config, state, found(config, state, latest=1))
    (tag,) = completed.entries["app"].tags
    assert (tag.digest, tag.mutated, tag.time) == (digest(1), True, at(0))
    assert outcomes == ("digest_completed",)


def test_a_newer_version_is_tracked() -> None:
    config = config_of()
    state = state_of(config, push("1.2.4", 1))
    caught_up, _ = after(config, state, found(config, state, v1_2_3=3, v1_2_4=1, v1_2_5=2))
    assert names(caught_up) == ["1.2.5", "1.2.4", "1.2.3"]


def test_a_deleted_tag_is_untracked() -> None:
    config = config_of()
    state = state_of(config, push("1.2.4", 1), push("1.2.5", 2))
    left, outcomes = after(config, state, found(config, state, v1_2_3=3, v1_2_4=1, v1_2_5=None))
    assert names(left) == ["1.2.4", "1.2.3"]
    assert "untracked" in outcomes


def test_a_repository_without_any_tag_changes_nothing_and_is_a_problem() -> None:
    config = config_of()
    state = state_of(config, push("1.2.4", 1))
    findings = found(config, state, v1_2_3=None, v1_2_4=None)
    assert findings.changes == ()
    assert findings.unqueryable == frozenset()
    assert findings.reasons == (
        f"registry quay.io shows nothing of {NAME}: was it deleted, or is a pull secret missing?",
    )


def test_a_deleted_configured_image_stays_and_is_a_problem() -> None:
    config = config_of()
    state = state_of(config, push("1.2.3", 1), push("1.2.4", 1))
    findings = found(config, state, v1_2_3=None, v1_2_4=1)
    (reason,) = findings.reasons
    assert reason.startswith(f"{NAME}:1.2.3 is configured, but its registry does not have it; ")
    assert names(after(config, state, findings)[0]) == ["1.2.4", "1.2.3"]


def test_a_registry_that_does_not_answer_changes_nothing_and_is_a_problem() -> None:
    config = config_of()
    state = state_of(config, push("1.2.4", 1))
    findings = found(config, state, v1_2_3="unavailable", v1_2_4="unavailable")
    assert findings.changes == ()
    assert findings.unqueryable == frozenset()
    assert findings.reasons == ("unavailable",)


def test_a_tag_that_the_service_may_not_ask_about_is_unqueryable() -> None:
    config = config_of()
    (question,) = catch_up.questions(config, state_of(config), {})
    answers = {question.reference: Unanswered("401", is_unqueryable=True)}
    findings = catch_up.findings(config, state_of(config), [question], answers, time=NOW)
    assert findings.unqueryable == {("app", "1.2.3")}


def test_a_push_after_the_question_counts_more_than_the_answer() -> None:
    config = config_of("latest")
    state = state_of(config, push("latest", 2, seconds=601))
    assert after(config, state, found(config, state, latest=1)) == (state, ("older",))
    state = state_of(config, push("1.2.4", 2, seconds=601))
    absent = RegistryAnswer(entry="app", tag="1.2.4", digest=None, time=NOW)
    assert decide.apply(config, state, [absent]) == (state, ("older",))


# Unverified pushes


def test_unverified_pushes_are_asked_about() -> None:
    config = config_of()
    state = state_of(config, unverified_push())
    assert [q.tag for q in catch_up.unverified(config, state)] == ["1.2.4"]
    assert asked(config, state) == ["1.2.3", "1.2.4"]


def test_a_confirmed_push_is_tracked_with_its_own_time() -> None:
    config = config_of()
    state = state_of(config, unverified_push(seconds=5))
    findings = found(config, state, v1_2_4=1)
    assert findings.changes == (TrackTag(entry="app", tag="1.2.4", digest=digest(1), time=at(5)),)
    tracked, _ = after(config, state, findings)
    assert names(tracked) == ["1.2.4"]
    assert tracked.entries["app"].unverified == ()


def test_an_unverified_push_of_another_digest_is_settled_by_a_late_answer() -> None:
    config = config_of()
    state = state_of(config, unverified_push(number=7, seconds=600 - limits.SETTLING_SECONDS + 1))
    assert found(config, state, v1_2_4=1).changes == ()
    state = state_of(config, unverified_push(number=7, seconds=600 - limits.SETTLING_SECONDS))
    findings = found(config, state, v1_2_4=1)
    unknown = Precondition(is_tracked=False, digest=None)
    assert findings.changes == (
        RegistryAnswer(entry="app", tag="1.2.4", digest=digest(1), time=NOW, precondition=unknown),
    )
    assert after(config, state, findings)[0].entries["app"].unverified == ()


def test_an_unverified_push_whose_tag_stays_absent_expires() -> None:
    config = config_of()
    limit = limits.UNVERIFIED_SECONDS
    state = state_of(config, unverified_push(seconds=600 - limit + 1))
    assert after(config, state, found(config, state, v1_2_4=None)) == (state, ("unchanged",))
    state = state_of(config, unverified_push(seconds=600 - limit))
    expired, outcomes = after(config, state, found(config, state, v1_2_4=None))
    assert expired.entries["app"].unverified == ()
    assert outcomes == ("verification_expired",)


def test_an_unverified_push_does_not_expire_while_its_registry_does_not_answer() -> None:
    config = config_of()
    state = state_of(config, unverified_push(seconds=-99 * limits.UNVERIFIED_SECONDS))
    assert found(config, state, v1_2_4="401").changes == ()


# Any missed webhooks

TAGS = st.sampled_from(["1.2.3", "1.2.4", "1.2.5", "1.3.0", "1.3.1", "1.4.0", "2.0.0", "2.1.0"])
ACTS = st.lists(st.tuples(TAGS, st.none() | st.integers(1, 3)), max_size=20)


Acts = Sequence[tuple[str, int | None]]
"""Pushes and deletions of tags: the number of the digest, or None for a deletion."""


def registry_after(acts: Acts) -> dict[str, int]:
    """Return the digests that a registry has after pushes and deletions, by tag."""
    content = {"1.2.3": 9}
    for tag, number in acts:
        if number is not None:
            content[tag] = number
        elif tag != "1.2.3":
            content.pop(tag, None)
    return content


def checked(config: Config, state: State, content: Mapping[str, int]) -> State:
    """Return the state after a check that finds this content in the registry."""
    listings = {parse(NAME): tuple(content)}
    questions = catch_up.questions(config, state, listings)
    answers: dict[Reference, Answer] = {
        q.reference: Present(digest(content[q.tag])) if q.tag in content else Absent()
        for q in questions
    }
    findings = catch_up.findings(config, state, questions, answers, time=NOW)
    return decide.apply(config, state, findings.changes)[0]


def reported(acts: Acts) -> list[Change]:
    """Return the changes that webhooks ask for, one a second."""
    return [
        deletion(tag, seconds=second) if number is None else push(tag, number, seconds=second)
        for second, (tag, number) in enumerate(acts)
        if number is not None or tag != "1.2.3"
    ]


@given(ACTS, st.data())
def test_a_check_finds_the_same_whatever_webhooks_were_missed(
    acts: Acts, data: st.DataObject
) -> None:
    config = config_of()
    missed = data.draw(st.sets(st.integers(0, max(len(acts) - 1, 0))))
    some = [change for n, change in enumerate(reported(acts)) if n not in missed]
    content = registry_after(acts)

    all_reported = checked(config, state_of(config, *reported(acts)), content)
    some_reported = checked(config, state_of(config, *some), content)

    def contents(state: State) -> list[tuple[str, str | None]]:
        return [(tag.name, tag.digest) for tag in state.entries["app"].tags]

    assert contents(some_reported) == contents(all_reported)
    others = sorted(set(content) - {"1.2.3"}, reverse=True)[: config.keep_tags + limits.SPARE_TAGS]
    assert contents(some_reported) == [(tag, digest(content[tag])) for tag in [*others, "1.2.3"]]


@given(ACTS)
def test_a_second_check_finds_nothing(acts: Acts) -> None:
    config = config_of()
    content = registry_after(acts)
    once = checked(config, state_of(config, *reported(acts)), content)
    assert checked(config, once, content) == once


def test_listed_tags_in_lower_case_are_spelled_as_the_policy_tracks_them() -> None:
    config = config_of("2.7.18.RELEASE")
    state = state_of(config)
    listed = ["2.7.18.release", "2.7.19.release", "other"]
    assert asked(config, state, *listed) == ["2.7.18.RELEASE", "2.7.19.RELEASE"]
    assert asked(config, state, *listed, "2.7.18.RELEASE") == ["2.7.18.RELEASE"]
