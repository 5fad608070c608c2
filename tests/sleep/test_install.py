import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.sleep.programs import Program, is_held, process, unshare, wait_until

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
HERE = Path("/proc/self/cwd")  # other users may not enter the folders above
ARBITRARY_USER = {"user": 1000650000, "group": 0, "extra_groups": ()}

ON_TMPFS = """
mount -t tmpfs -o "$1" tmpfs "$2"
cd "$2"
shift 2
eval "$PREPARE"
"$@" --install ./sleep
echo "exit $?"
ls -A
"""


def install_on_tmpfs(sleep: Program, options: str, folder: Path, prepare: str) -> list[str]:
    command = (*unshare("--mount"), "sh", "-c", ON_TMPFS, "sh", options, str(folder))
    ended = subprocess.run(
        (*command, *sleep.command),
        env={**os.environ, "PREPARE": prepare},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20,
        check=True,
    )
    return ended.stdout.splitlines()


def install_as_process_1(
    sleep: Program, target: Path | str, **options: Any
) -> subprocess.CompletedProcess[str]:
    namespace = unshare("--pid", "--fork", "--kill-child", "--mount-proc")
    command = (*namespace, *sleep.command, "--install", str(target))
    return subprocess.run(
        command, capture_output=True, text=True, timeout=20, check=False, **options
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_installed_copy_is_executable_by_everyone(sleep: Program, tmp_path: Path) -> None:
    target = tmp_path / "sleep"
    ended = sleep.run("--install", str(target), umask=0o077)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert target.read_bytes() == sleep.path.read_bytes()
    assert target.stat().st_mode & 0o7777 == 0o755
    assert names(tmp_path) == {"sleep"}


def test_installed_copy_can_install_itself(sleep: Program, tmp_path: Path) -> None:
    sleep.run("--install", str(tmp_path / "first"))
    copy = Program(arch=sleep.arch, path=tmp_path / "first")
    assert copy.run("--install", str(tmp_path / "second")).returncode == 0
    assert copy.run("--install", str(tmp_path / "first")).returncode == 0
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert copy.run("1ms").returncode == 0


@AS_ROOT
def test_arbitrary_user_installs_into_a_writable_folder(sleep: Program, tmp_path: Path) -> None:
    sleep.run("--install", str(tmp_path / "first"))
    tmp_path.chmod(0o777)
    copy = Program(arch=sleep.arch, path=HERE / "first")
    ended = copy.run("--install", "second", cwd=tmp_path, umask=0o077, **ARBITRARY_USER)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "second").stat().st_mode & 0o7777 == 0o755


@AS_ROOT
def test_missing_permission_is_reported(sleep: Program, tmp_path: Path) -> None:
    sleep.run("--install", str(tmp_path / "first"))
    tmp_path.chmod(0o755)
    copy = Program(arch=sleep.arch, path=HERE / "first")
    ended = copy.run("--install", "second", cwd=tmp_path, **ARBITRARY_USER)
    assert ended.returncode == 1
    assert ended.stderr == "sleep: can't install to second: Permission denied\n"
    assert names(tmp_path) == {"first"}


def test_running_copy_is_replaced(sleep: Program, tmp_path: Path) -> None:
    target = tmp_path / "sleep"
    sleep.run("--install", str(target))
    before = target.stat().st_ino
    with Program(arch=sleep.arch, path=target).running("1h") as old:
        ended = sleep.run("--install", str(target))
        assert (ended.returncode, ended.stderr) == (0, "")
        assert target.stat().st_ino != before
        assert old.poll() is None


def test_copy_is_complete_at_any_time(native: Program, tmp_path: Path) -> None:
    target = tmp_path / "sleep"
    native.run("--install", str(target))
    ended: list[subprocess.CompletedProcess[str]] = []
    installer = threading.Thread(
        target=lambda: ended.extend(native.run("--install", str(target)) for _ in range(50))
    )
    installer.start()
    copy = Program(arch=native.arch, path=target)
    while installer.is_alive():
        assert copy.run("--version").returncode == 0
    assert {each.returncode for each in ended} == {0}


def test_concurrent_installations_succeed(native: Program, tmp_path: Path) -> None:
    target = tmp_path / "sleep"
    ended: list[subprocess.CompletedProcess[str]] = []
    installers = [
        threading.Thread(
            target=lambda: ended.extend(native.run("--install", str(target)) for _ in range(50))
        )
        for _ in range(4)
    ]
    for installer in installers:
        installer.start()
    for installer in installers:
        installer.join()
    assert {(each.returncode, each.stderr) for each in ended} == {(0, "")}
    assert target.read_bytes() == native.path.read_bytes()
    assert names(tmp_path) == {"sleep"}


