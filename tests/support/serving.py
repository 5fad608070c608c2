"""A real process of `image-puller serve`, with its own web server."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support.waiting import wait_until


@contextmanager
def running(
    folder: Path, files: int = 1024, /, **environ: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run `image-puller serve` with this environment only. Yield the ready process and its URL.

    The process may have so many open files.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    limited = f'ulimit -n {files}; exec "$0" "$@"'
    command = ("sh", "-c", limited, sys.executable, "-m", "image_puller", "serve")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PORT": str(port)} | environ
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: process.poll() is not None or answers(f"{url}/readyz"))
        yield process, url
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).status_code == 200
    except requests.RequestException:
        return False
