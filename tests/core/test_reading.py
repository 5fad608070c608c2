"""Readings: the status of all groups, or of the nodes that a selector matches."""

from dataclasses import replace

import pytest

from image_puller.core import daemonset, decide, label_selector, observation, reading, status
from image_puller.core.observation import Live, Observation
from image_puller.core.problems import Kind, Problem
from image_puller.core.reading import UnknownLabelsError
from image_puller.core.state import State
from tests.support.building import configuration
from tests.support.observations import observed

CONFIG = configuration()
STATE = decide.adopt(CONFIG, State(configuration=""), daemonset.configuration_hash(CONFIG))
PROBLEM = Problem(kind=Kind.REGISTRY, key="x", message="a registry does not answer")


def seen(*, may_list_nodes: bool = True) -> Observation:
    """Return an observation of two nodes of different pools."""
    found = observed(CONFIG, STATE, ("cpu-1", "gpu-1"), may_list_nodes=may_list_nodes)
    nodes = found.live.nodes
    labelled = nodes and [
        replace(node, labels={"pool": node.name.partition("-")[0]}) for node in nodes
    ]
    return replace(found, live=replace(found.live, nodes=labelled))


def test_reading_has_the_status_of_all_groups() -> None:
    found = reading.of([(seen(), [PROBLEM])])
    assert found.json == status.of_groups({None: status.described(seen(), [PROBLEM])})
    assert found.of_nodes(None) is found.json


def test_selector_leaves_only_its_nodes() -> None:
    found = reading.of([(seen(), [])]).of_nodes(label_selector.parse("pool = gpu"))
    (image,) = found["images"]
    assert (list(found["nodes"]), list(image["nodes"]), image["held"]) == (["gpu-1"], ["gpu-1"], 1)
    assert found["selector"] == "pool = gpu"


def test_selector_applies_to_each_group() -> None:
    of_group = replace(seen(), config=replace(CONFIG, group="gpu"))
    found = reading.of([(seen(), []), (of_group, [])]).of_nodes(label_selector.parse("pool!=gpu"))
    assert list(found["groups"]["gpu"]["nodes"]) == ["cpu-1"]
    assert found["groups"]["gpu"]["images"][0]["held"] == 1


def test_selector_is_refused_where_nodes_can_not_be_listed() -> None:
    found = reading.of([(seen(may_list_nodes=False), [])])
    with pytest.raises(UnknownLabelsError, match="needs the right to list nodes"):
        found.of_nodes(label_selector.parse("pool=gpu"))


def test_no_node_matches_where_there_is_no_daemonset() -> None:
    missing = observation.observe(CONFIG, Live(daemonset=None, state=None))
    found = reading.of([(missing, [])]).of_nodes(label_selector.parse("pool=gpu"))
    assert found["nodes"] == {}
