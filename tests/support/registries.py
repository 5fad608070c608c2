"""Fake registries, whose answers a test sets and may delay."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from image_puller.values.reference import Reference

TIMEOUT_SECONDS = 10


class FakeRegistries:
    """Registries that answer with the digests, tags and errors that a test has set."""

    def __init__(self) -> None:
        self.digests: dict[Reference, str | Exception] = {}
        self.listings: dict[Reference, tuple[str, ...] | Exception] = {}
        self.kinds: dict[str, str | Exception] = {}
        """What is no image, by digest."""
        self.kinds_asked: list[Reference] = []
        self.asked: list[tuple[Reference, float]] = []
        """What was asked for, with the timeout in seconds."""
        self.open_questions: dict[str, int] = {}
        """The number of questions that wait for an answer now, by registry."""
        self.most_open_questions: dict[str, int] = {}
        self._failures: dict[str, Exception] = {}
        self._gates: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def digest(self, reference: Reference, *, timeout: float) -> str | None:
        with self._question(reference, timeout):
            answer = self._failures.get(reference.registry, self.digests.get(reference))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def other_kind(self, reference: Reference, *, timeout: float) -> str | None:
        assert timeout > 0
        self.kinds_asked.append(reference)
        answer = self.kinds.get(str(reference.digest))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def tags(self, name: Reference, *, timeout: float) -> tuple[str, ...]:
        with self._question(name, timeout):
            answer = self._failures.get(name.registry, self.listings.get(name, ()))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self, registry: str) -> None:
        """Let the registry answer nothing until `open_all`."""
        self._gates[registry] = threading.Event()

    def fail(self, registry: str, error: Exception) -> None:
        """Let the registry answer each question with this error."""
        self._failures[registry] = error

    def open_all(self) -> None:
        """Let closed registries answer."""
        for gate in self._gates.values():
            gate.set()

    @contextmanager
    def _question(self, reference: Reference, timeout: float) -> Iterator[None]:
        registry = reference.registry
        with self._lock:
            self.asked.append((reference, timeout))
            number = self.open_questions.get(registry, 0) + 1
            self.open_questions[registry] = number
            self.most_open_questions[registry] = max(
                self.most_open_questions.get(registry, 0), number
            )
        try:
            if registry in self._gates:
                assert self._gates[registry].wait(TIMEOUT_SECONDS)
            yield
        finally:
            with self._lock:
                self.open_questions[registry] -= 1
