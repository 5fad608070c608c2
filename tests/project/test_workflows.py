"""The GitHub workflows: their actions, rights, and the targets of CI."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

TOP = Path(__file__).parents[2]
FOLDER = TOP / ".github" / "workflows"
FILES = sorted(FOLDER.iterdir())
WRITE_PERMISSIONS = {
    ("release.yml", "release"): {"contents": "write"},
    ("release.yml", "sign"): {"attestations": "write", "id-token": "write"},
    ("locks.yml", "propose"): {"contents": "write", "pull-requests": "write"},
}
ACTION = re.compile(r"([\w-]+/[\w-]+)(/[\w-]+)?@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)")

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def jobs(file: Path) -> dict[str, Any]:
    """Return the jobs of a workflow, by name."""
    found: dict[str, Any] = yaml.safe_load(file.read_text())["jobs"]
    return found


def steps(file: Path) -> list[dict[str, Any]]:
    """Return all steps of a workflow."""
    return [step for job in jobs(file).values() for step in job.get("steps", ())]


def actions(file: Path) -> list[str]:
    """Return the actions that a workflow uses, each with the comment after it."""
    used = re.findall(r"(?m)^\s*(?:- )?uses: (.*)$", file.read_text())
    return [each for each in used if not each.startswith("./")]


def make_targets(script: str) -> list[str]:
    """Return the targets that a script runs with make."""
    lines = re.findall(r"(?m)^(?:sudo .* )?make (.*)$", script)
    return [target for line in lines for target in line.split()]


@every_file
def test_each_action_is_pinned_by_commit_with_its_version_in_a_comment(file: Path) -> None:
    used = actions(file)
    assert used
    assert [each for each in used if not ACTION.fullmatch(each)] == []


def test_action_has_the_same_commit_in_all_workflows() -> None:
    matches = [ACTION.fullmatch(each) for file in FILES for each in actions(file)]
    found = {(match[1], match[3], match[4]) for match in matches if match}
    assert max(Counter(name for name, _, _ in found).values()) == 1


@every_file
def test_workflow_has_no_permissions_and_its_jobs_only_those_listed(file: Path) -> None:
    assert yaml.safe_load(file.read_text())["permissions"] == {}
    for name, job in jobs(file).items():
        assert job["permissions"] == WRITE_PERMISSIONS.get((file.name, name), {"contents": "read"})


@every_file
def test_each_job_has_a_time_limit(file: Path) -> None:
    limits = [job["timeout-minutes"] for job in jobs(file).values() if "steps" in job]
    assert max(limits) <= 90


@every_file
def test_checkouts_persist_no_credentials(file: Path) -> None:
    checkouts = [
        step for step in steps(file) if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@every_file
def test_scripts_contain_no_expressions(file: Path) -> None:
    assert not [step["run"] for step in steps(file) if "${{" in step.get("run", "")]


def test_ci_runs_each_command_of_ci_run_in_its_own_job() -> None:
    expected = re.findall(r"(?m)^make (.*)$", (TOP / ".ci" / "run").read_text())
    found = [
        [target for step in job["steps"] for target in make_targets(step.get("run", ""))]
        for job in jobs(FOLDER / "ci.yml").values()
    ]
    found = [[target for target in targets if not target.startswith(".venv/")] for targets in found]
    assert sorted(found) == sorted(line.split() for line in expected)


def test_cache_keys_name_files_that_exist() -> None:
    keys = [
        step["with"]["key"]
        for step in steps(FOLDER / "ci.yml")
        if step.get("uses", "").startswith(("actions/cache@", "actions/cache/restore@"))
    ]
    assert keys
    for key in keys:
        hashed = re.search(r"hashFiles\((.*)\)", key)
        assert hashed, key
        patterns = re.findall(r"'([^']+)'", hashed[1])
        assert [pattern for pattern in patterns if not list(TOP.glob(pattern))] == []


def test_release_uses_no_cache() -> None:
    assert not [each for each in actions(FOLDER / "release.yml") if "/cache" in each]


def test_release_needs_all_of_ci() -> None:
    found = jobs(FOLDER / "release.yml")
    assert found["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert "ci" in found["images"]["needs"]
    assert "images" in found["release"]["needs"]


def test_all_that_is_published_is_signed_and_has_its_provenance_before_the_release() -> None:
    found = jobs(FOLDER / "release.yml")
    assert "sign" in found["release"]["needs"]
    steps_of_sign = found["sign"]["steps"]
    (script,) = (step["run"] for step in steps_of_sign if "run" in step)
    signed = re.findall(r'(?m)^cosign sign --yes .*"\$(\S+)@\$\w+_DIGEST"$', script)
    attested = [
        (step["with"]["subject-name"], step["with"]["subject-digest"])
        for step in steps_of_sign
        if step.get("uses", "").startswith("actions/attest-build-provenance@")
    ]
    published = ["IMAGE", "IMAGE-sleep", "CHARTS/kubernetes-image-puller"]
    assert signed == published
    assert attested == [
        ("${{ env.IMAGE }}", "${{ needs.images.outputs.service }}"),
        ("${{ env.IMAGE }}-sleep", "${{ needs.images.outputs.sleep }}"),
        ("${{ env.CHARTS }}/kubernetes-image-puller", "${{ needs.chart.outputs.digest }}"),
    ]


def test_job_that_may_sign_runs_no_code_of_the_repository() -> None:
    signing = [
        job
        for file in FILES
        for job in jobs(file).values()
        if job["permissions"].get("id-token") == "write"
    ]
    assert len(signing) == 1
    used = [step.get("uses", "") for job in signing for step in job["steps"]]
    assert not [each for each in used if each.startswith("actions/checkout@")]


def test_locks_are_resolved_in_a_job_without_write_permissions() -> None:
    resolving = {
        name
        for name, job in jobs(FOLDER / "locks.yml").items()
        for step in job["steps"]
        if make_targets(step.get("run", ""))
    }
    assert resolving == {"resolve"}
    assert ("locks.yml", "resolve") not in WRITE_PERMISSIONS


def test_the_oldest_kubernetes_is_tested_each_week() -> None:
    text = (FOLDER / "oldest.yml").read_text()
    workflow = yaml.safe_load(text)
    triggers = workflow[True]  # YAML reads `on` as true
    assert [each["cron"].split()[2:4] for each in triggers["schedule"]] == [["*", "*"]]
    scripts = [step.get("run", "") for step in steps(FOLDER / "oldest.yml")]
    assert "e2e-oldest" in [target for script in scripts for target in make_targets(script)]


def test_dependabot_covers_actions_and_all_go_modules_that_may_become_newer() -> None:
    text = (TOP / ".github" / "dependabot.yml").read_text()
    updates = {each["package-ecosystem"]: each for each in yaml.safe_load(text)["updates"]}
    assert updates["github-actions"]["directory"] == "/"
    covered = {
        folder
        for pattern in updates["gomod"]["directories"]
        for folder in TOP.glob(pattern.removeprefix("/"))
    }
    folders = [folder for folder in TOP.iterdir() if not folder.name.startswith(".")]
    modules = {file.parent for folder in folders for file in folder.rglob("go.mod")}
    pinned = {folder for folder in modules if "oldest" in folder.parts}
    assert pinned
    assert covered >= modules - pinned
    assert not covered & pinned
