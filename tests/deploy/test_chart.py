"""The Helm chart has the variables, version and secrets of the service.

`e2e/test_helm.py` renders and installs the chart.
"""

import json
from typing import Any

import pytest
import yaml

from image_puller import __version__
from image_puller.config.configuration import Config, from_environ
from image_puller.errors import ConfigurationError
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
from tests.support.json_schema import is_valid


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


# Values that the service accepts, and values that it rejects

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
NEEDED: dict[str, dict[str, str]] = {
    "oidcIssuer": {"EVENT_AUTH": "oidc", "OIDC_AUDIENCE": "puller"},
    "oidcAudience": {"EVENT_AUTH": "oidc"},
    "oidcKeys": {
        "EVENT_AUTH": "oidc",
        "OIDC_AUDIENCE": "puller",
        "OIDC_ISSUER": "https://issuer.example.com",
    },
    "oidcSubjects": {"EVENT_AUTH": "oidc", "OIDC_AUDIENCE": "puller"},
    "garAudience": {"GAR_SERVICE_ACCOUNT": "push@example.com"},
    "garServiceAccount": {"GAR_AUDIENCE": "puller"},
    "eventAuth": {"OIDC_AUDIENCE": "puller"},
    "imageTagPolicies": {"IMAGES": "app=nginx:1.29.1;web=nginx"},
    "cachingMemoryLimit": {"CACHING_MEMORY_REQUEST": "0"},
    "cachingCpuLimit": {"CACHING_CPU_REQUEST": "0"},
}
"""The variables without which the service ignores or rejects a value."""


def is_valid_value(key: str, value: Any) -> bool:
    """Whether the chart's schema accepts a value of `configMap`."""
    return is_valid({"configMap": {key: value}}, SCHEMA, SCHEMA)


def read(key: str, value: Any) -> Config:
    """Return the configuration of the service for a value of `configMap`."""
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    environ = {"IMAGES": "app=nginx:1.29.1"} | NEEDED.get(key, {}) | {variable_of(key): text}
    return from_environ(environ)


ACCEPTED: list[tuple[str, Any]] = [
    ("images", "app=nginx:1.29.1"),
    ("images", "\n  app = nginx:1.29.1;\n  web=quay.io/org/web@sha256:" + "0" * 64 + ";\n"),
    ("images", "broken; app=nginx"),
    ("imageGroups", {"gpu": {"images": {"cuda": "nvcr.io/nvidia/cuda:12.4.1"}}}),
    ("imageGroups", '{"gpu": {"images": "cuda=nvcr.io/nvidia/cuda:12.4.1"}}'),
    ("imageGroups", {"a": {"images": "a=b", "keepTags": 3, "nodeSelector": {"pool": "a"}}}),
    ("imageGroups", {"a": {"images": ["a=b"], "resources": {"limits": {"memory": None}}}}),
    ("imageTagPolicies", "app=semver:^1.2; web=regex:a=b.*;"),
    ("keepTags", 1),
    ("keepTags", 20),
    ("keepTags", " 20 "),
    ("keepTags", "007"),
    ("cachingIntervalHours", 0.5),
    ("cachingIntervalHours", 100_000),
    ("cachingIntervalHours", "100000"),
    ("cachingIntervalHours", ".5"),
    ("cachingIntervalHours", "+1.25"),
    ("cachingMemoryRequest", "10Mi"),
    ("cachingMemoryLimit", "1.5Gi\n"),
    ("cachingMemoryLimit", "1e9"),
    ("cachingCpuRequest", 0.05),
    ("cachingCpuRequest", ".05"),
    ("cachingCpuLimit", 2),
    ("cachingCpuLimit", "200m"),
    ("cachingCpuLimit", "none"),
    ("cachingMemoryLimit", "none"),
    ("daemonsetAnnotations", {"a/b": "c"}),
    ("daemonsetAnnotations", '{"a/b": "image-puller.io/state"}'),
    ("daemonsetAnnotations", "{}"),
    ("daemonsetAnnotations", "null"),
    ("nodeSelector", {"pool": "ci"}),
    ("nodeSelector", ' {"pool": "ci"}\n'),
    ("affinity", {"nodeAffinity": {}}),
    ("affinity", '{"nodeAffinity": {}}'),
    ("tolerations", [{"operator": "Exists"}]),
    ("tolerations", '[{"operator": "Exists"}]'),
    ("imagePullSecrets", "quay; hub.docker ;"),
    ("kipImage", "mirror.example.com:5000/sleep:1"),
    ("holdBy", "containers"),
    ("kSink", "http://broker.example.com:8080/images/default?a=b"),
    ("kSink", "https://[::1]\n"),
    ("rolloutMinIntervalSeconds", 0),
    ("rolloutMinIntervalSeconds", "0.5"),
    ("rolloutMaxUnavailable", 3),
    ("rolloutMaxUnavailable", "3"),
    ("rolloutMaxUnavailable", "100%"),
    ("rolloutSeedNodes", 0),
    ("rolloutSeedNodes", "02"),
    ("nodeStartupTaint", "image-puller.io/startup:NoSchedule"),
    ("nodeStartupTaint", " startup=images:NoExecute\n"),
    ("nodeStartupTaint", "startup=:NoExecute"),
    ("nodeStartupTimeoutSeconds", 0),
    ("nodeStartupTimeoutSeconds", "900"),
    ("priorityClassName", "low.priority"),
    ("podLabels", {"owner": "ci"}),
    ("podAnnotations", '{"a/b": "c"}'),
    ("podServiceAccount", "default"),
    ("runtimeClassName", "kata"),
    ("hostNetwork", True),
    ("registryAliases", "a.b=c.d/e; f=g/"),
    ("webhookRegistries", "quay=quay.io/org/; nexus = nexus.example.com:5000"),
    ("webhookSecretsDir", "/run/secrets"),
    ("askRegistries", True),
    ("verifyPushes", "false"),
    ("registryCaFile", __file__),
    ("registryCaFile", f"a:5000={__file__}; b.example.com = {__file__} ;"),
    ("insecureRegistries", "a:5000; b.example.com ;"),
    ("oidcAudience", "puller"),
    ("oidcIssuer", "https://issuer.example.com/a"),
    ("oidcKeys", "https://[::1]:8443/keys"),
    ("oidcKeys", "/keys/jwks"),
    ("oidcSubjects", "; system:serviceaccount:a:*; b"),
    ("garAudience", "https://a/b"),
    ("garServiceAccount", "a-b@project.iam.gserviceaccount.com"),
    ("eventAuth", "oidc"),
    ("readAuth", "none"),
    ("logLevel", "debug"),
    ("logFormat", "json"),
    ("port", 65535),
    ("port", "8080"),
]