def test_install_with_a_duration_sleeps_afterwards(sleep: Program, tmp_path: Path) -> None:
    target = tmp_path / "sleep"
    with sleep.running("--install", str(target), "720h") as running:
        wait_until(target.exists)
        assert target.read_bytes() == sleep.path.read_bytes()
        running.terminate()
        assert running.wait(10) == 0


def test_install_with_a_linger_ends_that_long_after_a_signal(
    sleep: Program, tmp_path: Path
) -> None:
    with sleep.running("--install", str(tmp_path / "sleep"), "720h", "300ms") as running:
        began = time.monotonic()
        running.terminate()
        assert running.wait(10) == 0
        assert time.monotonic() - began >= 0.3


def test_failed_installation_does_not_sleep(sleep: Program, tmp_path: Path) -> None:
    ended = sleep.run("--install", str(tmp_path / "missing" / "sleep"), "720h")
    assert ended.returncode == 1
    assert ended.stderr.endswith(": No such file or directory\n")


def test_wrong_duration_installs_nothing(sleep: Program, tmp_path: Path) -> None:
    ended = sleep.run("--install", str(tmp_path / "sleep"), "720")
    assert ended.returncode == 2
    assert ended.stderr.startswith('sleep: invalid duration "720": no unit after "720"\n')
    assert names(tmp_path) == set()


@pytest.mark.parametrize("mode", [0o000, 0o755])
def test_leftover_of_a_killed_installation_is_replaced(
    sleep: Program, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "sleep.new.1").write_bytes(b"half")
    (tmp_path / "sleep.new.1").chmod(mode)
    assert install_as_process_1(sleep, tmp_path / "sleep").returncode == 0
    assert names(tmp_path) == {"sleep"}
    assert (tmp_path / "sleep").read_bytes() == sleep.path.read_bytes()


def test_links_are_replaced_and_not_followed(sleep: Program, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("untouched")
    (tmp_path / "sleep").symlink_to(other)
    (tmp_path / "sleep.new.1").symlink_to(other)
    assert install_as_process_1(sleep, tmp_path / "sleep").returncode == 0
    assert other.read_text() == "untouched"
    assert not (tmp_path / "sleep").is_symlink()


def test_signals_are_blocked_during_installation(native: Program, tmp_path: Path) -> None:
    """The kernel drops a signal of process 1 that is not blocked. A full pipe stops the program."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    command = (*native.command, "--install", str(tmp_path / "missing" / "sleep"), "720h")
    with process(*command, stderr=writer) as installing:
        wait_until(lambda: is_held(installing.pid, signal.SIGTERM))
        assert installing.poll() is None
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("missing/sleep", "No such file or directory"),
        ("file/sleep", "Not a directory"),
        ("folder", "Is a directory"),
        ("loop/sleep", "Too many levels of symbolic links"),
        ("n" * 252, "File name too long"),
        ("folder/" * 600 + "sleep", "File name too long"),
        ("./" * 2046 + "abc", "File name too long"),
        ("", "No such file or directory"),
    ],
)
def test_reason_of_a_failed_installation_is_reported(
    sleep: Program, tmp_path: Path, target: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    ended = sleep.run("--install", target, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == f"sleep: can't install to {target}: {reason}\n"
    assert names(tmp_path) == {"file", "folder", "loop"}
    assert names(tmp_path / "folder") == set()


def test_folder_with_the_temporary_name_is_not_removed(sleep: Program, tmp_path: Path) -> None:
    (tmp_path / "sleep.new.1").mkdir()
    ended = install_as_process_1(sleep, tmp_path / "sleep")
    assert ended.returncode == 1
    assert ended.stderr.endswith(": File exists\n")
    assert names(tmp_path) == {"sleep.new.1"}


def test_longest_allowed_path_works(sleep: Program, tmp_path: Path) -> None:
    target = "./" * 2043 + "abc"  # 4096 bytes with ".new.1" and the final NUL
    assert install_as_process_1(sleep, target, cwd=tmp_path).returncode == 0
    assert names(tmp_path) == {"abc"}


def test_full_disk_keeps_the_old_copy(sleep: Program, tmp_path: Path) -> None:
    lines = install_on_tmpfs(
        sleep,
        "size=8k",
        tmp_path,
        "echo old >sleep; cat /dev/zero >filler 2>/dev/null; trap 'cat sleep' EXIT",
    )
    assert lines == [
        "sleep: can't install to ./sleep: No space left on device",
        "exit 1",
        "filler",
        "sleep",
        "old",
    ]


def test_read_only_disk_is_reported(sleep: Program, tmp_path: Path) -> None:
    assert install_on_tmpfs(sleep, "ro", tmp_path, ":") == [
        "sleep: can't install to ./sleep: Read-only file system",
        "exit 1",
    ]
