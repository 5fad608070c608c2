"""The running service: its parts put together, and gunicorn round them."""

import logging
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import ThreadWorker

from image_puller import limits
from image_puller.cluster.client import KubernetesCluster
from image_puller.cluster.observer import Observer
from image_puller.cluster.reconcile import Reconciler
from image_puller.config.configuration import Config
from image_puller.controller.checks import Looks
from image_puller.controller.commits import Commits
from image_puller.controller.intake import Intake
from image_puller.controller.metrics import Metrics
from image_puller.controller.schedule import Ticker
from image_puller.controller.writer import Writer
from image_puller.errors import (
    ClusterUnavailableError,
    ConfigurationError,
    ImagePullerError,
    RegistryUnavailableError,
    RejectedError,
)
from image_puller.events.event import NodeJoined
from image_puller.http.authentication import EVENTS
from image_puller.http.routes import Tokens, create_app
from image_puller.registries import pull_secrets
from image_puller.registries.client import Registries
from image_puller.registries.lookup import Lookup
from image_puller.registries.pull_secrets import Credentials, Keyring
from image_puller.values.reference import Reference

log = logging.getLogger(__name__)

_THREADS = 32
_KEEP_ALIVE_SECONDS = 95
"""Longer than Knative's queue-proxy keeps an idle connection (90 s), or that one meets resets."""
_GRACEFUL_SECONDS = 15
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - for gunicorn's heartbeat file, which no disk may slow


class Service:
    """One process of the service. Between `start` and `stop` it writes, and ticks off Knative."""

    def __init__(self, config: Config, cluster: KubernetesCluster) -> None:
        self._config = config
        self._cluster = cluster
        self._reconciler = Reconciler(config, cluster)
        self._writer = Writer(self._reconciler)
        self._metrics = Metrics()
        self._metrics.malformed_entries.set(len(config.warnings))
        self._observer = Observer(config, cluster)
        self._pull_secrets = _PullSecrets(cluster)
        registries = _registries(config, self._pull_secrets)
        # One for pushes, so that none waits behind all the questions of a look.
        self._lookups = [Lookup(registries) for _ in range(2)] if config.ask_registries else []
        for_pushes, for_looks = self._lookups or (None, None)
        commits = Commits(self._writer, self._metrics)
        is_on_knative = config.knative_service is not None
        self._looks = Looks(config, self._observer, commits, for_looks)
        self._metrics.registry_problems.set_function(lambda: len(self._looks.problems))
        self._ticker = Ticker(self._looks, ticks=not is_on_knative)
        self._intake = Intake(
            config,
            commits,
            self._metrics,
            lookup=for_pushes,
            follow_up=self._ticker.follow_up,
        )
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._watch_nodes, name="nodes", daemon=True)
        tokens = _tokens(config, cluster)
        self.app: Flask = create_app(config, self._intake, self, self._metrics, tokens)

    def start(self) -> None:
        """Begins to commit, with a look at everything first."""
        for warning in self._config.warnings:
            log.warning("%s", warning)
        self._writer.start()
        self._ticker.start()
        if self._config.knative_service is None:
            self._watch.start()

    def stop(self) -> None:
        """Applies what is pending, and leaves the DaemonSet as it is."""
        self._stopping.set()
        self._ticker.stop()
        self._writer.stop()
        for lookup in self._lookups:
            lookup.close()

    def status(self) -> dict[str, Any]:
        """The status as JSON; raises ClusterUnavailableError."""
        superseded = self._reconciler.superseded
        problems = [superseded] if superseded else []
        return self._observer.status([*problems, *self._looks.problems])

    def unready(self) -> str | None:
        """Why this process can't take events, or None."""
        return self._reconciler.superseded

    def _watch_nodes(self) -> None:
        """Off Knative, where nobody else tells of them: a look for each node that joins."""
        while not self._stopping.is_set():
            try:
                for node in self._cluster.joins():
                    joined = (NodeJoined(node=node),)
                    self._intake.accept("nodes", joined, patience=limits.PUSH_SECONDS)
            except RejectedError as error:
                log.warning("nodes that join are seen by ticks only: %s", error)
                return
            except ImagePullerError as error:
                log.warning("the nodes can't be watched: %s", error)
            self._stopping.wait(limits.RETRY_SECONDS)


