"""The startup taint: nodes keep it until they hold their images, and lose it then."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from image_puller import limits
from image_puller.controller.metrics import Metrics
from image_puller.controller.startup_release import StartupRelease
from image_puller.core.observation import observe
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.clock import SimulatedClock
from image_puller.simulation.resources import NODES
from image_puller.simulation.store import Key
from tests.support.building import configuration
from tests.support.clock import ManualClock
from tests.support.daemonset import APP, AT_ONCE, BOTH, NEWER, OTHER
from tests.support.installation import NAME, NAMESPACE, Installation, Json
from tests.support.observations import observed
from tests.support.states import live
from tests.support.waiting import wait_until
from tests.support.web import Web

MakeWeb = Callable[..., Web]
AN_HOUR = 3600.0
PULL_SECONDS = 20.0
TAINT = {"key": "image-puller.io/startup", "effect": "NoSchedule"}
KEY = "image-puller.io/startup:NoSchedule"
OTHER_TAINT = {"key": "dedicated", "value": "ci", "effect": "NoSchedule"}
CUDA = "quay.io/org/cuda:12.4.1"
GROUPS = {"gpu": {"images": {"cuda": CUDA}, "nodeSelector": {"gpu": "yes"}}}
WITH_TAINT = {"NODE_STARTUP_TAINT": KEY, "READ_AUTH": "none", "HOLD_BY": "containers"} | AT_ONCE
RELEASES = "image_puller_node_startup_releases_total"


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Return a cluster, an hour old, whose clock begins with that of the service."""
    clock = SimulatedClock(ManualClock().now().timestamp() - AN_HOUR)
    with SimulatedCluster(nodes=2, namespaces=(NAMESPACE,), clock=clock) as cluster:
        cluster.advance(AN_HOUR)
        for image in (APP, OTHER, CUDA):
            cluster.pull_seconds[image] = PULL_SECONDS
        yield cluster


@dataclass
class Run:
    """A cluster, and services at it, for which time passes together."""

    web: MakeWeb
    cluster: SimulatedCluster
    clock: ManualClock
    services: list[Web] = field(default_factory=list)

    def start(self, *, seconds: float = 60, **variables: str) -> Web:
        """Start a service, and let time pass until the nodes hold everything."""
        service = self.web(**WITH_TAINT | {"IMAGES": BOTH} | variables)
        wait_until(lambda: watches(self.cluster) > len(self.services))
        self.services.append(service)
        self.pass_time(service, seconds)
        return service

    def stop(self, service: Web) -> None:
        """Stop a service."""
        service.stop()
        self.services.remove(service)

    def pass_time(self, service: Web, seconds: float, step: float = 2) -> None:
        """Let time pass. No node may lose the taint before it holds everything."""
        for _ in range(int(seconds / step)):
            self.cluster.advance(step)
            self.clock.advance(step)
            self.wait_until_idle(service)

    def wait_until_idle(self, service: Web) -> None:
        """Wait until nothing is due."""
        schedules = [group._schedule for group in service.service._groups]
        startup = service.service._startup

        def is_idle() -> bool:
            for each in schedules:
                due = each._next_due()
                if due is None or due <= self.clock.monotonic():
                    return False
            return all(self.clock.waits(each._wakes) for each in schedules) and (
                startup is None or (self.clock.waits(startup._wakes) and not startup._is_new)
            )

        wait_until(is_idle)

    def join(
        self, name: str, *, labels: Mapping[str, str] | None = None, taints: Sequence[Json] = ()
    ) -> None:
        """Let a node join, and wait until the services that run have noticed it."""
        noticed = [count_joins(service) for service in self.services]
        self.cluster.join(name, labels=labels, taints=taints)
        wait_until(
            lambda: all(
                count_joins(service) > before
                for service, before in zip(self.services, noticed, strict=True)
            )
        )

    def taints(self, name: str) -> list[Json]:
        """Return the taints of a node."""
        found = [each for each in self.cluster.nodes() if each["metadata"]["name"] == name]
        taints: list[Json] = found[0]["spec"].get("taints", [])
        return taints

    def edit(self, name: str, taints: list[Json]) -> None:
        """Set the taints of a node as another client."""
        store = self.cluster._api.store
        with store.changed:
            key = Key(NODES, "", name)
            node = store.get(key)
            store.replace(key, {**node, "spec": {**node["spec"], "taints": taints}})

    def held(self, name: str) -> set[str]:
        """Return the images that containers run on a node."""
        return {
            container["image"]
            for pod in self.cluster.pods()
            if pod["spec"].get("nodeName") == name
            for container in pod["spec"]["containers"]
            for status in pod["status"].get("containerStatuses", ())
            if status["name"] == container["name"] and "running" in status["state"]
        }

    def patches(self) -> int:
        """Return how many requests tried to change a node."""
        return sum(
            request.method == "PATCH" and "/nodes/" in request.path
            for request in self.cluster.requests
        )

    def watch_patches(self, name: str) -> list[set[str]]:
        """Return a list that gets what the node holds at each request that changes it."""
        found: list[set[str]] = []
        path = f"/api/v1/nodes/{name}"
        self.cluster.before("PATCH", lambda: found.append(self.held(name)), path=path, times=1000)
        return found


