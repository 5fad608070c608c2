"""The kinds of objects that the simulated API server knows, and where they stand in its paths."""

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind of object, by all its names."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    verbs: frozenset[str] = frozenset({"GET"})

    @property
    def api_version(self) -> str:
        """What an object of this kind carries as `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """How messages name it: `daemonsets.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def typed(self, item: dict[str, Any]) -> dict[str, Any]:
        """Let an object say its kind, as all do but those in lists."""
        return {"kind": self.kind, "apiVersion": self.api_version, **item}


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
    """What a path addresses: one object, or (no name) all of its kind; no namespace means all."""

    resource: Resource
    namespace: str | None
    name: str | None


def locate(path: str) -> Target | None:
    """Read a path; None if no kind of object stands there."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    names = (found["group"] or "", found["version"], found["plural"])
    for resource in RESOURCES:
        if (resource.group, resource.version, resource.plural) == names:
            return Target(resource, found["namespace"], found["name"])
    return None


def of_kind(manifest_kind: str, api_version: str) -> Resource:
    """Find the kind that a manifest names; it must be one of `RESOURCES`."""
    return next(r for r in RESOURCES if (r.kind, r.api_version) == (manifest_kind, api_version))
