"""The Helm chart has the variables, version and secrets of the service.

`e2e/test_helm.py` renders and installs the chart.
"""

import json

import yaml

from image_puller import __version__
from image_puller.events.sources import SOURCES
from image_puller.http.authentication import EVENTS, READ
from tests.support.chart import (
    CHART,
    SET_BY_KNATIVE,
    SET_BY_THE_CHART,
    schema_paths,
    value_paths,
    values,
    variable_of,
)
from tests.support.environment import variables


def test_each_variable_of_the_service_is_a_value_of_the_chart() -> None:
    names = {variable_of(key) for key in values()["configMap"] if key != "name"}
    assert names | SET_BY_THE_CHART | SET_BY_KNATIVE == variables()


def test_chart_has_the_version_of_the_service() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_schema_has_the_values_of_values_yaml() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema_paths(schema) - {"global"} == value_paths()


def test_chart_generates_a_secret_for_each_source_and_for_readers() -> None:
    webhooks = set(SOURCES) - {"cloudevents"}  # CloudEvents are sent to POST /
    assert set(values()["secrets"]["generate"]) == webhooks | {EVENTS, READ}