@pytest.fixture
def run(web: MakeWeb, cluster: SimulatedCluster, clock: ManualClock) -> Run:
    """Return a run without a service."""
    return Run(web=web, cluster=cluster, clock=clock)


def metrics(service: Web) -> str:
    text: str = service.client.get("/metrics").text
    return text


def value(service: Web, series: str) -> int:
    """Return the value of a series, or 0."""
    lines = [line for line in metrics(service).splitlines() if line.startswith(f"{series} ")]
    return int(float(lines[0].rpartition(" ")[2])) if lines else 0


def count(service: Web, reason: str) -> int:
    """Return how many nodes lost the taint for a reason."""
    return value(service, f'{RELEASES}{{reason="{reason}"}}')


def count_joins(service: Web) -> int:
    """Return how many nodes that joined a service has noticed."""
    text = service.service.metrics.text().decode()
    start = 'image_puller_events_total{outcome="checked",source="nodes"} '
    lines = [line for line in text.splitlines() if line.startswith(start)]
    return int(float(lines[0].removeprefix(start))) if lines else 0


def watches(cluster: SimulatedCluster) -> int:
    """Return how many services watch nodes."""
    return sum(
        request.path == "/api/v1/nodes" and request.query.get("watch") == "true"
        for request in cluster.requests
    )


