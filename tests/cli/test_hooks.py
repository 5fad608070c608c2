"""The hooks of docs/cli.md: Jobs of Helm and of Argo CD that wait for an image."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_puller import __version__
from image_puller.cli import main
from tests.support.installation import NAME, NAMESPACE

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "cli.md").read_text("utf-8")
HELM, ARGO = (yaml.safe_load(text) for text in re.findall(r"(?s)```yaml\n(.*?)```", PAGE))


@pytest.mark.parametrize("job", [HELM, ARGO], ids=["Helm", "Argo CD"])
def test_hook_is_a_job_with_annotations_of_its_tool(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert all(isinstance(each, str) for each in job["metadata"]["annotations"].values())
    assert any(key.endswith("/hook") for key in job["metadata"]["annotations"])


def test_job_runs_a_valid_command_of_this_version_once() -> None:
    pod = HELM["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    arguments = main._parser().parse_args(container["args"])
    assert arguments.run is main._wait
    assert (HELM["spec"]["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert container["image"].endswith(f"/{NAME}:{__version__}")


def test_job_asks_the_service_of_the_manifests_with_a_secret() -> None:
    (container,) = HELM["spec"]["template"]["spec"]["containers"]
    url, token = container["env"]
    assert (url["name"], url["value"]) == ("IMAGE_PULLER_URL", f"http://{NAME}.{NAMESPACE}")
    assert token["name"] == "IMAGE_PULLER_TOKEN"
    assert token["valueFrom"]["secretKeyRef"]["key"] == "read"
