"""The running service: it creates the parts, and starts and stops them in order."""

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from image_puller.cluster.client import KubernetesCluster
from image_puller.cluster.removed_groups import RemovedGroups
from image_puller.cluster.shared_read import RecentRead, SharedRead
from image_puller.config.configuration import Config
from image_puller.controller.clock import Clock
from image_puller.controller.daemonset_watch import daemonset_watch
from image_puller.controller.event_sender import EventSender
from image_puller.controller.group import Group, Shared
from image_puller.controller.intake import Intake
from image_puller.controller.metrics import Metrics
from image_puller.controller.node_watch import node_watch
from image_puller.controller.scrape import Scrapes
from image_puller.controller.sink import Sink
from image_puller.controller.startup_release import StartupRelease
from image_puller.controller.watch import Watch
from image_puller.core import quota, reading
from image_puller.core.daemonset import Manifest
from image_puller.core.page import Seen
from image_puller.core.reading import Reading
from image_puller.core.received import Received
from image_puller.errors import ConfigurationError
from image_puller.http.authentication import EVENTS
from image_puller.http.routes import TokenVerifier, as_text, create_app
from image_puller.http.server import Gunicorn, Hooks, all_addresses
from image_puller.registries.client import RegistryClient
from image_puller.registries.keyring_cache import KeyringCache
from image_puller.registries.lookup import Lookup

log = logging.getLogger(__name__)


class Service:
    """One process of the service. It commits and checks between `start` and `stop`."""

    def __init__(
        self, config: Config, cluster: KubernetesCluster, clock: Clock | None = None
    ) -> None:
        clock = clock or Clock()
        self._config = config
        self.metrics = Metrics()
        clusters = [cluster.of_group(group) for group in config.all_groups]
        # Pushes have a lookup of their own, so that they do not wait for the questions of a check.
        self._lookups = (
            _lookups(config, clusters, clock, self.metrics) if config.ask_registries else ()
        )
        for_pushes, for_checks = self._lookups or (None, None)
        removed = RemovedGroups(config, cluster, clock.now)
        self._sender = _sender(config, self.metrics, clock)
        self._startup = _startup_release(config, cluster, clusters, self.metrics, clock)
        shared = Shared(
            metrics=self.metrics,
            clock=clock,
            lookup=for_checks,
            send=None if self._sender is None else self._sender.send,
            startup=self._startup,
        )
        self._groups = tuple(
            Group(group, of_group, shared, None if number else removed)
            for number, (group, of_group) in enumerate(
                zip(config.all_groups, clusters, strict=True)
            )
        )
        self.intake = Intake(
            [group.receiver for group in self._groups],
            self.metrics,
            clock,
            verify_pushes=config.verify_pushes,
            lookup=for_pushes,
        )
        self._watches = self._watched(cluster, clock)
        self._threads: tuple[threading.Thread, ...] = ()
        self._scrapes = Scrapes(self._groups, self.metrics)
        self._seen = RecentRead(self._read_seen, clock=clock.monotonic)
        self._reading = SharedRead(self._read)
        self._recent = RecentRead(self.reading, clock=clock.monotonic, least=1.0)
        self._status_text = SharedRead(lambda: as_text(self.reading().json))
        self.metrics.malformed_entries.set(len(self._warnings()))
        self.metrics.registry_problems.set_function(lambda: len(self._registry_problems()))
        verifiers = _token_verifiers(config, cluster, clock)
        self.app = create_app(
            config, self.intake, self, self.metrics, verifiers, clock=clock.monotonic
        )

    def start(self) -> None:
        """Start to commit and to check."""
        for warning in (*self._warnings(), *self._config.advice):
            log.warning("%s", warning)
        for group in self._config.all_groups:
            log.info("%s", quota.describe(group))
        self._threads = tuple(thread for group in self._groups for thread in group.start())
        self._threads = (*self._threads, *(watch.start() for watch in self._watches))
        for each in (self._sender, self._startup):
            if each is not None:
                self._threads = (*self._threads, each.start())

    def stop(self) -> None:
        """Commit what was asked for, apply pending templates, and stop. The DaemonSets stay."""
        self._threads = ()
        for watch in self._watches:
            watch.stop()
        if self._startup is not None:
            self._startup.stop()
        # The writers end at the same time, because there are only seconds until a SIGKILL.
        with ThreadPoolExecutor(len(self._groups)) as pool:
            list(pool.map(Group.stop, self._groups))
        for lookup in self._lookups:
            lookup.close()

    def flush(self) -> None:
        """Send, after `stop`, the events that wait for the sink, for a few seconds at most."""
        if self._sender is not None:
            self._sender.flush()

    def join(self, seconds: float) -> None:
        """Wait, after `stop`, for checks that still run."""
        for group in self._groups:
            group.join(seconds)

    def reading(self) -> Reading:
        """Return the status and the labels of the nodes, which requests at the same time share."""
        return self._reading.get()

    def recent(self) -> Reading:
        """Return the same from a second ago, or longer if a reading takes longer."""
        return self._recent.get()

    def recent_in(self) -> float:
        """Return in how many seconds `recent` has something new."""
        return self._recent.next_in()

    def status_text(self) -> str:
        """Return the encoded status, which requests at the same time share."""
        return self._status_text.get()

    def metrics_text(self) -> bytes:
        """Return the metrics, within a bounded time. Raises OverloadedError."""
        return self._scrapes.text()

    def seen(self) -> tuple[Seen, ...]:
        """Return what is known of each group. In a large cluster it may be some seconds old."""
        return self._seen.get()

    def received(self) -> tuple[Received, ...]:
        """Return the pushes that this process received last, the newest first."""
        return self.intake.recent.newest_first()

    def broken(self) -> str | None:
        """Return why only a restart helps this process, or None. While it stops, threads end."""
        ended = [thread.name for thread in self._threads if not thread.is_alive()]
        return f"the thread {ended[0]} has ended; restart this process" if ended else None

    def unready(self) -> str | None:
        """Return why this process can't take events, or None."""
        return next(filter(None, (group.superseded for group in self._groups)), None)

    def _watched(self, cluster: KubernetesCluster, clock: Clock) -> tuple[Watch, ...]:
        """Return what is watched. On Knative event sources report the same."""
        if self._config.knative_service is not None:
            return ()
        nodes = node_watch(cluster.joins, self.intake, clock)
        if self._sender is None and self._startup is None:  # nobody waits for progress
            return (nodes,)
        schedules = {
            group.config.daemonset_name: group.receiver.note_progress for group in self._groups
        }
        return nodes, daemonset_watch(cluster.changed_daemonsets, schedules, clock)

    def _read_seen(self) -> tuple[Seen, ...]:
        return tuple(group.seen() for group in self._groups)

    def _read(self) -> Reading:
        return reading.of((each.observation, each.problems) for each in self._read_seen())

    def _warnings(self) -> tuple[str, ...]:
        return tuple(each for group in self._config.all_groups for each in group.warnings)

    def _registry_problems(self) -> tuple[str, ...]:
        problems = (each for group in self._groups for each in group.registry_problems)
        return tuple(dict.fromkeys(problems))