REJECTED: list[tuple[str, Any]] = [
    ("images", "nginx:1.29.1"),
    ("images", "app: nginx:1.29.1"),
    ("images", "App=nginx"),
    ("images", "=nginx"),
    ("images", "app="),
    ("images", ";"),
    ("imageGroups", "gpu"),
    ("imageGroups", "[]"),
    ("imageGroups", {"Gpu": {"images": "a=b"}}),
    ("imageGroups", {"g" * 31: {"images": "a=b"}}),
    ("imageGroups", {"gpu": {}}),
    ("imageGroups", {"gpu": {"images": ""}}),
    ("imageGroups", {"gpu": {"images": "bad"}}),
    ("imageGroups", {"gpu": {"images": "a=b", "keepTags": 50}}),
    ("imageGroups", {"gpu": {"images": "a=b", "keeptags": 5}}),
    ("imageGroups", {"gpu": {"images": "a=b", "nodeSelector": {"gpu": True}}}),
    ("imageGroups", {"gpu": {"images": "a=b", "resources": {"limits": {"disk": "1Gi"}}}}),
    ("imageTagPolicies", "any"),
    ("imageTagPolicies", "app="),
    ("imageTagPolicies", "app=any;=auto"),
    ("keepTags", 0),
    ("keepTags", 50),
    ("keepTags", "50"),
    ("keepTags", "0"),
    ("keepTags", "many"),
    ("keepTags", 2.5),
    ("cachingIntervalHours", 0),
    ("cachingIntervalHours", "0"),
    ("cachingIntervalHours", "0.0"),
    ("cachingIntervalHours", -1),
    ("cachingIntervalHours", "1h"),
    ("cachingIntervalHours", 200_000),
    ("cachingIntervalHours", "200000"),
    ("cachingMemoryRequest", "10MB"),
    ("cachingMemoryLimit", "-1"),
    ("cachingMemoryLimit", -1),
    ("cachingCpuRequest", "a"),
    ("cachingCpuLimit", "1 m"),
    ("daemonsetAnnotations", {"image-puller.io/state": "{}"}),
    ("daemonsetAnnotations", '{"a": "b", "image-puller.io/state": "{}"}'),
    ("daemonsetAnnotations", {"a": 1}),
    ("daemonsetAnnotations", "a: b"),
    ("nodeSelector", {"gpu": True}),
    ("nodeSelector", "pool=ci"),
    ("nodeSelector", "[]"),
    ("affinity", {"nodeaffinity": {}}),
    ("affinity", "[]"),
    ("tolerations", ["all"]),
    ("tolerations", "{}"),
    ("tolerations", "all"),
    ("imagePullSecrets", "a,b"),
    ("imagePullSecrets", "My_Secret"),
    ("kipImage", "a b"),
    ("holdBy", "both"),
    ("kSink", "broker.example.com"),
    ("kSink", "http://user:word@broker.example.com"),
    ("rolloutMinIntervalSeconds", "10s"),
    ("rolloutMinIntervalSeconds", -1),
    ("rolloutMaxUnavailable", 0),
    ("rolloutMaxUnavailable", "0%"),
    ("rolloutMaxUnavailable", "200%"),
    ("rolloutMaxUnavailable", "half"),
    ("rolloutSeedNodes", -1),
    ("rolloutSeedNodes", "10%"),
    ("nodeStartupTaint", "image-puller.io/startup"),
    ("nodeStartupTaint", "image-puller.io/startup:PreferNoSchedule"),
    ("nodeStartupTaint", "image-puller.io/:NoSchedule"),
    ("nodeStartupTaint", "a=b c:NoSchedule"),
    ("nodeStartupTaint", ":NoSchedule"),
    ("nodeStartupTimeoutSeconds", -1),
    ("nodeStartupTimeoutSeconds", "10m"),
    ("podLabels", "a: b"),
    ("podAnnotations", "[]"),
    ("podServiceAccount", "My_Account"),
    ("runtimeClassName", "Kata"),
    ("hostNetwork", "host"),
    ("priorityClassName", "Low"),
    ("registryAliases", "a.b"),
    ("registryAliases", "https://a.b=c"),
    ("registryAliases", "a=b//c"),
    ("webhookRegistries", "quay.io"),
    ("webhookRegistries", "kwai=quay.io"),
    ("webhookRegistries", "quay=https://quay.io"),
    ("registryCaFile", f"https://a={__file__}"),
    ("registryCaFile", f"a/b={__file__}"),
    ("registryCaFile", "a="),
    ("registryCaFile", f"a={__file__};b"),
    ("insecureRegistries", "http://a:5000"),
    ("insecureRegistries", "a/b"),
    ("askRegistries", "no"),
    ("verifyPushes", 1),
    ("oidcAudience", "a b"),
    ("oidcIssuer", "http://issuer.example.com"),
    ("oidcIssuer", "kubernetes"),
    ("oidcKeys", "jwks.json"),
    ("oidcSubjects", "*"),
    ("oidcSubjects", "a;*b"),
    ("oidcSubjects", ";"),
    ("garAudience", "a b"),
    ("garServiceAccount", "push"),
    ("eventAuth", "nobody"),
    ("readAuth", "oidc"),
    ("logLevel", "trace"),
    ("logFormat", "yaml"),
    ("port", 0),
    ("port", "65536"),
    ("port", "http"),
]