class _PullSecrets:
    """The credentials that registries are asked with, read again after a while."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._keyring: Keyring | None = None
        self._warnings: tuple[str, ...] = ()
        self._until = 0.0

    def __call__(self, reference: Reference) -> Sequence[Credentials]:
        with self._lock:
            if self._keyring is None or time.monotonic() >= self._until:
                self._read()
            return self._keyring.credentials(reference) if self._keyring else ()

    def _read(self) -> None:
        try:
            secrets = self._cluster.pull_secrets()
        except ClusterUnavailableError as error:
            self._until = time.monotonic() + limits.RETRY_SECONDS
            if self._keyring is None:
                raise RegistryUnavailableError(f"pull secrets can't be read: {error}") from error
            return
        self._keyring, warnings = pull_secrets.read(secrets)
        for warning in warnings if warnings != self._warnings else ():
            log.warning("%s", warning)
        self._warnings = warnings
        self._until = time.monotonic() + limits.PULL_SECRETS_SECONDS


def _registries(config: Config, secrets: _PullSecrets) -> Registries:
    return Registries(
        hosts={entry.reference.registry for entry in config.entries},
        credentials=secrets,
        insecure_hosts=config.insecure_registries,
        ca_file=config.registry_ca_file,
    )


def _tokens(config: Config, cluster: KubernetesCluster) -> Mapping[str, Tokens]:
    """Whose tokens count instead of secrets; raises ConfigurationError where they can't be read."""
    if config.oidc is None and config.google is None:
        return {}
    try:
        # These take time to import (0.1 s), and an image for FIPS is built without.
        from image_puller.http import key_sets, oidc  # noqa: PLC0415
    except ImportError as error:
        variable = "EVENT_AUTH: oidc needs" if config.oidc else "GAR_SERVICE_ACCOUNT: needs"
        raise ConfigurationError(
            f"{variable} the Python packages PyJWT and cryptography, which this image does not "
            f"have ({error}); see FIPS in the README"
        ) from error
    tokens: dict[str, Tokens] = {}
    if config.oidc is not None:
        keys = key_sets.of(config.oidc.keys, cluster.issuer)
        tokens[EVENTS] = oidc.Tokens(EVENTS, oidc.of_cluster(config.oidc), keys)
    if config.google is not None:
        keys = key_sets.of(oidc.GOOGLE_KEYS, cluster.issuer)
        tokens["gar"] = oidc.Tokens("gar", oidc.of_google(config.google), keys)
    return tokens


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn is not typed
    """Gunicorn's, which repeats nothing of a request in its log and its answers.

    A line or a header that it can't read may hold a secret.
    """

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:  # noqa: ARG002
        """Logs and answers what is wrong, without the words."""
        if isinstance(exc, ParseException):
            hidden = f"{type(exc).__name__}, not shown"
            for name, value in vars(exc).items():
                if not isinstance(value, int):
                    setattr(exc, name, hidden if isinstance(value, str | bytes) else None)
        super().handle_error(None, client, addr, exc)


class Gunicorn(BaseApplication):  # type: ignore[misc] # gunicorn is not typed
    """Gunicorn with one process: what it remembers and writes stays in one hand."""

    def __init__(self, service: Service, bind: str) -> None:
        self._service = service
        self._bind = bind
        super().__init__()

    def load_config(self) -> None:
        """Gunicorn's settings."""
        settings: dict[str, Any] = {
            "bind": self._bind,
            "workers": 1,
            "worker_class": Worker,
            "threads": _THREADS,
            "timeout": 0,
            "keepalive": _KEEP_ALIVE_SECONDS,
            "graceful_timeout": _GRACEFUL_SECONDS,
            "control_socket_disable": True,
            "worker_tmp_dir": str(_IN_MEMORY) if _IN_MEMORY.is_dir() else None,
            "post_worker_init": lambda _worker: self._service.start(),
            "worker_exit": lambda _arbiter, _worker: self._service.stop(),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """The application that gunicorn serves."""
        return self._service.app


def run(config: Config, cluster: KubernetesCluster) -> None:
    """Serves until SIGTERM."""
    host = "[::]" if _has_ipv6() else "0.0.0.0"
    Gunicorn(Service(config, cluster), f"{host}:{config.port}").run()


def _has_ipv6() -> bool:
    """Whether the kernel takes IPv6 sockets, which serve IPv4 as well."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
