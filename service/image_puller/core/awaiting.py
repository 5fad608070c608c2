"""Whether the images that somebody waits for are on the nodes, from the JSON of the status. Pure.

An image may be named by its entry, by its repository, with its tag, or with its digest.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from image_puller.core import coverage
from image_puller.core.coverage import Coverage, Note
from image_puller.values.reference import Reference, parse

_ALL = 100
_ENOUGH = re.compile(r"([1-9][0-9]{0,5})|(100|[1-9][0-9]?)%", re.ASCII)


class Verdict(StrEnum):
    """What is true about an image that somebody waits for."""

    HELD = "held"
    PENDING = "pending"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enough:
    """How many of the nodes that count have to hold an image: a number, or a percentage."""

    number: int = _ALL
    is_percentage: bool = True

    def of(self, nodes: int) -> int:
        """Return the number for so many nodes. A part of a node counts as a whole one."""
        return -(-nodes * self.number // _ALL) if self.is_percentage else self.number


def enough(text: str) -> Enough:
    """Return how many nodes are enough, from a number or a percentage. Raises ValueError."""
    match = _ENOUGH.fullmatch(text)
    if not match:
        raise ValueError(
            f"must be a number of nodes such as 3, or a percentage such as 95%, not {text[:20]!r}"
        )
    return Enough(number=int(match[1] or match[2]), is_percentage=match[1] is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an image is. `others` has the nodes without it, by state. `reason` says why."""

    name: str
    verdict: Verdict
    held: int = 0
    needed: int = 0
    others: str = ""
    reason: str = ""


def progress(
    status: Mapping[str, Any], wanted: Sequence[str], enough: Enough
) -> tuple[Progress, ...]:
    """Return how far each wanted image is; without any, each desired image.

    In the status of selected nodes, an image is held only if one of them counts. An image that none
    of them needs is left out beside one that they need. Raises InvalidReferenceError for a name
    that no image can have.
    """
    rows, need = coverage.images(status), _Need(enough, _why_none_counts(status))
    if wanted:
        notes = coverage.notes(status)
        return tuple(each for name in wanted for each in _of_name(name, rows, notes, need))
    return tuple(_of_rows(rows, need)) or (
        _pending("all images", "the service desires no image yet"),
    )


def verdict(found: Iterable[Progress]) -> Verdict:
    """Return the verdict about all images together."""
    verdicts = {each.verdict for each in found}
    if Verdict.IMPOSSIBLE in verdicts:
        return Verdict.IMPOSSIBLE
    return Verdict.PENDING if Verdict.PENDING in verdicts else Verdict.HELD


def described(found: Iterable[Progress]) -> list[dict[str, Any]]:
    """Return the progress of each image as JSON."""
    return [asdict(each) for each in found]


@dataclass(frozen=True, slots=True)
class _Need:
    """How many nodes are enough, and why no selected node counts. Without a selector that is ""."""

    enough: Enough
    why_none_counts: str


def _why_none_counts(status: Mapping[str, Any]) -> str:
    selector = status.get("selector")
    if selector is None:
        return ""
    others = [f"{name}: {why}" for name, why in coverage.not_counted(status)]
    if not others:
        return f"no node matches the selector {selector}"
    return f"no node that matches the selector {selector} counts; {others[0]}"


def _of_name(
    name: str, rows: Sequence[Coverage], notes: Sequence[Note], need: _Need
) -> Iterator[Progress]:
    of_entry = [row for row in rows if name in (row.entry, row.name)]
    if of_entry:
        yield from _of_rows(of_entry, need)
        return
    wanted = parse(name)
    about = [note for note in notes if name in (note.entry, note.entry.rpartition("/")[2])]
    if about:
        # The cluster refused the configured image of the entry, so it has no desired one.
        yield _impossible(name, _why(about))
        return
    mine = [row for row in rows if parse(row.image).name == wanted.name]
    about = [note for note in notes if parse(note.image).name == wanted.name]
    if not mine and not about:
        yield _impossible(name, f"no group has an entry of {wanted.name}")
        return
    is_any = wanted.tag is None and wanted.digest is None
    blocking = [note for note in about if _blocks(note, wanted, mine)]
    found = [row for row in mine if is_any or _has_tag(row, wanted)]
    if blocking and not (is_any and found):
        yield _impossible(name, _why(blocking))
    elif not found:
        unverified = [note for note in about if _is_about(note, wanted)]
        yield _pending(name, _why(unverified) if unverified else _not_tracked(mine, about))
    elif wanted.digest is not None and not any(_has_digest(row, wanted) for row in found):
        yield _pending(name, f"{found[0].image} has {_digest(found[0]) or 'no known digest'} now")
    else:
        chosen = [row for row in found if wanted.digest is None or _has_digest(row, wanted)]
        yield from _of_rows([_with_content(row, wanted) for row in chosen], need)


