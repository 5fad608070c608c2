"""The Helm chart fits the service. `e2e/test_helm.py` renders and installs the chart."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_puller import __version__
from image_puller.config import configuration
from image_puller.errors import ConfigurationError
from image_puller.events.sources import SOURCES
from image_puller.http.authentication import EVENTS, READ

CHART = Path(__file__).parents[2] / "deploy" / "helm"
BY_THE_CHART = {"NAMESPACE", "DEPLOYMENT_NAME", "DAEMONSET_NAME"}
BY_KNATIVE = {"K_SERVICE"}
# Maps whose keys the chart does not define.
FREE = {
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
    "global",
}


class Asked(dict[str, str]):
    """An environment that records which variables are read."""

    def __init__(self, **variables: str) -> None:
        super().__init__(variables)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def variables() -> set[str]:
    """Return the names of all variables that the service reads."""
    environ = Asked(EVENT_AUTH="oidc")  # reads more variables than other values
    with pytest.raises(ConfigurationError):
        configuration.from_environ(environ)
    return environ.names


def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return loaded


def variable(key: str) -> str:
    """Return the variable that a key of `configMap` sets, as the chart's template names it."""
    return re.sub(r"(?=[A-Z])", "_", key).upper()


def paths(of: dict[str, Any], children: Any, prefix: str = "") -> Iterator[str]:
    """Return the paths of all keys at any depth, as in `image.tag`."""
    for key, value in of.items():
        yield prefix + key
        if key not in FREE and isinstance(value, dict) and children(value):
            yield from paths(children(value), children, f"{prefix}{key}.")


def test_every_variable_of_the_service_is_a_value_of_the_chart():
    named = {variable(key) for key in values()["configMap"] if key != "name"}
    assert named | BY_THE_CHART | BY_KNATIVE == variables()


def test_the_chart_has_the_version_of_the_service():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_the_schema_has_the_same_values_as_values_yaml():
    schema = json.loads((CHART / "values.schema.json").read_text())
    described = set(paths(schema["properties"], lambda value: value.get("properties")))
    assert described - {"global"} == set(paths(values(), lambda value: value))


def test_a_secret_is_generated_for_every_source_and_for_readers():
    by_token = set(SOURCES) - {"cloudevents"}  # those are sent to POST /
    assert set(values()["secrets"]["generate"]) == by_token | {EVENTS, READ}
