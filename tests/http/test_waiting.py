"""`GET /status/<image>?wait=`, and the nodes that `?selector=` selects."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from werkzeug.test import TestResponse

from image_puller.errors import OverloadedError
from image_puller.http import parking
from image_puller.simulation import SimulatedCluster
from tests.support.clock import ManualClock
from tests.support.installation import exists, kubeconfig
from tests.support.serving import running
from tests.support.waiting import TIMEOUT_SECONDS, wait_until
from tests.support.web import Web

MakeWeb = Callable[..., Web]

APP = "quay.io/org/app:1.2.3"
NEWER = "quay.io/org/app:1.2.4"
FIRST = quote("kubernetes.io/hostname in (node-1)")


@pytest.fixture
def service(web: MakeWeb, cluster: SimulatedCluster) -> Web:
    """Return a service of three nodes that everybody may read. No node has pulled anything yet."""
    return web(READ_AUTH="none", ROLLOUT_MIN_INTERVAL_SECONDS="0")


def ask(service: Web, query: str, image: str = APP) -> TestResponse:
    return service.client.get(f"/status/{image}?{query}")


def awaited(answer: TestResponse) -> tuple[Any, ...]:
    """Return what the answer says about the only image that was awaited."""
    (found,) = answer.get_json()["awaited"]
    return tuple(found[part] for part in ("verdict", "held", "needed"))


def test_answer_is_200_once_all_nodes_hold_the_image(
    service: Web, cluster: SimulatedCluster
) -> None:
    cluster.advance(60)
    answer = ask(service, "wait=60")
    assert (answer.status_code, awaited(answer)) == (200, ("held", 3, 3))
    assert answer.get_json()["images"] == service.client.get(f"/status/{APP}").get_json()["images"]


def test_answer_is_408_with_the_reason_while_a_node_lacks_the_image(service: Web) -> None:
    answer = ask(service, "wait=0")
    assert (answer.status_code, awaited(answer)) == (408, ("pending", 0, 3))
    (found,) = answer.get_json()["awaited"]
    assert found["reason"] == "node-1: the DaemonSet controller has not created a pod yet"


def test_some_nodes_are_enough(service: Web, cluster: SimulatedCluster) -> None:
    cluster.kill("node-3")
    cluster.advance(60)
    assert ask(service, "wait=0&nodes=100%25").status_code == 200, "a dead node does not count"
    assert ask(service, "wait=0&nodes=3").status_code == 408
    assert awaited(ask(service, "wait=0&nodes=50%25")) == ("held", 2, 1)


def test_tag_that_is_not_tracked_yet_is_awaited(service: Web, cluster: SimulatedCluster) -> None:
    cluster.advance(60)
    answer = ask(service, "wait=0", NEWER)
    assert (answer.status_code, awaited(answer)) == (408, ("pending", 0, 0))
    assert answer.get_json()["images"] == []
    assert service.client.get(f"/status/{NEWER}").status_code == 404


def test_answer_is_409_if_the_image_will_not_come(service: Web) -> None:
    answer = ask(service, "wait=60", "quay.io/org/other:1")
    assert (answer.status_code, awaited(answer)) == (409, ("impossible", 0, 0))
    (found,) = answer.get_json()["awaited"]
    assert found["reason"] == "no group has an entry of quay.io/org/other"


def test_answer_is_404_for_what_is_no_image(service: Web) -> None:
    assert ask(service, "wait=60", "No Image").status_code == 404


def test_malformed_query_is_answered_400_with_the_reason(service: Web) -> None:
    answer = ask(service, "wait=600")
    assert (answer.status_code, answer.text) == (
        400,
        "wait: must be a whole number from 0 to 60, not '600'\n",
    )
    for path in ("/status", f"/status/{APP}"):
        answer = service.client.get(f"{path}?selector=a%20b")
        assert (answer.status_code, answer.text[:36]) == (
            400,
            "'a b' is not a label selector; write",
        )


def test_query_of_a_reader_without_the_secret_is_not_read(web: MakeWeb) -> None:
    assert ask(web(), "wait=600").status_code == 401


def test_browser_gets_the_page_at_once(service: Web) -> None:
    answer = service.client.get(f"/status/{APP}?wait=60", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.mimetype) == (200, "text/html")


def test_selector_leaves_only_its_nodes(service: Web, cluster: SimulatedCluster) -> None:
    cluster.advance(60)
    found = service.client.get(f"/status?selector={FIRST}").get_json()
    assert (list(found["nodes"]), found["images"][0]["held"]) == (["node-1"], 1)
    assert list(ask(service, f"selector={FIRST}").get_json()["nodes"]) == ["node-1"]
    assert awaited(ask(service, f"selector={FIRST}&wait=0")) == ("held", 1, 1)
    assert ask(service, "selector=pool%3Dgpu&wait=0").status_code == 408


def test_selector_needs_the_labels_of_nodes(service: Web, cluster: SimulatedCluster) -> None:
    cluster.fail(method="GET", path="/nodes", status=403)
    answer = service.client.get("/status?selector=pool")
    assert (answer.status_code, answer.text[:24]) == (400, "no selector can be used,")


# The request waits


class Keeper:
    """Keeps requests as the server does, and notes for how long."""

    def __init__(self, *, keeps: bool = True) -> None:
        self._keeps = keeps
        self.kept: list[tuple[float, float]] = []

    def __call__(self, seconds: float, again_in: float) -> bool:
        self.kept.append((seconds, again_in))
        return self._keeps


def test_pending_request_is_kept_until_there_is_news(service: Web, clock: ManualClock) -> None:
    keep = Keeper()
    with parking.allowed(keep):
        for query, image in (("wait=30", APP), ("wait=60", NEWER)):
            with pytest.raises(parking.Parked):
                ask(service, query, image)
    assert keep.kept == [(30, 1.0), (60, 1.0)]


def test_only_a_pending_request_is_kept(service: Web, cluster: SimulatedCluster) -> None:
    keep = Keeper()
    with parking.allowed(keep):
        assert ask(service, "wait=0").status_code == 408
        assert ask(service, "wait=60", "quay.io/org/other").status_code == 409
    assert keep.kept == []


def test_request_that_may_not_be_kept_is_answered(service: Web) -> None:
    keep = Keeper(keeps=False)
    with parking.allowed(keep):
        assert ask(service, "wait=60").status_code == 408
    assert len(keep.kept) == 1


def test_request_that_finds_no_place_is_answered_503(service: Web) -> None:
    def refuse(seconds: float, again_in: float) -> bool:
        raise OverloadedError("16 requests wait for images already", reason="too_many_waits")

    with parking.allowed(refuse):
        answer = ask(service, "wait=60")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_requests_that_wait_share_one_read_a_second(
    service: Web, cluster: SimulatedCluster, clock: ManualClock
) -> None:
    service.stop()
    cluster.requests.clear()

    def reads() -> int:
        return sum(each.path.endswith("/pods") for each in cluster.requests)

    for _ in range(5):
        ask(service, "wait=0")
    assert reads() == 1
    clock.advance(1)
    for selector in ("", f"&selector={FIRST}"):
        ask(service, f"wait=0{selector}")
    assert reads() == 2


def test_real_server_answers_once_the_nodes_hold_the_image(
    cluster: SimulatedCluster, tmp_path: Path
) -> None:
    environ = {
        "IMAGES": f"app={APP}",
        "KUBECONFIG": str(kubeconfig(cluster, tmp_path)),
        "READ_AUTH": "none",
        "WEBHOOK_SECRETS_DIR": str(tmp_path),
        "ASK_REGISTRIES": "false",
    }
    answers: list[int] = []
    with running(tmp_path, **environ) as (_, url):
        wait_until(lambda: exists(cluster))

        def ask() -> None:
            answer = requests.get(f"{url}/status/app?wait=60", timeout=TIMEOUT_SECONDS)
            answers.append(answer.status_code)

        waiting = threading.Thread(target=ask)
        waiting.start()
        assert requests.get(f"{url}/status/app?wait=1", timeout=10).status_code == 408
        assert answers == []
        cluster.advance(60)
        waiting.join(TIMEOUT_SECONDS)
    assert answers == [200]
