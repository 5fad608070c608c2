"""helm, and the objects that it renders."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from e2e.harness.kubernetes_api import Json, KubernetesApi
from e2e.harness.workspace import Workspace

CHART = Path(__file__).parents[2] / "deploy" / "helm"
SECONDS = 200

Values = Mapping[str, Any]


class HelmError(Exception):
    """helm failed; the message is what it printed."""


@dataclass(frozen=True)
class Helm:
    """helm without the user's own settings, for a cluster if there is a kubeconfig."""

    workspace: Workspace
    program: Path
    kubeconfig: Path | None = None
    namespace: str = "default"

    def lint(self, values: Values) -> str:
        """Return the output of `helm lint --strict`, for which warnings are errors."""
        return self.run("lint", "--strict", str(CHART), values=values)

    def template(self, values: Values, *arguments: str, chart: Path = CHART) -> list[Json]:
        """Return the rendered objects, including those of `helm test`."""
        return objects(self.run("template", "puller", str(chart), *arguments, values=values))

    def install(self, values: Values, *arguments: str, chart: Path = CHART) -> str:
        """Install a release and wait until it is ready; return its notes."""
        return self.run("install", "puller", str(chart), *WAIT, *arguments, values=values)

    def upgrade(self, values: Values, *arguments: str, chart: Path = CHART) -> str:
        """Upgrade the release and wait until it is ready; return its notes."""
        return self.run("upgrade", "puller", str(chart), *WAIT, *arguments, values=values)

    def manifest(self) -> list[Json]:
        """Return the objects of the installed release."""
        return objects(self.run("get", "manifest", "puller"))

    def run(self, *arguments: str, values: Values | None = None) -> str:
        """Run helm, and return what it prints; raise HelmError if it fails."""
        command = [str(self.program), *arguments, f"--namespace={self.namespace}"]
        if values is not None:
            file = self.workspace.folder("values") / "values.json"  # JSON is YAML
            file.write_text(json.dumps(values))
            command.append(f"--values={file}")
        environment = self.workspace.environment()
        if self.kubeconfig is not None:
            environment["KUBECONFIG"] = str(self.kubeconfig)
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
        )
        if done.returncode:
            raise HelmError(done.stderr.strip() or done.stdout)
        return done.stdout


WAIT = ("--wait", "--timeout=170s")


def objects(text: str) -> list[Json]:
    """Return the objects of a stream of YAML."""
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(kind: str, documents: Sequence[Json]) -> Json:
    """Return the one object of that kind."""
    (found,) = (each for each in documents if each["kind"] == kind)
    return found


@dataclass(frozen=True)
class Kinds:
    """The paths of objects of any kind, from the discovery of the API server."""

    api: KubernetesApi

    def folder(self, document: Json, namespace: str) -> str:
        """Return the path at which an object of this kind is created."""
        version = document["apiVersion"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        resources = _resources(self.api, base)
        plural, is_namespaced = resources[document["kind"]]
        return f"{base}/namespaces/{namespace}/{plural}" if is_namespaced else f"{base}/{plural}"

    def path(self, document: Json, namespace: str) -> str:
        """Return the path of this object."""
        return f"{self.folder(document, namespace)}/{document['metadata']['name']}"

    def would_take(self, document: Json, namespace: str) -> Json:
        """Create the object as a dry run; an unknown or duplicate field is an error."""
        folder = self.folder(document, namespace)
        return self.api.post(folder, document, dryRun="All", fieldValidation="Strict")


@cache
def _resources(api: KubernetesApi, base: str) -> dict[str, tuple[str, bool]]:
    listed = api.get(base)["resources"]
    return {
        each["kind"]: (each["name"], each["namespaced"])
        for each in listed
        if "/" not in each["name"]
    }