def test_a_node_loses_the_taint_when_it_holds_the_last_image_and_not_before(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service = run.start()
    held = run.watch_patches("late")
    run.join("late", taints=[TAINT])
    run.pass_time(service, PULL_SECONDS + 10)
    assert run.held("late") >= {APP}
    assert run.taints("late") == [TAINT]
    run.pass_time(service, PULL_SECONDS + 10)
    assert run.taints("late") == []
    assert [{APP, OTHER} <= each for each in held] == [True]
    assert count(service, "warm") == 1
    lines = [line for line in caplog.messages if line.startswith("node late: taint")]
    assert len(lines) == 1
    assert "s after it joined: it holds all 2 images" in lines[0]


def test_images_that_volumes_hold_are_awaited_too(run: Run) -> None:
    service = run.start(HOLD_BY="volumes")
    has: list[bool] = []

    def note() -> None:
        has.append({APP, OTHER} <= run.cluster.images_on("late").keys())

    run.cluster.before("PATCH", note, path="/api/v1/nodes/late", times=10)
    run.join("late", taints=[TAINT])
    run.pass_time(service, PULL_SECONDS + 10)
    assert run.taints("late") == [TAINT]
    run.pass_time(service, PULL_SECONDS + 10)
    assert run.taints("late") == []
    assert has == [True]


def test_with_seeds_a_first_node_waits_for_the_images_that_come_after_its_pod(run: Run) -> None:
    for node in ("node-1", "node-2"):
        run.cluster.leave(node)
    service = run.start(ROLLOUT_SEED_NODES="1")
    held = run.watch_patches("late")
    run.join("late", taints=[TAINT])
    run.pass_time(service, 150)
    assert run.taints("late") == []
    assert [{APP, OTHER} <= each for each in held] == [True]


def test_an_image_that_is_quarantined_holds_no_node_back(run: Run) -> None:
    service = run.start(IMAGES=f"app={APP}", NODE_STARTUP_TIMEOUT_SECONDS="0")
    service.secret("quay", "s3cret")
    run.cluster.unpullable[NEWER] = "manifest unknown: not found"
    push = {"docker_url": "quay.io/org/app", "updated_tags": ["1.2.4"]}
    assert service.client.post("/webhooks/quay/s3cret", json=push).status_code == 202
    run.join("late", taints=[TAINT])
    run.pass_time(service, 100)
    assert run.taints("late") == [TAINT]
    run.pass_time(service, limits.QUARANTINE_SECONDS + 100)
    assert run.taints("late") == []
    assert run.held("late") >= {APP}


def test_on_knative_events_wake_the_service(run: Run) -> None:
    first = run.web(**WITH_TAINT | {"IMAGES": BOTH, "K_SERVICE": NAME, "EVENT_AUTH": "none"})
    run.pass_time(first, 60)
    first.stop()
    run.cluster.join("late", taints=[TAINT])
    run.cluster.advance(60)
    run.clock.advance(60)
    woken = run.web(
        first_check=False, **WITH_TAINT | {"IMAGES": BOTH, "K_SERVICE": NAME, "EVENT_AUTH": "none"}
    )
    event = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "https://10.0.0.1:443",
        "ce-type": "dev.knative.apiserver.ref.update",
        "ce-apiversion": "apps/v1",
        "ce-kind": "DaemonSet",
        "ce-name": NAME,
    }
    answer = woken.client.post("/", headers=event, json={"kind": "DaemonSet"})
    assert answer.status_code == 202
    wait_until(lambda: run.taints("late") == [])


def test_the_pods_tolerate_the_taint_by_themselves(run: Run) -> None:
    service = run.start(TOLERATIONS=json.dumps([{"key": "dedicated", "operator": "Exists"}]))
    template = Installation(run.cluster).template()
    own = {"key": TAINT["key"], "operator": "Exists", "effect": "NoSchedule"}
    assert template["spec"]["tolerations"] == [{"key": "dedicated", "operator": "Exists"}, own]
    run.join("late", taints=[OTHER_TAINT, TAINT])
    run.pass_time(service, 60)
    assert run.taints("late") == [OTHER_TAINT]


def test_two_nodes_at_once_lose_the_taint_each_by_itself(run: Run) -> None:
    service = run.start()
    run.join("one", taints=[TAINT])
    run.pass_time(service, 30)
    run.join("two", taints=[TAINT])
    run.pass_time(service, 20)
    assert run.taints("one") == []
    assert run.taints("two") == [TAINT]
    run.pass_time(service, 60)
    assert run.taints("two") == []
    assert count(service, "warm") == 2
    assert run.patches() == 2


def test_a_taint_with_another_value_is_left_as_it_is(run: Run) -> None:
    key = "image-puller.io/startup=pool-a:NoSchedule"
    service = run.start(NODE_STARTUP_TAINT=key)
    mine, other = {**TAINT, "value": "pool-a"}, {**TAINT, "value": "pool-b"}
    run.join("mine", taints=[mine])
    run.join("other", taints=[other])
    run.pass_time(service, 80)
    assert run.taints("mine") == []
    assert run.taints("other") == [other]


def test_taints_that_somebody_changes_meanwhile_are_not_lost(run: Run) -> None:
    service = run.start()
    run.join("late", taints=[TAINT])
    path = "/api/v1/nodes/late"
    run.cluster.before("PATCH", lambda: run.edit("late", [OTHER_TAINT, TAINT]), path=path)
    run.pass_time(service, 80)
    assert run.taints("late") == [OTHER_TAINT]
    assert run.patches() == 2
    assert count(service, "warm") == 1


