"""`image-puller wait`: waits until images are on the nodes, and says what they wait for."""

import argparse
import re
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from image_puller.cli.service_client import BusyError, NoAnswerError
from image_puller.controller.clock import Clock
from image_puller.core import awaiting, label_selector
from image_puller.core.awaiting import Enough, Progress, Verdict
from image_puller.core.label_selector import InvalidSelectorError, LabelSelector
from image_puller.values.reference import InvalidReferenceError, parse

IMPOSSIBLE = 1
TIMED_OUT = 3
_FIRST_PAUSE_SECONDS = 1.0
_MOST_PAUSE_SECONDS = 10.0
_FACTOR = 1.5
_CLEAR_LINE = "\r\x1b[K"
_DURATION = re.compile(
    r"(?=[0-9])(?:([0-9]{1,4})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,8})s?)?", re.ASCII
)

Read = Callable[[], dict[str, Any]]


def image(text: str) -> str:
    """Return the name of an entry or an image. Raises ArgumentTypeError."""
    try:
        parse(text)
    except InvalidReferenceError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def nodes(text: str) -> Enough:
    """Return how many nodes are enough, from a number or a percentage."""
    try:
        return awaiting.enough(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def selector(text: str) -> LabelSelector:
    """Return a label selector. Raises ArgumentTypeError."""
    try:
        return label_selector.parse(text)
    except InvalidSelectorError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def duration(text: str) -> int:
    """Return the seconds of a time such as 90s, 10m or 1h30m."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise argparse.ArgumentTypeError(f"must be a time such as 90s, 10m or 1h30m, not {text!r}")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (hours * 60 + minutes) * 60 + seconds


def run(read: Read, wanted: Sequence[str], enough: Enough, seconds: int, clock: Clock) -> int:
    """Wait until enough nodes hold the wanted images, or all desired ones. Return the exit code.

    Raises ServiceError where the service does not answer at first, or rejects the request.
    """
    start, never_notified, pause = clock.monotonic(), threading.Condition(), _FIRST_PAUSE_SECONDS
    report, found, problem = _Report(), tuple[Progress, ...](), ""
    while True:
        try:
            found, problem = awaiting.progress(read(), wanted, enough), ""
        except BusyError as error:
            problem = str(error)
        except NoAnswerError as error:
            # The first answer shows that the address is right.
            if not found:
                raise
            problem = str(error)
        passed, verdict = clock.monotonic() - start, awaiting.verdict(found)
        if verdict is Verdict.IMPOSSIBLE:
            report.end()
            _print_error("These images will not come:", found, Verdict.IMPOSSIBLE)
            return IMPOSSIBLE
        if not problem and verdict is Verdict.HELD:
            report.show(found, problem, passed)
            report.end()
            print(f"Enough nodes hold {_count(found)}, after {passed:.0f} s.")
            return 0
        has_changed = report.show(found, problem, passed)
        if passed >= seconds:
            report.end()
            _print_error(f"After {passed:.0f} s these images are missing:", found, Verdict.PENDING)
            if problem:
                print(problem, file=sys.stderr)
            return TIMED_OUT
        pause = _FIRST_PAUSE_SECONDS if has_changed else min(pause * _FACTOR, _MOST_PAUSE_SECONDS)
        with never_notified:
            clock.wait(never_notified, min(pause, seconds - passed))


class _Report:
    """Shows the progress: in one line of a terminal, or a line for each change in a log."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._shown: dict[str, object] = {}

    def show(self, found: Sequence[Progress], problem: str, passed: float) -> bool:
        """Show the progress, and return whether it changed."""
        keys: dict[str, object] = {each.name: _key(each) for each in found}
        if problem:
            keys["problem"] = problem
        changed = [name for name, key in keys.items() if self._shown.get(name) != key]
        self._shown = keys
        if self._is_terminal:
            self._show_line(problem or _summary(found), passed)
        else:
            for each in found:
                if each.name in changed:
                    print(_line(each), flush=True)
            if "problem" in changed:
                print(problem, flush=True)
        return bool(changed)

    def end(self) -> None:
        """Remove the line of the terminal."""
        if self._is_terminal:
            print(_CLEAR_LINE, end="", flush=True)

    def _show_line(self, text: str, passed: float) -> None:
        most = shutil.get_terminal_size().columns - 1
        print(f"{_CLEAR_LINE}{f'{passed:.0f} s: {text}'[:most]}", end="", flush=True)


def _key(each: Progress) -> tuple[object, ...]:
    """Return what must change before an image is shown again. Words of a reason change often."""
    return each.verdict, each.held, each.needed, each.others or each.reason


def _summary(found: Sequence[Progress]) -> str:
    pending = [each for each in found if each.verdict is not Verdict.HELD]
    done = f"{len(found) - len(pending)} of {len(found)} images are there"
    return f"{done}; {_line(pending[0])}" if pending else done


def _line(each: Progress) -> str:
    counts = f"{each.held}/{each.needed} nodes hold it" if each.needed else ""
    missing = each.others if each.verdict is Verdict.PENDING else ""
    words = "; ".join(part for part in (counts, missing, each.reason) if part)
    text = f"{each.name}: {words or 'no node needs it'}"
    return "".join(character if character.isprintable() else " " for character in text)


def _count(found: Sequence[Progress]) -> str:
    return found[0].name if len(found) == 1 else f"all {len(found)} images"


def _print_error(title: str, found: Sequence[Progress], verdict: Verdict) -> None:
    lines = [f"  {_line(each)}" for each in found if each.verdict is verdict]
    if lines:
        print("\n".join((title, *lines)), file=sys.stderr)
