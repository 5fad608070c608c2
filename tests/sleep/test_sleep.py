import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import image_puller
from tests.sleep.programs import (
    NATIVE,
    Program,
    children,
    is_sleeping,
    process,
    unshare,
    wait_until,
)

USAGE = (
    "usage: sleep DURATION [LINGER] | sleep --install PATH [DURATION [LINGER]] | sleep --version\n"
    "DURATION is as in Go (720h, 1h30m, 1.5h, 300ms), or infinity; "
    "LINGER, from a signal to the end, too\n"
)
SLACK = 5  # seconds, for a busy machine
CATCHABLE = [number for number in range(1, 65) if number not in {signal.SIGKILL, signal.SIGSTOP}]
# Emulators use some signals themselves, but none of these, which images are likely to name.
USUAL = [
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGURG,
    signal.SIGPIPE,
    37,  # SIGRTMIN+3, which systemd uses
]


@dataclass(frozen=True, slots=True)
class FirstProcess:
    """The binary as process 1, seen from outside its namespace."""

    outside: subprocess.Popen[bytes]
    pid: int

    def run_inside(self, script: str, **options: Any) -> subprocess.Popen[bytes]:
        user = ("--user", "--preserve-credentials") if os.geteuid() else ()
        enter = ("nsenter", "--target", str(self.pid), *user, "--pid", "--mount", "sh", "-c")
        return subprocess.Popen((*enter, script), **options)


@contextmanager
def sleeping_as_process_1(program: Program) -> Iterator[FirstProcess]:
    namespace = unshare("--pid", "--fork", "--kill-child", "--mount-proc")
    with process(*namespace, *program.command, "720h") as outside:
        wait_until(lambda: children(outside.pid))
        (pid,) = children(outside.pid)
        wait_until(lambda: is_sleeping(pid))
        yield FirstProcess(outside, pid)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("300ms", 0.3),
        ("0.1s", 0.1),
        ("20ms30000µs", 0.05),
        ("1.5ms", 0.0015),
        ("1ns", 0),
        ("0", 0),
        ("-1h", 0),
    ],
)
def test_sleep_takes_the_duration(sleep: Program, duration: str, seconds: float) -> None:
    began = time.monotonic()
    ended = sleep.run(duration)
    assert seconds <= time.monotonic() - began < seconds + SLACK
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("duration", ["720h", "infinity", "9223372036854775807ns"])
def test_long_duration_keeps_sleeping(sleep: Program, duration: str) -> None:
    with sleep.running(duration) as running, pytest.raises(subprocess.TimeoutExpired):
        running.wait(0.05)


@pytest.mark.parametrize(
    ("duration", "fault"),
    [
        ("10d", 'unknown unit "d"'),
        ("12\u00b5", 'unknown unit "\u00b5"'),
        ("1h30", 'no unit after "30"'),
        ("", "no number"),
        ("h", 'no number before "h"'),
        ("--help", 'no number before "-help"'),
        ("2562048h", "more than 292 years"),
    ],
)
def test_wrong_duration_is_reported(sleep: Program, duration: str, fault: str) -> None:
    ended = sleep.run(duration)
    assert ended.stderr == f'sleep: invalid duration "{duration}": {fault}\n{USAGE}'
    assert (ended.returncode, ended.stdout) == (2, "")


def test_wrong_linger_is_reported(sleep: Program) -> None:
    ended = sleep.run("720h", "soon")
    assert ended.stderr == f'sleep: invalid duration "soon": no number before "soon"\n{USAGE}'
    assert (ended.returncode, ended.stdout) == (2, "")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("1s", "1s", "1s"),
        ("--install",),
        ("--install", "a", "1s", "1s", "1s"),
        ("--version", "1s"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_print_the_usage(sleep: Program, arguments: tuple[str, ...]) -> None:
    ended = sleep.run(*arguments)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", USAGE)


def test_version_is_printed(sleep: Program) -> None:
    ended = sleep.run("--version")
    assert ended.stdout == f"sleep {image_puller.__version__}\n"
    assert (ended.returncode, ended.stderr) == (0, "")


def test_failed_output_of_the_version_is_reported(native: Program) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            (*native.command, "--version"), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (ended.returncode, ended.stderr) == (1, b"sleep: can't write: No space left on device\n")


@pytest.mark.parametrize("number", USUAL)
def test_signal_ends_the_sleep_at_once(sleep: Program, number: int) -> None:
    with sleep.running("720h") as running:
        running.send_signal(number)
        assert running.wait(SLACK) == 0


def test_signal_ends_the_sleep_within_100_ms(native: Program) -> None:
    """The fastest of ten counts, because the others may be slow on a busy machine."""
    assert min(seconds_to_end(native) for _ in range(10)) < 0.1


def seconds_to_end(program: Program) -> float:
    with program.running("720h") as running:
        began = time.monotonic()
        running.terminate()
        assert running.wait(SLACK) == 0
        return time.monotonic() - began


def test_linger_is_not_shortened_by_further_signals(
    sleep: Program,
) -> None:
    with sleep.running("720h", "300ms") as running:
        began = time.monotonic()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            running.send_signal(number)
        assert running.wait(SLACK) == 0
        assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("linger", ["0", "-1h"])
def test_linger_of_zero_or_less_ends_at_once(sleep: Program, linger: str) -> None:
    with sleep.running("720h", linger) as running:
        running.terminate()
        assert running.wait(SLACK) == 0


@pytest.mark.parametrize("number", CATCHABLE)
def test_every_signal_ends_process_1_at_once(native: Program, number: int) -> None:
    with sleeping_as_process_1(native) as first:
        os.kill(first.pid, number)
        assert first.outside.wait(SLACK) == 0


def test_process_1_reaps_orphans_and_keeps_sleeping(native: Program) -> None:
    with sleeping_as_process_1(native) as first:
        script = "exec 3<&0; cat <&3 & sh -c 'exit 3' & exit 0"
        with first.run_inside(script, stdin=subprocess.PIPE) as shell:
            assert shell.wait(SLACK) == 0
            wait_until(lambda: len(children(first.pid)) == 1)
        wait_until(lambda: not children(first.pid))
        assert is_sleeping(first.pid)
        os.kill(first.pid, signal.SIGCHLD)
        assert first.outside.wait(SLACK) == 0


@pytest.mark.skipif(
    NATIVE != "amd64", reason="the limit is for amd64; other architectures have other pages"
)
def test_sleep_takes_at_most_64_kib_of_memory(native: Program) -> None:
    with native.running("720h") as running:
        usage = Path(f"/proc/{running.pid}/smaps_rollup").read_text()
        (resident,) = re.findall(r"^Rss: +([0-9]+) kB$", usage, re.MULTILINE)
        assert int(resident) <= 64
