"""The objects of a simulated cluster, with one lock and one `resourceVersion` counter."""

import copy
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from image_puller.simulation import responses
from image_puller.simulation.resources import Resource
from image_puller.simulation.responses import Json


class Key(NamedTuple):
    """The key of an object. Objects without a namespace have the namespace ""."""

    resource: Resource
    namespace: str
    name: str


HISTORY_LENGTH = 500  # the last writes, from which a watch can start


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One write, as a watch reports it."""

    version: int
    type: str
    key: Key
    item: Json


@dataclass(slots=True)
class Store:
    """The objects. They are never changed in place, so they may be read without the lock.

    `changed` is the lock, and is notified of every write. Versions begin with 1, as in etcd,
    because a watch from version 0 begins with the objects that exist.
    """

    changed: threading.Condition = field(default_factory=threading.Condition)
    version: int = 1
    _history: deque[WatchEvent] = field(default_factory=lambda: deque(maxlen=HISTORY_LENGTH))
    _items: dict[Key, Json] = field(default_factory=dict)

    def get(self, key: Key) -> Json:
        """Return an object. Raises ApiError (404) if it does not exist."""
        with self.changed:
            if key not in self._items:
                raise responses.not_found(key.resource, key.name)
            return self._items[key]

    def find(self, key: Key) -> Json | None:
        """Return an object, or None."""
        with self.changed:
            return self._items.get(key)

    def all(self, resource: Resource, namespace: str | None = None) -> list[Json]:
        """Return the objects of a kind, sorted by name, of one namespace or of all."""
        with self.changed:
            return [item for _, item in sorted(self._select(resource, namespace))]

    def insert(self, key: Key, item: Json, *, dry_run: bool = False) -> Json:
        """Store a new object, unless it is a dry run. Raises ApiError (409) if it exists."""
        with self.changed:
            if key in self._items:
                raise responses.already_exists(key.resource, key.name)
            return item if dry_run else self._write("ADDED", key, item)

    def replace(self, key: Key, item: Json, *, dry_run: bool = False) -> Json:
        """Replace an object, unless nothing differs or it is a dry run."""
        with self.changed:
            if dry_run or item == self.get(key):
                return item
            return self._write("MODIFIED", key, item)

    def remove(self, key: Key) -> None:
        """Delete an object. Raises ApiError (404) if it does not exist."""
        with self.changed:
            self._write("DELETED", key, self.get(key))
            del self._items[key]

    def events_since(self, version: int) -> list[WatchEvent]:
        """Return the writes after a version, oldest first. Raises ApiError (410) if too old."""
        with self.changed:
            if version < self.version - len(self._history):
                raise responses.expired(version, self.version)
            return [event for event in self._history if event.version > version]

    def wait(self, version: int, timeout: float | None, ended: threading.Event) -> None:
        """Wait for a write after a version, until the timeout in seconds or until `ended`."""
        with self.changed:
            self.changed.wait_for(lambda: self.version > version or ended.is_set(), timeout=timeout)

    def _select(self, resource: Resource, namespace: str | None) -> Iterator[tuple[str, Json]]:
        for key, item in self._items.items():
            if key.resource is resource and namespace in (None, key.namespace):
                yield f"{key.namespace}/{key.name}", item

    def _write(self, event_type: str, key: Key, item: Json) -> Json:
        self.version += 1
        stored = copy.deepcopy(item)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self._items[key] = stored
        self._history.append(WatchEvent(self.version, event_type, key, stored))
        self.changed.notify_all()
        return stored
