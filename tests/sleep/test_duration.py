import re
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import IO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.sleep.programs import build

DRIVER = Path(__file__).with_name("parse_driver.c")
TRAPS = "-fsanitize=undefined -fsanitize-undefined-trap-on-error"

US, MS, S, M, H = 10**3, 10**6, 10**9, 60 * 10**9, 3600 * 10**9
UNITS = {"ns": 1, "us": US, "µs": US, "μs": US, "ms": MS, "s": S, "m": M, "h": H}
TERM = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")

durations = st.from_regex(
    r"[-+]?(([0-9]{1,20}(\.[0-9]{0,30})?|\.[0-9]{1,30})(ns|us|\u00b5s|\u03bcs|ms|s|m|h)){1,4}",
    fullmatch=True,
)
lookalikes = st.text("0159.+-nuµμmshd i", max_size=12)


class Parser:
    """`parse_duration` of one architecture, in a process that answers line by line."""

    def __init__(self, texts: IO[str], answers: IO[str]) -> None:
        self._texts = texts
        self._answers = answers

    def __call__(self, text: str) -> int | str:
        self._texts.write(f"{text}\n")
        self._texts.flush()
        answer = self._answers.readline().removesuffix("\n")
        return int(answer) if re.fullmatch(r"-?[0-9]+", answer) else answer


@pytest.fixture(scope="module")
def parse(arch: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parser]:
    sources = f"start.c duration.c text.c {DRIVER}"
    driver = build(arch, tmp_path_factory.mktemp("driver"), SOURCES=sources, EXTRA=TRAPS)
    with subprocess.Popen(
        driver.command, encoding="utf-8", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        yield Parser(process.stdin, process.stdout)
        process.stdin.close()
        assert process.wait(10) == 0


def expected(text: str) -> int | None:
    """Return the nanoseconds by Go's grammar and exact arithmetic, or None for a wrong text."""
    if text == "infinity":
        return 2**63 - 1
    sign, terms = (text[0], text[1:]) if text[:1] in {"-", "+"} else ("", text)
    if terms != "0" and not re.fullmatch(f"({TERM.pattern})+", terms):
        return None
    sizes = (floor(Fraction(number) * UNITS[unit]) for number, unit in TERM.findall(terms))
    nanoseconds = sum(sizes) * (-1 if sign == "-" else 1)
    return nanoseconds if -(2**63) <= nanoseconds < 2**63 else None


# The numbers are results of time.ParseDuration in Go 1.26.
@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("720h", 720 * H),
        ("1h30m", H + 30 * M),
        ("1.5h", H + 30 * M),
        ("300ms", 300 * MS),
        ("0", 0),
        ("+0", 0),
        ("-0", 0),
        ("0s", 0),
        ("5s", 5 * S),
        ("1478s", 1478 * S),
        ("-5s", -5 * S),
        ("+5s", 5 * S),
        ("5.0s", 5 * S),
        ("5.6s", 5600 * MS),
        ("5.s", 5 * S),
        (".5s", 500 * MS),
        ("1.004s", 1004 * MS),
        ("1.0040s", 1004 * MS),
        ("100.00100s", 100001 * MS),
        ("10ns", 10),
        ("11us", 11 * US),
        ("12\u00b5s", 12 * US),
        ("12\u03bcs", 12 * US),
        ("13ms", 13 * MS),
        ("14s", 14 * S),
        ("15m", 15 * M),
        ("16h", 16 * H),
        ("3h30m", 3 * H + 30 * M),
        ("10.5s4m", 4 * M + 10500 * MS),
        ("-2m3.4s", -(2 * M + 3400 * MS)),
        ("1h2m3s4ms5us6ns", H + 2 * M + 3 * S + 4 * MS + 5 * US + 6),
        ("39h9m14.425s", 39 * H + 9 * M + 14425 * MS),
        ("1s1s1s", 3 * S),
        ("0.9ns", 0),
        ("0.9ns0.9ns", 0),
        ("-0.9ns", 0),
        ("1.9ns", 1),
        ("00001s", S),
        ("0000000000000000000000000000001s", S),
        ("0.000000001h", 3600),
        ("0.100000000000000000000h", 6 * M),
        ("0.830103483285477580700h", 2988372539827),
        ("9007199254.740993ms", 9007199254740993),
        ("52763797000ns", 52763797000),
        ("9223372036854775807ns", 2**63 - 1),
        ("9223372036854775.807us", 2**63 - 1),
        ("9223372036s854ms775us807ns", 2**63 - 1),
        ("-9223372036854775808ns", -(2**63)),
        ("-9223372036854775.808us", -(2**63)),
        ("-9223372036s854ms775us808ns", -(2**63)),
        ("2562047h", 2562047 * H),
    ],
)
def test_duration_is_parsed_as_in_go(parse: Parser, text: str, nanoseconds: int) -> None:
    assert parse(text) == expected(text) == nanoseconds


