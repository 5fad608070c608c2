"""The Helm chart: its values, and the variables that it sets."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm"
SET_BY_THE_CHART = {"NAMESPACE", "DEPLOYMENT_NAME", "DAEMONSET_NAME"}
SET_BY_KNATIVE = {"K_SERVICE", "K_CA_CERTS", "K_CE_OVERRIDES"}
# Maps in which a user may set any key.
_MAPS_WITH_FREE_KEYS = {
    "resources",
    "nodeSelector",
    "affinity",
    "deploymentAnnotations",
    "annotations",
    "labels",
    "podAnnotations",
    "podLabels",
    "containerSecurityContext",
    "podSecurityContext",
    "updateStrategy",
    "deadLetterSink",
    "sink",
    "global",
}


def values() -> dict[str, Any]:
    """Return the default values of the chart."""
    loaded: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return loaded


def variable_of(key: str) -> str:
    """Return the variable that a key of `configMap` sets, as the chart's template names it."""
    return re.sub(r"(?=[A-Z])", "_", key).upper()


def value_paths() -> set[str]:
    """Return the paths of all values at any depth, such as `image.tag`."""
    return set(_paths(values(), lambda value: value))


def schema_paths(schema: dict[str, Any]) -> set[str]:
    """Return the paths of all values that a JSON Schema describes."""
    return set(_paths(schema["properties"], lambda value: value.get("properties")))


def _paths(
    tree: dict[str, Any], children: Callable[[dict[str, Any]], Any], prefix: str = ""
) -> Iterator[str]:
    for key, value in tree.items():
        yield prefix + key
        if key not in _MAPS_WITH_FREE_KEYS and isinstance(value, dict) and children(value):
            yield from _paths(children(value), children, f"{prefix}{key}.")
