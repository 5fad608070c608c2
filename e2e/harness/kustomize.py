"""The product's Knative manifests as `kubectl apply -k` would apply them."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import yaml

from e2e.harness.kubernetes_api import Json
from e2e.harness.workspace import Workspace

TOP = Path(__file__).parents[2] / "knative"
OVERLAY = Path(__file__).parent / "overlay.yaml"
FILE = "kustomization.yaml"


@dataclass(frozen=True)
class Kustomize:
    """kustomize, which renders folders and overlays."""

    workspace: Workspace
    program: Path

    def render(self, folder: Path) -> list[Json]:
        """Return the objects of a kustomization, in the order in which to apply them."""
        done = subprocess.run(
            (self.program, "build", folder),
            env=self.workspace.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"kustomize build {folder}: {done.stderr}")
        return list(yaml.safe_load_all(done.stdout))

    def overlay(
        self, names: Mapping[str, str], components: Sequence[str], **more: object
    ) -> list[Json]:
        """Return the objects of `overlay.yaml` with these names, more components and fields."""
        users = self.workspace.folder("overlay")
        text = Template(OVERLAY.read_text()).substitute(names, knative=os.path.relpath(TOP, users))
        (users / FILE).write_text(text)
        folder = self.workspace.folder("overlay")
        kustomization: Mapping[str, object] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            # kustomize accepts no absolute paths.
            "resources": [os.path.relpath(users, folder)],
            "components": [
                os.path.relpath(TOP / "components" / component, folder) for component in components
            ],
        }
        (folder / FILE).write_text(json.dumps({**kustomization, **more}))
        return self.render(folder)
