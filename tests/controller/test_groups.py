"""Groups of images: each with its own DaemonSet, and one request for all of them."""

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from image_puller import limits
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.clock import SimulatedClock
from tests.support.clock import ManualClock
from tests.support.daemonset import APP, AT_ONCE
from tests.support.installation import NAME, NAMESPACE, Installation, desired_images_of
from tests.support.waiting import wait_until
from tests.support.web import Web

MakeWeb = Callable[..., Web]
GPU = f"{NAME}-gpu"
CUDA = "quay.io/org/cuda:12.4.1"
GROUPS = {"gpu": {"images": {"cuda": CUDA, "app": APP}, "nodeSelector": {"gpu": "yes"}}}


@pytest.fixture
def cluster(clock: ManualClock) -> Iterator[SimulatedCluster]:
    """Return a cluster whose clock is that of the service."""
    simulated = SimulatedClock(clock.now().timestamp())
    with SimulatedCluster(nodes=3, namespaces=(NAMESPACE,), clock=simulated) as cluster:
        yield cluster


def environ(groups: Any = GROUPS, **others: str) -> dict[str, str]:
    return {"IMAGE_GROUPS": json.dumps(groups), "READ_AUTH": "none"} | AT_ONCE | others


def images(cluster: SimulatedCluster, name: str) -> list[str] | None:
    """Return the desired images of a DaemonSet, or None where it does not exist."""
    live = cluster.daemonset(name, NAMESPACE)
    return None if live is None else desired_images_of(live["spec"]["template"])


def exists(cluster: SimulatedCluster, name: str) -> bool:
    return cluster.daemonset(name, NAMESPACE) is not None


def quay(repository: str, tag: str) -> dict[str, Any]:
    return {"docker_url": f"quay.io/org/{repository}", "updated_tags": [tag]}


def push(service: Web, repository: str, tag: str) -> int:
    service.secret("quay", "s3cret")
    body = quay(repository, tag)
    return service.client.post("/webhooks/quay/s3cret", json=body).status_code


def start(web: MakeWeb, cluster: SimulatedCluster, **variables: str) -> Web:
    service = web(first_check=False, **variables)
    wait_until(lambda: images(cluster, GPU) is not None)
    return service


def test_each_group_has_a_daemonset_for_its_nodes(web: MakeWeb, cluster: SimulatedCluster) -> None:
    start(web, cluster, **environ())
    wait_until(lambda: images(cluster, NAME) is not None)
    live = cluster.daemonset(GPU, NAMESPACE)
    assert live is not None
    assert live["spec"]["template"]["spec"]["nodeSelector"]["gpu"] == "yes"
    assert images(cluster, NAME) == [APP]
    assert images(cluster, GPU) == sorted([APP, CUDA])


def test_a_push_goes_to_every_group_that_names_its_repository(
    web: MakeWeb, cluster: SimulatedCluster
) -> None:
    service = start(web, cluster, **environ())
    wait_until(lambda: images(cluster, NAME) is not None)
    assert push(service, "app", "1.2.4") == 202
    newer = APP.replace("1.2.3", "1.2.4")
    assert images(cluster, NAME) == [APP, newer]
    assert images(cluster, GPU) == sorted([APP, newer, CUDA])
    assert push(service, "cuda", "12.4.2") == 202
    assert images(cluster, NAME) == [APP, newer]
    assert CUDA.replace("12.4.1", "12.4.2") in (images(cluster, GPU) or [])


