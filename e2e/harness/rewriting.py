"""A mutating admission webhook that gives the DaemonSet's pods another image, as mirrors do."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from e2e.harness.installation import Installation
from e2e.harness.pods import restricted
from e2e.harness.workspace import Workspace, wait_until
from tests.support.tls import ADDRESS, self_signed, tls_server

_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
_LABEL = "image-puller.io/daemonset"


@contextmanager
def rewriting(
    workspace: Workspace, installation: Installation, *, image: str, other: str
) -> Iterator[None]:
    """Let new pods of the DaemonSet in the namespace have the other image instead of this one."""
    certificate = self_signed(workspace.folder("rewriting"))
    admin, namespace = installation.control_plane.admin, installation.namespace
    with tls_server(_handler(image, other), certificate) as port:
        bundle = base64.b64encode(certificate.read_bytes()).decode()
        webhook = {
            "name": "rewriting.e2e.example.com",
            "clientConfig": {"url": f"https://{ADDRESS}:{port}/", "caBundle": bundle},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "objectSelector": {"matchExpressions": [{"key": _LABEL, "operator": "Exists"}]},
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                }
            ],
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
        }
        admin.post(_CONFIGURATIONS, {"metadata": {"name": namespace}, "webhooks": [webhook]})
        probe = {"metadata": {"name": "probe", "labels": {_LABEL: "x"}}, "spec": restricted(image)}
        path = f"/api/v1/namespaces/{namespace}/pods"

        def is_rewritten() -> bool:
            pod = admin.post(path, probe, dryRun="All")
            return bool(pod["spec"]["containers"][0]["image"] == other)

        try:
            wait_until(is_rewritten, f"{image} rewritten")
            yield
        finally:
            admin.delete(f"{_CONFIGURATIONS}/{namespace}")


def _handler(image: str, other: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            request = json.loads(self.rfile.read(length))["request"]
            patch = [
                {"op": "replace", "path": f"/spec/containers/{number}/image", "value": other}
                for number, each in enumerate(request["object"]["spec"]["containers"])
                if each["image"] == image
            ]
            response = {
                "uid": request["uid"],
                "allowed": True,
                "patchType": "JSONPatch",
                "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
            }
            review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
            body = json.dumps(review | {"response": response}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    return Handler
