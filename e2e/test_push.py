"""A push reaches the DaemonSet: from a registry's own notification to a real API server."""

import json
from collections.abc import Callable

import pytest
from e2e.control_plane import ControlPlane
from e2e.ground import Ground
from e2e.installation import DIGESTS, SECRET, Installation, reference
from e2e.processes import free_port
from e2e.registry import Registry, Webhook
from e2e.service import Service

MakeRegistry = Callable[..., Registry]
MakeService = Callable[..., Service]


@pytest.fixture
def installation(ground: Ground, control_plane: ControlPlane, namespace: str) -> Installation:
    """The product's manifests applied to the test's namespace."""
    return Installation.apply(ground, control_plane, namespace)


def test_the_registrys_own_notification_brings_tag_and_digest_into_the_template(
    installation: Installation, registry: MakeRegistry, service: MakeService
) -> None:
    port = free_port()
    webhook = Webhook(
        url=f"http://127.0.0.1:{port}/webhooks/distribution", authorization=f"Bearer {SECRET}"
    )
    environment = installation.environment(f"app={reference('team/app', '1.0.0')}")
    with (
        service(environment, kubeconfig=installation.kubeconfig, port=port),
        registry([webhook]) as images,
    ):
        installation.wait_for_images(reference("team/app", "1.0.0"))
        digest = images.push("team/app", "1.1.0", "new")
        live = installation.wait_for_images(
            reference("team/app", "1.0.0"), reference("team/app", "1.1.0")
        )
    digests = json.loads(live["spec"]["template"]["metadata"]["annotations"][DIGESTS])
    assert list(digests.values()) == [digest]
