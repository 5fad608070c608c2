"""A stand-in for the original puller: it creates a DaemonSet at start, and deletes it on SIGTERM.

While it waits for the DaemonSet's pods it ignores SIGTERM, like the original.
"""

import os
import signal
import time

from kubernetes import client, config
from kubernetes.client import ApiException

NAME, NAMESPACE = os.environ["DAEMONSET_NAME"], os.environ["NAMESPACE"]
LABELS = {"test": "daemonset-test", "app.kubernetes.io/name": "image-puller"}
RESOURCES = {
    bound: {
        resource: os.environ[f"CACHING_{resource}_{bound.removesuffix('s')}".upper()]
        for resource in ("memory", "cpu")
    }
    for bound in ("requests", "limits")
}
SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
MOUNTS = [{"name": "kip", "mountPath": "/kip"}]


def container(name: str, image: str, **more: object) -> dict[str, object]:
    """Return a container of the pod."""
    common = {"resources": RESOURCES, "securityContext": SECURITY, "volumeMounts": MOUNTS}
    return {"name": name, "image": image, "imagePullPolicy": "Always", **common, **more}


def daemonset(owner: client.V1ObjectMeta) -> dict[str, object]:
    """Return the DaemonSet; /sleep is that of the stand-in's image."""
    install = ["-c", "cp /sleep /kip/sleep"]
    entries = [entry.split("=") for entry in os.environ["IMAGES"].strip("; ").split(";")]
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": owner.name}
    spec = {
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, "fsGroup": 65532},
        "affinity": {},
        "volumes": [{"name": "kip", "emptyDir": {"sizeLimit": "50Mi"}}],
        "initContainers": [
            container("copy-sleep", os.environ["KIP_IMAGE"], command=["/bin/sh"], args=install)
        ],
        "containers": [
            container(name.strip(), image.strip(), command=["/kip/sleep"], args=["720h"])
            for name, image in entries
        ],
    }
    return {
        "metadata": {
            "name": NAME,
            "ownerReferences": [reference | {"uid": owner.uid}],
        },
        "spec": {
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": spec},
        },
    }


def delete() -> None:
    """Delete the DaemonSet with its pods, and wait until it is gone.

    The original opens a watch before. If the Role of the new chart already forbids that, it leaves
    the DaemonSet, as if it were killed.
    """
    try:
        apps.delete_namespaced_daemon_set(NAME, NAMESPACE, propagation_policy="Foreground")
        while True:
            apps.read_namespaced_daemon_set(NAME, NAMESPACE)
            time.sleep(0.1)
    except ApiException as error:
        if error.status != 404:
            raise


def wait_until_ready() -> None:
    """Wait until the pods on all nodes are ready."""
    while True:
        status = apps.read_namespaced_daemon_set(NAME, NAMESPACE).status
        if status is not None and 0 < status.desired_number_scheduled == status.number_ready:
            return
        time.sleep(0.1)


config.load_incluster_config()
apps = client.AppsV1Api()
signals: list[str] = []
signal.signal(signal.SIGTERM, lambda *_: signals.append("SIGTERM"))
delete()
deployment = apps.read_namespaced_deployment(os.environ["DEPLOYMENT_NAME"], NAMESPACE)
assert deployment.metadata is not None
# The client accepts manifests as well as its own classes.
apps.create_namespaced_daemon_set(NAMESPACE, daemonset(deployment.metadata))  # type: ignore[arg-type]
wait_until_ready()
print("ready", flush=True)
while not signals:
    time.sleep(0.1)
delete()
