"""How far a sender is believed, and what its push becomes by its registry's answer."""

import pytest

from image_puller import limits
from image_puller.core import verification
from image_puller.core.changes import (
    AwaitVerification,
    CheckDaemonSet,
    EnsureExists,
    RegistryAnswer,
)
from image_puller.core.verification import Trust
from image_puller.values.answers import Absent, Present, Unanswered
from image_puller.values.reference import parse
from tests.support.building import at, configuration, deletion, digest, push

CONFIG = configuration(IMAGES="app=quay.io/org/app:1.2.3;same=quay.io/org/app:1.0.0")
NEWER = parse("quay.io/org/app:1.2.4")
ASKED = at(60)

NAMED, BARE = push("1.2.4", 1, seconds=5), push("1.2.4", None, seconds=5)
OTHER = push("1.2.4", 2, seconds=5)
AS_FOUND = RegistryAnswer(entry="app", tag="1.2.4", digest=digest(1), time=ASKED)


def held(change, reason):
    return AwaitVerification(
        entry="app", tag="1.2.4", digest=change.digest, time=change.time, reason=reason
    )


def settled(change, trust, answer):
    answers = {} if answer is None else {NEWER: answer}
    (settled,) = verification.settle(CONFIG, [change], trust, answers, asked=ASKED)
    return settled


GONE = f"quay.io has no {NEWER}"
TABLE = [
    # A sender's word counts; the registry says what it leaves out.
    (NAMED, Trust.FULL, Present(digest(9)), NAMED),
    (BARE, Trust.FULL, Present(digest(1)), NAMED),
    (BARE, Trust.FULL, Absent(), BARE),
    (BARE, Trust.FULL, Unanswered("away"), BARE),
    (BARE, Trust.FULL, None, BARE),
    # Its word counts once it is confirmed.
    (NAMED, Trust.AFTER_VERIFICATION, Present(digest(1)), NAMED),
    (BARE, Trust.AFTER_VERIFICATION, Present(digest(1)), NAMED),
    (
        OTHER,
        Trust.AFTER_VERIFICATION,
        Present(digest(1)),
        held(OTHER, f"quay.io has {digest(1)} for 1.2.4"),
    ),
    (NAMED, Trust.AFTER_VERIFICATION, Absent(), held(NAMED, GONE)),
    (NAMED, Trust.AFTER_VERIFICATION, Unanswered("away"), held(NAMED, "away")),
    (BARE, Trust.AFTER_VERIFICATION, Unanswered("away"), held(BARE, "away")),
    (NAMED, Trust.AFTER_VERIFICATION, None, held(NAMED, verification.NOT_ASKED.reason)),
    # It says when to look.
    (NAMED, Trust.NONE, Present(digest(1)), AS_FOUND),
    (OTHER, Trust.NONE, Present(digest(1)), AS_FOUND),
    (NAMED, Trust.NONE, Absent(), CheckDaemonSet()),
    (NAMED, Trust.NONE, Unanswered("away"), CheckDaemonSet()),
    (NAMED, Trust.NONE, None, CheckDaemonSet()),
]


@pytest.mark.parametrize(("change", "trust", "answer", "expected"), TABLE)
def test_a_push_becomes_what_its_sender_and_its_registry_make_of_it(
    change, trust, answer, expected
):
    assert settled(change, trust, answer) == expected


@pytest.mark.parametrize("trust", Trust)
def test_of_a_deletion_only_a_word_that_counts_is_believed(trust):
    change = deletion("1.2.4")
    expected = change if trust is Trust.FULL else CheckDaemonSet()
    assert settled(change, trust, Absent()) == expected


@pytest.mark.parametrize("trust", Trust)
@pytest.mark.parametrize("change", [EnsureExists(), CheckDaemonSet()])
def test_who_says_when_to_look_is_heard(change, trust):
    assert settled(change, trust, None) == change


def asked(changes, trust):
    return verification.questions(CONFIG, changes, trust)


def test_only_what_is_open_is_asked():
    assert asked([NAMED, EnsureExists(), deletion("1.2.4")], Trust.FULL) == ()
    assert asked([BARE], Trust.FULL) == (NEWER,)
    assert asked([NAMED, deletion("1.2.4")], Trust.AFTER_VERIFICATION) == (NEWER,)
    assert asked([NAMED], Trust.NONE) == (NEWER,)


def test_an_image_of_two_entries_is_asked_about_once():
    assert asked([BARE, push("1.2.4", None, entry="same")], Trust.FULL) == (NEWER,)


def test_one_request_can_not_make_registries_be_asked_for_ever():
    changes = [push(f"1.2.{number}", None) for number in range(5, 500)]
    assert len(asked(changes, Trust.AFTER_VERIFICATION)) == limits.QUESTIONS


def test_why_registries_did_not_say_is_told_once():
    answers = {NEWER: Unanswered("away"), parse("a.b/c:1"): Unanswered("away"),
               parse("a.b/c:2"): Absent(), parse("a.b/c:3"): Present(digest(1))}  # fmt: skip
    assert verification.reasons(answers) == ("away",)


@pytest.mark.parametrize("policy", ["any", "glob:*", "regex:.*"])
def test_a_hint_does_not_put_an_old_tag_before_others(policy):
    config = configuration(IMAGES="app=quay.io/org/app:main", IMAGE_TAG_POLICIES=f"app={policy}")

    def hinted(tag):
        answers = {parse(f"quay.io/org/app:{tag}"): Present(digest(1))}
        return verification.settle(config, [push(tag, 1)], Trust.NONE, answers, asked=ASKED)

    assert hinted("old") == (CheckDaemonSet(),)
    assert hinted("main") == (
        RegistryAnswer(entry="app", tag="main", digest=digest(1), time=ASKED),
    )
