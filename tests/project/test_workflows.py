"""What runs at GitHub runs what was read, and may do no more than it must."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / ".github" / "workflows"
FILES = sorted(FOLDER.iterdir())
WRITES = {("release.yml", "release"): {"contents": "write"}}

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def jobs(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())["jobs"]
    return found


@every_file
def test_every_action_is_a_commit_with_its_version_beside_it(file: Path) -> None:
    used = re.findall(r"(?m)^\s*(?:- )?uses: (.*)$", file.read_text())
    assert used
    others = [each for each in used if not each.startswith("./")]
    for each in others:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)


@every_file
def test_nothing_is_allowed_but_by_a_job(file: Path) -> None:
    assert yaml.safe_load(file.read_text())["permissions"] == {}
    for name, job in jobs(file).items():
        assert job["permissions"] == WRITES.get((file.name, name), {"contents": "read"})


@every_file
def test_no_step_finds_the_credentials_of_the_checkout(file: Path) -> None:
    steps = [step for job in jobs(file).values() for step in job.get("steps", ())]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@every_file
def test_no_script_is_put_together_from_expressions(file: Path) -> None:
    steps = [step for job in jobs(file).values() for step in job.get("steps", ())]
    assert not [step["run"] for step in steps if "${{" in step.get("run", "")]


def test_ci_runs_what_everybody_runs() -> None:
    (job,) = jobs(FOLDER / "ci.yml").values()
    assert job["steps"][-1]["run"].endswith(" .ci/run")


def test_a_release_is_made_of_what_passed() -> None:
    found = jobs(FOLDER / "release.yml")
    assert found["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert "ci" in found["images"]["needs"]
    assert "images" in found["release"]["needs"]
