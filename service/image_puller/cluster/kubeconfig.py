"""Where the kubeconfig is. Apart from the client, whose import takes a quarter of a second."""

from collections.abc import Mapping
from pathlib import Path


def file_of(environ: Mapping[str, str]) -> str | None:
    """Return `$KUBECONFIG`, else `~/.kube/config` if it is there, else None."""
    home = Path(environ.get("HOME", "/")) / ".kube" / "config"
    return environ.get("KUBECONFIG") or (str(home) if home.is_file() else None)
