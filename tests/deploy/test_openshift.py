"""The OpenShift templates have the variables, objects and rights of the service.

They keep the parameters of the original project, and the rules of `restricted-v2`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_puller import __version__
from image_puller.config.configuration import from_environ
from tests.support.chart import SET_BY_KNATIVE
from tests.support.environment import variables
from tests.support.oc_process import Json, process, read

TOP = Path(__file__).parents[2]
FOLDER = TOP / "deploy" / "openshift"
FILES = sorted(FOLDER.glob("*.yaml"))
SET_IN_THE_DEPLOYMENT = {"DEPLOYMENT_NAME", "PORT", "WEBHOOK_SECRETS_DIR"}
VARIABLES = variables() - SET_BY_KNATIVE

# The parameters and defaults in deploy/openshift of the original,
# https://github.com/che-incubator/kubernetes-image-puller.
ORIGINAL = {
    "serviceaccount.yaml": {"SERVICEACCOUNT_NAME": "k8s-image-puller"},
    "configmap.yaml": {
        "IMAGES": "che-code=quay.io/che-incubator/che-code:next; "
        "base-developer-image=quay.io/devfile/base-developer-image:ubi9-latest;",
        "DAEMONSET_NAME": "kubernetes-image-puller",
        "CACHING_INTERVAL_HOURS": "1",
        "NAMESPACE": "k8s-image-puller",
        "CACHING_MEMORY_REQUEST": "10Mi",
        "CACHING_MEMORY_LIMIT": "20Mi",
        "CACHING_CPU_REQUEST": ".05",
        "CACHING_CPU_LIMIT": ".2",
        "NODE_SELECTOR": "{}",
        "IMAGE_PULL_SECRETS": "",
        "AFFINITY": "{}",
        "KIP_IMAGE": "quay.io/eclipse/kubernetes-image-puller:next",
        "TOLERATIONS": "[]",
    },
    "app.yaml": {
        "DEPLOYMENT_NAME": "kubernetes-image-puller",
        "SERVICEACCOUNT_NAME": "k8s-image-puller",
        "IMAGE": "quay.io/eclipse/kubernetes-image-puller",
        "IMAGE_TAG": "next",
        "PRIORITY_CLASS_NAME": "",
        "DEPLOYMENT_CPU_REQUEST": "50m",
        "DEPLOYMENT_MEMORY_REQUEST": "64Mi",
        "DEPLOYMENT_CPU_LIMIT": "200m",
        "DEPLOYMENT_MEMORY_LIMIT": "256Mi",
    },
}
CHANGED_DEFAULTS = {
    "NAMESPACE",  # empty means the pod's namespace, so that any project works
    "KIP_IMAGE",  # the image of the original has no /sleep
    "IMAGE",
    "IMAGE_TAG",
    "DEPLOYMENT_MEMORY_REQUEST",  # the service needs more
    "DEPLOYMENT_CPU_LIMIT",  # Python needs more to start
}


def parameters(file: Path) -> dict[str, str]:
    """Return the parameters of a template with their defaults."""
    return {each["name"]: each.get("value", "") for each in read(file)["parameters"]}


def objects(**values: str) -> dict[str, Json]:
    """Return the objects of all templates, by kind. Each template gets the values that it has."""
    found: dict[str, Json] = {}
    values = {"SOURCE": "quay"} | values
    for file in FILES:
        known = parameters(file)
        own = {name: value for name, value in values.items() if name in known}
        found |= {each["kind"]: each for each in process(file, **own)}
    return found


def environment(**values: str) -> dict[str, str]:
    """Return the variables of the service's container."""
    found = objects(**values)
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    own = {each["name"]: each["value"] for each in container["env"]}
    data: dict[str, str] = found["ConfigMap"]["data"]
    return data | own


