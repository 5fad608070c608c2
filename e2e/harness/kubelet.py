"""The kubelet of a node: each node has its own."""

import json
from pathlib import Path

from e2e.harness.kubernetes_api import Json
from e2e.harness.processes import Process, answers
from e2e.harness.workspace import ADDRESS, Workspace

HEALTH_PORT = 10248
# A kubelet collects at its start, and each five minutes. Thresholds of the disk do nothing here:
# without `localStorageCapacityIsolation` a kubelet measures no disk, and the collection fails with
# "cannot find filesystem info" or "invalid capacity 0". The maximum age needs no disk. It is
# compared with the time of the last use, which unused images lack, and with the time since the
# start. So with the smallest maximum all of them go at the start.
COLLECTING = {"imageMinimumGCAge": "1ns", "imageMaximumGCAge": "2ns"}
COLLECTED = b"Image garbage collection "


def kubelet(
    workspace: Workspace,
    folder: Path,
    *,
    program: Path,
    name: str,
    address: str,
    cgroup: str,
    runtime: Path,
    kubeconfig: Path,
    collects_images: bool = False,
    taint: str = "",
) -> Process:
    """Make a kubelet that writes to the folder only; it is ready before its node is.

    It registers its node with the taint, if that is given.
    One that collects images removes all unused images at its start, and logs `COLLECTED` then.
    """
    kind = "kubelet-collecting" if collects_images else "kubelet"
    settings = _configuration(
        folder,
        pod_logs=workspace.logs / f"{name}-pods",
        address=address,
        cgroup=cgroup,
        runtime=runtime,
    )
    if collects_images:
        settings |= COLLECTING
    configuration = folder / f"{kind}.json"
    configuration.write_text(json.dumps(settings))
    return Process(
        name=f"{kind} of {name}",
        command=(
            str(program),
            f"--config={configuration}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={name}",
            f"--node-ip={address}",
            f"--root-dir={folder / 'kubelet'}",
            f"--cert-dir={folder / 'certificates'}",
            *((f"--register-with-taints={taint}",) if taint else ()),
            *(("--v=4",) if collects_images else ()),  # else it does not log `COLLECTED`
        ),
        environment=workspace.environment(),
        log=workspace.log(f"{name}-{kind}"),
        is_ready=lambda: answers(f"http://{address}:{HEALTH_PORT}/healthz"),
    )


def _configuration(
    folder: Path, *, pod_logs: Path, address: str, cgroup: str, runtime: Path
) -> Json:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{runtime}",
        "address": address,
        "healthzBindAddress": address,
        "healthzPort": HEALTH_PORT,
        # All requests come from this network namespace; the API server asks for logs.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        # No changes to the host, which all nodes share.
        "makeIPTablesUtilChains": False,
        "failSwapOn": False,
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        "podLogsDir": str(pod_logs),
        "volumePluginDir": str(folder / "volume-plugins"),
        # Only tests remove images and pods.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        # Pulls and status reports without limits, to make tests fast.
        "serializeImagePulls": False,
        "maxParallelImagePulls": 8,
        "registryPullQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "nodeStatusUpdateFrequency": "1s",
        "maxPods": 200,
    }
