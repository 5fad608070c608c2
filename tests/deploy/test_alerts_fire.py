"""Each alert fires by the state that it is about, and no other alert does.

The service runs at a simulated cluster, and gets into that state. It is scraped for 40 minutes of
simulated time, and promtool says which alerts fire then.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import responses

from image_puller.simulation import SimulatedCluster
from tests.support.building import digest
from tests.support.clock import ManualClock
from tests.support.daemonset import (
    APP,
    AT_ONCE,
    NEWER,
    OTHER,
    refuse_new_templates,
    refuse_pods,
    start_pod,
)
from tests.support.installation import Installation
from tests.support.prometheus import Prometheus
from tests.support.promtool import rules
from tests.support.web import Web

MakeWeb = Callable[..., Web]

READ = AT_ONCE | {"READ_AUTH": "none"}


@pytest.fixture
def prometheus(tmp_path: Path, cluster: SimulatedCluster, clock: ManualClock) -> Prometheus:
    """Return a Prometheus that scrapes services of that cluster."""
    return Prometheus(tmp_path, cluster, clock)


@pytest.fixture
def quay() -> Iterator[responses.RequestsMock]:
    """Simulate quay.io, which has the configured image and no other one."""

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        if request.path_url.startswith("/v2/org/app/tags/list"):
            return 200, {}, '{"tags": ["1.2.3"]}'
        if request.path_url == "/v2/org/app/manifests/1.2.3":
            return 200, {"Docker-Content-Digest": digest(1)}, ""
        return 404, {}, ""

    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        for method in ("GET", "HEAD"):
            mock.add_callback(method, re.compile(r"https://quay\.io/v2/.*"), answer)
        yield mock


def push(service: Web, tag: str = "1.2.4", secret: str = "t") -> int:
    """Report a push as quay does, and return the status of the answer."""
    payload = {"docker_url": "quay.io/org/app", "updated_tags": [tag]}
    return service.client.post(f"/webhooks/quay/{secret}", json=payload).status_code


def started(web: MakeWeb, cluster: SimulatedCluster, **variables: str) -> Web:
    """Start a service, and let all nodes get its images."""
    service = web(**READ | variables)
    service.secret("quay", "t")
    cluster.settle()
    return service


def test_nothing_fires_while_all_is_well(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    service, other = (started(web, cluster) for _ in range(2))
    assert push(service) == 202
    assert prometheus.watch(service, other) == set()


def pull_fails_on_a_node(cluster: SimulatedCluster) -> None:
    cluster.unpullable_on("node-2")[APP] = "not found"


def pull_hangs(cluster: SimulatedCluster) -> None:
    cluster.pull_seconds[APP] = 1e9


def container_does_not_run(cluster: SimulatedCluster) -> None:
    cluster.crashing[APP] = ("OOMKilled", 137)


def node_has_no_room(cluster: SimulatedCluster) -> None:
    cluster.fill("node-2")


def pods_are_refused(cluster: SimulatedCluster) -> None:
    refuse_pods(cluster, "exceeded quota: pods")


@pytest.mark.parametrize(
    "fault",
    [
        pull_fails_on_a_node,
        pull_hangs,
        container_does_not_run,
        node_has_no_room,
        pods_are_refused,
    ],
)
def test_an_image_is_missing(
    web: MakeWeb,
    cluster: SimulatedCluster,
    prometheus: Prometheus,
    fault: Callable[[SimulatedCluster], None],
) -> None:
    fault(cluster)
    service = started(web, cluster, HOLD_BY="containers")
    assert prometheus.watch(service) == {"ImagePullerImageMissing"}


def test_a_rollout_is_stuck(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    service = started(web, cluster, ROLLOUT_MAX_UNAVAILABLE="1")
    cluster.kill("node-1")
    assert push(service) == 202
    assert prometheus.watch(service) == {"ImagePullerRolloutStuck"}


def test_the_sleep_image_fails(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    cluster.unpullable["registry.example.com/sleep:1"] = "not found"
    service = started(web, cluster, KIP_IMAGE="registry.example.com/sleep:1")
    assert prometheus.watch(service) == {"ImagePullerRolloutStuck"}


def test_a_rollout_is_blocked(
    web: MakeWeb,
    cluster: SimulatedCluster,
    installation: Installation,
    prometheus: Prometheus,
) -> None:
    service = started(web, cluster)
    refuse_new_templates(cluster, installation.live())
    service.stop()
    changed = web(**READ, CACHING_MEMORY_LIMIT="30Mi")
    assert prometheus.watch(changed) == {"ImagePullerRolloutBlocked"}


def test_a_tag_is_quarantined(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    service = started(web, cluster)
    cluster.unpullable[NEWER] = "manifest unknown"
    assert push(service) == 202
    assert prometheus.watch(service) == {"ImagePullerTagQuarantined"}


def test_a_tag_is_refused(
    web: MakeWeb,
    cluster: SimulatedCluster,
    installation: Installation,
    prometheus: Prometheus,
) -> None:
    service = started(web, cluster)
    installation.refuse("1.2.4")
    assert push(service) == 202
    assert prometheus.watch(service) == {"ImagePullerTagRefused"}


def test_a_push_is_not_verified(
    web: MakeWeb,
    cluster: SimulatedCluster,
    prometheus: Prometheus,
    quay: responses.RequestsMock,
) -> None:
    service = started(web, cluster, ASK_REGISTRIES="true", VERIFY_PUSHES="true")
    assert push(service) == 202
    assert prometheus.watch(service) == {"ImagePullerPushNotVerified"}


def test_webhooks_are_rejected(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    service = started(web, cluster)
    assert {push(service, secret="wrong") for _ in range(3)} == {401}
    assert prometheus.watch(service) == {"ImagePullerWebhookRejected"}


def test_a_payload_can_not_be_read(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    service = started(web, cluster)
    assert service.client.post("/webhooks/quay/t", data=b"{").status_code == 202
    assert prometheus.watch(service) == {"ImagePullerPayloadUnreadable"}


def test_senders_are_answered_503(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    service = started(web, cluster)
    (service.secrets / "quay").unlink()
    service.secrets.rmdir()
    service.secrets.write_text("no folder")
    for _ in range(10):
        assert {push(service) for _ in range(3)} == {503}
        prometheus.scrape({"pod-0": service})
        prometheus.advance(service)
    assert prometheus.firing() == {"ImagePullerUnavailable"}


def test_a_registry_can_not_be_reached(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    with responses.RequestsMock(assert_all_requests_are_fired=False):
        service = started(web, cluster, ASK_REGISTRIES="true")
        assert prometheus.watch(service) == {"ImagePullerRegistryUnreachable"}


def test_the_api_server_can_not_be_reached(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    service = started(web, cluster)
    cluster.fail(times=1_000_000)
    assert prometheus.watch(service) == {"ImagePullerApiServerUnreachable"}


def test_checks_can_not_be_finished(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    service = started(web, cluster)
    cluster.fail(method="PATCH", times=1_000_000, status=500)
    assert prometheus.watch(service) == {"ImagePullerChecksStale"}


def test_a_process_is_not_in_charge(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    start_pod(cluster, "old-1")
    start_pod(cluster, "new-1")
    old = started(web, cluster, host="old-1")
    new = started(web, cluster, host="new-1", IMAGES=f"app={APP};other={OTHER}")
    assert prometheus.watch(old, new) == {"ImagePullerNotInCharge"}


def test_a_part_of_the_configuration_is_ignored(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    service = started(web, cluster, IMAGES=f"app={APP};bad")
    assert prometheus.watch(service) == {"ImagePullerConfigurationIgnored"}


def test_there_is_another_problem(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    cluster.drop_image_volumes()
    service = started(web, cluster, HOLD_BY="volumes")
    assert prometheus.watch(service) == {"ImagePullerProblem"}


def test_no_process_answers(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    service = started(web, cluster)
    prometheus.scrape({"pod-0": service})
    service.stop()
    for _ in range(4):
        prometheus.scrape({"pod-0": None})
    assert prometheus.firing() == {"ImagePullerDown"}


def test_while_knative_has_scaled_to_zero_only_the_alert_fires_that_the_chart_leaves_out(
    web: MakeWeb, cluster: SimulatedCluster, prometheus: Prometheus
) -> None:
    service = started(web, cluster, K_SERVICE="kubernetes-image-puller")
    assert prometheus.watch(service, minutes=5) == set()
    service.stop()
    for _ in range(12):
        prometheus.scrape({})
    assert prometheus.firing() == {"ImagePullerDown"}


def test_each_alert_has_a_test_here() -> None:
    fired = re.findall(r'== \{"(\w+)"\}', Path(__file__).read_text("utf-8"))
    assert set(fired) == set(rules())
