"""The Roles of the manifests give exactly the rights that the service needs.

`e2e/test_helm.py` compares those of the chart.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_puller.core import rights
from tests.support.building import configuration
from tests.support.oc_process import process
from tests.support.rights import given, wanted

TOP = Path(__file__).parents[2]
DEPLOY = TOP / "deploy"
CREDENTIALS = "registry-credentials"
TAINT = "image-puller.io/startup:NoSchedule"


def objects(*files: Path) -> Iterator[dict[str, Any]]:
    """Return the objects of files."""
    for file in files:
        yield from yaml.safe_load_all(file.read_text())


ROLES = {
    "kubernetes": (
        [*objects(DEPLOY / "kubernetes" / "rbac.yaml", DEPLOY / "kubernetes" / "nodes.yaml")],
        {},
    ),
    "kubernetes with a startup taint": (
        [
            *objects(
                DEPLOY / "kubernetes" / "rbac.yaml",
                DEPLOY / "kubernetes" / "startup-taint" / "nodes.yaml",
            )
        ],
        {"NODE_STARTUP_TAINT": TAINT},
    ),
    "openshift": (
        [
            *process(DEPLOY / "openshift" / "serviceaccount.yaml"),
            *objects(DEPLOY / "kubernetes" / "nodes.yaml"),
        ],
        {},
    ),
    "knative": (
        [*objects(TOP / "knative" / "base" / "rbac.yaml")],
        {"K_SERVICE": "kubernetes-image-puller"},
    ),
    "knative with a startup taint": (
        [
            *objects(
                TOP / "knative" / "base" / "rbac.yaml",
                TOP / "knative" / "components" / "startup-taint" / "rights" / "nodes.yaml",
            )
        ],
        {"K_SERVICE": "kubernetes-image-puller", "NODE_STARTUP_TAINT": TAINT},
    ),
}


@pytest.mark.parametrize("name", ROLES)
def test_roles_give_exactly_the_rights_that_the_service_needs(name: str) -> None:
    documents, variables = ROLES[name]
    config = configuration(
        IMAGE_PULL_SECRETS=CREDENTIALS,
        ASK_REGISTRIES="true",
        K_SINK="http://sink.example.com",
        **variables,
    )
    assert given(documents) == wanted(rights.needed(config))
