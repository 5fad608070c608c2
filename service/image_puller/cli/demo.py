"""The demo: runs the service beside a simulated cluster, and prints commands to try."""

import json
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from image_puller.simulation import SimulatedCluster

_SECRETS = ("harbor", "quay", "distribution", "events", "read")
_ENVIRONMENT = {
    "IMAGES": "workspace=harbor.example.com/demo/workspace:1.0.0;"
    "notebook=quay.io/demo/notebook:latest;"
    "runner=registry.example.com:5000/demo/runner:v2.3.0",
    "NAMESPACE": "k8s-image-puller",
    "ROLLOUT_MIN_INTERVAL_SECONDS": "2",
    "ASK_REGISTRIES": "false",  # the registries do not exist
}
_DIGEST = "sha256:" + "ab12" * 16


def run(environ: Mapping[str, str]) -> int:
    """Run the demo on `PORT`, and return the exit code of its service.

    The service is a process of its own, the same as in a cluster.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        SimulatedCluster(nodes=3, pull_seconds=1) as cluster,
    ):
        tokens = {name: secrets.token_urlsafe(12) for name in _SECRETS}
        for name, token in tokens.items():
            (Path(folder) / name).write_text(token)
        kubeconfig = Path(folder) / "kubeconfig"
        kubeconfig.write_text(json.dumps(cluster.kubeconfig()))
        port = environ.get("PORT") or "8080"
        local = {"WEBHOOK_SECRETS_DIR": folder, "PORT": port, "KUBECONFIG": str(kubeconfig)}
        print(introduction(f"http://127.0.0.1:{port}", tokens), flush=True)
        cluster.run()
        command = (sys.executable, "-m", "image_puller", "serve")
        environment = _inherited(environ) | _ENVIRONMENT | local
        with subprocess.Popen(command, env=environment) as service:  # noqa: S603 - a fixed command
            return _wait(service)


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a process needs, and those of the log.

    All others could change the configuration.
    """
    names = ("HOME", "PATH", "LANG", "LOG_LEVEL", "LOG_FORMAT")
    return {name: environ[name] for name in names if name in environ}


def _wait(service: subprocess.Popen[bytes]) -> int:
    """Wait for the end of the service, and return its exit code. Pass SIGTERM on to it."""
    previous = signal.signal(signal.SIGTERM, lambda *_: service.terminate())
    try:
        return service.wait()
    except KeyboardInterrupt:
        # The terminal sends SIGINT to the service too.
        return service.wait()
    finally:
        signal.signal(signal.SIGTERM, previous)


def introduction(url: str, tokens: Mapping[str, str]) -> str:
    """Return what the demo prints: commands to paste, each on a line of its own."""
    harbor = {
        "type": "PUSH_ARTIFACT",
        "occur_at": 1767225600,
        "operator": "ci",
        "event_data": {
            "resources": [
                {
                    "digest": _DIGEST,
                    "tag": "1.1.0",
                    "resource_url": "harbor.example.com/demo/workspace:1.1.0",
                }
            ],
            "repository": {"repo_full_name": "demo/workspace", "name": "workspace"},
        },
    }
    quay = {
        "repository": "demo/notebook",
        "namespace": "demo",
        "name": "notebook",
        "docker_url": "quay.io/demo/notebook",
        "homepage": "https://quay.io/repository/demo/notebook",
        "updated_tags": ["latest"],
    }
    distribution = {
        "events": [
            {
                "id": "1",
                "action": "push",
                "target": {
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "size": 500,
                    "digest": _DIGEST,
                    "repository": "demo/runner",
                    "tag": "v2.4.0",
                },
                "request": {"host": "registry.example.com:5000"},
            }
        ]
    }
    pushed = {
        "specversion": "1.0",
        "id": "1",
        "source": "/demo",
        "type": "io.image-puller.image.pushed",
        "data": {
            "registry": "harbor.example.com",
            "repository": "demo/workspace",
            "tag": "1.2.0",
            "digest": _DIGEST,
        },
    }
    status = f"curl -sS -u :{tokens['read']} {url}/status"
    return "\n".join(
        (
            f"Kubernetes Image Puller at {url}, beside a simulated cluster of three nodes.",
            "",
            "Report a push to Harbor:",
            _post(url, "/webhooks/harbor", tokens["harbor"], "application/json", harbor),
            "",
            "Print the images on each node (repeat it to see the change):",
            status,
            "",
            "Report a push to Quay, to CNCF Distribution, and as a CloudEvent:",
            _post(url, "/webhooks/quay", tokens["quay"], "application/json", quay),
            _post(
                url,
                "/webhooks/distribution",
                f"Bearer {tokens['distribution']}",
                "application/vnd.docker.distribution.events.v2+json",
                distribution,
            ),
            _post(url, "/", f"Bearer {tokens['events']}", "application/cloudevents+json", pushed),
            "",
            "Press Ctrl-C to stop.",
            "",
        )
    )


def _post(url: str, path: str, authorization: str, content_type: str, payload: object) -> str:
    return shlex.join(
        (
            "curl",
            "-sS",
            "-X",
            "POST",
            "-H",
            f"Authorization: {authorization}",
            "-H",
            f"Content-Type: {content_type}",
            "-d",
            json.dumps(payload, separators=(",", ":")),
            url + path,
        )
    )
