"""The web server: gunicorn runs the Flask application in one process with threads."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from image_puller.http.server_log import ServerLog
from image_puller.http.worker import CONNECTIONS, Worker

_THREADS = 32
_KEEP_ALIVE_SECONDS = 95
"""Longer than Knative's queue-proxy keeps an idle connection (90 s), so that none is reset."""
_GRACEFUL_SECONDS = 15
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - for gunicorn's heartbeat file; a disk can be slow


class Gunicorn(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """Gunicorn with one process, because only one process may have the writer and its state.

    `on_start` runs in that process before the first request, `on_stop` after the last one.
    `on_refusal` is told why the server refuses a request or a connection because of its bounds.
    """

    def __init__(
        self,
        app: Flask,
        bind: str,
        *,
        on_start: Callable[[], None],
        on_stop: Callable[[], None],
        on_refusal: Callable[[str], None],
        heartbeat_folder: Path = _IN_MEMORY,
    ) -> None:
        self._app = app
        self._bind = bind
        self._on_start = on_start
        self._on_stop = on_stop
        self.on_refusal = on_refusal
        self._heartbeat_folder = heartbeat_folder
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's settings."""
        folder = self._heartbeat_folder
        settings: dict[str, Any] = {
            "bind": self._bind,
            "workers": 1,
            "worker_class": Worker,
            "threads": _THREADS,
            "timeout": 0,
            "keepalive": _KEEP_ALIVE_SECONDS,
            "graceful_timeout": _GRACEFUL_SECONDS,
            "control_socket_disable": True,
            "logger_class": ServerLog,
            "worker_tmp_dir": str(folder) if folder.is_dir() else None,
            "post_worker_init": lambda _worker: self._on_start(),
            "worker_exit": self._exit,
            "worker_connections": 2 * CONNECTIONS,  # the worker has its own bound
            # No proxy in front is trusted, so these headers have no meaning.
            "forwarded_allow_ips": "",
            "forwarder_headers": "",
            "secure_scheme_headers": {},
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def _exit(self, _arbiter: Arbiter, worker: Worker) -> None:
        """Commit what running requests asked for, and then send their answers."""
        self._on_stop()
        worker.finish()

    def load(self) -> Flask:
        """Return the application to serve."""
        return self._app


def all_addresses(port: int, *, new_socket: Callable[..., socket.socket] = socket.socket) -> str:
    """Return the address to bind: all of IPv6, which includes IPv4, or of IPv4 without IPv6."""
    return f"[::]:{port}" if _has_ipv6(new_socket) else f"0.0.0.0:{port}"


def _has_ipv6(new_socket: Callable[..., socket.socket]) -> bool:
    try:
        with new_socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
