"""The events for the sink: their types, identities, and data, which meet the published schemas."""

import json
from pathlib import Path
from typing import Any

import pytest

from image_puller.core import outgoing
from image_puller.core.health import Degraded, HealthChange, Restored
from image_puller.core.outgoing import OutgoingEvent
from image_puller.core.problems import Kind, Problem
from image_puller.core.progress import (
    ImageFailing,
    ImageRecovered,
    NewImage,
    NodeWarm,
    Notice,
    OnAllNodes,
    RolloutComplete,
    RolloutStarted,
)
from tests.support.building import NOON, configuration, digest
from tests.support.json_schema import is_valid

SCHEMAS = Path(__file__).parents[2] / "docs" / "events"
CONFIG = configuration()
APP = "quay.io/org/app:1.2.4"
CHANGED = (
    NewImage(entry="app", image=APP, digest=digest(1)),
    NewImage(entry="web", image="nginx", digest=None),
)
IMAGE = {"entry": "app", "image": APP}
IMAGES = [
    {"entry": "app", "image": APP, "digest": digest(1)},
    {"entry": "web", "image": "nginx", "digest": None},
]
FULL = Problem(kind=Kind.PODS_NOT_SCHEDULED, key="full", message="1 of 3 nodes is full")

NOTICES: list[tuple[Notice, str, str, dict[str, Any]]] = [
    (
        RolloutStarted(key="k", group=None, template="t", changed=CHANGED, nodes=3),
        "rollout.started",
        "kubernetes-image-puller",
        {"template": "t", "images": IMAGES, "nodes": 3},
    ),
    (
        RolloutComplete(
            key="k", group=None, template="t", changed=(), nodes=3, not_ready=1, seconds=2.5
        ),
        "rollout.complete",
        "kubernetes-image-puller",
        {"template": "t", "images": [], "nodes": 3, "notReady": 1, "seconds": 2.5},
    ),
    *(
        (
            OnAllNodes(
                key="k",
                group=None,
                entry="app",
                image=APP,
                digest=digest(1),
                nodes=3,
                seconds=1.5,
                is_since_push=is_since_push,
            ),
            "image.on-all-nodes",
            APP,
            IMAGE | {"digest": digest(1), "nodes": 3, "seconds": 1.5, "since": since},
        )
        for is_since_push, since in ((True, "push"), (False, "rollout"))
    ),
    (
        ImageFailing(key="k", group=None, entry="app", image=APP, nodes=1, reason="ErrImagePull"),
        "image.failing",
        APP,
        IMAGE | {"nodes": 1, "reason": "ErrImagePull"},
    ),
    (
        ImageRecovered(key="k", group=None, entry="app", image=APP, is_desired=False),
        "image.recovered",
        APP,
        IMAGE | {"desired": False},
    ),
    *(
        (
            NodeWarm(key="k", group=None, node="node-1", seconds=seconds),
            "node.warm",
            "node-1",
            {"node": "node-1", "seconds": seconds},
        )
        for seconds in (20.0, None)
    ),
]
CHANGES: list[tuple[HealthChange, str, dict[str, Any]]] = [
    (
        Degraded(since=NOON, problems=(FULL,)),
        "health.degraded",
        {"problems": [{"kind": "PodsNotScheduled", "message": "1 of 3 nodes is full"}]},
    ),
    (Restored(since=NOON, seconds=60.0), "health.restored", {"seconds": 60.0}),
]


def schema_of(event: OutgoingEvent) -> dict[str, Any]:
    """Return the published schema of an event's type."""
    name = event.type.removeprefix(outgoing.PREFIX)
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    return schema


def is_described(event: OutgoingEvent) -> bool:
    """Whether the schema describes all data of an event, and the event has all data of it."""
    schema, data = schema_of(event), json.loads(json.dumps(event.data))
    return (
        schema["title"] == event.type
        and set(schema["required"]) == set(schema["properties"]) == set(data)
        and is_valid(data, schema, schema)
    )


@pytest.mark.parametrize(("notice", "kind", "subject", "data"), NOTICES)
def test_each_notice_is_an_event(
    notice: Notice, kind: str, subject: str, data: dict[str, Any]
) -> None:
    event = outgoing.of_notice(CONFIG, notice)
    assert event == OutgoingEvent(
        id="k",
        type=f"io.image-puller.{kind}",
        source="/apis/apps/v1/namespaces/k8s-image-puller/daemonsets/kubernetes-image-puller",
        subject=subject,
        data={"group": None, "repeated": False} | data,
    )
    assert is_described(event)


@pytest.mark.parametrize(("change", "kind", "data"), CHANGES)
def test_each_change_of_health_is_an_event(
    change: HealthChange, kind: str, data: dict[str, Any]
) -> None:
    event = outgoing.of_health(CONFIG, change)
    assert event == OutgoingEvent(
        id=f"{kind}/2026-01-15T12:00:00Z",
        type=f"io.image-puller.{kind}",
        source="/apis/apps/v1/namespaces/k8s-image-puller/daemonsets/kubernetes-image-puller",
        subject="kubernetes-image-puller",
        data={"group": None, "since": "2026-01-15T12:00:00Z"} | data,
    )
    assert is_described(event)


def test_an_event_names_its_group() -> None:
    config = configuration(NAMESPACE="images", IMAGE_GROUPS='{"gpu": {"images": "cuda=nvcr.io/c"}}')
    (gpu,) = config.groups
    notice = NodeWarm(key="k", group="gpu", node="node-1", seconds=1.0, is_repeated=True)
    event = outgoing.of_notice(gpu, notice)
    assert event.source == "/apis/apps/v1/namespaces/images/daemonsets/kubernetes-image-puller-gpu"
    assert (event.data["group"], event.data["repeated"]) == ("gpu", True)
    assert is_described(event)


def test_each_schema_is_that_of_an_event() -> None:
    sent = {kind for _, kind, *_ in (*NOTICES, *CHANGES)}
    assert {file.name for file in SCHEMAS.iterdir()} == {f"{kind}.schema.json" for kind in sent}


def test_the_page_describes_each_type() -> None:
    page = (SCHEMAS.parent / "events.md").read_text()
    for _, kind, *_ in (*NOTICES, *CHANGES):
        assert f"| [`io.image-puller.{kind}`](events/{kind}.schema.json) |" in page
