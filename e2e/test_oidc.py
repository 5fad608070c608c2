"""Tokens of service accounts at `POST /`, with the keys that a real API server publishes."""

from collections.abc import Callable

from e2e.harness.control_plane import ControlPlane
from e2e.harness.installation import Installation, reference
from e2e.harness.sender import until_taken
from e2e.harness.service import Service
from e2e.harness.workspace import http_session

AUDIENCE = "puller.images"
APP = reference("team/app", "1.0.0")
EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/e2e",
    "type": "io.image-puller.image.pushed",
    "data": {
        "registry": APP.partition("/")[0],
        "repository": "team/app",
        "tag": "1.1.0",
        "digest": None,
    },
}


def token(control_plane: ControlPlane, namespace: str, audience: str) -> str:
    """Return a token like that of a Knative Trigger, for the default service account."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [audience]},
    }
    made: str = control_plane.admin.post(path, request)["status"]["token"]
    return made


def send(url: str, token: str) -> int:
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/cloudevents+json",
    }
    with http_session() as session:
        return until_taken(
            lambda: session.post(url, json=EVENT, headers=headers, timeout=10)
        ).status_code


def test_a_token_is_verified_with_the_keys_of_the_api_server(
    installation: Installation,
    control_plane: ControlPlane,
    make_service: Callable[..., Service],
) -> None:
    own, other = installation.namespace, "kube-system"
    environment = installation.environment(
        f"app={APP}",
        EVENT_AUTH="oidc",
        OIDC_AUDIENCE=AUDIENCE,
        ROLLOUT_MIN_INTERVAL_SECONDS="0",
    )
    with make_service(environment, kubeconfig=installation.kubeconfig) as puller:
        installation.wait_for_images(APP)
        for wrong in (
            "e2e-secret",
            token(control_plane, own, "another"),
            token(control_plane, other, AUDIENCE),
        ):
            assert send(puller.url, wrong) == 401
        assert installation.images() == [APP]
        assert send(puller.url, token(control_plane, own, AUDIENCE)) == 202
        installation.wait_for_images(APP, reference("team/app", "1.1.0"))
        log = puller.log.read_text()
    assert "its subject is 'system:serviceaccount:kube-system:default'" in log
    assert "Audience doesn't match; expected: audience puller.images," in log
    assert "eyJ" not in log
