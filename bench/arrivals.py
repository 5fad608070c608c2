"""When images arrive on the nodes, from events of the nodes' runtimes.

`ctr events` prints each event at once, with the time that containerd gave it. That loads the
machine less than polling, and is exact to the millisecond.
"""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from e2e.harness.nodes import Node, Nodes
from e2e.harness.workspace import wait_until

TOPICS = ("/images/create", "/namespaces/update")


@dataclass
class _Seen:
    """The times of what arrived on one node, by image."""

    stored: dict[str, float] = field(default_factory=dict)
    anything: bool = False

    def note(self, line: str) -> None:
        """Record a line of `ctr events`: date, time, offset, zone, namespace, topic, JSON."""
        date, time, offset, _, _, topic, text = line.split(maxsplit=6)
        when = datetime.fromisoformat(f"{date}T{time}{offset}").timestamp()
        event = json.loads(text)
        self.anything = True
        if topic == "/images/create":
            self.stored[event["name"]] = when


class Arrivals:
    """The images that arrive on the nodes until the context ends. Times are Unix times."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = {node: _Seen() for node in nodes}
        self._changed = threading.Condition()
        self._watching = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as watching:
            for node, seen in self._nodes.items():
                watching.enter_context(self._watch(node, seen))
            self._watching = watching.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._watching.close()

    def stored(self, image: str, *, seconds: float = 400) -> float:
        """Wait until the store of each node has the image; return the time of the last."""
        return max(self.times(image, seconds=seconds))

    def times(self, image: str, *, seconds: float = 400) -> list[float]:
        """Wait until the store of each node has the image; return the time of each."""

        def found() -> list[float]:
            return [seen.stored[image] for seen in self._nodes.values() if image in seen.stored]

        with self._changed:
            if self._changed.wait_for(lambda: len(found()) == len(self._nodes), timeout=seconds):
                return found()
        raise TimeoutError(f"waited {seconds:g} s without success: {image} on all nodes")

    @contextmanager
    def _watch(self, node: Node, seen: _Seen) -> Iterator[None]:
        """Record the events of a node; containerd stores none for later readers."""
        command = (*node.runtime.client, "events", *(f'topic=="{topic}"' for topic in TOPICS))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            thread = threading.Thread(target=self._read, args=(child, seen))
            thread.start()
            try:
                wait_until(lambda: _is_told(node, seen), f"events of {node.name}")
                yield
            finally:
                child.kill()
                thread.join()

    def _read(self, child: subprocess.Popen[str], seen: _Seen) -> None:
        for line in child.stdout or ():
            with self._changed:
                seen.note(line)
                self._changed.notify_all()


def _is_told(node: Node, seen: _Seen) -> bool:
    """Cause a harmless event on the node, and return whether any event was recorded."""
    node.runtime.ctr("namespaces", "label", "k8s.io", "watched=yes")
    return seen.anything
