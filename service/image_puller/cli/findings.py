"""What `image-puller check` finds, each finding with its fix. Pure but for the thread of `within`.

Steps run one after another in a thread of their own, so that one that hangs is told as such.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from image_puller.errors import ImagePullerError

AGAIN = "correct what answers too slowly, and run the command again"


class Result(StrEnum):
    """What a check found. Only a failure makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


_SYMBOLS = {Result.OK: "✓", Result.WARNING: "!", Result.FAILED: "✗", Result.SKIPPED: "-"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found about one thing. `fix` says what to do, and is "" where nothing is wrong."""

    title: str
    result: Result
    detail: str
    fix: str = ""


def ok(title: str, detail: str) -> Finding:
    """Return the finding that something is as it should be."""
    return Finding(title=title, result=Result.OK, detail=detail)


def warning(title: str, detail: str, fix: str) -> Finding:
    """Return the finding that something is missing, and that the service works without it."""
    return Finding(title=title, result=Result.WARNING, detail=detail, fix=fix)


def failed(title: str, detail: str, fix: str) -> Finding:
    """Return the finding that something does not work."""
    return Finding(title=title, result=Result.FAILED, detail=detail, fix=fix)


def skipped(title: str, why: str) -> Finding:
    """Return the finding that something was not checked."""
    return Finding(title=title, result=Result.SKIPPED, detail=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One part of the check. `run` yields what it finds, and may raise ImagePullerError."""

    title: str
    run: Callable[[], Iterable[Finding]]


def within(
    seconds: float, steps: Sequence[Step], *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Finding]:
    """Run the steps in their order, and yield what they find. Then tell which are unfinished."""
    found: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()

    def run() -> None:
        for step in steps:
            for each in _run(step):
                found.put(each)
            found.put(None)

    # A thread that hangs does not keep the process from its end.
    threading.Thread(target=run, name="check", daemon=True).start()
    deadline = clock() + seconds
    for number, step in enumerate(steps):
        try:
            while (each := found.get(timeout=max(0.0, deadline - clock()))) is not None:
                yield each
        except queue.Empty:
            yield failed(step.title, f"it was not finished within {seconds:.0f} s", AGAIN)
            for later in steps[number + 1 :]:
                yield skipped(later.title, f"the time of {seconds:.0f} s was over")
            return


def _run(step: Step) -> Iterator[Finding]:
    try:
        yield from step.run()
    except ImagePullerError as error:
        yield failed(step.title, str(error), "correct that, and run the command again")
    except Exception as error:  # noqa: BLE001 - the other steps go on
        yield failed(
            step.title,
            f"the check itself failed: {type(error).__name__}: {error}",
            "report this as a fault of image-puller",
        )


def as_lines(finding: Finding, encoding: str) -> str:
    """Return a finding as text that a stream of this encoding can take."""
    symbol = _SYMBOLS[finding.result]
    if _encoded(symbol, encoding) != symbol:
        symbol = f"[{finding.result}]"
    text = f"{symbol} {finding.title}: {_printable(finding.detail)}\n"
    if finding.fix:
        text += f"    {_printable(finding.fix)}\n"
    return _encoded(text, encoding)


def summary(findings: Sequence[Finding]) -> str:
    """Return the last line: how many of the findings are failures and warnings."""
    failures, warnings = (
        sum(each.result is result for each in findings)
        for result in (Result.FAILED, Result.WARNING)
    )
    told = f"{failures} failed" if failures else "Nothing failed"
    return f"{told}, {warnings} {'warning' if warnings == 1 else 'warnings'}.\n"


def as_json(findings: Sequence[Finding]) -> str:
    """Return all findings as JSON."""
    document = {"ok": is_ok(findings), "findings": [asdict(each) for each in findings]}
    return json.dumps(document, indent=2) + "\n"


def is_ok(findings: Sequence[Finding]) -> bool:
    """Whether nothing failed."""
    return all(each.result is not Result.FAILED for each in findings)


def _encoded(text: str, encoding: str) -> str:
    """Return a text with a question mark for each letter that an encoding lacks."""
    return text.encode(encoding, errors="replace").decode(encoding)


def _printable(words: str) -> str:
    """Return words of registries and admission without what could control a terminal."""
    return "".join(each if each.isprintable() else " " for each in words)
