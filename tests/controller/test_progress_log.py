"""The log of rollouts: one line for each notice."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from image_puller.controller import progress_log
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
from tests.support.building import digest
from tests.support.daemonset import APP, OTHER

TEMPLATE: dict[str, Any] = {"key": "key", "group": None, "template": "hash"}
IMAGE: dict[str, Any] = {"key": "key", "group": None, "entry": "app", "image": APP}
CHANGED = tuple(NewImage(entry="app", image=image, digest=digest(1)) for image in (APP, OTHER))
ON_ALL: dict[str, Any] = {**IMAGE, "digest": digest(1), "nodes": 100}


@pytest.mark.parametrize(
    ("notice", "line"),
    [
        (
            RolloutStarted(**TEMPLATE, changed=CHANGED, nodes=100),
            f"rollout started: 100 nodes get {APP}; {OTHER}",
        ),
        (
            RolloutStarted(**TEMPLATE, changed=(), nodes=3),
            "rollout started: 3 nodes get no new image",
        ),
        (
            OnAllNodes(**ON_ALL, seconds=30.6, is_since_push=True),
            f"image {APP} of entry app is on all 100 nodes, 31 s after its push",
        ),
        (
            OnAllNodes(**ON_ALL, seconds=30.6, is_since_push=False),
            f"image {APP} of entry app is on all 100 nodes, 31 s after the template changed",
        ),
        (
            ImageFailing(**IMAGE, nodes=2, reason="OOMKilled"),
            f"image {APP} of entry app fails on 2 nodes: OOMKilled; raise CACHING_MEMORY_LIMIT",
        ),
        (
            ImageRecovered(**IMAGE, is_desired=True),
            f"image {APP} of entry app fails no more",
        ),
        (
            ImageRecovered(**IMAGE, is_desired=False),
            f"image {APP} of entry app fails no more, because it is not desired any more",
        ),
        (
            RolloutComplete(**TEMPLATE, changed=CHANGED, nodes=100, not_ready=0, seconds=34.4),
            "rollout complete: 100 of 100 nodes in 34 s",
        ),
        (
            RolloutComplete(**TEMPLATE, changed=CHANGED, nodes=98, not_ready=2, seconds=34.4),
            "rollout complete: 98 of 100 nodes in 34 s; 2 are not ready",
        ),
        (
            NodeWarm(key="key", group="gpu", node="node-4", seconds=12.3),
            "gpu: node node-4 is warm, 12 s after it was created",
        ),
        (NodeWarm(key="key", group=None, node="node-4", seconds=None), "node node-4 is warm"),
    ],
)
def test_each_notice_has_a_line(
    notice: Notice, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress_log.write(notice)
    (record,) = caplog.records
    assert record.getMessage() == line
    level = logging.WARNING if isinstance(notice, ImageFailing) else logging.INFO
    assert record.levelno == level


def test_the_documented_lines_are_those_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    image = {**IMAGE, "image": "registry.example.com/app:1.2.4"}
    new = NewImage(entry="app", image=image["image"], digest=None)
    known: dict[str, Any] = {**image, "digest": None, "nodes": 100}
    for notice in (
        RolloutStarted(**TEMPLATE, changed=(new,), nodes=100),
        ImageFailing(**image, nodes=2, reason="…"),
        ImageRecovered(**image, is_desired=True),
        OnAllNodes(**known, seconds=31, is_since_push=True),
        RolloutComplete(**TEMPLATE, changed=(), nodes=100, not_ready=0, seconds=34),
        RolloutComplete(**TEMPLATE, changed=(), nodes=98, not_ready=2, seconds=34),
        NodeWarm(key="key", group=None, node="node-101", seconds=45),
    ):
        progress_log.write(notice)
    text = (Path(__file__).parents[2] / "docs" / "operations" / "logs.md").read_text("utf-8")
    section = text.partition("## The way of a push")[2].partition("\n## ")[0]
    documented = re.findall(r"(?m)^\| `([^`]+)` \|", section)[1:]
    assert documented == [re.sub("…; .*", "…", line) for line in caplog.messages]


def test_a_repetition_is_not_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress_log.write(
        NodeWarm(key="key", group=None, node="node-4", seconds=None, is_repeated=True)
    )
    assert caplog.records == []
