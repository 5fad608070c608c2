"""The contract of the simulated API server in `tests/`, checked against the real one."""

from collections.abc import Iterator

import pytest

from e2e.harness.control_plane import ControlPlane
from e2e.harness.workspace import wait_until
from tests.support.contract import Api, Contract

MESSAGES_SINCE = 34  # the minor version of Kubernetes whose messages the contract has
IMAGE_VOLUMES_SINCE = 35


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    """Return the real API server, with a namespace in which pods can be created."""
    admin = control_plane.admin
    admin.post("/api/v1/namespaces", {"metadata": {"name": "contract"}})
    accounts = "/api/v1/namespaces/contract/serviceaccounts"
    wait_until(lambda: admin.get(accounts)["items"], "default service account of contract")
    with Api(
        url=control_plane.url,
        token=control_plane.admin_token,
        namespace="contract",
        verify=str(control_plane.ca),
        has_old_messages=control_plane.minor < MESSAGES_SINCE,
        keeps_image_volumes=control_plane.minor >= IMAGE_VOLUMES_SINCE,
    ) as api:
        yield api
    admin.delete("/api/v1/namespaces/contract")


class TestReal(Contract):
    """All tests of the contract, against the real API server."""
