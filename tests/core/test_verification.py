"""Verification: what a push becomes by the trust in its sender and its registry's answer."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from image_puller import limits
from image_puller.core import verification
from image_puller.core.changes import (
    AwaitVerification,
    Change,
    CheckDaemonSet,
    EnsureExists,
    RegistryAnswer,
    TrackTag,
)
from image_puller.core.verification import Trust
from image_puller.values.answers import Absent, Answer, OtherArtifact, Present, Unanswered
from image_puller.values.reference import Reference, parse
from tests.support.building import at, configuration, deletion, digest, push

CONFIG = configuration(IMAGES="app=quay.io/org/app:1.2.3;same=quay.io/org/app:1.0.0")
NEWER = parse("quay.io/org/app:1.2.4")
ASKED = at(60)

COMPLETE = push("1.2.4", 1, seconds=5)
INCOMPLETE = push("1.2.4", None, seconds=5)
OTHER = push("1.2.4", 2, seconds=5)
FROM_REGISTRY = RegistryAnswer(entry="app", tag="1.2.4", digest=digest(1), time=ASKED)

NO_IMAGE = replace(FROM_REGISTRY, other_kind="a chart")


def awaiting(change: TrackTag, reason: str) -> AwaitVerification:
    return AwaitVerification(
        entry="app", tag="1.2.4", digest=change.digest, time=change.time, reason=reason
    )


def settled(change: Change, trust: Trust, answer: Answer | None) -> Change:
    answers = {} if answer is None else {NEWER: answer}
    (change,) = verification.settle(CONFIG, [change], trust, answers, asked=ASKED)
    return change


ABSENT = f"quay.io has no {NEWER}"
TABLE = [
    # A trusted push counts. The registry completes its digest.
    (COMPLETE, Trust.FULL, Present(digest(9)), COMPLETE),
    (INCOMPLETE, Trust.FULL, Present(digest(1)), COMPLETE),
    (INCOMPLETE, Trust.FULL, OtherArtifact(digest(1), "a chart"), NO_IMAGE),
    (COMPLETE, Trust.AFTER_VERIFICATION, OtherArtifact(digest(1), "a chart"), NO_IMAGE),
    (COMPLETE, Trust.NONE, OtherArtifact(digest(1), "a chart"), NO_IMAGE),
    (INCOMPLETE, Trust.FULL, Absent(), INCOMPLETE),
    (INCOMPLETE, Trust.FULL, Unanswered("unavailable"), INCOMPLETE),
    (INCOMPLETE, Trust.FULL, None, INCOMPLETE),
    # A push that has to be verified counts once its registry has confirmed it.
    (COMPLETE, Trust.AFTER_VERIFICATION, Present(digest(1)), COMPLETE),
    (INCOMPLETE, Trust.AFTER_VERIFICATION, Present(digest(1)), COMPLETE),
    (
        OTHER,
        Trust.AFTER_VERIFICATION,
        Present(digest(1)),
        awaiting(OTHER, f"quay.io has {digest(1)} for 1.2.4"),
    ),
    (COMPLETE, Trust.AFTER_VERIFICATION, Absent(), awaiting(COMPLETE, ABSENT)),
    (
        COMPLETE,
        Trust.AFTER_VERIFICATION,
        Unanswered("unavailable"),
        awaiting(COMPLETE, "unavailable"),
    ),
    (
        INCOMPLETE,
        Trust.AFTER_VERIFICATION,
        Unanswered("unavailable"),
        awaiting(INCOMPLETE, "unavailable"),
    ),
    (COMPLETE, Trust.AFTER_VERIFICATION, None, awaiting(COMPLETE, verification.NOT_ASKED.reason)),
    # An untrusted push only causes a question.
    (COMPLETE, Trust.NONE, Present(digest(1)), FROM_REGISTRY),
    (OTHER, Trust.NONE, Present(digest(1)), FROM_REGISTRY),
    (COMPLETE, Trust.NONE, Absent(), CheckDaemonSet()),
    (COMPLETE, Trust.NONE, Unanswered("unavailable"), CheckDaemonSet()),
    (COMPLETE, Trust.NONE, None, CheckDaemonSet()),
]


@pytest.mark.parametrize(("change", "trust", "answer", "expected"), TABLE)
def test_a_push_is_settled_by_trust_and_answer(
    change: TrackTag, trust: Trust, answer: Answer | None, expected: Change
) -> None:
    assert settled(change, trust, answer) == expected


@pytest.mark.parametrize("trust", Trust)
def test_only_a_trusted_deletion_untracks(trust: Trust) -> None:
    change = deletion("1.2.4")
    expected = change if trust is Trust.FULL else CheckDaemonSet()
    assert settled(change, trust, Absent()) == expected


@pytest.mark.parametrize("trust", Trust)
@pytest.mark.parametrize("change", [EnsureExists(), CheckDaemonSet()])
def test_a_requested_check_needs_no_trust(change: Change, trust: Trust) -> None:
    assert settled(change, trust, None) == change


def asked(changes: Sequence[Change], trust: Trust) -> tuple[Reference, ...]:
    return verification.questions(CONFIG, changes, trust)


def test_registries_are_asked_only_about_pushes_that_need_an_answer() -> None:
    assert asked([COMPLETE, EnsureExists(), deletion("1.2.4")], Trust.FULL) == ()
    assert asked([INCOMPLETE], Trust.FULL) == (NEWER,)
    assert asked([COMPLETE, deletion("1.2.4")], Trust.AFTER_VERIFICATION) == (NEWER,)
    assert asked([COMPLETE], Trust.NONE) == (NEWER,)


def test_an_image_of_two_entries_is_asked_about_once() -> None:
    assert asked([INCOMPLETE, push("1.2.4", None, entry="same")], Trust.FULL) == (NEWER,)


def test_the_questions_of_one_request_are_bounded() -> None:
    changes = [push(f"1.2.{number}", None) for number in range(5, 500)]
    assert len(asked(changes, Trust.AFTER_VERIFICATION)) == limits.QUESTIONS


def test_each_reason_of_registries_is_returned_once() -> None:
    answers: dict[Reference, Answer] = {
        NEWER: Unanswered("unavailable"),
        parse("a.b/c:1"): Unanswered("unavailable"),
        parse("a.b/c:2"): Absent(),
        parse("a.b/c:3"): Present(digest(1)),
    }
    assert verification.reasons(answers) == ("unavailable",)


@pytest.mark.parametrize("policy", ["any", "glob:*", "regex:.*"])
def test_an_untrusted_push_does_not_make_an_old_tag_the_newest(policy: str) -> None:
    config = configuration(IMAGES="app=quay.io/org/app:main", IMAGE_TAG_POLICIES=f"app={policy}")

    def settled_push(tag: str) -> tuple[Change, ...]:
        answers = {parse(f"quay.io/org/app:{tag}"): Present(digest(1))}
        return verification.settle(config, [push(tag, 1)], Trust.NONE, answers, asked=ASKED)

    assert settled_push("old") == (CheckDaemonSet(),)
    assert settled_push("main") == (
        RegistryAnswer(entry="app", tag="main", digest=digest(1), time=ASKED),
    )
