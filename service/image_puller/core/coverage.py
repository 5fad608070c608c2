"""What the status means for people: how many nodes hold each image, and what the others wait for.

It reads the JSON of `GET /status`, so that the command line draws the same conclusions. Pure.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from image_puller.core.node_state import ImageState

Json = Mapping[str, Any]

_WORST_FIRST = (
    ImageState.FAILING,
    ImageState.NO_POD,
    ImageState.WAITING,
    ImageState.PULLING,
    ImageState.ON_NODE,
    ImageState.NOT_SELECTED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Where a desired image is held. `group` is None for the group of `IMAGES`.

    `counted` has the nodes that count, with the state of the image on each.
    """

    group: str | None
    entry: str
    image: str
    digest: str | None
    holder: str
    counted: Mapping[str, Json]
    is_rolled_out: bool

    @property
    def name(self) -> str:
        """Return the entry, with its group as in the log."""
        return self.entry if self.group is None else f"{self.group}/{self.entry}"

    @property
    def held(self) -> int:
        """Return how many of the nodes that count hold the image."""
        return len(self.counted) - len(self.missing)

    @property
    def missing(self) -> tuple[str, ...]:
        """Return the nodes that count and do not hold the image, the worst state first."""
        without = (name for name, each in self.counted.items() if not each["held"])
        return tuple(sorted(without, key=lambda name: (self._rank(name), name)))

    @property
    def is_complete(self) -> bool:
        """Whether every node that counts holds the image.

        Without such a node, the rollout decides: no node may be known yet.
        """
        return not self.missing if self.counted else self.is_rolled_out

    @property
    def others(self) -> Mapping[str, int]:
        """Return how many nodes are in each other state, the worst state first."""
        return Counter(str(self.counted[name]["state"]) for name in self.missing)

    @property
    def reason(self) -> str:
        """Return the reason of the worst node, with its name, or ""."""
        if not self.missing:
            return "" if self.is_complete else "no node is known that should hold it"
        worst = self.missing[0]
        return f"{worst}: {self.counted[worst].get('reason') or self.counted[worst]['state']}"

    def _rank(self, name: str) -> int:
        state = self.counted[name]["state"]
        return _WORST_FIRST.index(state) if state in _WORST_FIRST else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A tag that is not desired now, or only with other content: quarantined, refused, unverified.

    `kind` is the name of that list in the status.
    """

    kind: str
    entry: str
    image: str
    digest: str | None
    reason: str


def groups(status: Json) -> Iterator[tuple[str | None, Json]]:
    """Yield the status of each group that has a DaemonSet, with its name."""
    named = status.get("groups") or {}
    for name, each in ((None, status), *named.items()):
        if each["daemonset"] is not None:
            yield name, each


def images(status: Json) -> tuple[Coverage, ...]:
    """Return where each desired image of all groups is held."""
    return tuple(
        Coverage(
            group=group,
            entry=image["entry"],
            image=image["image"],
            digest=image["digest"],
            holder=image["holder"],
            counted={
                name: on_node
                for name, on_node in image["nodes"].items()
                if each["nodes"][name]["counts"]
            },
            is_rolled_out=each["daemonset"].get("rollout") == "complete",
        )
        for group, each in groups(status)
        for image in each["images"]
    )


def notes(status: Json) -> tuple[Note, ...]:
    """Return the tags of all groups that are quarantined, refused or unverified."""
    return tuple(
        Note(
            kind=kind,
            entry=item["entry"] if group is None else f"{group}/{item['entry']}",
            image=item["image"],
            digest=item["digest"],
            reason=item["reason"],
        )
        for group, each in groups(status)
        for kind in ("quarantined", "refused", "unverified")
        for item in each[kind]
    )


def not_counted(status: Json) -> tuple[tuple[str, str], ...]:
    """Return the nodes that count in no group, each with its state and reason."""
    found: dict[str, str] = {}
    counted: set[str] = set()
    for _, each in groups(status):
        for name, node in each["nodes"].items():
            if node["counts"]:
                counted.add(name)
            else:
                found.setdefault(name, node.get("reason") or node["state"])
    return tuple((name, why) for name, why in sorted(found.items()) if name not in counted)


def is_complete(status: Json) -> bool:
    """Whether each DaemonSet exists, and every node that counts holds every desired image."""
    exist = all(each["daemonset"]["exists"] for _, each in groups(status))
    return exist and all(each.is_complete for each in images(status))
