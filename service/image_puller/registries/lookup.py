"""Questions to many registries at once, a few to each at a time, within a deadline.

A question that has no answer at the deadline counts as unanswered. Questions that still wait then
are not asked.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from typing import Protocol, TypeVar

from image_puller import limits
from image_puller.errors import RefusedByRegistryError, RegistryError, RegistryUnavailableError
from image_puller.values.answers import Absent, Answer, OtherArtifact, Present, Unanswered
from image_puller.values.reference import Reference

T = TypeVar("T")


class Registries(Protocol):
    """Answers questions about images. Each method may raise RegistryError."""

    def digest(self, reference: Reference, *, timeout: float) -> str | None:
        """Return the digest of a tag, or None where the registry has no such tag."""

    def other_kind(self, reference: Reference, *, timeout: float) -> str | None:
        """Return what the manifest with this digest is, or None where it is an image's."""

    def tags(self, name: Reference, *, timeout: float) -> tuple[str, ...]:
        """Return the tags of a repository."""


class Note(Protocol):
    """Is told whether a registry answered, after each question."""

    def __call__(self, registry: str, *, is_reachable: bool) -> None: ...


class Lookup:
    """Asks registries, for several threads at once."""

    def __init__(
        self,
        registries: Registries,
        *,
        clock: Callable[[], float] = time.monotonic,
        note: Note | None = None,
    ) -> None:
        self._registries = registries
        self._note = note
        self._clock = clock
        self._lock = threading.Lock()
        self._workers: dict[str, ThreadPoolExecutor] = {}

    def digests(
        self,
        references: Collection[Reference],
        *,
        seconds: float,
        images: Collection[str] = (),
    ) -> Mapping[Reference, Answer]:
        """Return the answers about tags, after at most `seconds`.

        `images` has digests that are known to be of images. What others are is asked too.
        """

        def ask(reference: Reference, timeout: float) -> Answer:
            deadline = self._clock() + timeout
            digest = self._registries.digest(reference, timeout=timeout)
            if digest is None:
                return Absent()
            if digest in images:
                return Present(digest)
            manifest = replace(reference, tag=None, digest=digest)
            kind = self._registries.other_kind(manifest, timeout=deadline - self._clock())
            return Present(digest) if kind is None else OtherArtifact(digest, kind)

        return self._ask(ask, references, seconds)

    def tags(
        self, names: Collection[Reference], *, seconds: float
    ) -> Mapping[Reference, tuple[str, ...] | Unanswered]:
        """Return the tags of repositories, after at most `seconds`."""
        return self._ask(self._list, names, seconds)

    def _list(self, name: Reference, timeout: float) -> tuple[str, ...]:
        return self._registries.tags(name, timeout=timeout)

    def close(self) -> None:
        """Ask nothing more. A question that is being asked ends by itself."""
        for workers in self._workers.values():
            workers.shutdown(wait=False, cancel_futures=True)

    def _ask(
        self,
        ask: Callable[[Reference, float], T],
        references: Iterable[Reference],
        seconds: float,
    ) -> Mapping[Reference, T | Unanswered]:
        deadline = self._clock() + seconds
        failures: dict[str, list[str]] = defaultdict(list)

        def in_time(reference: Reference) -> T | Unanswered:
            failed = failures[reference.registry]
            why = tuple(failed)  # a copy: other threads clear the list
            if len(why) >= limits.FAILURES:
                return Unanswered(why[0])
            remaining = deadline - self._clock()
            try:
                answer = ask(reference, min(remaining, limits.QUESTION_SECONDS))
            except RegistryUnavailableError as error:
                failed.append(str(error))
                if remaining > 0:
                    self._note_answer(reference, is_reachable=False)
                return Unanswered(str(error))
            except RegistryError as error:
                if isinstance(error, RefusedByRegistryError):
                    self._note_answer(reference, is_reachable=True)
                return Unanswered(str(error), is_unqueryable=True)
            failed.clear()
            self._note_answer(reference, is_reachable=True)
            return answer

        asked = {
            reference: self._workers_of(reference.registry).submit(in_time, reference)
            for reference in dict.fromkeys(references)
        }
        return {
            reference: self._await(reference, future, deadline)
            for reference, future in asked.items()
        }

    def _await(
        self, reference: Reference, future: "Future[T | Unanswered]", deadline: float
    ) -> T | Unanswered:
        try:
            return future.result(timeout=max(deadline - self._clock(), 0.0))
        except FutureTimeoutError:
            future.cancel()
            return Unanswered(
                f"registry {reference.registry} did not answer in time about {reference}"
            )

    def _note_answer(self, reference: Reference, *, is_reachable: bool) -> None:
        if self._note is not None:
            self._note(reference.registry, is_reachable=is_reachable)

    def _workers_of(self, registry: str) -> ThreadPoolExecutor:
        with self._lock:
            if registry not in self._workers:
                self._workers[registry] = ThreadPoolExecutor(
                    limits.QUESTIONS_AT_ONCE, thread_name_prefix=f"ask-{registry}"
                )
            return self._workers[registry]
