"""`image-puller check`: whether everything that the service needs is there. It changes nothing."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from image_puller.cli import check_registries, check_secrets, findings, service_client
from image_puller.cli.check_cluster import ClusterCheck
from image_puller.cli.check_registries import RegistriesCheck
from image_puller.cli.findings import Finding, Step, failed, ok, warning
from image_puller.cli.service_client import ServiceError
from image_puller.cluster.api_server import connect
from image_puller.cluster.client import KubernetesCluster
from image_puller.config.configuration import Config
from image_puller.controller.clock import Clock
from image_puller.errors import ConfigurationError
from image_puller.http.authentication import READ
from image_puller.registries.client import RegistryClient
from image_puller.registries.lookup import Lookup

SECONDS = 60.0
"""The time of all steps together."""
REGISTRY_SECONDS = 25.0
"""The time for the questions to registries."""
_RESERVE_SECONDS = 5.0
Issuer = Callable[[], tuple[str, bytes]]
_FAILED = 1
_BAD_CONFIGURATION = 2
_CONFIGURATION = "configuration"


def run(
    read: Callable[[], Config],
    environ: Mapping[str, str],
    *,
    url: str | None,
    output: str,
    is_in_pod: bool,
    clock: Clock,
) -> int:
    """Print all findings, and return the exit code. `read` reads the configuration."""
    logging.getLogger().addHandler(logging.NullHandler())  # the findings have what would be logged
    shown: list[Finding] = []
    try:
        config = read()
        steps = _steps(config, environ, url=url, is_in_pod=is_in_pod, clock=clock)
    except ConfigurationError as error:
        code, found = _BAD_CONFIGURATION, of_problems(error)
    else:
        code = _FAILED
        found = _all(config, findings.within(SECONDS, steps, clock=clock.monotonic))
    for each in found:
        shown.append(each)
        if output == "text":
            print(findings.as_lines(each, _encoding()), end="", flush=True)
    print(findings.as_json(shown) if output == "json" else findings.summary(shown), end="")
    return 0 if findings.is_ok(shown) else code


def of_problems(error: ConfigurationError) -> Iterator[Finding]:
    """Yield a failure for each problem of the configuration."""
    for line in str(error).splitlines():
        variable, _, problem = line.partition(": ")
        yield failed(
            f"{_CONFIGURATION} {variable}",
            problem,
            f"correct {variable} in the ConfigMap of the service, and restart it",
        )


def of_config(config: Config) -> Iterator[Finding]:
    """Yield what a valid configuration has, and its warnings."""
    groups = config.all_groups
    images = sum(len(group.entries) for group in groups)
    found = f"{_count(images, 'image')} in {_count(len(groups), 'DaemonSet')}"
    yield ok(_CONFIGURATION, f"it has {found}")
    for message in (*(each for group in groups for each in group.warnings), *config.advice):
        yield warning(_CONFIGURATION, message, "correct it in the ConfigMap of the service")


def answers(url: str) -> Iterator[Finding]:
    """Yield whether the service answers at its address, and takes events."""
    title = f"service at {url}"
    try:
        for path in ("healthz", "readyz"):
            # A proxy for registries seldom leads to a Service of the cluster.
            service_client.send("GET", f"{url}/{path}", READ, headers={}, may_use_proxy=False)
    except ServiceError as error:
        yield failed(title, str(error), "look at the Service, and at the log of its pods")
        return
    yield ok(title, "it answers, and takes events")


def token_keys(config: Config, issuer: Callable[[], Issuer | None]) -> Iterator[Finding]:
    """Yield whether the keys of signed tokens can be read, where senders send such tokens."""
    if config.oidc is None and config.google is None:
        return
    try:
        from image_puller.cli import check_tokens  # noqa: PLC0415 - its packages may be missing
    except ImportError as error:
        yield failed(
            "keys of tokens",
            f"this image lacks a Python package: {error}",
            "build the image with LOCK_FILE=requirements-oidc.lock, see docs/fips.md",
        )
        return
    yield from check_tokens.token_keys(config, issuer())


def _all(config: Config, found: Iterator[Finding]) -> Iterator[Finding]:
    yield from of_config(config)
    yield from found


def _steps(
    config: Config,
    environ: Mapping[str, str],
    *,
    url: str | None,
    is_in_pod: bool,
    clock: Clock,
) -> tuple[Step, ...]:
    """Return all steps. Raises ConfigurationError for files of CA certificates."""
    until = clock.monotonic() + SECONDS - _RESERVE_SECONDS
    cluster = ClusterCheck(
        config,
        lambda: KubernetesCluster(connect(environ), config),
        now=clock.now,
        wait=partial(_wait, clock),
    )
    client = RegistryClient(
        hosts=check_registries.hosts(config),
        credentials=cluster.credentials,
        insecure_hosts=config.insecure_registries,
        ca_files=config.registry_ca_file,
        clock=clock.monotonic,
    )
    registries = RegistriesCheck(
        config,
        Lookup(client, clock=clock.monotonic),
        lacks_secrets=lambda: cluster.lacks_secrets,
        is_running=cluster.running,
        seconds=lambda: min(REGISTRY_SECONDS, until - clock.monotonic()),
    )
    groups = config.all_groups
    return (
        # First, because on Knative this starts the service, which then writes its DaemonSets.
        *([Step(title=f"service at {url}", run=partial(answers, url))] if url else []),
        Step(title="API server", run=cluster.api_server),
        Step(title="rights", run=cluster.rights),
        *(
            Step(title=f"DaemonSet {group.daemonset_name}", run=partial(cluster.daemonset, group))
            for group in groups
        ),
        *(
            Step(
                title=f"dry run of a pod of {group.daemonset_name}",
                run=partial(cluster.dry_run, group),
            )
            for group in groups
        ),
        Step(title="pull secrets", run=cluster.pull_secrets),
        Step(
            title="secrets of senders",
            run=partial(check_secrets.webhook_secrets, config, is_in_pod=is_in_pod),
        ),
        Step(
            title="keys of tokens",
            run=partial(token_keys, config, cluster.issuer),
        ),
        Step(title="registries", run=registries.registries),
        Step(title="sleep image", run=registries.sleep_image),
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _wait(clock: Clock, seconds: float) -> None:
    never_notified = threading.Condition()
    with never_notified:
        clock.wait(never_notified, seconds)


def _encoding() -> str:
    return sys.stdout.encoding or "ascii"
