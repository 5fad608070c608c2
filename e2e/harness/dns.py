"""The cluster's DNS."""

from pathlib import Path

from e2e.harness.processes import Process, listens
from e2e.harness.workspace import ADDRESS, Workspace

# CoreDNS orders the plugins of a block itself, and `template` would come first: so two blocks.
# `template` answers at once for names outside the cluster, so that lookups with search lists end.
COREFILE = """
cluster.local:53 in-addr.arpa:53 {{
  bind {address}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
    ttl 0
  }}
}}
.:53 {{
  bind {address}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""


def dns(workspace: Workspace, *, program: Path, kubeconfig: Path) -> Process:
    """Make the DNS server of the pods; it caches nothing."""
    corefile = workspace.folder("dns") / "Corefile"
    corefile.write_text(COREFILE.format(address=ADDRESS, kubeconfig=kubeconfig))
    return Process(
        name="coredns",
        command=(str(program), f"-conf={corefile}"),
        environment=workspace.environment(),
        log=workspace.log("coredns"),
        is_ready=lambda: listens(ADDRESS, 53),
    )
