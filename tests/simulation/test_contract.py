"""The simulated API server passes the contract tests. `e2e/test_contract.py` tests a real one."""

from collections.abc import Iterator

import pytest

from image_puller.simulation import SimulatedCluster
from tests.support.contract import Api, Contract


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with SimulatedCluster(nodes=0, token="right", namespaces=("contract",)) as cluster:
        cluster.run()
        with Api(url=cluster.url, token="right", namespace="contract") as api:
            yield api


class TestSimulated(Contract):
    pass
