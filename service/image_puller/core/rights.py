"""The rights that the service needs at the API server. Pure.

The Roles in `deploy/` and `knative/` give exactly these.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from image_puller.config.configuration import Config

_APPS = "apps"
_KNATIVE = "serving.knative.dev"


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One verb on one resource, in the service's namespace or in the whole cluster.

    `name` is that of the only object, or None for all. `serves` is the feature that needs the
    right; None means that the service can't work without it.
    """

    verb: str
    group: str
    resource: str
    name: str | None = None
    is_cluster_wide: bool = False
    serves: str | None = None

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{'' if self.name is None else f'/{self.name}'}"


def needed(config: Config) -> tuple[Right, ...]:
    """Return the rights that all groups of a configuration need."""
    return tuple(_needed(config))


def _needed(config: Config) -> Iterator[Right]:
    on_knative = config.knative_service is not None
    for group in config.all_groups:
        name = group.daemonset_name
        yield Right(verb="get", group=_APPS, resource="daemonsets", name=name)
        yield Right(verb="patch", group=_APPS, resource="daemonsets", name=name)
        yield Right(
            verb="delete",
            group=_APPS,
            resource="daemonsets",
            name=name,
            serves="the removal of a DaemonSet of the original puller, or of a removed group",
        )
    yield Right(verb="create", group=_APPS, resource="daemonsets")
    yield Right(
        verb="list",
        group=_APPS,
        resource="daemonsets",
        serves="the removal of DaemonSets of removed groups",
    )
    yield Right(
        verb="get",
        group=_KNATIVE if on_knative else _APPS,
        resource="services" if on_knative else "deployments",
        name=config.deployment_name,
        serves="the deletion of the DaemonSet together with the service",
    )
    yield Right(verb="list", group="", resource="pods")
    yield Right(
        verb="create",
        group="",
        resource="pods",
        serves="the trial of each new template before it replaces pods",
    )
    yield from _of_secrets(config)
    yield Right(verb="create", group="", resource="events", serves="Events about problems")
    yield Right(
        verb="list",
        group="",
        resource="events",
        serves="the reasons why pods can't be created, and the times of pulls in the metrics",
    )
    yield Right(
        verb="list",
        group="",
        resource="nodes",
        is_cluster_wide=True,
        serves="image volumes, and the status of nodes without a pod",
    )
    if not on_knative:
        if config.sink is not None or config.node_startup_taint is not None:
            yield Right(
                verb="watch",
                group=_APPS,
                resource="daemonsets",
                serves="noticing at once that a node has an image",
            )
        yield Right(
            verb="watch",
            group="",
            resource="nodes",
            is_cluster_wide=True,
            serves="a check at once when a node joins",
        )

    if config.node_startup_taint is not None:
        yield Right(
            verb="patch",
            group="",
            resource="nodes",
            is_cluster_wide=True,
            serves="the removal of the taint NODE_STARTUP_TAINT from nodes",
        )


def _of_secrets(config: Config) -> Iterator[Right]:
    names = (name for group in config.all_groups for name in group.image_pull_secrets)
    for name in dict.fromkeys(names):
        serves = None if config.ask_registries else "the check of that Secret"
        yield Right(verb="get", group="", resource="secrets", name=name, serves=serves)
