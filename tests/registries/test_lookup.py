"""Lookup asks many questions at once: a few at a time for each registry, until a deadline."""

import threading
import time

from image_puller import limits
from image_puller.errors import RefusedByRegistryError, RegistryUnavailableError
from image_puller.registries.lookup import Lookup
from image_puller.values.answers import Absent, Present, Unanswered
from image_puller.values.reference import parse
from tests.support.building import digest
from tests.support.registries import Answers
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

APP = parse("quay.io/org/app:1")
OTHER = parse("quay.io/org/other:1")


def test_digests_are_returned_for_each_image(lookup: Lookup, answers: Answers) -> None:
    refused = parse("ghcr.io/org/app:1")
    answers.digests = {APP: digest(1), refused: RefusedByRegistryError("access denied")}
    assert lookup.digests([APP, OTHER, refused], seconds=5) == {
        APP: Present(digest(1)),
        OTHER: Absent(),
        refused: Unanswered("access denied", is_unqueryable=True),
    }


def test_tags_are_returned_for_each_repository(lookup: Lookup, answers: Answers) -> None:
    answers.listings = {APP: ("1", "2"), OTHER: RefusedByRegistryError("access denied")}
    assert lookup.tags([APP, OTHER], seconds=5) == {
        APP: ("1", "2"),
        OTHER: Unanswered("access denied", is_unqueryable=True),
    }


def test_repeated_question_is_asked_once_with_the_timeout_of_one_question(
    lookup: Lookup, answers: Answers
) -> None:
    lookup.digests([APP, APP], seconds=1000)
    ((_, timeout),) = answers.asked
    assert timeout == limits.QUESTION_SECONDS


def test_silent_registry_delays_no_answers_beyond_the_deadline(
    lookup: Lookup, answers: Answers
) -> None:
    answers.close("quay.io")
    other = parse("ghcr.io/org/app:1")
    answers.digests = {other: digest(1)}
    started = time.monotonic()
    found = lookup.digests([APP, other], seconds=1)
    assert time.monotonic() - started < 5
    assert found == {
        APP: Unanswered(f"registry quay.io did not answer in time about {APP}"),
        other: Present(digest(1)),
    }


def test_registry_is_asked_a_few_questions_at_once(lookup: Lookup, answers: Answers) -> None:
    answers.close("quay.io")
    images = [parse(f"quay.io/org/app:{number}") for number in range(20)]
    asking = threading.Thread(target=lookup.digests, args=(images,), kwargs={"seconds": 5})
    asking.start()
    wait_until(lambda: answers.at_once.get("quay.io") == limits.QUESTIONS_AT_ONCE)
    answers.open_all()
    asking.join(TIMEOUT_SECONDS)
    assert len(answers.asked) == len(images)
    assert answers.most == {"quay.io": limits.QUESTIONS_AT_ONCE}


def test_waiting_questions_are_not_asked_after_the_deadline(
    lookup: Lookup, answers: Answers
) -> None:
    answers.close("quay.io")
    images = [parse(f"quay.io/org/app:{number}") for number in range(20)]
    lookup.digests(images, seconds=1)
    answers.open_all()
    lookup.digests([OTHER], seconds=5)
    assert len(answers.asked) == limits.QUESTIONS_AT_ONCE + 1


UNAVAILABLE = RegistryUnavailableError("no connection to quay.io")


def test_registry_is_not_asked_again_by_the_same_call_after_several_failures(
    lookup: Lookup, answers: Answers
) -> None:
    images = [parse(f"quay.io/org/app:{number}") for number in range(100)]
    answers.digests = dict.fromkeys(images, UNAVAILABLE)
    found = lookup.digests(images, seconds=5)
    assert set(found.values()) == {Unanswered("no connection to quay.io")}
    assert limits.FAILURES <= len(answers.asked) < limits.FAILURES + limits.QUESTIONS_AT_ONCE
    answers.asked.clear()
    answers.digests = {APP: digest(1)}
    assert lookup.digests([APP], seconds=5) == {APP: Present(digest(1))}


def test_question_that_always_fails_does_not_block_other_questions(
    lookup: Lookup, answers: Answers
) -> None:
    images = [parse(f"quay.io/org/app:{number}") for number in range(100)]
    answers.digests = {image: digest(1) for image in images}
    answers.digests |= dict.fromkeys(images[::10], UNAVAILABLE)
    found = lookup.digests(images, seconds=5)
    assert [*found.values()].count(Present(digest(1))) == 90