def run(config: Config, cluster: KubernetesCluster, bind: str | None = None) -> None:
    """Serve until SIGTERM, on the address `bind`, or else on all addresses."""
    service = Service(config, cluster)
    bind = bind or all_addresses(config.port)
    hooks = Hooks(
        on_start=service.start,
        on_stop=service.stop,
        on_end=service.flush,
        on_refusal=service.metrics.count_refusal,
    )
    Gunicorn(service.app, bind, hooks).run()


def _sender(config: Config, metrics: Metrics, clock: Clock) -> EventSender | None:
    if config.sink is None:
        return None
    sink = Sink(config.sink)
    return EventSender(sink.post, metrics, clock, extensions=config.sink.extensions)


def _startup_release(
    config: Config,
    cluster: KubernetesCluster,
    clusters: Sequence[KubernetesCluster],
    metrics: Metrics,
    clock: Clock,
) -> StartupRelease | None:
    if config.node_startup_taint is None:
        return None
    return StartupRelease(
        config, config.node_startup_taint, cluster.release_node, clusters[0].report, metrics, clock
    )


def _lookups(
    config: Config, clusters: Sequence[KubernetesCluster], clock: Clock, metrics: Metrics
) -> tuple[Lookup, Lookup]:
    def pull_secrets() -> tuple[Manifest, ...]:
        found = (secret for cluster in clusters for secret in cluster.pull_secrets())
        return tuple({secret["metadata"]["name"]: secret for secret in found}.values())

    client = RegistryClient(
        hosts={each.reference.registry for group in config.all_groups for each in group.entries},
        credentials=KeyringCache(pull_secrets, clock=clock.monotonic),
        insecure_hosts=config.insecure_registries,
        ca_files=config.registry_ca_file,
        clock=clock.monotonic,
    )
    note = metrics.note_registry
    return (
        Lookup(client, clock=clock.monotonic, note=note),
        Lookup(client, clock=clock.monotonic, note=note),
    )


def _token_verifiers(
    config: Config, cluster: KubernetesCluster, clock: Clock
) -> Mapping[str, TokenVerifier]:
    """Return verifiers of tokens by source. Raises ConfigurationError without their packages."""
    if config.oidc is None and config.google is None:
        return {}
    try:
        # These take 0.1 s to import, and an image for FIPS is built without them.
        from image_puller.http import key_sets, oidc  # noqa: PLC0415
    except ImportError as error:
        variable = "EVENT_AUTH: oidc needs" if config.oidc else "GAR_SERVICE_ACCOUNT: needs"
        raise ConfigurationError(
            f"{variable} the Python packages PyJWT and cryptography, which this image does not "
            f"have ({error}); build it with LOCK_FILE=requirements-oidc.lock, see docs/fips.md"
        ) from error
    verifiers: dict[str, TokenVerifier] = {}
    if config.oidc is not None:
        keys = key_sets.of(config.oidc.keys, cluster.issuer, clock=clock.monotonic)
        verifiers[EVENTS] = oidc.OidcVerifier(EVENTS, oidc.of_cluster(config.oidc), keys)
    if config.google is not None:
        keys = key_sets.of(oidc.GOOGLE_KEYS, cluster.issuer, clock=clock.monotonic)
        verifiers["gar"] = oidc.OidcVerifier("gar", oidc.of_google(config.google), keys)
    return verifiers
