"""The order of processes, and which of them the state lists."""

from functools import reduce
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from image_puller import limits
from image_puller.core import charge
from image_puller.core.charge import Process
from tests.support.building import at

every_process = st.builds(
    Process,
    name=st.sampled_from(["a", "b", "c", "d"]),
    since=st.integers(0, 5).map(at),
    outside=st.booleans(),
)


def _all_joined(found: list[Process]) -> tuple[Process, ...]:
    none: tuple[Process, ...] = ()
    return reduce(charge.joined, found, none)


listed = st.lists(every_process, max_size=limits.PROCESSES + 4).map(_all_joined)


def pod(name: str, seconds: float) -> Process:
    return Process(name=name, since=at(seconds))


def test_a_later_pod_is_younger_and_names_decide_within_one_second() -> None:
    assert pod("a", 1).is_younger_than(pod("b", 0))
    assert pod("b", 0).is_younger_than(pod("a", 0))
    assert not pod("a", 0).is_younger_than(pod("a", 0))


def test_a_pod_comes_before_a_process_outside_the_cluster() -> None:
    outside = Process(name="laptop", since=at(60), outside=True)
    assert pod("a", 0).is_younger_than(outside)
    assert not outside.is_younger_than(pod("a", 0))


@given(listed, every_process)
def test_the_processes_are_listed_once_and_the_youngest_first(
    processes: tuple[Process, ...], me: Process
) -> None:
    for found in (charge.joined(processes, me), charge.taken(processes, me)):
        assert len(found) == len(set(found)) <= limits.PROCESSES
        assert all(a.is_younger_than(b) for a, b in pairwise(found))


@given(listed, every_process)
def test_the_process_that_takes_charge_is_listed_first(
    processes: tuple[Process, ...], me: Process
) -> None:
    assert charge.taken(processes, me)[0] == me
    assert not charge.rivals(charge.taken(processes, me), me)


@given(listed, every_process)
def test_a_process_that_joins_leaves_the_younger_ones_in_the_list(
    processes: tuple[Process, ...], me: Process
) -> None:
    assert charge.rivals(charge.joined(processes, me), me) == charge.rivals(processes, me)


@given(listed, every_process)
def test_to_join_again_changes_nothing(processes: tuple[Process, ...], me: Process) -> None:
    joined = charge.joined(processes, me)
    assert charge.joined(joined, me) == joined
