"""Lookup asks many questions at once: a few at a time for each registry, until a deadline."""

import threading
import time

from image_puller import limits
from image_puller.errors import (
    RefusedByRegistryError,
    RegistryUnavailableError,
    UnknownRegistryError,
)
from image_puller.registries.lookup import Lookup
from image_puller.values.answers import Absent, OtherArtifact, Present, Unanswered
from image_puller.values.reference import parse
from tests.support.building import digest
from tests.support.registries import FakeRegistries
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

APP = parse("quay.io/org/app:1")
OTHER = parse("quay.io/org/other:1")


def test_digests_are_returned_for_each_image(lookup: Lookup, registries: FakeRegistries) -> None:
    refused = parse("ghcr.io/org/app:1")
    registries.digests = {APP: digest(1), refused: RefusedByRegistryError("access denied")}
    assert lookup.digests([APP, OTHER, refused], seconds=5) == {
        APP: Present(digest(1)),
        OTHER: Absent(),
        refused: Unanswered("access denied", is_unqueryable=True),
    }


def test_tags_are_returned_for_each_repository(lookup: Lookup, registries: FakeRegistries) -> None:
    registries.listings = {APP: ("1", "2"), OTHER: RefusedByRegistryError("access denied")}
    assert lookup.tags([APP, OTHER], seconds=5) == {
        APP: ("1", "2"),
        OTHER: Unanswered("access denied", is_unqueryable=True),
    }


def test_repeated_question_is_asked_once_with_the_timeout_of_one_question(
    lookup: Lookup, registries: FakeRegistries
) -> None:
    lookup.digests([APP, APP], seconds=1000)
    ((_, timeout),) = registries.asked
    assert timeout == limits.QUESTION_SECONDS


def test_silent_registry_delays_no_answers_beyond_the_deadline(
    lookup: Lookup, registries: FakeRegistries
) -> None:
    registries.close("quay.io")
    other = parse("ghcr.io/org/app:1")
    registries.digests = {other: digest(1)}
    started = time.monotonic()
    found = lookup.digests([APP, other], seconds=1)
    assert time.monotonic() - started < 5
    assert found == {
        APP: Unanswered(f"registry quay.io did not answer in time about {APP}"),
        other: Present(digest(1)),
    }


def test_registry_is_asked_a_few_questions_at_once(
    lookup: Lookup, registries: FakeRegistries
) -> None:
    registries.close("quay.io")
    images = [parse(f"quay.io/org/app:{number}") for number in range(20)]
    asking = threading.Thread(target=lookup.digests, args=(images,), kwargs={"seconds": 5})
    asking.start()
    wait_until(lambda: registries.open_questions.get("quay.io") == limits.QUESTIONS_AT_ONCE)
    registries.open_all()
    asking.join(TIMEOUT_SECONDS)
    assert len(registries.asked) == len(images)
    assert registries.most_open_questions == {"quay.io": limits.QUESTIONS_AT_ONCE}


def test_waiting_questions_are_not_asked_after_the_deadline(
    lookup: Lookup, registries: FakeRegistries
) -> None:
    registries.close("quay.io")
    images = [parse(f"quay.io/org/app:{number}") for number in range(20)]
    lookup.digests(images, seconds=1)
    registries.open_all()
    lookup.digests([OTHER], seconds=5)
    assert len(registries.asked) == limits.QUESTIONS_AT_ONCE + 1


UNAVAILABLE = RegistryUnavailableError("no connection to quay.io")


def test_registry_is_not_asked_again_by_the_same_call_after_several_failures(
    lookup: Lookup, registries: FakeRegistries
) -> None:
    images = [parse(f"quay.io/org/app:{number}") for number in range(100)]
    registries.digests = dict.fromkeys(images, UNAVAILABLE)
    found = lookup.digests(images, seconds=5)
    assert set(found.values()) == {Unanswered("no connection to quay.io")}
    assert limits.FAILURES <= len(registries.asked) < limits.FAILURES + limits.QUESTIONS_AT_ONCE
    registries.asked.clear()
    registries.digests = {APP: digest(1)}
    assert lookup.digests([APP], seconds=5) == {APP: Present(digest(1))}


def test_question_that_always_fails_does_not_block_other_questions(
    lookup: Lookup, registries: FakeRegistries
) -> None:
    images = [parse(f"quay.io/org/app:{number}") for number in range(100)]
    registries.digests = {image: digest(1) for image in images}
    registries.digests |= dict.fromkeys(images[::10], UNAVAILABLE)
    found = lookup.digests(images, seconds=5)
    assert [*found.values()].count(Present(digest(1))) == 90


# What a manifest is


def test_a_tag_that_is_no_image_is_another_artifact(
    lookup: Lookup, registries: FakeRegistries
) -> None:
    registries.digests = {APP: digest(1), OTHER: digest(2)}
    registries.kinds = {digest(2): "a chart"}
    assert lookup.digests([APP, OTHER], seconds=5) == {
        APP: Present(digest(1)),
        OTHER: OtherArtifact(digest(2), "a chart"),
    }


def test_a_digest_that_is_known_to_be_an_images_is_not_asked_about(
    lookup: Lookup, registries: FakeRegistries
) -> None:
    registries.digests = {APP: digest(1)}
    assert lookup.digests([APP], seconds=5, images=[digest(1)]) == {APP: Present(digest(1))}
    assert registries.kinds_asked == []


def test_a_tag_is_unanswered_where_its_registry_does_not_show_the_manifest(
    lookup: Lookup, registries: FakeRegistries
) -> None:
    registries.digests = {APP: digest(1)}
    registries.kinds = {digest(1): UNAVAILABLE}
    assert lookup.digests([APP], seconds=5) == {APP: Unanswered(str(UNAVAILABLE))}


def test_whether_a_registry_answered_is_noted_after_each_question(
    registries: FakeRegistries,
) -> None:
    noted: list[tuple[str, bool]] = []

    def note(registry: str, *, is_reachable: bool) -> None:
        noted.append((registry, is_reachable))

    lookup = Lookup(registries, note=note)
    registries.digests = {APP: RegistryUnavailableError("down"), OTHER: digest(1)}
    lookup.digests([APP], seconds=5)
    lookup.digests([OTHER], seconds=5)
    registries.listings = {APP: RefusedByRegistryError("access denied")}
    lookup.tags([APP], seconds=5)
    assert noted == [("quay.io", False), ("quay.io", True), ("quay.io", True)]
    # A host that is not asked has no answer, and its name may come from outside.
    registries.digests = {APP: UnknownRegistryError("no entry names it")}
    lookup.digests([APP], seconds=5)
    registries.digests = {APP: RegistryUnavailableError("it took too long to answer")}
    lookup.digests([APP], seconds=-1)
    assert len(noted) == 3
    lookup.close()
