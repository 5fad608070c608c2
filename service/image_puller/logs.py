"""The log of the process: one format for all lines, and a repeated fault only once a minute."""

import json
import logging
import re
import time
import warnings
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

REPEAT_SECONDS = 60.0
"""How often a fault that repeats is logged again, with a count."""
_FAULTS_MOST = 1000
"""Faults that are remembered. The oldest is forgotten first."""

_DIGEST = re.compile(r"\b(sha(?:256|384|512):[0-9a-f]{12})[0-9a-f]{20,}")
_ADDRESS_IN_MEMORY = re.compile(r"0x[0-9a-f]+")
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]
_DIRECTIONS = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SURROGATES = range(0xD800, 0xE000)  # they can't be written as UTF-8
_ESCAPED = {code: repr(chr(code))[1:-1] for code in (*_CONTROLS, *_DIRECTIONS, *_SURROGATES)}
_INDENT = "  "

# The debug lines of these libraries have paths, headers and bodies, which may have secrets.
# The warnings of urllib3 repeat what the service itself logs, without saying what to do.
_LEAST_LEVELS = {
    "image_puller": logging.NOTSET,
    "gunicorn": logging.INFO,
    "urllib3": logging.ERROR,
}
_LEAST_LEVEL_OF_OTHERS = logging.WARNING


def set_up(level: str, *, as_json: bool, stream: TextIO) -> None:
    """Write the log of all modules and libraries to a stream."""
    output = Output(stream)
    output.setLevel(level.upper())  # gunicorn's logger has a level of its own
    output.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[output])
    logging.captureWarnings(capture=True)
    warnings.filterwarnings("ignore", module=r"urllib3\b")


class TextFormatter(logging.Formatter):
    """Writes a line as text: time, level, logger and message. Only a traceback has more lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """Return the time of the line in UTC."""
        return _time(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the line. Its message can't begin a new line, so nobody can forge one."""
        line = copy(record)
        line.message = escaped(shortened(record.message)) + _repeated(record)
        return super().formatMessage(line)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return a traceback. Its lines are indented, because an error may quote a sender."""
        return "\n".join(
            _INDENT + escaped(line) for line in super().formatException(ei).split("\n")
        )


class JsonFormatter(logging.Formatter):
    """Writes a line as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object. `repeated` and `exception` are there only if they say something."""
        line: dict[str, str | int] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": shortened(record.getMessage()),
        }
        repeats = _repeats(record)
        if repeats:
            line["repeated"] = repeats
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


@dataclass(slots=True)
class _Fault:
    """A fault that was logged, and how often it has repeated since."""

    until: float
    last: logging.LogRecord
    repeats: int = 0


class Output(logging.StreamHandler[TextIO]):
    """Writes lines to a stream. A repeated warning or error is counted, and written once a minute.

    The count is written with the first line after the minute, and when the process ends.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._faults: dict[tuple[str, int, str], _Fault] = {}
        self.addFilter(_is_wanted)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless it repeats a fault of the last minute."""
        now = self._clock()
        self._write_due(now)
        if record.levelno >= logging.WARNING:
            fault = self._faults.get(_identity(record))
            if fault is not None:
                fault.repeats += 1
                fault.last = record
                return
            self._remember(record, now)
        super().emit(record)

    def close(self) -> None:
        """Write the counts of all faults that have repeated."""
        self.acquire()
        try:
            faults, self._faults = self._faults, {}
            for fault in faults.values():
                self._write_repeats(fault)
        finally:
            self.release()
        super().close()

    def _remember(self, record: logging.LogRecord, now: float) -> None:
        while len(self._faults) >= _FAULTS_MOST:
            self._write_repeats(self._faults.pop(next(iter(self._faults))))
        self._faults[_identity(record)] = _Fault(now + REPEAT_SECONDS, record)

    def _write_due(self, now: float) -> None:
        """Write the counts whose minute is over. The oldest fault is the first."""
        while self._faults:
            identity, fault = next(iter(self._faults.items()))
            if fault.until > now:
                return
            del self._faults[identity]
            if fault.repeats:
                self._write_repeats(fault)
                self._faults[identity] = _Fault(now + REPEAT_SECONDS, fault.last)

    def _write_repeats(self, fault: _Fault) -> None:
        if fault.repeats:
            line = copy(fault.last)
            line.created = time.time()  # so that the times of all lines are in order
            line.repeats = fault.repeats
            super().emit(line)


def escaped(text: str) -> str:
    """Return a text without control characters, directions of writing and lone surrogates."""
    return text.translate(_ESCAPED)


def shortened(text: str) -> str:
    """Return a text with the first twelve digits of each digest."""
    return _DIGEST.sub(r"\1…", text)


def _is_wanted(record: logging.LogRecord) -> bool:
    library = record.name.partition(".")[0]
    return record.levelno >= _LEAST_LEVELS.get(library, _LEAST_LEVEL_OF_OTHERS)


def _identity(record: logging.LogRecord) -> tuple[str, int, str]:
    """Return what is equal for two lines about one fault."""
    error = record.exc_info[1] if record.exc_info else None
    text = record.getMessage() if error is None else f"{record.getMessage()}: {error!r}"
    return record.name, record.levelno, _ADDRESS_IN_MEMORY.sub("0x", text)


def _repeats(record: logging.LogRecord) -> int:
    return int(getattr(record, "repeats", 0))


def _repeated(record: logging.LogRecord) -> str:
    repeats = _repeats(record)
    return f" (repeated, {repeats} more)" if repeats else ""


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
