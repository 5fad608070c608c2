"""Simulated registries, which answer what a test says, and when."""

import threading

from image_puller.values.reference import Reference

TIMEOUT_SECONDS = 10


class Answers:
    """Registries that answer what they are told to, as soon as the gate of their host is open."""

    def __init__(self) -> None:
        self.digests: dict[Reference, str | Exception] = {}
        self.listings: dict[Reference, tuple[str, ...] | Exception] = {}
        self.closed: dict[str, threading.Event] = {}
        self.failures: dict[str, Exception] = {}
        self.asked: list[tuple[Reference, float]] = []
        self.at_once: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self._lock = threading.Lock()

    def digest(self, reference: Reference, *, timeout: float) -> str | None:
        with self._asking(reference, timeout):
            found = self.failures.get(reference.registry, self.digests.get(reference))
        if isinstance(found, Exception):
            raise found
        return found

    def tags(self, name: Reference, *, timeout: float) -> tuple[str, ...]:
        with self._asking(name, timeout):
            found = self.failures.get(name.registry, self.listings.get(name, ()))
        if isinstance(found, Exception):
            raise found
        return found

    def close(self, registry: str) -> None:
        """Let the registry answer nothing until `open_all`."""
        self.closed[registry] = threading.Event()

    def fail(self, registry: str, error: Exception) -> None:
        """Let the registry fail with this error, whatever it is asked."""
        self.failures[registry] = error

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
            assert answers.closed[host].wait(TIMEOUT_SECONDS)

    def __exit__(self, *_: object) -> None:
        with self._answers._lock:
            self._answers.at_once[self._reference.registry] -= 1
