"""When images and containers come to be on the nodes, as the nodes' own runtimes tell it.

`ctr events` prints what happens as it happens, each event with containerd's own time of it. That
loads the machine less than asking again and again, and is exact to the millisecond.
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

TOPICS = ("/images/create", "/containers/create", "/tasks/start", "/namespaces/update")


@dataclass
class _Seen:
    """What one node has, by name and time."""

    stored: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    anything: bool = False
    _images: dict[str, str] = field(default_factory=dict)

    def note(self, line: str) -> None:
        """Take in a line of `ctr events`: date, time, offset, zone, namespace, topic, JSON."""
        date, time, offset, _, _, topic, text = line.split(maxsplit=6)
        when = datetime.fromisoformat(f"{date}T{time}{offset}").timestamp()
        event = json.loads(text)
        self.anything = True
        match topic:
            case "/images/create":
                self.stored[event["name"]] = when
            case "/containers/create":
                self._images[event["id"]] = event["image"]
            case "/tasks/start":
                self.started[self._images.get(event["container_id"], "")] = when


class Arrivals:
    """What reached the nodes while the context is open; times are seconds of the system's clock."""

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

    def stored(self, image: str, *, seconds: float = 200) -> float:
        """Wait until every node's store has the image by this name; return since when."""
        return self._since("stored", image, seconds)

    def started(self, image: str, *, seconds: float = 200) -> float:
        """Wait until every node has started a container of the image; return since when."""
        return self._since("started", image, seconds)

    def _since(self, what: str, image: str, seconds: float) -> float:
        def times() -> list[float]:
            return [
                getattr(seen, what)[image]
                for seen in self._nodes.values()
                if image in getattr(seen, what)
            ]

        with self._changed:
            if self._changed.wait_for(lambda: len(times()) == len(self._nodes), timeout=seconds):
                return max(times())
        raise TimeoutError(f"waited {seconds:g} s without success: {image} {what} on all nodes")

    @contextmanager
    def _watch(self, node: Node, seen: _Seen) -> Iterator[None]:
        """Take in a node's events; containerd keeps none for those that come later."""
        socket = node.runtime.socket
        client = ("ctr", f"--address={socket}", "--namespace=k8s.io")
        command = (*client, "events", *(f'topic=="{topic}"' for topic in TOPICS))
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
    """Make something harmless happen on the node, and answer whether such was seen before."""
    node.runtime.ctr("namespaces", "label", "k8s.io", "watched=yes")
    return seen.anything
