"""What registries know and no webhook has said."""

from hypothesis import given
from hypothesis import strategies as st

from image_puller import limits
from image_puller.core import catch_up, decide
from image_puller.core.catch_up import Question
from image_puller.core.changes import AwaitVerification, Precondition, RegistryAnswer, TrackTag
from image_puller.values.answers import Absent, Present, Unanswered
from image_puller.values.reference import parse
from tests.support.building import at, configuration, deletion, digest, push, state_of

NAME = "quay.io/org/app"
NOW = at(600)


def config_of(image="1.2.3", policy="auto"):
    return configuration(IMAGES=f"app={NAME}:{image}", IMAGE_TAG_POLICIES=f"app={policy}")


def asked(config, state, *listed):
    """The tags that are asked about, where these are listed."""
    listings = {parse(NAME): listed} if listed else {}
    return [question.tag for question in catch_up.questions(config, state, listings)]


def found(config, state, **answers):
    """What the answers make of it; digests by number, None for absent, a text for unanswered."""
    kinds = {int: lambda n: Present(digest(n)), type(None): lambda _: Absent(), str: Unanswered}
    known = {name.replace("_", "."): kinds[type(value)](value) for name, value in answers.items()}
    questions = [
        Question(entry="app", reference=parse(f"{NAME}:{name.removeprefix('v')}")) for name in known
    ]
    by_reference = dict(zip((q.reference for q in questions), known.values(), strict=True))
    return catch_up.findings(config, state, questions, by_reference, time=NOW)


def after(config, state, findings):
    """The state, and outcomes, after what was found."""
    return decide.apply(config, state, findings.changes)


def names(state):
    return [tag.name for tag in state.entries["app"].tags]


# What is asked


def test_the_configured_tag_is_asked_about_and_all_that_are_followed():
    config = config_of()
    state = state_of(config, push("1.2.4", 1), push("1.2.5", 1))
    assert asked(config, state) == ["1.2.3", "1.2.5", "1.2.4"]


def test_what_is_pinned_is_not_asked_about():
    config = config_of(policy="pinned")
    assert asked(config, state_of(config)) == []
    config = configuration(IMAGES=f"app={NAME}@{digest(1)}")
    assert asked(config, state_of(config)) == []


def test_as_many_newer_versions_as_are_remembered_are_asked_about():
    config = config_of()
    listed = ["latest", "1.2.2", "1.2.3", *(f"1.3.{n}" for n in range(9)), "2.0.0-rc.1", "2.0.0"]
    newest = ["2.0.0", *(f"1.3.{n}" for n in range(8, 3, -1))]
    assert asked(config, state_of(config), *listed) == ["1.2.3", *newest]
    assert len(newest) == config.keep_tags + limits.SPARE_TAGS


def test_a_listing_has_no_times_so_only_what_orders_its_tags_finds_newer_ones():
    for policy in ("any", "glob:*", "regex:.*", "exact"):
        config = config_of(policy=policy)
        assert catch_up.repositories(config) == ()
        assert asked(config, state_of(config), "1.2.4", "9.9.9") == ["1.2.3"]
    for policy in ("auto", "semver:>=1"):
        config = config_of(policy=policy)
        assert catch_up.repositories(config) == (parse(NAME),)
        assert asked(config, state_of(config), "1.2.4") == ["1.2.3", "1.2.4"]


def test_a_repository_of_two_entries_is_listed_once():
    config = configuration(IMAGES=f"a={NAME}:1.0.0;b={NAME}:2.0.0;c={NAME}:latest")
    assert catch_up.repositories(config) == (parse(NAME),)


def test_where_tags_can_not_be_listed_the_known_ones_are_asked_about():
    config = config_of()
    listings = {parse(NAME): Unanswered("away")}
    questions = catch_up.questions(config, state_of(config), listings)
    assert [question.tag for question in questions] == ["1.2.3"]
    assert catch_up.unlisted(listings) == ("away",)


# What the answers change


def test_a_tag_that_moved_is_tracked_to_where_it_moved():
    config = config_of("latest")
    state = state_of(config, push("latest", 1))
    moved, outcomes = after(config, state, found(config, state, latest=2))
    (tag,) = moved.entries["app"].tags
    assert (tag.digest, tag.mutated, tag.time) == (digest(2), True, NOW)
    assert outcomes == ("mutated",)