def test_infinity_is_the_longest_duration(parse: Parser) -> None:
    assert parse("infinity") == 2**63 - 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no number"),
        ("-", "no number"),
        ("+", "no number"),
        ("3", "no unit after: 3"),
        ("00", "no unit after: 00"),
        ("1.5", "no unit after: 1.5"),
        ("1h30", "no unit after: 30"),
        ("s", "no number before: s"),
        (".", "no number before: ."),
        (".s", "no number before: .s"),
        ("-.s", "no number before: .s"),
        ("+.s", "no number before: .s"),
        ("1h.s", "no number before: .s"),
        ("--5s", "no number before: -5s"),
        ("+-5s", "no number before: -5s"),
        (" 5s", "no number before:  5s"),
        ("inf", "no number before: inf"),
        ("+infinity", "no number before: infinity"),
        ("infinity1s", "no number before: infinity1s"),
        ("10d", "unknown unit: d"),
        ("5S", "unknown unit: S"),
        ("5s ", "unknown unit: s "),
        ("1h 30m", "unknown unit: h "),
        ("1h-30m", "unknown unit: h-"),
        ("1e3s", "unknown unit: e"),
        ("1,5h", "unknown unit: ,"),
        ("5seconds", "unknown unit: seconds"),
        ("5nsec", "unknown unit: nsec"),
        ("5n", "unknown unit: n"),
        ("5\u00b5", "unknown unit: \u00b5"),
        ("1..5s", "no unit after: 1."),
        ("9223372036854775808ns", "more than 292 years"),
        ("9223372036854775.808us", "more than 292 years"),
        ("9223372036854ms775us808ns", "more than 292 years"),
        ("-9223372036854775809ns", "more than 292 years"),
        ("2562048h", "more than 292 years"),
        ("3000000h", "more than 292 years"),
        ("18446744073709551616ns", "more than 292 years"),
        ("99999999999999999999999h", "more than 292 years"),
        ("-9223372036854775808ns9223372036854775808ns", "more than 292 years"),  # 0 in Go
    ],
)
def test_wrong_duration_is_rejected_with_the_reason(
    parse: Parser, text: str, complaint: str
) -> None:
    assert expected(text) is None
    assert parse(text) == complaint


# Go returns 1200 s, because it multiplies in floating point, which rounds up here.
def test_long_fractions_are_exact(parse: Parser) -> None:
    assert parse("0.3333333333333333333h") == 1199999999999
    assert parse("0." + "3" * 1000 + "h") == 1199999999999
    assert parse("0." + "0" * 1000 + "1h") == 0


@given(text=durations | lookalikes)
@example(text="9223372036854775807.9ns")
def test_any_text_is_parsed_exactly_or_rejected(parse: Parser, text: str) -> None:
    answer = parse(text)
    nanoseconds = expected(text)
    assert (answer == nanoseconds) if nanoseconds is not None else isinstance(answer, str)
