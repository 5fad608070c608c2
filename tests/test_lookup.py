"""Many questions at once: bounded for each registry, and never longer than was said."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from image_puller import limits
from image_puller.errors import RefusedByRegistryError
from image_puller.lookup import Absent, Lookup, Present, Unanswered
from image_puller.reference import Reference, parse
from tests.building import digest
from tests.conftest import PATIENCE_SECONDS

APP = parse("quay.io/org/app:1")
OTHER = parse("quay.io/org/other:1")


class Answers:
    """Registries that answer what they are told to, as soon as the gate of their host is open."""

    def __init__(self) -> None:
        self.digests: dict[Reference, str | Exception] = {}
        self.listings: dict[Reference, tuple[str, ...] | Exception] = {}
        self.closed: dict[str, threading.Event] = {}
        self.asked: list[tuple[Reference, float]] = []
        self.at_once: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self._lock = threading.Lock()

    def digest(self, reference: Reference, *, timeout: float) -> str | None:
        with self._asking(reference, timeout):
            found = self.digests.get(reference)
        if isinstance(found, Exception):
            raise found
        return found

    def tags(self, name: Reference, *, timeout: float) -> tuple[str, ...]:
        with self._asking(name, timeout):
            found = self.listings.get(name, ())
        if isinstance(found, Exception):
            raise found
        return found

    def close(self, registry: str) -> None:
        """Let the registry answer nothing until `open_all`."""
        self.closed[registry] = threading.Event()

    def open_all(self) -> None:
        for gate in self.closed.values():
            gate.set()

    def _asking(self, reference: Reference, timeout: float) -> "_Asking":
        return _Asking(self, reference, timeout)


class _Asking:
    def __init__(self, answers: Answers, reference: Reference, timeout: float) -> None:
        self._answers, self._reference, self._timeout = answers, reference, timeout

    def __enter__(self) -> None:
        answers, host = self._answers, self._reference.registry
        with answers._lock:
            answers.asked.append((self._reference, self._timeout))
            answers.at_once[host] = answers.at_once.get(host, 0) + 1
            answers.most[host] = max(answers.most.get(host, 0), answers.at_once[host])
        if host in answers.closed:
            assert answers.closed[host].wait(PATIENCE_SECONDS)

    def __exit__(self, *_: object) -> None:
        with self._answers._lock:
            self._answers.at_once[self._reference.registry] -= 1


@pytest.fixture
def answers() -> Iterator[Answers]:
    answers = Answers()
    yield answers
    answers.open_all()


@pytest.fixture
def lookup(answers: Answers) -> Iterator[Lookup]:
    lookup = Lookup(answers)
    yield lookup
    lookup.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_each_question_has_its_answer(lookup: Lookup, answers: Answers) -> None:
    refused = parse("ghcr.io/org/app:1")
    answers.digests = {APP: digest(1), refused: RefusedByRegistryError("not for you")}
    assert lookup.digests([APP, OTHER, refused], seconds=5) == {
        APP: Present(digest(1)),
        OTHER: Absent(),
        refused: Unanswered("not for you"),
    }


def test_tags_are_listed_in_the_same_way(lookup: Lookup, answers: Answers) -> None:
    answers.listings = {APP: ("1", "2"), OTHER: RefusedByRegistryError("not for you")}
    assert lookup.tags([APP, OTHER], seconds=5) == {
        APP: ("1", "2"),
        OTHER: Unanswered("not for you"),
    }


def test_nothing_is_asked_twice_or_for_longer_than_one_question_may_take(
    lookup: Lookup, answers: Answers
) -> None:
    lookup.digests([APP, APP], seconds=1000)
    ((_, timeout),) = answers.asked
    assert timeout == limits.QUESTION_SECONDS


def test_a_registry_that_says_nothing_holds_up_neither_its_asker_nor_the_others(
    lookup: Lookup, answers: Answers
) -> None:
    answers.close("quay.io")
    other = parse("ghcr.io/org/app:1")
    answers.digests = {other: digest(1)}
    started = time.monotonic()
    found = lookup.digests([APP, other], seconds=0.05)
    assert time.monotonic() - started < 2
    assert found == {
        APP: Unanswered(f"registry quay.io did not say in time what {APP} is"),
        other: Present(digest(1)),
    }


def test_a_registry_is_asked_a_few_questions_at_once(lookup: Lookup, answers: Answers) -> None:
    answers.close("quay.io")
    images = [parse(f"quay.io/org/app:{number}") for number in range(20)]
    asking = threading.Thread(target=lookup.digests, args=(images,), kwargs={"seconds": 5})
    asking.start()
    wait_until(lambda: answers.at_once.get("quay.io") == limits.QUESTIONS_AT_ONCE)
    answers.open_all()
    asking.join(PATIENCE_SECONDS)
    assert len(answers.asked) == len(images)
    assert answers.most == {"quay.io": limits.QUESTIONS_AT_ONCE}


def test_what_waits_behind_a_slow_registry_is_not_asked_once_its_time_is_over(
    lookup: Lookup, answers: Answers
) -> None:
    answers.close("quay.io")
    images = [parse(f"quay.io/org/app:{number}") for number in range(20)]
    lookup.digests(images, seconds=0.05)
    answers.open_all()
    lookup.digests([OTHER], seconds=5)
    assert len(answers.asked) == limits.QUESTIONS_AT_ONCE + 1
