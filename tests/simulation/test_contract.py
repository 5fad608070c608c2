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


class TestSimulatedWithoutImageVolumes:
    """An API server that drops image volumes, as those before Kubernetes 1.35 do by default."""

    @pytest.fixture
    def api(self) -> Iterator[Api]:
        with SimulatedCluster(nodes=0, token="right", namespaces=("contract",)) as cluster:
            cluster.drop_image_volumes()
            cluster.run()
            with Api(
                url=cluster.url, token="right", namespace="contract", keeps_image_volumes=False
            ) as api:
                yield api

    name = Contract.name
    path = Contract.path
    test_image_volumes_get_a_pull_policy_or_are_dropped = (
        Contract.test_image_volumes_get_a_pull_policy_or_are_dropped
    )
