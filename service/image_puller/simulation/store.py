"""The objects of a simulated cluster, under one lock and one counter of versions."""

import copy
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from image_puller.simulation import answers
from image_puller.simulation.answers import Json
from image_puller.simulation.resources import Resource


class Key(NamedTuple):
    """Where an object stands; cluster-wide ones in the namespace ""."""

    resource: Resource
    namespace: str
    name: str


HISTORY = 500  # writes that a watch can still be told


@dataclass(frozen=True, slots=True)
class Change:
    """One write, as a watch tells it."""

    version: int
    type: str
    key: Key
    item: Json


@dataclass(slots=True)
class Store:
    """Stored objects are never changed in place: whoever has one in hand may read it without lock.

    `changed` is the lock, and is notified of every write. Versions begin with 1, as etcd's do: to
    watch from 0 is to ask for what is there.
    """

    changed: threading.Condition = field(default_factory=threading.Condition)
    version: int = 1
    _changes: deque[Change] = field(default_factory=lambda: deque(maxlen=HISTORY))
    _items: dict[Key, Json] = field(default_factory=dict)

    def get(self, key: Key) -> Json:
        """Give an object; refuse with 404 if there is none."""
        with self.changed:
            if key not in self._items:
                raise answers.not_found(key.resource, key.name)
            return self._items[key]

    def find(self, key: Key) -> Json | None:
        """Give an object, or None."""
        with self.changed:
            return self._items.get(key)

    def all(self, resource: Resource, namespace: str | None = None) -> list[Json]:
        """List the objects of a kind by name, of one namespace or of all."""
        with self.changed:
            return [item for _, item in sorted(self._select(resource, namespace))]

    def insert(self, key: Key, item: Json, *, dry_run: bool = False) -> Json:
        """Store a new object, but in a dry run; refuse with 409 if its name is taken."""
        with self.changed:
            if key in self._items:
                raise answers.already_exists(key.resource, key.name)
            return item if dry_run else self._write("ADDED", key, item)

    def replace(self, key: Key, item: Json, *, dry_run: bool = False) -> Json:
        """Store an object in place of the live one; no write if nothing differs."""
        with self.changed:
            if dry_run or item == self.get(key):
                return item
            return self._write("MODIFIED", key, item)

    def remove(self, key: Key) -> None:
        """Delete an object."""
        with self.changed:
            self._write("DELETED", key, self.get(key))
            del self._items[key]

    def since(self, version: int) -> list[Change]:
        """List the writes after a version, oldest first; refuse with 410 if some are forgotten."""
        with self.changed:
            if version < self.version - len(self._changes):
                raise answers.expired(version, self.version)
            return [change for change in self._changes if change.version > version]

    def wait(self, version: int, timeout: float | None, ended: threading.Event) -> None:
        """Wait for a write after a version; not after the end, nor longer than some seconds."""
        with self.changed:
            self.changed.wait_for(lambda: self.version > version or ended.is_set(), timeout=timeout)

    def _select(self, resource: Resource, namespace: str | None) -> Iterator[tuple[str, Json]]:
        for key, item in self._items.items():
            if key.resource is resource and namespace in (None, key.namespace):
                yield f"{key.namespace}/{key.name}", item

    def _write(self, change: str, key: Key, item: Json) -> Json:
        self.version += 1
        stored = copy.deepcopy(item)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self._items[key] = stored
        self._changes.append(Change(self.version, change, key, stored))
        self.changed.notify_all()
        return stored
