"""`image-puller wait`: when it ends, what it prints, and how often it asks."""

import argparse
import io
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import responses

from image_puller.cli import main, wait_command
from image_puller.cli.service_client import BusyError, NoAnswerError, ServiceError
from image_puller.controller.clock import Clock
from image_puller.core.awaiting import Enough
from tests.support.statuses import image, on_node, status, tag

APP = "quay.io/org/app:1.2.3"
OTHER = "quay.io/org/other:1"
HELD = status(image(APP, "held", "held"))
PULLING = status(image(APP, "held", on_node("pulling", "since noon")))
FAILING = status(image(APP, "held", on_node("failing", "ErrImagePull: not\x1b[31m found")))


class WaitingClock(Clock):
    """A clock whose time passes when somebody waits. It notes how long."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return 1000 + sum(self.waits)

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        assert seconds is not None
        self.waits.append(seconds)


@pytest.fixture
def clock() -> WaitingClock:
    return WaitingClock()


def run(
    clock: Clock,
    *answers: dict[str, Any] | Exception,
    wanted: Sequence[str] = (),
    seconds: int = 60,
) -> int:
    """Run the command. The last answer repeats."""
    waiting = list(answers)

    def read() -> dict[str, Any]:
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return wait_command.run(read, wanted, Enough(), seconds, clock)


def test_ends_with_0_at_once_if_the_images_are_there(
    clock: WaitingClock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clock, HELD, seconds=0) == 0
    assert clock.waits == []
    assert capsys.readouterr().out.splitlines() == [
        f"{APP}: 2/2 nodes hold it",
        f"Enough nodes hold {APP}, after 0 s.",
    ]


def test_log_has_a_line_for_each_change(
    clock: WaitingClock, capsys: pytest.CaptureFixture[str]
) -> None:
    other = image(OTHER, "held", entry="other")
    both = [{**each, "images": [*each["images"], other]} for each in (PULLING, PULLING, HELD)]
    assert run(clock, *both) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{APP}: 1/2 nodes hold it; 1 pulling; node-2: since noon",
        f"{OTHER}: 1/1 nodes hold it",
        f"{APP}: 2/2 nodes hold it",
        "Enough nodes hold all 2 images, after 2 s.",
    ]


def test_words_of_a_reason_alone_are_no_change(
    clock: WaitingClock, capsys: pytest.CaptureFixture[str]
) -> None:
    later = status(image(APP, "held", on_node("pulling", "since one")))
    assert run(clock, PULLING, later, HELD) == 0
    assert "since one" not in capsys.readouterr().out


def test_asks_less_often_until_something_changes(clock: WaitingClock) -> None:
    assert run(clock, *([PULLING] * 9), FAILING, FAILING, HELD) == 0
    assert clock.waits[:8] == [1, 1.5, 2.25, 3.375, 5.0625, 7.59375, 10, 10]
    assert clock.waits[8:] == [10, 1, 1.5]


def test_ends_with_3_at_the_timeout_with_what_is_missing_and_why(
    clock: WaitingClock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clock, FAILING, seconds=30) == 3
    assert sum(clock.waits) == 30
    assert capsys.readouterr().err == (
        "After 30 s these images are missing:\n"
        f"  {APP}: 1/2 nodes hold it; 1 failing; node-2: ErrImagePull: not [31m found\n"
    )


def test_ends_with_1_if_an_image_can_not_come(
    clock: WaitingClock, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "quay.io/org/app:1.2.4"
    seen = PULLING | {"quarantined": [tag(name, reason="exec format error")]}
    assert run(clock, PULLING, seen, wanted=[APP, name]) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        f"These images will not come:\n  {name}: {name} is quarantined: exec format error\n"
    )
    assert f"{name}: entry app does not track it yet" in captured.out


def test_image_that_no_node_needs_is_shown_so(
    clock: WaitingClock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clock, status(image(APP))) == 0
    assert f"{APP}: no node needs it\n" in capsys.readouterr().out


# The service does not answer


def test_goes_on_while_the_service_restarts(
    clock: WaitingClock, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = (BusyError("busy"), PULLING, NoAnswerError("refused"), NoAnswerError("refused"), HELD)
    assert run(clock, *answers) == 0
    assert capsys.readouterr().out.splitlines() == [
        "busy",
        f"{APP}: 1/2 nodes hold it; 1 pulling; node-2: since noon",
        "refused",
        f"{APP}: 2/2 nodes hold it",
        f"Enough nodes hold {APP}, after 4 s.",
    ]


@pytest.mark.parametrize("answer", [NoAnswerError("refused"), ServiceError("401")])
def test_ends_at_once_if_the_service_never_answered_or_rejects_the_request(
    clock: WaitingClock, answer: ServiceError
) -> None:
    with pytest.raises(ServiceError):
        run(clock, answer)
    assert clock.waits == []


def test_timeout_says_that_the_service_did_not_answer(
    clock: WaitingClock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clock, BusyError("busy"), seconds=5) == 3
    assert capsys.readouterr().err == "busy\n"
    assert run(clock, PULLING, NoAnswerError("refused"), seconds=5) == 3
    error = capsys.readouterr().err
    assert error.startswith(f"After 5 s these images are missing:\n  {APP}: 1/2 ")
    assert error.endswith("\nrefused\n")


# A terminal


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_terminal_has_one_line_that_fits(
    clock: WaitingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "50")
    assert run(clock, PULLING, BusyError("busy"), FAILING, HELD) == 0
    first, *others, last = terminal.getvalue().split("\r\x1b[K")[1:]
    assert first == f"0 s: 0 of 1 images are there; {APP}"[:49]
    assert others[0] == "1 s: busy"
    assert others[-1] == "3 s: 1 of 1 images are there"
    assert last == f"Enough nodes hold {APP}, after 3 s.\n"
    assert max(map(len, others)) <= 49


def test_line_of_a_terminal_is_removed_before_an_error(
    clock: WaitingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wanted, code in (([APP], 3), ([OTHER], 1)):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        assert run(clock, PULLING, wanted=wanted, seconds=0) == code
        assert terminal.getvalue().endswith("\r\x1b[K")


# Arguments


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600),
        ("90s", 90),
        ("90", 90),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1h1m1s", 3661),
        ("0", 0),
    ],
)
def test_time_has_hours_minutes_and_seconds(text: str, seconds: int) -> None:
    assert wait_command.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "ten", "1d", "1m1h", "-1s", "1.5m", " 1m", "9" * 9])
def test_malformed_time_is_an_error(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a time such as 90s"):
        wait_command.duration(text)


def test_malformed_number_of_nodes_or_selector_ends_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for option, message in (
        ("--nodes", "argument --nodes: must be a number of nodes such as 3"),
        ("--selector", "argument -l/--selector: 'a in b' is not a label selector"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main.main(["wait", option, "a in b"])
        assert message in capsys.readouterr().err


def test_malformed_image_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(["wait", "Not an image"])
    assert "argument <image>: " in capsys.readouterr().err


@responses.activate
def test_command_asks_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGE_PULLER_URL", "https://puller.example.com")
    monkeypatch.setenv("IMAGE_PULLER_TOKEN", "r")
    responses.get("https://puller.example.com/status", json=PULLING)
    assert main.main(["wait", "app", "--nodes", "50%"]) == 0
    assert main.main(["wait", APP, "--timeout", "0s"]) == 3
    assert main.main(["wait", OTHER]) == 1
    assert "no group has an entry of quay.io/org/other" in capsys.readouterr().err
    sent: object = responses.calls[0].request.headers["Authorization"]
    assert sent == b"Bearer r"
