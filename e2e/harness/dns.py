"""The cluster's DNS."""

from pathlib import Path

from e2e.harness.processes import Process, listens
from e2e.harness.workspace import ADDRESS, Workspace

# Two blocks, as plugins run in an order of CoreDNS's own: in one, `template` would come first.
# It answers at once for all names outside, so that search lists end soon.
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
    """Make the server that pods ask for names of Services; it caches nothing."""
    corefile = workspace.folder("dns") / "Corefile"
    corefile.write_text(COREFILE.format(address=ADDRESS, kubeconfig=kubeconfig))
    return Process(
        name="coredns",
        command=(str(program), f"-conf={corefile}"),
        environment=workspace.environment(),
        log=workspace.log("coredns"),
        is_ready=lambda: listens(ADDRESS, 53),
    )
