"""The settings of gunicorn, and the address that it listens on."""

import logging
import socket
from pathlib import Path
from typing import Self

import pytest
from flask import Flask

from image_puller.http.server import Gunicorn, all_addresses
from image_puller.http.server_log import ServerLog
from image_puller.http.worker import Worker


def server(
    folder: Path = Path("/dev/shm"),
    *,
    app: Flask | None = None,
    bind: str = "127.0.0.1:8081",
    calls: list[str] | None = None,
) -> Gunicorn:
    calls = [] if calls is None else calls
    return Gunicorn(
        app or Flask("test"),
        bind,
        on_start=lambda: calls.append("start"),
        on_stop=lambda: calls.append("stop"),
        on_refusal=calls.append,
        heartbeat_folder=folder,
    )


def test_gunicorn_runs_one_process_with_many_threads() -> None:
    settings = server().cfg
    assert settings.address == [("127.0.0.1", 8081)]
    assert (settings.workers, settings.worker_class, settings.threads) == (1, Worker, 32)
    assert settings.keepalive > 90  # the seconds of Knative's queue-proxy
    assert 10 <= settings.graceful_timeout < 30  # the grace period of Kubernetes
    assert settings.control_socket_disable
    assert not settings.preload_app
    assert settings.accesslog is None  # it would log secrets in paths
    assert settings.logger_class is ServerLog


def test_lines_of_gunicorn_go_to_the_log_of_the_service() -> None:
    log = ServerLog(server().cfg).error_log
    try:
        assert (log.name, log.handlers, log.propagate) == ("gunicorn.error", [], True)
        assert log.level == logging.INFO
    finally:
        log.setLevel(logging.NOTSET)


def test_gunicorn_serves_the_application() -> None:
    app = Flask("mine")
    assert server(app=app).load() is app


def test_heartbeat_file_is_in_memory_if_possible(tmp_path: Path) -> None:
    assert server(tmp_path).cfg.worker_tmp_dir == str(tmp_path)
    assert server(tmp_path / "nowhere").cfg.worker_tmp_dir is None


def test_service_starts_and_stops_in_the_worker_process() -> None:
    calls: list[str] = []
    settings = server(calls=calls).cfg
    assert calls == []
    settings.post_worker_init(None)
    assert calls == ["start"]
    settings.worker_exit(None, FakeWorker(calls))
    assert calls == ["start", "stop", "finish"]


class FakeWorker:
    """A worker that notes its end."""

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    def finish(self) -> None:
        self._calls.append("finish")


class IPv6Socket:
    """A socket of a kernel with IPv6."""

    def __init__(self, family: int) -> None:
        assert family == socket.AF_INET6

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def bind(self, address: tuple[str, int]) -> None:
        assert address == ("::", 0)


class NoIPv6Socket:
    """A socket of a kernel without IPv6."""

    def __init__(self, family: int) -> None:
        raise OSError(97, "Address family not supported by protocol")


@pytest.mark.parametrize(
    ("new_socket", "bind"), [(IPv6Socket, "[::]:8099"), (NoIPv6Socket, "0.0.0.0:8099")]
)
def test_server_listens_on_all_addresses(new_socket: type, bind: str) -> None:
    assert all_addresses(8099, new_socket=new_socket) == bind
    assert server(bind=bind).cfg.bind == [bind]
