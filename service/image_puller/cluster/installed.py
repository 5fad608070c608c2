"""The configuration of an installation, as others see it: from its Deployment and its ConfigMap."""

from collections.abc import Callable, Mapping
from typing import Any

from image_puller.config.configuration import Config, from_environ
from image_puller.errors import MissingError, RefusedByClusterError

Get = Callable[[str], dict[str, Any]]
"""Returns the object at a path of the API. Raises MissingError, RefusedByClusterError."""

_ABOUT_FILES = ("REGISTRY_CA_FILE", "EVENT_AUTH")
"""Variables that need files of the pod, and that change nothing of the status."""


def configuration(get: Get, namespace: str, name: str) -> Config:
    """Return the configuration of the Deployment or Knative Service of a name.

    Raises MissingError, ConfigurationError.
    """
    container = _workload(get, namespace, name)["spec"]["template"]["spec"]["containers"][0]
    environ: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        if "configMapRef" in source:
            environ |= _config_map(get, namespace, source["configMapRef"])
    # A value that comes from elsewhere, such as a Secret, is not of the variables of the status.
    environ |= {each["name"]: each.get("value") or "" for each in container.get("env") or ()}
    for variable in _ABOUT_FILES:
        environ.pop(variable, None)
    return from_environ(environ, pod_namespace=namespace)


def _workload(get: Get, namespace: str, name: str) -> dict[str, Any]:
    try:
        return get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    except MissingError:
        pass
    try:
        return get(f"/apis/serving.knative.dev/v1/namespaces/{namespace}/services/{name}")
    except (MissingError, RefusedByClusterError):
        # Somebody who may not read them is told that there is nothing, as without Knative.
        raise MissingError(_why_nothing(get, namespace, name)) from None


def _why_nothing(get: Get, namespace: str, name: str) -> str:
    try:
        get(f"/api/v1/namespaces/{namespace}")
    except MissingError:
        return f"the cluster has no namespace {namespace}"
    except RefusedByClusterError:
        pass  # whether there is one is not worth another right
    return f"namespace {namespace} has no Deployment or Knative Service {name}"


def _config_map(get: Get, namespace: str, reference: Mapping[str, Any]) -> dict[str, str]:
    name = reference["name"]
    try:
        found = get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
    except MissingError:
        if reference.get("optional"):
            return {}
        raise MissingError(f"namespace {namespace} has no ConfigMap {name}") from None
    return dict(found.get("data") or {})
