"""`image-puller status`: the table, the notes below it, and `--watch`."""

import io
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from image_puller.cli import status_command, status_view
from image_puller.cli.service_client import BusyError, NoAnswerError
from image_puller.cli.status_command import View
from image_puller.controller.clock import Clock
from tests.support.building import digest
from tests.support.statuses import NOT_READY, image, on_node, status, tag

APP = "quay.io/org/app:1.2.3"
CUDA = "quay.io/org/cuda:12"
FAILING = on_node("failing", "ErrImagePull: not\x1b[31m found")
SEEN = status(
    image(APP, "held", "held", "pulling", digest=digest(1)),
    nodes={"node-3": NOT_READY},
    groups={
        "gpu": status(
            image(CUDA, "held", "pulling", FAILING, entry="cuda"),
            rollout="in progress",
            quarantined=[
                tag(
                    "quay.io/org/cuda:13",
                    entry="cuda",
                    digest=digest(2),
                    reason="exec format error",
                )
            ],
        )
    },
    unverified=[tag("quay.io/org/app:1.2.4", reason="the registry does not have it")],
    problems=["the image fails on 1 node; correct it"],
)


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Keep the variables of the terminal that runs the tests away."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return monkeypatch


def text(
    *, only_failing: bool = False, is_wide: bool = False, stream: io.StringIO | None = None
) -> str:
    return status_view.text(
        SEEN, only_failing=only_failing, is_wide=is_wide, stream=stream or io.StringIO()
    )


def test_table_has_a_line_for_each_image_and_what_is_wrong_below() -> None:
    assert text() == (
        "ENTRY     IMAGE                  HELD  OTHERS                REASON\n"
        "app       quay.io/org/app:1.2.3  2/2   -                     -\n"
        "gpu/cuda  quay.io/org/cuda:12    1/3   1 failing, 1 pulling  "
        "node-3: ErrImagePull: not [31m found\n"
        "\n"
        "1 of 2 images are held on every node that counts.\n"
        "Rollout of group gpu: in progress\n"
        "Unverified: app: quay.io/org/app:1.2.4: the registry does not have it\n"
        f"Quarantined: gpu/cuda: quay.io/org/cuda:13 ({digest(2)[:19]}): exec format error\n"
        "Problem: the image fails on 1 node; correct it\n"
    )


def test_wide_table_has_more_columns_and_the_nodes_that_do_not_count() -> None:
    head, app, cuda, *_ = text(is_wide=True).splitlines()
    titles = ["ENTRY", "IMAGE", "HELD", "OTHERS", "DIGEST", "HOLDER", "MISSING", "ON", "REASON"]
    assert head.split() == titles
    assert app.split() == ["app", APP, "2/2", "-", digest(1)[:19], "app", "-", "-"]
    assert "unknown" in cuda
    assert "cuda    node-3, node-2  node-3: ErrImagePull" in cuda
    assert "\nDoes not count: node-3: the node is not ready\n" not in text(is_wide=True)
    alone = {**SEEN, "groups": {}}
    shown = status_view.text(alone, only_failing=False, is_wide=True, stream=io.StringIO())
    assert "\nDoes not count: node-3: the node is not ready\n" in shown


def test_wide_table_names_only_some_of_many_nodes() -> None:
    seen = status(image(APP, *["pulling"] * 7))
    shown = status_view.text(seen, only_failing=False, is_wide=True, stream=io.StringIO())
    assert "  node-1, node-2, node-3, node-4, node-5 and 2 more  " in shown


def test_only_failing_images_may_be_shown() -> None:
    shown = text(only_failing=True)
    assert APP not in shown
    assert CUDA in shown
    assert "1 of 2 images are held" in shown
    fine = status_view.text(
        status(image(APP, "held")), only_failing=True, is_wide=False, stream=io.StringIO()
    )
    assert fine == "1 of 1 images are held on every node that counts.\n"


def test_missing_daemonset_is_shown() -> None:
    shown = status_view.text(
        status(rollout=None), only_failing=False, is_wide=False, stream=io.StringIO()
    )
    assert "\nRollout: the DaemonSet does not exist\n" in shown


def test_rollout_says_that_nodes_wait_for_the_seeds() -> None:
    seen = status(image(APP, "held", "waiting"), rollout="in progress")
    seen["daemonset"]["seeding"] = "1 of 2 seeds hold all images"
    shown = status_view.text(seen, only_failing=False, is_wide=False, stream=io.StringIO())
    assert "\nRollout: in progress; 1 of 2 seeds hold all images\n" in shown


def test_terminal_has_colours_and_no_other_escape(environ: pytest.MonkeyPatch) -> None:
    shown = text(stream=Terminal())
    assert "\x1b[31m1 failing\x1b[0m" in shown.replace("\x1b[31m1\x1b[0m \x1b[31m", "\x1b[31m1 ")
    assert "not\x1b" not in shown
    environ.setenv("NO_COLOR", "1")
    assert "\x1b" not in text(stream=Terminal())


def test_lines_fit_a_terminal_and_are_whole_in_a_pipe(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("NO_COLOR", "1")
    environ.setenv("COLUMNS", "60")
    assert max(map(len, text(stream=Terminal()).splitlines())) <= 60
    assert "node-3: ErrImagePull: not [31m found" in text()


# --watch


class StoppingClock(Clock):
    """A clock during whose last wait somebody presses Ctrl-C."""

    def __init__(self, waits: int) -> None:
        self._left = waits

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        assert seconds == status_command.WATCH_SECONDS
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


def watch(*answers: dict[str, Any] | Exception) -> int:
    waiting: Iterator[dict[str, Any] | Exception] = iter(answers)

    def read() -> dict[str, Any]:
        answer = next(waiting)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return status_command.watch(read, View(output="table"), StoppingClock(len(answers)))


FINE = status(image(APP, "held"))
PULLING = status(image(APP, "pulling"))


def test_watch_prints_each_change_until_it_is_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(PULLING, PULLING, FINE) == 0
    printed = capsys.readouterr().out
    assert printed.count("ENTRY") == 2
    assert printed.index("0/1") < printed.index("\n\nENTRY") < printed.index("1/1")


def test_watch_ends_with_the_code_of_the_last_status() -> None:
    assert watch(FINE, PULLING) == 1


def test_watch_shows_one_status_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert watch(PULLING, FINE) == 0
    assert terminal.getvalue().rpartition("\x1b[H\x1b[2J\x1b[3J")[2].startswith("ENTRY")


def test_watch_goes_on_while_the_service_restarts(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(PULLING, BusyError("try again"), FINE) == 0
    assert "\ntry again\n" in capsys.readouterr().out


def test_watch_ends_where_the_service_never_answered() -> None:
    with pytest.raises(NoAnswerError):
        watch(NoAnswerError("refused"))
