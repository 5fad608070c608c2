"""The product's Knative manifests as `kubectl apply -k` would apply them."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml

from e2e.ground import Ground
from e2e.kubernetes_api import Json

TOP = Path(__file__).parents[1] / "knative"


def render(ground: Ground, folder: Path) -> list[Json]:
    """Return the objects of a folder with a kustomization, in the order to apply them."""
    done = subprocess.run(
        (ground.program("kustomize"), "build", folder),
        env=ground.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"kustomize build {folder}: {done.stderr}")
    return list(yaml.safe_load_all(done.stdout))


def overlay(ground: Ground, *components: str, **more: object) -> list[Json]:
    """Return the objects of the base with components, and what else a user's own file has."""
    folder = ground.folder("overlay")
    kustomization: Mapping[str, object] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [_from(folder, "base")],
        "components": [_from(folder, f"components/{name}") for name in components],
    }
    text = json.dumps({**kustomization, **more})
    (folder / "kustomization.yaml").write_text(text)
    return render(ground, folder)


def _from(folder: Path, path: str) -> str:
    """Return a path as kustomize takes it: never an absolute one."""
    return os.path.relpath(TOP / path, folder)