@pytest.mark.parametrize(("key", "value"), ACCEPTED)
def test_schema_accepts_what_the_service_accepts(key: str, value: Any) -> None:
    read(key, value)
    assert is_valid_value(key, value)


@pytest.mark.parametrize(("key", "value"), REJECTED)
def test_schema_rejects_what_the_service_rejects(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError):
        read(key, value)
    assert not is_valid_value(key, value)


@pytest.mark.parametrize("key", sorted(set(values()["configMap"]) - {"name"}))
def test_schema_accepts_an_empty_value_as_unset(key: str) -> None:
    assert is_valid_value(key, "")


def test_tables_have_each_value_that_is_no_free_text() -> None:
    keys = set(values()["configMap"]) - {"name", "webhookSecretsDir"}
    assert {key for key, _ in REJECTED} == keys
    assert {key for key, _ in ACCEPTED} == keys | {"webhookSecretsDir"}


@pytest.mark.parametrize(
    "images",
    [
        {"app": "nginx:1.29.1", "web": "quay.io/org/web"},
        [{"name": "app", "image": "nginx:1.29.1"}, "web=quay.io/org/web"],
        {},
        [],
    ],
)
def test_schema_accepts_images_as_a_map_or_a_list(images: Any) -> None:
    assert is_valid_value("images", images)


@pytest.mark.parametrize(
    "images",
    [
        {"App": "nginx"},
        {"app": ""},
        {"app": "a=nginx"},
        {"app": {"image": "nginx"}},
        {"app": None},
        ["nginx"],
        ["app=nginx;web=nginx"],
        [{"name": "app"}],
        [{"name": "app", "image": "nginx", "policy": "any"}],
        [{"app": "nginx"}],
        1,
    ],
)
def test_schema_rejects_malformed_images_in_a_map_or_a_list(images: Any) -> None:
    assert not is_valid_value("images", images)


def test_default_values_meet_the_schema() -> None:
    assert is_valid(values(), SCHEMA, SCHEMA)


TEMPLATES = CHART / "templates"


def test_the_pod_of_helm_test_has_what_the_service_has() -> None:
    """`e2e/test_helm.py` renders both, and runs the test."""
    test, deployment = (
        (TEMPLATES / name).read_text() for name in ("tests/check.yaml", "deployment.yaml")
    )
    for part in ("envFrom", "volumeMounts", "volumes"):
        include = f'include "image-puller.{part}"'
        assert include in test
        assert include in deployment
    assert "serviceAccountName: {{ .Values.serviceAccount.name }}" in test
    assert "automountServiceAccountToken" not in test