def test_a_taint_that_somebody_else_removes_is_not_counted(run: Run) -> None:
    service = run.start()
    run.join("late", taints=[TAINT])
    run.cluster.before("PATCH", lambda: run.edit("late", []), path="/api/v1/nodes/late")
    run.pass_time(service, 80)
    assert run.taints("late") == []
    assert count(service, "warm") == 0


def test_a_node_that_leaves_before_its_taint_is_removed_is_forgotten(run: Run) -> None:
    service = run.start()
    run.join("late", taints=[TAINT])
    run.cluster.before("PATCH", lambda: run.cluster.leave("late"), path="/api/v1/nodes/late")
    run.pass_time(service, 80)
    assert count(service, "warm") == 0
    assert run.patches() == 1


def test_after_the_timeout_a_node_loses_the_taint_without_its_images(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    service = run.start(NODE_STARTUP_TIMEOUT_SECONDS="100")
    run.cluster.unpullable[OTHER] = "dial tcp 10.0.0.1:443: i/o timeout"
    run.join("late", taints=[TAINT])
    run.pass_time(service, 96)
    assert run.taints("late") == [TAINT]
    run.pass_time(service, limits.STARTUP_RECHECK_SECONDS + 4)
    assert run.taints("late") == []
    assert count(service, "timeout") == 1
    (line,) = [line for line in caplog.messages if "without all images" in line]
    assert "1 of 2 images are not held" in line
    assert "i/o timeout" in line
    assert ("NodeStartupTimeout", line) in Installation(run.cluster).reports()


def test_without_a_daemonset_a_node_loses_the_taint_after_the_timeout(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run.cluster.deny(lambda _daemonset: True, "no DaemonSets here", status=403)
    service = run.web(first_check=False, **WITH_TAINT | {"NODE_STARTUP_TIMEOUT_SECONDS": "100"})
    run.cluster.join("late", taints=[TAINT])
    run.pass_time(service, 90)
    assert run.taints("late") == [TAINT]
    assert not [line for line in caplog.messages if "may not list nodes" in line]
    run.pass_time(service, 40)
    assert run.taints("late") == []
    assert f"DaemonSet {NAME} does not exist" in caplog.text


def test_without_a_timeout_a_node_keeps_the_taint_while_an_image_is_missing(run: Run) -> None:
    service = run.start(NODE_STARTUP_TIMEOUT_SECONDS="0")
    run.cluster.unpullable[OTHER] = "not found"
    run.join("late", taints=[TAINT])
    run.pass_time(service, 3000, step=20)
    assert run.taints("late") == [TAINT]


def test_a_group_without_its_images_keeps_the_taint(run: Run) -> None:
    run.join("gpu-1", labels={"gpu": "yes"})
    service = run.start(IMAGE_GROUPS=json.dumps(GROUPS))
    run.cluster.pull_seconds[CUDA] = 100
    run.join("late", labels={"gpu": "yes"}, taints=[TAINT])
    run.join("other", taints=[TAINT])
    held = run.watch_patches("late")
    run.pass_time(service, 80)
    assert {APP, OTHER} <= run.held("late")
    assert run.taints("late") == [TAINT]
    assert run.taints("other") == []
    run.pass_time(service, 60)
    assert run.taints("late") == []
    assert [{APP, OTHER, CUDA} <= each for each in held] == [True]


def test_a_node_for_which_there_is_no_image_loses_the_taint_at_once(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service = run.start(NODE_SELECTOR='{"pool": "ci"}')
    run.join("other", taints=[TAINT])
    run.pass_time(service, 20)
    assert run.taints("other") == []
    assert any(line.endswith("joined: no image is for it") for line in caplog.messages)


def test_a_node_that_the_pods_never_come_to_is_not_waited_for(run: Run) -> None:
    service = run.start()
    run.join("other", taints=[OTHER_TAINT, TAINT])
    run.pass_time(service, 20)
    assert run.taints("other") == [OTHER_TAINT]


def test_a_node_with_a_temporary_taint_of_others_waits(run: Run) -> None:
    service = run.start()
    cilium = {"key": "node.cilium.io/agent-not-ready", "value": "true", "effect": "NoSchedule"}
    run.join("late", taints=[cilium, TAINT])
    run.pass_time(service, 60)
    assert run.taints("late") == [cilium, TAINT]
    run.edit("late", [TAINT])
    run.pass_time(service, 80)
    assert run.taints("late") == []
    assert run.held("late") >= {APP, OTHER}


def test_a_node_that_joined_while_the_service_was_down_waits_for_its_images_too(run: Run) -> None:
    service = run.start()
    run.stop(service)
    run.join("late", taints=[TAINT])
    run.cluster.advance(30)
    run.clock.advance(30)
    assert run.taints("late") == [TAINT]
    held = run.watch_patches("late")
    run.start(seconds=40)
    assert run.taints("late") == []
    assert [{APP, OTHER} <= each for each in held] == [True]


def test_a_new_installation_waits_for_nodes_that_are_older_than_it(run: Run) -> None:
    run.cluster.join("old", taints=[TAINT])
    run.cluster.advance(AN_HOUR)
    run.clock.advance(AN_HOUR)
    held = run.watch_patches("old")
    service = run.start()
    run.pass_time(service, 20)
    assert run.taints("old") == []
    assert [{APP, OTHER} <= each for each in held] == [True]


def test_a_process_that_is_not_in_charge_leaves_the_taint(run: Run) -> None:
    older = run.start()
    run.start(IMAGES=f"app={APP}", NODE_STARTUP_TAINT="another/taint:NoSchedule")
    run.cluster.join("late", taints=[TAINT])
    run.pass_time(older, 2 * limits.CHECK_INTERVAL_SECONDS, step=20)
    assert older.service.unready() is not None
    assert run.taints("late") == [TAINT]
    assert run.patches() == 0


def test_two_processes_of_one_configuration_count_a_node_once(run: Run) -> None:
    one = run.start()
    two = run.start()
    run.join("late", taints=[TAINT])
    run.pass_time(one, 80)
    run.wait_until_idle(two)
    assert run.taints("late") == []
    assert count(one, "warm") + count(two, "warm") == 1


def test_a_service_that_may_not_change_nodes_says_so_once(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    service = run.start()
    run.cluster.forbid("patch", "nodes")
    run.join("one", taints=[TAINT])
    run.join("two", taints=[TAINT])
    run.pass_time(service, 100)
    assert run.taints("one") == [TAINT]
    (line,) = [line for line in caplog.messages if "verb patch on nodes" in line]
    assert "startup-taint/nodes.yaml" in line
    run.cluster._routes.access.forbidden.clear()
    run.pass_time(service, 20)
    assert run.taints("one") == run.taints("two") == []


def test_a_service_that_may_not_list_nodes_says_so_once(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run.cluster.forbid("list", "nodes")
    service = run.web(**WITH_TAINT)
    run.pass_time(service, 60)
    (line,) = [line for line in caplog.messages if "no node loses the taint" in line]
    assert "startup-taint/nodes.yaml" in line


def test_an_api_server_that_fails_delays_the_release(run: Run) -> None:
    service = run.start()
    run.cluster.fail(method="PATCH", path="/api/v1/nodes/", times=2)
    run.join("late", taints=[TAINT])
    run.pass_time(service, 100)
    assert run.taints("late") == []


def test_no_error_ends_the_thread(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    service = run.start()
    startup = service.service._startup
    assert startup is not None
    release, errors = startup._release, [ValueError("unexpected")]

    def fails_once(name: str, uid: str, index: int, taint: Mapping[str, str]) -> bool:
        if errors:
            raise errors.pop()
        return release(name, uid, index, dict(taint))

    monkeypatch.setattr(startup, "_release", fails_once)
    run.join("late", taints=[TAINT])
    run.pass_time(service, 100)
    assert run.taints("late") == []


def test_the_time_until_a_node_is_warm_is_in_a_histogram(run: Run) -> None:
    service = run.start()
    run.join("late", taints=[TAINT])
    run.pass_time(service, 80)
    assert 'image_puller_node_warm_seconds_count{group=""} 1.0' in metrics(service)
    assert 'image_puller_node_warm_seconds_bucket{group="",le="30.0"} 0.0' in metrics(service)
    assert 'image_puller_node_warm_seconds_bucket{group="",le="60.0"} 1.0' in metrics(service)


def test_without_the_variable_no_node_is_changed(run: Run) -> None:
    service = run.start(NODE_STARTUP_TAINT="")
    run.join("late", taints=[TAINT])
    run.pass_time(service, 60)
    assert run.taints("late") == [TAINT]
    assert run.patches() == 0
    assert "tolerations" not in Installation(run.cluster).template()["spec"]


# The part of the process, with observations that a test makes


@dataclass
class Part:
    """A `StartupRelease` of two groups, which notes in `released` what it would remove."""

    clock: ManualClock
    released: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        variables = {"IMAGES": BOTH, "IMAGE_GROUPS": json.dumps({"gpu": {"images": f"c={CUDA}"}})}
        self.config = configuration(NODE_STARTUP_TAINT=KEY, **variables)
        assert self.config.node_startup_taint is not None
        self.part = StartupRelease(
            self.config,
            self.config.node_startup_taint,
            self._release,
            lambda reason, message, *, is_warning=True: None,
            Metrics(),
            self.clock,
        )
        self.part.start()

    def _release(self, name: str, uid: str, index: int, taint: Json) -> bool:
        self.released.append(name)
        return True

    def note(self, number: int) -> None:
        """Note an observation of a group in which a node with the taint holds everything."""
        config = self.config.all_groups[number]
        found = observed(config, live(config), ("late",))
        nodes = [replace(each, uid="uid", taints=(TAINT,)) for each in found.live.nodes or ()]
        self.part.note(config.group, observe(config, replace(found.live, nodes=nodes)))
        wait_until(lambda: not self.part._is_new and self.clock.waits(self.part._wakes))

    def supersede(self, number: int) -> None:
        """Let another process be in charge of a group."""
        self.part.note(self.config.all_groups[number].group, None)


@pytest.fixture
def part(clock: ManualClock) -> Iterator[Part]:
    """Return the part of a process."""
    part = Part(clock)
    yield part
    part.part.stop()


def test_a_node_is_released_only_after_all_groups_were_observed(part: Part) -> None:
    part.note(0)
    assert part.released == []
    part.note(1)
    assert part.released == ["late"]


def test_an_old_observation_of_another_group_does_not_count(part: Part) -> None:
    part.note(0)
    part.clock.advance(limits.STARTUP_OBSERVATION_SECONDS + 1)
    part.note(1)
    assert part.released == []
    part.note(0)
    assert part.released == ["late"]


def test_no_node_is_released_while_another_process_is_in_charge_of_a_group(part: Part) -> None:
    part.supersede(1)
    part.clock.advance(6000)
    part.note(0)
    assert part.released == []
    part.note(1)
    assert part.released == ["late"]


def test_a_node_that_was_released_is_left_alone_for_a_while(part: Part) -> None:
    part.note(0)
    part.note(1)
    part.note(0)
    assert part.released == ["late"]
    part.clock.advance(limits.STARTUP_AGAIN_SECONDS + 1)
    part.note(1)
    assert part.released == ["late", "late"]


def test_a_process_that_stops_releases_no_other_node(part: Part) -> None:
    part.note(0)
    part.part.stop()
    config = part.config.all_groups[1]
    part.part.note(config.group, observed(config, live(config), ("late",)))
    assert part.released == []


def test_off_knative_a_pod_that_gets_ready_is_noticed_at_once(run: Run) -> None:
    service = run.start()
    run.join("late", taints=[TAINT])
    run.pass_time(service, 32)
    (group,) = service.service._groups
    next_check = group._schedule._rollout.due
    assert next_check is not None
    assert next_check > run.clock.monotonic() + 4 * limits.PROGRESS_SECONDS
    run.cluster.settle()
    assert run.held("late") >= {APP, OTHER}

    def is_released() -> bool:
        if run.clock.monotonic() + limits.PROGRESS_SECONDS < next_check:
            run.clock.advance(limits.PROGRESS_SECONDS / 10)
        time.sleep(0.01)  # the watch is a thread of its own
        return run.taints("late") == []

    wait_until(is_released)
