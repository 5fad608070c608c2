"""What `image-puller status` shows: a table of the images, and below it what is wrong."""

import io
import os
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from image_puller.core import coverage
from image_puller.core.coverage import Coverage, Note

_PIPE_COLUMNS = 100_000
"""In a pipe no line is wrapped, so that `grep` finds whole lines."""
_SHORT_DIGEST = len("sha256:") + 12
_MOST_NAMES = 5
_COLOURS = {
    "failing": "red",
    "no pod": "red",
    "waiting": "yellow",
    "pulling": "yellow",
    "quarantined": "yellow",
    "refused": "yellow",
    "unverified": "yellow",
}


def text(status: Mapping[str, Any], *, only_failing: bool, is_wide: bool, stream: TextIO) -> str:
    """Return the status as text for a stream: with colours and wrapped lines for a terminal.

    `NO_COLOR` turns colours off (https://no-color.org).
    """
    is_terminal = stream.isatty()
    written = io.StringIO()
    console = Console(
        file=written,
        force_terminal=is_terminal,
        color_system="standard" if is_terminal and not os.environ.get("NO_COLOR") else None,
        width=None if is_terminal else _PIPE_COLUMNS,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(Group(*_parts(status, only_failing=only_failing, is_wide=is_wide)))
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())


def _parts(
    status: Mapping[str, Any], *, only_failing: bool, is_wide: bool
) -> Iterator[RenderableType]:
    found = coverage.images(status)
    shown = [each for each in found if not (only_failing and each.is_complete)]
    if shown:
        yield _table(shown, is_wide=is_wide)
        yield ""
    complete = sum(each.is_complete for each in found)
    yield Text(
        f"{complete} of {len(found)} images are held on every node that counts.",
        "green" if complete == len(found) else "red",
    )
    for group, each in coverage.groups(status):
        rollout = each["daemonset"].get("rollout", "the DaemonSet does not exist")
        seeding = each["daemonset"].get("seeding")
        if rollout != "complete":
            waits = f"; {seeding}" if seeding else ""
            yield f"Rollout{'' if group is None else f' of group {group}'}: {rollout}{waits}"
    if is_wide:
        for name, why in coverage.not_counted(status):
            yield _line("Does not count", f"{name}: {why}", "")
    for note in coverage.notes(status):
        yield _note(note)
    for problem in status["problems"]:
        yield _line("Problem", problem, "red")


def _table(rows: list[Coverage], *, is_wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    wide = ("DIGEST", "HOLDER", "MISSING ON") if is_wide else ()
    for title in ("ENTRY", "IMAGE", "HELD", "OTHERS", *wide, "REASON"):
        table.add_column(title, overflow="fold", no_wrap=title in {"HELD", "DIGEST"})
    for row in rows:
        more = (
            ((row.digest or "unknown")[:_SHORT_DIGEST], row.holder, _named(row.missing))
            if is_wide
            else ()
        )
        table.add_row(
            row.name,
            row.image,
            Text(f"{row.held}/{len(row.counted)}", "green" if row.is_complete else "red"),
            _others(row),
            *(_printable(each) for each in more),
            _printable(row.reason or "-"),
        )
    return table


def _named(nodes: tuple[str, ...]) -> str:
    names = ", ".join(nodes[:_MOST_NAMES]) or "-"
    return names if len(nodes) <= _MOST_NAMES else f"{names} and {len(nodes) - _MOST_NAMES} more"


def _others(row: Coverage) -> Text:
    states = [Text(f"{count} {name}", _COLOURS.get(name, "")) for name, count in row.others.items()]
    return Text(", ").join(states) if states else Text("-")


def _note(note: Note) -> Text:
    digest = f" ({note.digest[:_SHORT_DIGEST]})" if note.digest else ""
    words = f"{note.entry}: {note.image}{digest}: {note.reason}"
    return _line(note.kind.capitalize(), words, _COLOURS[note.kind])


def _line(title: str, words: str, colour: str) -> Text:
    return Text.assemble((f"{title}: ", colour), _printable(words))


def _printable(words: str) -> str:
    """Return words of registries and runtimes without what could control a terminal."""
    return "".join(each if each.isprintable() else " " for each in words)