def _of_rows(rows: Sequence[Coverage], need: _Need) -> Iterator[Progress]:
    needed = [row for row in rows if row.counted] if need.why_none_counts else rows
    return (_of_row(row, need) for row in needed or rows)


def _of_row(row: Coverage, need: _Need) -> Progress:
    counted = len(row.counted)
    needed = need.enough.of(counted)
    is_needless = row.is_complete and not need.why_none_counts
    is_held = row.held >= needed and (counted > 0 or is_needless)
    reason = "" if is_held else row.reason
    if not is_held and not counted and need.why_none_counts:
        reason = need.why_none_counts
    elif not is_held and not row.missing and needed > counted:
        reason = f"only {counted} nodes count"
    return Progress(
        name=row.image if row.group is None else f"{row.image} of group {row.group}",
        verdict=Verdict.HELD if is_held else Verdict.PENDING,
        held=row.held,
        needed=needed,
        others=", ".join(f"{count} {state}" for state, count in row.others.items()),
        reason=reason,
    )


def _pending(name: str, reason: str) -> Progress:
    return Progress(name=name, verdict=Verdict.PENDING, reason=reason)


def _impossible(name: str, reason: str) -> Progress:
    return Progress(name=name, verdict=Verdict.IMPOSSIBLE, reason=reason)


def _why(notes: Iterable[Note]) -> str:
    return "; ".join(f"{note.image} is {note.kind}: {note.reason}" for note in notes)


def _not_tracked(rows: Iterable[Coverage], notes: Iterable[Note]) -> str:
    names = dict.fromkeys([*(row.name for row in rows), *(note.entry for note in notes)])
    return (
        f"entry {', '.join(names)} does not track it yet; was it pushed, and does the policy allow "
        "it?"
    )


def _blocks(note: Note, wanted: Reference, rows: Iterable[Coverage]) -> bool:
    """Whether a note is the reason why the wanted image will not come.

    It is not if the tag has newer content since.
    """
    if note.kind == "unverified" or not _is_about(note, wanted):
        return False
    tag = parse(note.image).tag
    return not any(
        row.name == note.entry
        and _tag(row) == tag
        and parse(row.image).digest is None
        and row.digest not in (None, note.digest)
        for row in rows
    )


def _is_about(note: Note, wanted: Reference) -> bool:
    about = parse(note.image)
    is_tag = wanted.tag in (None, about.tag)
    return is_tag and (wanted.digest is None or (about.digest or note.digest) == wanted.digest)


def _has_tag(row: Coverage, wanted: Reference) -> bool:
    return wanted.tag in (None, _tag(row))


def _tag(row: Coverage) -> str | None:
    reference = parse(row.image)
    return reference.tag or reference.pull_tag


def _has_digest(row: Coverage, wanted: Reference) -> bool:
    return _digest(row) == wanted.digest


def _digest(row: Coverage) -> str | None:
    return parse(row.image).digest or row.digest


def _with_content(row: Coverage, wanted: Reference) -> Coverage:
    """Return a row on which a node with other content than the wanted digest does not hold it."""
    if wanted.digest is None:
        return row
    counted = {
        name: each
        if each.get("imageID") != "other"
        else {"held": False, "state": "on node", "reason": "the node holds other content"}
        for name, each in row.counted.items()
    }
    return replace(row, counted=counted)
