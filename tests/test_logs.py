"""The log: its formats, its levels, and what it has about repeated faults."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from image_puller.logs import JsonFormatter, Output, TextFormatter, shortened
from tests.support.building import digest

NOON = 1767268800.25  # 2026-01-01T12:00:00.25Z


class Log:
    """A log that is written to a text, and the clock of its repeats."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._stream = io.StringIO()
        self.output = Output(self._stream, lambda: self.seconds)
        self.output.setFormatter(TextFormatter())

    def write(
        self,
        message: str,
        *arguments: object,
        level: int = logging.WARNING,
        name: str = "image_puller.test",
        error: BaseException | None = None,
    ) -> None:
        """Write one line, at noon."""
        self.output.handle(line(message, *arguments, level=level, name=name, error=error))

    def times(self) -> list[str]:
        """Return the times of the lines."""
        return [text.partition(" ")[0] for text in self._stream.getvalue().splitlines()]

    def lines(self) -> list[str]:
        """Return the lines without their time."""
        return [text.partition(" ")[2] for text in self._stream.getvalue().splitlines()]


def line(
    message: str,
    *arguments: object,
    level: int = logging.WARNING,
    name: str = "image_puller.test",
    error: BaseException | None = None,
) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord(name, level, "", 0, message, arguments, exc_info)
    record.created = NOON
    return record


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.output.close()


# Formats


def test_text_has_time_level_logger_and_message() -> None:
    assert TextFormatter().format(line("quay: %s", "tracked", level=logging.INFO)) == (
        "2026-01-01T12:00:00.250Z INFO image_puller.test quay: tracked"
    )


def test_json_has_time_level_logger_and_message() -> None:
    assert json.loads(JsonFormatter().format(line("quay: %s", "ä\n"))) == {
        "time": "2026-01-01T12:00:00.250Z",
        "level": "warning",
        "logger": "image_puller.test",
        "message": "quay: ä\n",
    }


def test_both_formats_have_the_traceback_of_an_error() -> None:
    nothing: dict[str, str] = {}
    with pytest.raises(KeyError) as error:
        nothing[digest(1)]
    record = line("answered 500", error=error.value)
    as_json = JsonFormatter().format(record)
    assert "\n" not in as_json
    assert json.loads(as_json)["exception"].startswith("Traceback (most recent call last):\n")
    text = TextFormatter().format(record)
    assert text.splitlines()[1] == "  Traceback (most recent call last):"


def test_error_that_quotes_a_sender_can_not_begin_another_line_in_its_traceback() -> None:
    forged = "2026-01-01T12:00:00.250Z INFO image_puller.test harbor: app 6.6.6: tracked"
    error = ValueError(f"not a tag: a\n{forged}\r\x1b[2K\u202e")
    text = TextFormatter().format(line("answered 500", error=error))
    assert forged in text
    assert forged not in text.splitlines()
    assert all(each.startswith("  ") for each in text.split("\n")[1:])
    assert not {"\r", "\x1b", "\u202e"} & set(text)
    as_json = JsonFormatter().format(line("answered 500", error=error))
    assert as_json.isascii()
    assert as_json.isprintable()


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_digest_is_shortened_in_both_formats(algorithm: str) -> None:
    long = f"{algorithm}:{'0123456789ab' * 8}"
    short = f"{algorithm}:0123456789ab…"
    record = line("quay: %s: tracked, not %s", f"app@{long}", long)
    expected = f"quay: app@{short}: tracked, not {short}"
    assert TextFormatter().format(record).endswith(expected)
    assert json.loads(JsonFormatter().format(record))["message"] == expected


@pytest.mark.parametrize("text", ["sha256:0123456789ab", "a" * 64, "sha256:", "1.2.3"])
def test_other_text_is_not_shortened(text: str) -> None:
    assert shortened(text) == text


@pytest.mark.parametrize(
    ("foreign", "written"),
    [
        ("a\nb", r"a\nb"),
        ("a\r\nb", r"a\r\nb"),
        ("a\x1b[2Kb", r"a\x1b[2Kb"),
        ("a\x85b\x9bc", r"a\x85b\x9bc"),
        ("a\u2028b\u2029", r"a\u2028b\u2029"),
        ("a\u202eb\u2066c\u200f", r"a\u202eb\u2066c\u200f"),
        ("a\ud800b\udcff", r"a\ud800b\udcff"),
        ("ä ✓", "ä ✓"),
    ],
)
def test_message_can_not_begin_another_line(foreign: str, written: str) -> None:
    assert TextFormatter().format(line("ignored: %s", foreign)).endswith(f" ignored: {written}")
    as_json = JsonFormatter().format(line("ignored: %s", foreign))
    assert as_json.isascii()
    assert as_json.isprintable()


# Repeated faults


def test_repeated_fault_is_written_once_a_minute_with_a_count(log: Log) -> None:
    for _ in range(50):
        log.write("no connection to %s", "quay.io")
        log.seconds += 1
    assert log.lines() == ["WARNING image_puller.test no connection to quay.io"]
    for _ in range(50):
        log.write("no connection to %s", "quay.io")
        log.seconds += 1
    assert log.lines()[1:] == [
        "WARNING image_puller.test no connection to quay.io (repeated, 59 more)"
    ]


