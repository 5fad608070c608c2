"""`image-puller status`: shows the images and the nodes that hold them, once or again and again."""

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from image_puller.cli.service_client import ServiceError
from image_puller.controller.clock import Clock
from image_puller.core import coverage

WATCH_SECONDS = 2.0
OUTPUTS = ("table", "wide", "json")
_MISSING = 1
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"

Read = Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What to show: one of `OUTPUTS`, and whether only images that a node lacks."""

    output: str
    only_failing: bool = False


def show(read: Read, view: View) -> int:
    """Print the status, and return 1 where something desired is missing, else 0."""
    status = read()
    print(_text(status, view), end="", flush=True)
    return 0 if coverage.is_complete(status) else _MISSING


def watch(read: Read, view: View, clock: Clock) -> int:
    """Print the status every few seconds, until Ctrl-C. Return the code of the last one.

    A terminal shows the last one only. A pipe gets each that differs from the one before.
    """
    never_notified, shown, code = threading.Condition(), "", 0
    is_terminal = sys.stdout.isatty()
    try:
        while True:
            try:
                status = read()
            except ServiceError as error:
                # The first answer shows that the address is right.
                if not shown:
                    raise
                found = f"{error}\n"
            else:
                found = _text(status, view)
                code = 0 if coverage.is_complete(status) else _MISSING
            if found != shown:
                before = _CLEAR if is_terminal else "\n" if shown else ""
                print(before + found, end="", flush=True)
                shown = found
            with never_notified:
                clock.wait(never_notified, WATCH_SECONDS)
    except KeyboardInterrupt:
        return code


def _text(status: dict[str, Any], view: View) -> str:
    if view.output == "json":
        return json.dumps(status, indent=2) + "\n"
    # This import takes 0.1 s, which the other commands do not need.
    from image_puller.cli import status_view  # noqa: PLC0415

    return status_view.text(
        status,
        only_failing=view.only_failing,
        is_wide=view.output == "wide",
        stream=sys.stdout,
    )
