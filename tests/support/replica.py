"""One process of the service, without its web server and its threads."""

from datetime import datetime, timedelta

from kubernetes.client import ApiClient

from image_puller import limits
from image_puller.cluster.client import KubernetesCluster
from image_puller.cluster.reconcile import Reconciler
from image_puller.config.configuration import Config
from image_puller.core.changes import Change, CheckDaemonSet, EnsureExists
from image_puller.core.decide import Outcome
from tests.support.building import NOON


class Time:
    """A time that only tests advance. It is a callable, as the Reconciler expects."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


class Replica:
    """A Reconciler with its own `KubernetesCluster`, as each process has one."""

    def __init__(
        self,
        config: Config,
        api: ApiClient,
        now: Time,
        *,
        state_bytes: int = limits.STATE_BYTES,
        host: str | None = None,
    ) -> None:
        self.config = config
        self.cluster = KubernetesCluster(api, config, host=host)
        self.reconciler = Reconciler(config, self.cluster, now=now, state_bytes=state_bytes)

    def commit(self, *changes: Change, flush: bool = False) -> tuple[Outcome, ...]:
        """Commit changes, and return their outcomes."""
        return self.reconciler.commit(changes, flush=flush)

    def check(self) -> None:
        """Check the DaemonSet, as the health check does."""
        assert self.commit(CheckDaemonSet()) == (Outcome.CHECKED,)

    def ensure_exists(self) -> None:
        """Ensure that the DaemonSet exists, as the service does when a node joins."""
        assert self.commit(EnsureExists()) == (Outcome.CHECKED,)