def test_count_of_a_fault_is_written_with_the_next_line_after_its_minute(log: Log) -> None:
    log.write("down")
    log.write("down")
    log.seconds = 60
    log.write("up", level=logging.INFO)
    assert log.lines() == [
        "WARNING image_puller.test down",
        "WARNING image_puller.test down (repeated, 1 more)",
        "INFO image_puller.test up",
    ]


def test_fault_that_comes_back_after_a_quiet_minute_is_written_at_once(log: Log) -> None:
    log.write("down")
    log.seconds = 60
    log.write("down")
    assert log.lines() == ["WARNING image_puller.test down"] * 2


def test_counts_are_written_when_the_process_ends(log: Log) -> None:
    for _ in range(3):
        log.write("down", level=logging.ERROR)
    log.write("once")
    log.output.close()
    assert log.lines()[-1] == "ERROR image_puller.test down (repeated, 2 more)"


def test_count_of_a_fault_has_the_time_when_it_is_written(log: Log) -> None:
    log.write("down")
    log.write("down")
    log.output.close()
    first, second = log.times()
    assert first == "2026-01-01T12:00:00.250Z"
    assert second >= f"{datetime.now(UTC) - timedelta(minutes=5):%Y-%m-%dT%H:%M}"


def test_different_faults_are_all_written(log: Log) -> None:
    log.write("%s was refused", "1.2.3")
    log.write("%s was refused", "1.2.4")
    log.write("%s was refused", "1.2.4", level=logging.ERROR)
    log.write("%s was refused", "1.2.4", name="image_puller.other")
    log.write("%s was refused", "1.2.4", error=KeyError(1))
    log.write("%s was refused", "1.2.4", error=KeyError(2))
    assert len([each for each in log.lines() if "was refused" in each]) == 6


def test_faults_that_differ_only_by_an_address_in_memory_are_one(log: Log) -> None:
    log.write("failed: <Connection object at 0x7f1c2a>")
    log.write("failed: <Connection object at 0x7f1c2b>")
    assert log.lines() == ["WARNING image_puller.test failed: <Connection object at 0x7f1c2a>"]


def test_news_that_repeat_are_all_written(log: Log) -> None:
    for _ in range(3):
        log.write("quay: app 1.2.4: unchanged", level=logging.INFO)
    assert len(log.lines()) == 3


def test_faults_that_are_remembered_are_bounded(log: Log) -> None:
    log.write("first")
    log.write("first")
    for number in range(2000):
        log.write("fault %d", number)
    assert "WARNING image_puller.test first (repeated, 1 more)" in log.lines()
    assert len(log.output._faults) == 1000


def test_count_is_a_field_of_its_own_in_json() -> None:
    stream = io.StringIO()
    output = Output(stream)
    output.setFormatter(JsonFormatter())
    for _ in range(3):
        output.handle(line("down"))
    output.close()
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first.get("repeated"), second["repeated"]) == (None, 2)
    assert first["message"] == second["message"] == "down"


# Levels


@pytest.mark.parametrize(
    ("name", "level", "is_written"),
    [
        ("image_puller.http.routes", logging.DEBUG, True),
        ("gunicorn.error", logging.INFO, True),
        ("gunicorn.error", logging.DEBUG, False),
        ("urllib3.connectionpool", logging.WARNING, False),
        ("urllib3.connectionpool", logging.ERROR, True),
        ("kubernetes.client.rest", logging.INFO, False),
        ("kubernetes.client.rest", logging.WARNING, True),
        ("py.warnings", logging.WARNING, True),
    ],
)
def test_libraries_write_only_what_matters(
    log: Log, name: str, level: int, *, is_written: bool
) -> None:
    log.write("message", name=name, level=level)
    assert bool(log.lines()) == is_written


PROGRAM = """
import logging, sys, warnings
from image_puller import logs
level, form = sys.argv[1:]
logs.set_up(level, as_json=form == "json", stream=sys.stdout)
log = logging.getLogger("image_puller.any")
log.debug("debug"), log.info("info"), log.warning("warning"), log.error("error")
warnings.warn("a warning of Python", stacklevel=1)
warnings.warn_explicit("insecure", UserWarning, "connectionpool.py", 1, "urllib3.connectionpool")
log.error("error")
"""


def run(level: str, form: str) -> list[str]:
    """Return the lines of a process that sets up its log."""
    command = (sys.executable, "-c", PROGRAM, level, form)
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    return ended.stdout.splitlines()


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error", "a warning of Python", "error"]),
        ("info", ["info", "warning", "error", "a warning of Python", "error"]),
        ("warning", ["warning", "error", "a warning of Python", "error"]),
        ("error", ["error", "error"]),
    ],
)
def test_level_of_the_log_is_that_of_the_configuration(level: str, written: list[str]) -> None:
    found: list[dict[str, Any]] = [json.loads(each) for each in run(level, "json")]
    for each, expected in zip(found, written, strict=True):
        assert expected in each["message"]
    assert found[-1]["repeated"] == 1


def test_text_is_written_with_one_line_for_each_message() -> None:
    written = run("info", "text")
    assert [each.split(" ", 3)[1:3] for each in written[:3]] == [
        ["INFO", "image_puller.any"],
        ["WARNING", "image_puller.any"],
        ["ERROR", "image_puller.any"],
    ]
    assert written[-1].endswith("image_puller.any error (repeated, 1 more)")