def test_a_tag_that_stayed_stays_as_it_is():
    config = config_of("latest")
    state = state_of(config, push("latest", 1))
    once, outcomes = after(config, state, found(config, state, latest=1))
    (tag,) = once.entries["app"].tags
    assert (tag.digest, tag.mutated, tag.time, tag.confirmed) == (digest(1), True, at(0), True)
    assert outcomes == ("unchanged",)
    assert after(config, once, found(config, once, latest=1)) == (once, ("unchanged",))


def test_the_first_digest_of_the_configured_tag_is_no_move():
    config = config_of("latest")
    state = state_of(config)
    learned, outcomes = after(config, state, found(config, state, latest=1))
    (tag,) = learned.entries["app"].tags
    assert (tag.digest, tag.mutated) == (digest(1), False)
    assert outcomes == ("tracked",)


def test_a_digest_that_nobody_could_say_is_learned():
    config = config_of("latest")
    state = state_of(config, push("latest", None))
    learned, outcomes = after(config, state, found(config, state, latest=1))
    (tag,) = learned.entries["app"].tags
    assert (tag.digest, tag.mutated, tag.time) == (digest(1), True, at(0))
    assert outcomes == ("digest_completed",)


def test_a_newer_version_is_tracked_as_if_its_push_had_been_heard_of():
    config = config_of()
    state = state_of(config, push("1.2.4", 1))
    caught_up, _ = after(config, state, found(config, state, v1_2_3=3, v1_2_4=1, v1_2_5=2))
    assert names(caught_up) == ["1.2.5", "1.2.4", "1.2.3"]


def test_a_tag_that_is_gone_is_forgotten():
    config = config_of()
    state = state_of(config, push("1.2.4", 1), push("1.2.5", 2))
    left, outcomes = after(config, state, found(config, state, v1_2_3=3, v1_2_4=1, v1_2_5=None))
    assert names(left) == ["1.2.4", "1.2.3"]
    assert "untracked" in outcomes


def test_a_registry_that_shows_nothing_at_all_is_not_believed():
    config = config_of()
    state = state_of(config, push("1.2.4", 1))
    findings = found(config, state, v1_2_3=None, v1_2_4=None)
    assert findings.changes == ()
    assert findings.unqueryable == frozenset()
    assert findings.reasons == (
        f"registry quay.io shows nothing of {NAME}: was it deleted, or is a pull secret missing?",
    )


def test_a_configured_image_that_is_gone_stays_and_is_told_of():
    config = config_of()
    state = state_of(config, push("1.2.3", 1), push("1.2.4", 1))
    findings = found(config, state, v1_2_3=None, v1_2_4=1)
    (reason,) = findings.reasons
    assert reason.startswith(f"{NAME}:1.2.3 is configured, but its registry does not have it; ")
    assert names(after(config, state, findings)[0]) == ["1.2.4", "1.2.3"]


def test_what_a_registry_did_not_say_changes_nothing_and_is_told_of():
    config = config_of()
    state = state_of(config, push("1.2.4", 1))
    findings = found(config, state, v1_2_3="away", v1_2_4="away")
    assert findings.changes == ()
    assert findings.unqueryable == frozenset()
    assert findings.reasons == ("away",)


def test_what_a_registry_does_not_show_to_us_nodes_may_be_shown():
    config = config_of()
    (question,) = catch_up.questions(config, state_of(config), {})
    answers = {question.reference: Unanswered("401", is_unqueryable=True)}
    findings = catch_up.findings(config, state_of(config), [question], answers, time=NOW)
    assert findings.unqueryable == {("app", "1.2.3")}


def test_a_push_that_was_heard_of_after_the_question_counts_more():
    config = config_of("latest")
    state = state_of(config, push("latest", 2, seconds=601))
    assert after(config, state, found(config, state, latest=1)) == (state, ("older",))
    state = state_of(config, push("1.2.4", 2, seconds=601))
    gone = RegistryAnswer(entry="app", tag="1.2.4", digest=None, time=NOW)
    assert decide.apply(config, state, [gone]) == (state, ("older",))


# Unverified pushes


def hold(tag="1.2.4", number=1, seconds=0.0, reason="away"):
    content = None if number is None else digest(number)
    return AwaitVerification(entry="app", tag=tag, digest=content, time=at(seconds), reason=reason)


def test_what_waits_for_its_registrys_word_is_asked_about():
    config = config_of()
    state = state_of(config, hold())
    assert [q.tag for q in catch_up.unverified(config, state)] == ["1.2.4"]
    assert asked(config, state) == ["1.2.3", "1.2.4"]


