"""The rights that the service needs. `tests/deploy/test_rights.py` compares the manifests."""

import json

from image_puller.core import rights
from tests.support.building import configuration


def shown(**variables: str) -> list[str]:
    return [str(each) for each in rights.needed(configuration(**variables))]


def test_each_daemonset_and_each_pull_secret_is_named() -> None:
    groups = {"gpu": {"images": {"cuda": "quay.io/org/cuda:1"}, "imagePullSecrets": "b;a"}}
    found = shown(IMAGE_GROUPS=json.dumps(groups), IMAGE_PULL_SECRETS="a", DAEMONSET_NAME="mine")
    for name in ("mine", "mine-gpu"):
        assert {f"{verb} daemonsets/{name}" for verb in ("get", "patch", "delete")} < set(found)
    assert [each for each in found if "secrets" in each] == ["get secrets/a", "get secrets/b"]


def test_on_knative_the_owner_is_a_service_and_nodes_are_not_watched() -> None:
    found = shown(K_SERVICE="puller", DEPLOYMENT_NAME="puller")
    assert "get services/puller" in found
    assert "watch nodes" not in found


def test_only_features_need_the_rights_without_which_the_service_works() -> None:
    needed = rights.needed(configuration(IMAGE_PULL_SECRETS="a", ASK_REGISTRIES="true"))
    assert [str(each) for each in needed if each.serves is None] == [
        "get daemonsets/kubernetes-image-puller",
        "patch daemonsets/kubernetes-image-puller",
        "create daemonsets",
        "list pods",
        "get secrets/a",
    ]
