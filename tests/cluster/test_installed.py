"""The configuration of an installation: from its Deployment or Knative Service, and ConfigMaps."""

from typing import Any

import pytest

from image_puller.cluster import installed
from image_puller.config.configuration import EventAuth
from image_puller.errors import ConfigurationError, MissingError, RefusedByClusterError

NAME = "kubernetes-image-puller"
CORE = "/api/v1/namespaces/puller"
DEPLOYMENT = f"/apis/apps/v1/namespaces/puller/deployments/{NAME}"
KNATIVE = f"/apis/serving.knative.dev/v1/namespaces/puller/services/{NAME}"
IMAGES = {"IMAGES": "app=quay.io/org/app:1.2.3"}

Json = dict[str, Any]


class Objects(dict[str, Json | Exception]):
    """Objects by their path. Others are missing."""

    def read(self, path: str) -> Json:
        found = self.get(path, MissingError(f"{path} not found"))
        if isinstance(found, Exception):
            raise found
        return found


def workload(*, env_from: Any = None, env: Any = None) -> Json:
    container = {"name": "service", "envFrom": env_from, "env": env}
    return {"spec": {"template": {"spec": {"containers": [container, {"name": "sidecar"}]}}}}


def config_map(name: str, **how: Any) -> Json:
    return {"configMapRef": {"name": name, **how}}


def data(**variables: str) -> Json:
    return {"data": variables}


@pytest.mark.parametrize("path", [DEPLOYMENT, KNATIVE])
def test_variables_are_those_of_the_config_map_and_of_the_container(path: str) -> None:
    objects = Objects(
        {
            path: workload(
                env_from=[config_map("a"), {"secretRef": {"name": "s"}}, config_map("b")],
                env=[
                    {"name": "KEEP_TAGS", "value": "5"},
                    {"name": "HTTPS_PROXY", "valueFrom": {"secretKeyRef": {"name": "s"}}},
                ],
            ),
            f"{CORE}/configmaps/a": data(KEEP_TAGS="3", **IMAGES),
            f"{CORE}/configmaps/b": data(DAEMONSET_NAME="other"),
        }
    )
    config = installed.configuration(objects.read, "puller", NAME)
    assert [each.image for each in config.entries] == ["quay.io/org/app:1.2.3"]
    assert (config.keep_tags, config.daemonset_name, config.namespace) == (5, "other", "puller")


def test_files_of_the_pod_are_not_needed() -> None:
    env = [{"name": name, "value": value} for name, value in IMAGES.items()]
    env += [
        {"name": "REGISTRY_CA_FILE", "value": "/etc/ca/ca.crt"},
        {"name": "EVENT_AUTH", "value": "oidc"},
    ]
    objects = Objects({DEPLOYMENT: workload(env=env)})
    assert installed.configuration(objects.read, "puller", NAME).event_auth is EventAuth.TOKEN


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({}, "the cluster has no namespace puller"),
        ({CORE: {}}, f"namespace puller has no Deployment or Knative Service {NAME}"),
        (
            {CORE: RefusedByClusterError("no"), KNATIVE: RefusedByClusterError("no")},
            f"namespace puller has no Deployment or Knative Service {NAME}",
        ),
        (
            {DEPLOYMENT: workload(env_from=[config_map("a")])},
            "namespace puller has no ConfigMap a",
        ),
    ],
)
def test_what_is_missing_is_named(objects: dict[str, Json | Exception], message: str) -> None:
    with pytest.raises(MissingError, match=f"^{message}$"):
        installed.configuration(Objects(objects).read, "puller", NAME)


def test_config_map_may_be_optional() -> None:
    objects = Objects(
        {
            DEPLOYMENT: workload(env_from=[config_map("a", optional=True), config_map("b")]),
            f"{CORE}/configmaps/b": data(**IMAGES),
        }
    )
    assert installed.configuration(objects.read, "puller", NAME).entries


def test_other_errors_are_raised() -> None:
    refused = Objects({DEPLOYMENT: RefusedByClusterError("deployments is forbidden")})
    with pytest.raises(RefusedByClusterError):
        installed.configuration(refused.read, "puller", NAME)
    with pytest.raises(ConfigurationError, match="IMAGES"):
        installed.configuration(Objects({DEPLOYMENT: workload()}).read, "puller", NAME)
