"""The kinds of objects that the simulated API server has, and their paths."""

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind of object: its names, and the HTTP methods that it supports."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    verbs: frozenset[str] = frozenset({"GET"})

    @property
    def api_version(self) -> str:
        """The `apiVersion` of an object of this kind."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """The name of the resource in messages, such as `daemonsets.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def typed(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return an object of a list with its `kind` and `apiVersion`."""
        return {"kind": self.kind, "apiVersion": self.api_version, **item}


CONFIG_MAPS = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
DAEMON_SETS = Resource(
    group="apps",
    version="v1",
    plural="daemonsets",
    kind="DaemonSet",
    verbs=frozenset({"GET", "POST", "PATCH", "DELETE"}),
)
DEPLOYMENTS = Resource(group="apps", version="v1", plural="deployments", kind="Deployment")
EVENTS = Resource(
    group="", version="v1", plural="events", kind="Event", verbs=frozenset({"GET", "POST"})
)
KNATIVE_SERVICES = Resource(
    group="serving.knative.dev", version="v1", plural="services", kind="Service"
)
NAMESPACES = Resource(
    group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False
)
NODES = Resource(
    group="",
    version="v1",
    plural="nodes",
    kind="Node",
    namespaced=False,
    verbs=frozenset({"GET", "PATCH"}),
)
PODS = Resource(group="", version="v1", plural="pods", kind="Pod", verbs=frozenset({"GET", "POST"}))
SECRETS = Resource(group="", version="v1", plural="secrets", kind="Secret")
RESOURCES = (
    CONFIG_MAPS,
    DAEMON_SETS,
    DEPLOYMENTS,
    EVENTS,
    KNATIVE_SERVICES,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
)

_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?"
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a path addresses: one object, or without a name, all objects of a kind.

    Without a namespace, those of all namespaces.
    """

    resource: Resource
    namespace: str | None
    name: str | None


def locate(path: str) -> Target | None:
    """Return what a path addresses, or None if it is not the path of a known kind."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    names = (found["group"] or "", found["version"], found["plural"])
    for resource in RESOURCES:
        if (resource.group, resource.version, resource.plural) == names:
            return Target(resource, found["namespace"], found["name"])
    return None


def of_kind(manifest_kind: str, api_version: str) -> Resource:
    """Return the resource of a manifest. It must be one of `RESOURCES`."""
    return next(r for r in RESOURCES if (r.kind, r.api_version) == (manifest_kind, api_version))