def names(value: Any) -> Iterator[str]:
    """Return all keys in an object, at any depth."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from names(each)


# Parameters


@pytest.mark.parametrize("name", ORIGINAL)
def test_parameters_of_the_original_keep_their_names_and_defaults(name: str) -> None:
    found = parameters(FOLDER / name)
    assert found.keys() >= ORIGINAL[name].keys()
    same = ORIGINAL[name].keys() - CHANGED_DEFAULTS
    assert {each: found[each] for each in same} == {each: ORIGINAL[name][each] for each in same}


def test_each_variable_that_the_service_reads_is_a_parameter() -> None:
    assert parameters(FOLDER / "configmap.yaml").keys() == VARIABLES - SET_IN_THE_DEPLOYMENT
    assert parameters(FOLDER / "app.yaml").keys() >= SET_IN_THE_DEPLOYMENT
    assert environment().keys() == VARIABLES


def test_defaults_equal_those_of_the_service() -> None:
    expected = from_environ({"IMAGES": environment()["IMAGES"]}, pod_namespace="images")
    assert from_environ(environment(), pod_namespace="images") == expected


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_each_parameter_sets_its_variable(name: str) -> None:
    assert environment(**{name: "12"})[name] == "12"


def test_image_has_the_version_of_the_service() -> None:
    assert objects()["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"] == (
        f"quay.io/kubernetes-image-puller/kubernetes-image-puller:{__version__}"
    )


def test_changed_name_changes_in_each_object() -> None:
    found = objects(
        SERVICEACCOUNT_NAME="account",
        DEPLOYMENT_NAME="deployment",
        DAEMONSET_NAME="daemons",
        PULL_SECRETS='["a","b"]',
    )
    account = found["ServiceAccount"]["metadata"]["name"]
    deployment = found["Deployment"]
    restricted = {
        resource: rule["resourceNames"]
        for rule in found["Role"]["rules"]
        if "resourceNames" in rule
        for resource in rule["resources"]
    }
    assert found["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": account}]
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == account == "account"
    assert found["Route"]["spec"]["to"]["name"] == found["Service"]["metadata"]["name"]
    assert found["Service"]["metadata"]["name"] == deployment["metadata"]["name"]
    assert restricted == {
        "daemonsets": ["daemons"],
        "deployments": ["deployment"],
        "secrets": ["a", "b"],
    }


# Objects


def test_deployment_and_service_equal_those_of_deploy_kubernetes() -> None:
    expected = {
        each["kind"]: each
        for each in yaml.safe_load_all((TOP / "deploy/kubernetes/service.yaml").read_text())
    }
    found = objects()
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod.pop("priorityClassName") == ""
    (container,) = pod["containers"]
    del container["env"]
    container["name"] = expected["Deployment"]["spec"]["template"]["spec"]["containers"][0]["name"]
    assert {kind: found[kind] for kind in expected} == expected


def test_rights_equal_those_of_deploy_kubernetes() -> None:
    text = (TOP / "deploy/kubernetes/rbac.yaml").read_text()
    (expected,) = (each for each in yaml.safe_load_all(text) if each["kind"] == "Role")
    assert objects()["Role"]["rules"] == expected["rules"]


def test_no_object_sets_a_user_a_group_or_a_project() -> None:
    unwanted = {"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups", "hostPath", "namespace"}
    assert set(names(list(objects().values()))) & unwanted == set()


def test_processing_a_template_again_generates_new_secrets() -> None:
    first, second = (objects(SOURCE="harbor")["Secret"]["stringData"] for _ in range(2))
    assert first.keys() == {"harbor", "events", "read"}
    secrets = [*first.values(), *second.values()]
    assert len(set(secrets)) == len(secrets)
    assert all(re.fullmatch("[a-zA-Z0-9]{40}", secret) for secret in secrets)


def test_template_of_the_secret_requires_a_source() -> None:
    with pytest.raises(ValueError, match="SOURCE is required"):
        process(FOLDER / "secret.yaml")


def test_unknown_parameter_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown parameter"):
        process(FOLDER / "route.yaml", HOSTNAME="x")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_parameter_is_used_and_each_used_name_is_a_parameter(file: Path) -> None:
    template = read(file)
    used = set(re.findall(r"\$\{+([A-Z_]+)\}", yaml.safe_dump(template["objects"])))
    assert used == {each["name"] for each in template["parameters"]}