def test_a_push_that_no_group_takes_is_counted_once(
    web: MakeWeb, cluster: SimulatedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service = start(web, cluster, **environ({**GROUPS, "more": {"images": "app=quay.io/org/b"}}))
    assert push(service, "app", "1.0.0") == 202
    assert 'outcome="policy_not_newer",source="quay"} 1.0' in service.client.get("/metrics").text
    assert "unknown_repository" not in service.client.get("/metrics").text
    assert len([each for each in caplog.messages if "quay: ignored" in each]) == 1


def test_a_push_is_answered_503_while_one_group_can_not_commit(
    web: MakeWeb, cluster: SimulatedCluster
) -> None:
    service = start(web, cluster, **environ())
    wait_until(lambda: images(cluster, NAME) is not None)
    cluster.fail(method="PATCH", path=GPU, times=1)
    assert push(service, "app", "1.2.4") == 503
    newer = APP.replace("1.2.3", "1.2.4")
    assert images(cluster, NAME) == [APP, newer]  # it is kept there, and the retry changes nothing
    assert push(service, "app", "1.2.4") == 202
    assert images(cluster, GPU) == sorted([APP, newer, CUDA])


def test_images_may_be_empty(web: MakeWeb, cluster: SimulatedCluster) -> None:
    service = start(web, cluster, **environ(IMAGES=""))
    assert images(cluster, NAME) is None
    assert service.client.get("/readyz").status_code == 200
    found = service.client.get("/status").get_json()
    assert (found["daemonset"], found["images"]) == (None, [])
    assert found["groups"]["gpu"]["daemonset"]["name"] == GPU


def test_status_has_each_group(web: MakeWeb, cluster: SimulatedCluster) -> None:
    service = start(web, cluster, **environ())
    wait_until(lambda: images(cluster, NAME) is not None)
    found = service.client.get("/status").get_json()
    assert [each["image"] for each in found["images"]] == [APP]
    (gpu,) = found["groups"].values()
    assert [each["image"] for each in gpu["images"]] == [CUDA, APP]
    (part,) = service.client.get("/status/cuda").get_json()["groups"].values()
    assert [each["image"] for each in part["images"]] == [CUDA]
    both = service.client.get(f"/status/{APP}").get_json()
    assert [each["image"] for each in both["images"]] == [APP]
    assert [each["image"] for each in both["groups"]["gpu"]["images"]] == [APP]
    assert service.client.get("/status/nothing").status_code == 404


def test_each_group_is_checked(web: MakeWeb, cluster: SimulatedCluster, clock: ManualClock) -> None:
    start(web, cluster, **environ())
    wait_until(lambda: images(cluster, NAME) is not None)
    for name in (NAME, GPU):
        cluster.delete(name, NAMESPACE)

    def are_back() -> bool:
        clock.advance(limits.CHECK_INTERVAL_SECONDS)
        return None not in (images(cluster, NAME), images(cluster, GPU))

    wait_until(are_back)


def test_pending_templates_of_all_groups_are_applied_at_the_end(
    web: MakeWeb, cluster: SimulatedCluster
) -> None:
    service = start(web, cluster, **environ(ROLLOUT_MIN_INTERVAL_SECONDS="3600"))
    wait_until(lambda: images(cluster, NAME) is not None)
    assert push(service, "app", "1.2.4") == 202
    assert images(cluster, NAME) == [APP]
    service.stop()
    newer = APP.replace("1.2.3", "1.2.4")
    assert images(cluster, NAME) == [APP, newer]
    assert images(cluster, GPU) == sorted([APP, newer, CUDA])


def test_lines_of_the_log_name_the_group(
    web: MakeWeb, cluster: SimulatedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service = start(web, cluster, **environ())
    wait_until(lambda: images(cluster, NAME) is not None)
    push(service, "app", "1.2.4")
    assert "quay: app 1.2.4: tracked" in caplog.messages
    assert "quay: gpu/app 1.2.4: tracked" in caplog.messages


def test_a_request_costs_each_group_one_write(
    web: MakeWeb, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = start(web, cluster, **environ())
    wait_until(lambda: images(cluster, NAME) is not None)
    push(service, "app", "1.2.4")
    installation.sent()
    push(service, "cuda", "12.4.2")
    assert installation.written() == ["PATCH daemonsets"]


def test_daemonset_of_a_removed_group_is_deleted(
    web: MakeWeb, cluster: SimulatedCluster, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = start(web, cluster, **environ())
    wait_until(lambda: images(cluster, NAME) is not None)
    before.stop()
    clock.advance(1)
    web(first_check=False, **environ({"other": {"images": f"cuda={CUDA}"}}))
    wait_until(lambda: images(cluster, GPU) is None)
    wait_until(lambda: images(cluster, f"{NAME}-other") == [CUDA])
    assert images(cluster, NAME) == [APP]
    deleted = f"DaemonSet {GPU} was deleted: no group of IMAGE_GROUPS has it"
    wait_until(lambda: deleted in caplog.messages)


def test_daemonset_of_images_is_deleted_where_only_groups_are_left(
    web: MakeWeb, cluster: SimulatedCluster, clock: ManualClock
) -> None:
    before = start(web, cluster, **environ())
    wait_until(lambda: images(cluster, NAME) is not None)
    before.stop()
    clock.advance(61)
    web(first_check=False, **environ(IMAGES=""))
    wait_until(lambda: images(cluster, NAME) is None)
    assert images(cluster, GPU) is not None


def test_daemonsets_of_others_and_new_ones_stay(
    web: MakeWeb, cluster: SimulatedCluster, clock: ManualClock
) -> None:
    other = web(first_check=False, **environ(DAEMONSET_NAME="other"))
    before = web(first_check=False, **environ())
    for name in ("other", "other-gpu", NAME, GPU):
        wait_until(partial(exists, cluster, name))
    other.stop()
    before.stop()
    web(READ_AUTH="none")
    assert images(cluster, GPU) is not None  # it is new: a newer process may have made it
    clock.advance(61 + limits.CHECK_INTERVAL_SECONDS)
    wait_until(lambda: images(cluster, GPU) is None)
    assert images(cluster, "other-gpu") is not None


def test_a_removed_group_that_may_not_be_deleted_is_told_once_with_the_command(
    web: MakeWeb, cluster: SimulatedCluster, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    start(web, cluster, **environ()).stop()
    clock.advance(61)
    cluster.fail(method="DELETE", status=403, path=GPU, times=5)
    service = web(READ_AUTH="none")
    command = f"run kubectl delete daemonset {GPU} --namespace {NAMESPACE}"
    wait_until(lambda: command in caplog.text)
    service.service._groups[0]._checks.full(1)
    assert caplog.text.count(command) == 1
    assert images(cluster, GPU) is not None
