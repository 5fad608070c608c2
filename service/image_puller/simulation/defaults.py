"""The defaults that the API server adds to objects, and the values that it drops or rewrites."""

from collections.abc import Mapping
from typing import Any

from image_puller.simulation import canonical_quantities, image_names
from image_puller.simulation.responses import Json

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"

_DAEMON_SET = {"revisionHistoryLimit": 10}
_POD = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}
_STANDALONE_POD = {
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
    "priority": 0,
    "serviceAccount": "default",
    "serviceAccountName": "default",
}
_CONTAINER = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
_ROLLING_UPDATE = {"maxUnavailable": 1, "maxSurge": 0}
_FILE_MODE = 0o644
# Go's `omitempty` keeps an empty struct behind a pointer, and omits an empty map.
_KEPT_WHEN_EMPTY = frozenset(
    {"affinity", "emptyDir", "resources", "securityContext", "selector", "spec", "template"}
)
_MAPS_WITH_FREE_KEYS = frozenset(
    {"annotations", "labels", "limits", "matchLabels", "nodeSelector", "requests"}
)
_OMITTED_WHEN_ZERO = frozenset(
    {"hostIPC", "hostNetwork", "hostPID", "minReadySeconds", "readOnly", "stdin", "tty"}
)


def daemon_set_spec(spec: Mapping[str, Any]) -> Json:
    """Return the spec of a DaemonSet with its defaults."""
    complete = {**_DAEMON_SET, **_without_empty(spec)}
    complete["updateStrategy"] = _update_strategy(complete.get("updateStrategy", {}))
    template = complete.get("template", {})
    metadata = {"metadata": template["metadata"]} if template.get("metadata") else {}
    complete["template"] = {**metadata, "spec": _pod_template_spec(template.get("spec", {}))}
    return complete


def pod_spec(spec: Mapping[str, Any]) -> Json:
    """Return the spec of a pod with the defaults of a pod template, and with a service account."""
    return {**_STANDALONE_POD, **_pod_template_spec(_without_empty(spec))}


def compact(given: Mapping[str, Any]) -> Json:
    """Return an object without its empty fields, which Go omits from JSON."""
    kept: Json = _without_empty(given)
    return kept


def _update_strategy(strategy: Mapping[str, Any]) -> Json:
    complete = {"type": "RollingUpdate", **strategy}
    if complete["type"] == "RollingUpdate":
        complete["rollingUpdate"] = {**_ROLLING_UPDATE, **complete.get("rollingUpdate", {})}
    return complete


def _pod_template_spec(spec: Mapping[str, Any]) -> Json:
    complete = {**_POD, **spec}
    if "containers" in complete:
        complete["containers"] = [_container(container) for container in complete["containers"]]
    if "volumes" in complete:
        complete["volumes"] = [_volume(volume) for volume in complete["volumes"]]
    if "serviceAccountName" in spec:
        complete["serviceAccount"] = spec["serviceAccountName"]
    return complete


def _container(container: Mapping[str, Any]) -> Json:
    policy = image_names.default_pull_policy(container.get("image", ""))
    complete = {**_CONTAINER, "imagePullPolicy": policy, **container}
    complete["resources"] = {
        kind: {name: canonical_quantities.canonical(quantity) for name, quantity in amounts.items()}
        for kind, amounts in complete["resources"].items()
    }
    return complete


def _volume(volume: Mapping[str, Any]) -> Json:
    complete = dict(volume)
    if set(complete) == {"name"}:
        complete["emptyDir"] = {}
    if "image" in complete:
        policy = image_names.default_pull_policy(complete["image"].get("reference", ""))
        complete["image"] = {"pullPolicy": policy, **complete["image"]}
    for source in ("secret", "configMap"):
        if source in complete:
            complete[source] = {"defaultMode": _FILE_MODE, **complete[source]}
    return complete


def _without_empty(value: Any, name: str = "") -> Any:
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    # Maps whose keys are free (labels, quantities) may have empty values. Fields may not.
    has_free_keys = name in _MAPS_WITH_FREE_KEYS
    cleaned = {key: _without_empty(item, key) for key, item in value.items()}
    return {
        key: item for key, item in cleaned.items() if has_free_keys or not _is_omitted(key, item)
    }


def _is_omitted(name: str, value: Any) -> bool:
    if value is None or value in ("", []):
        return True
    if value == {}:
        return name not in _KEPT_WHEN_EMPTY
    return value in (False, 0) and name in _OMITTED_WHEN_ZERO
