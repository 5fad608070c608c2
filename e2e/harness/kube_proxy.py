"""kube-proxy, which makes the addresses of Services reachable from pods and from the host."""

import json
from pathlib import Path

from e2e.harness.processes import Process, answers
from e2e.harness.workspace import ADDRESS, Workspace

HEALTH = "127.0.0.1:10256"
NFTABLES_SINCE = 33  # the minor version of Kubernetes in which this mode is stable


def kube_proxy(
    workspace: Workspace, *, program: Path, node: str, pods: str, kubeconfig: Path, minor: int
) -> Process:
    """Make the one kube-proxy that the host needs; `node` is the name of any node.

    Its rules are in the run's network namespace.
    """
    folder = workspace.folder("kube-proxy")
    configuration = folder / "configuration.json"
    configuration.write_text(
        json.dumps(
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "mode": "nftables" if minor >= NFTABLES_SINCE else "iptables",
                "clientConnection": {"kubeconfig": str(kubeconfig)},
                "hostnameOverride": node,
                "clusterCIDR": pods,
                "bindAddress": ADDRESS,
                "nodePortAddresses": [f"{ADDRESS}/32"],
                "healthzBindAddress": HEALTH,
                "metricsBindAddress": "127.0.0.1:10249",
                # These values leave the machine's settings unchanged.
                "conntrack": {
                    "maxPerCore": 0,
                    "tcpEstablishedTimeout": "0s",
                    "tcpCloseWaitTimeout": "0s",
                },
                "nftables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
            }
        )
    )
    return Process(
        name="kube-proxy",
        command=(str(program), f"--config={configuration}"),
        environment=workspace.environment(),
        log=workspace.log("kube-proxy"),
        is_ready=lambda: answers(f"http://{HEALTH}/healthz"),
    )