def test_a_push_that_is_confirmed_counts_as_it_was_made():
    config = config_of()
    state = state_of(config, hold(seconds=5))
    findings = found(config, state, v1_2_4=1)
    assert findings.changes == (TrackTag(entry="app", tag="1.2.4", digest=digest(1), time=at(5)),)
    tracked, _ = after(config, state, findings)
    assert names(tracked) == ["1.2.4"]
    assert tracked.entries["app"].unverified == ()


def test_of_a_push_with_another_digest_the_registry_is_believed_in_the_end():
    config = config_of()
    state = state_of(config, hold(number=7, seconds=600 - limits.SETTLING_SECONDS + 1))
    assert found(config, state, v1_2_4=1).changes == ()
    state = state_of(config, hold(number=7, seconds=600 - limits.SETTLING_SECONDS))
    findings = found(config, state, v1_2_4=1)
    unknown = Precondition(is_tracked=False, digest=None)
    assert findings.changes == (
        RegistryAnswer(entry="app", tag="1.2.4", digest=digest(1), time=NOW, precondition=unknown),
    )
    assert after(config, state, findings)[0].entries["app"].unverified == ()


def test_a_push_whose_tag_is_not_there_yet_goes_on_waiting_and_is_given_up_in_the_end():
    config = config_of()
    late = limits.UNVERIFIED_SECONDS
    state = state_of(config, hold(seconds=600 - late + 1))
    assert after(config, state, found(config, state, v1_2_4=None)) == (state, ("unchanged",))
    state = state_of(config, hold(seconds=600 - late))
    given_up, outcomes = after(config, state, found(config, state, v1_2_4=None))
    assert given_up.entries["app"].unverified == ()
    assert outcomes == ("verification_expired",)


def test_a_push_about_which_nobody_can_be_asked_waits_for_ever():
    config = config_of()
    state = state_of(config, hold(seconds=-99 * limits.UNVERIFIED_SECONDS))
    assert found(config, state, v1_2_4="401").changes == ()


# Whatever was missed

TAGS = st.sampled_from(["1.2.3", "1.2.4", "1.2.5", "1.3.0", "1.3.1", "1.4.0", "2.0.0", "2.1.0"])
ACTS = st.lists(st.tuples(TAGS, st.none() | st.integers(1, 3)), max_size=20)


def registry_after(acts):
    """What a registry has after pushes (a number: the digest) and deletions (None)."""
    content = {"1.2.3": 9}
    for tag, number in acts:
        if number is not None:
            content[tag] = number
        elif tag != "1.2.3":
            content.pop(tag, None)
    return content


def looked(config, state, content):
    """The state after a look at a registry of that content."""
    listings = {parse(NAME): tuple(content)}
    questions = catch_up.questions(config, state, listings)
    answers = {
        q.reference: Present(digest(content[q.tag])) if q.tag in content else Absent()
        for q in questions
    }
    findings = catch_up.findings(config, state, questions, answers, time=NOW)
    return decide.apply(config, state, findings.changes)[0]


def heard(acts):
    """The changes that webhooks ask for, one a second."""
    return [
        deletion(tag, seconds=second) if number is None else push(tag, number, seconds=second)
        for second, (tag, number) in enumerate(acts)
        if number is not None or tag != "1.2.3"
    ]


@given(ACTS, st.data())
def test_whatever_webhooks_were_missed_a_look_ends_at_the_same(acts, data):
    config = config_of()
    missed = data.draw(st.sets(st.integers(0, max(len(acts) - 1, 0))))
    some = [change for n, change in enumerate(heard(acts)) if n not in missed]
    content = registry_after(acts)

    all_heard = looked(config, state_of(config, *heard(acts)), content)
    some_heard = looked(config, state_of(config, *some), content)

    def contents(state):
        return [(tag.name, tag.digest) for tag in state.entries["app"].tags]

    assert contents(some_heard) == contents(all_heard)
    others = sorted(set(content) - {"1.2.3"}, reverse=True)[: config.keep_tags + limits.SPARE_TAGS]
    assert contents(some_heard) == [(tag, digest(content[tag])) for tag in [*others, "1.2.3"]]


@given(ACTS)
def test_a_second_look_finds_nothing(acts):
    config = config_of()
    content = registry_after(acts)
    once = looked(config, state_of(config, *heard(acts)), content)
    assert looked(config, once, content) == once
