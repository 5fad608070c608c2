"""The Dockerfile, the build scripts and the lock files.

`e2e/test_product_images.py` builds the images.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from image_puller import __version__

TOP = Path(__file__).parents[2]
DOCKERFILE = TOP / "Dockerfile"
SCRIPTS = [
    *(TOP / "build").glob("[!.]*"),
    *(TOP / "build" / "stages").iterdir(),
    *(TOP / "e2e" / "components" / name for name in ("base-image", "product-images")),
]
SHELL_SCRIPTS = [
    file
    for file in SCRIPTS
    if file.is_file()
    and not file.suffix
    and not file.read_text().startswith("#!/usr/bin/env python3\n")
]

Stage = list[tuple[str, str]]


def stages() -> dict[str, Stage]:
    """Return the instructions of the Dockerfile by stage. Those before all stages are in ""."""
    text = re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text()).replace("\\\n", " ")
    found: dict[str, Stage] = {"": []}
    name = ""
    for line in filter(str.strip, text.splitlines()):
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            name = arguments.split()[-1]
            found[name] = []
        found[name].append((instruction, arguments.strip()))
    return found


def last(stage: str, instruction: str) -> str:
    """Return the arguments of the last such instruction of a stage, which takes effect."""
    return [arguments for name, arguments in stages()[stage] if name == instruction][-1]


def is_ignored(path: str) -> bool:
    """Whether .dockerignore excludes a path. Supports only the patterns of that file."""
    result = False
    for line in (TOP / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(.*/)?")
        if re.match(pattern.replace(r"\*", "[^/]*") + "(/|$)", path):
            result = not line.startswith("!")
    return result


def lines(lock: Path) -> list[str]:
    """Return the requirements of a lock file, each in one line with its hashes."""
    text = re.sub(r"(?m)^\s*(#|--find-links).*\n", "", lock.read_text())
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def locked(lock: str) -> set[str]:
    """Return the names of the packages in a lock file."""
    return {line.partition("=")[0] for line in lines(TOP / lock)}


@pytest.mark.parametrize("stage", ["sleep", "service"])
def test_image_runs_as_a_numeric_user_other_than_root(stage: str) -> None:
    assert last(stage, "USER") == "65532:65532"


@pytest.mark.parametrize("stage", ["sleep", "service"])
def test_entry_point_needs_no_shell(stage: str) -> None:
    assert last(stage, "ENTRYPOINT").startswith("[")
    assert last(stage, "CMD").startswith("[")


def test_sleep_image_contains_only_the_binary() -> None:
    instructions = stages()["sleep"]
    assert instructions[0] == ("FROM", "scratch AS sleep")
    assert "RUN" not in dict(instructions)
    copies = [arguments for name, arguments in instructions if name == "COPY"]
    assert copies == ["--from=compiled /out/sleep /sleep"]


def test_service_image_is_the_default_target() -> None:
    assert list(stages())[-1] == "service"


def test_service_image_contains_the_sleep_binary() -> None:
    assert ("COPY", "--from=sleep /sleep /sleep") in stages()["service"]


def test_images_copy_only_from_stages() -> None:
    for stage in ("sleep", "service"):
        copies = [arguments for name, arguments in stages()[stage] if name in {"ADD", "COPY"}]
        assert all(arguments.startswith("--from=") for arguments in copies)


def test_images_have_no_build_time() -> None:
    assert "image.created" not in DOCKERFILE.read_text()


def test_dockerfile_uses_only_features_of_buildah_1_28() -> None:
    for stage in stages().values():
        for instruction, arguments in stage:
            assert "<<" not in arguments, instruction
            assert "--mount" not in arguments, instruction


@pytest.mark.parametrize(
    "path",
    [
        ".git/HEAD",
        ".venv/bin/python",
        ".cache/x",
        ".coverage",
        "tests/test_packaging.py",
        "e2e/run",
        "secrets.env",
        "sleep/build/amd64/sleep",
        "service/image_puller/__pycache__/cli.cpython-311.pyc",
    ],
)
def test_path_is_excluded_from_the_build_context(path: str) -> None:
    assert is_ignored(path)


@pytest.mark.parametrize(
    "path", ["service/image_puller/cli.py", "sleep/main.c", "build/offline/wheels/x.whl"]
)
def test_path_is_in_the_build_context(path: str) -> None:
    assert not is_ignored(path)


def test_copied_paths_exist_and_are_in_the_build_context() -> None:
    for stage in stages().values():
        copies = [arguments.split() for name, arguments in stage if name == "COPY"]
        for *sources, _ in copies:
            if not sources[0].startswith("--from="):
                assert [source for source in sources if is_ignored(source)] == []
                assert [source for source in sources if not (TOP / source).exists()] == []


@pytest.mark.parametrize(
    "lock",
    ["requirements.lock", "requirements-oidc.lock", "requirements-fuzz.lock", "build/tools.lock"],
)
def test_each_requirement_has_hashes(lock: str) -> None:
    assert lines(TOP / lock)
    for line in lines(TOP / lock):
        assert re.match(r"[\w.-]+==\S+\s+--hash=sha256:[0-9a-f]{64}", line)


def test_build_backend_is_locked_at_the_version_of_pyproject() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    pins = {line.split()[0] for line in lines(TOP / "build/tools.lock")}
    assert set(project["build-system"]["requires"]) <= pins


def test_only_the_oidc_lock_file_has_a_cryptographic_library() -> None:
    """The documentation of FIPS mode states this."""
    libraries = {"cryptography", "pynacl", "pycryptodome", "pycryptodomex", "pyopenssl", "bcrypt"}
    assert not locked("requirements.lock") & libraries
    assert locked("requirements-oidc.lock") & libraries == {"cryptography"}


def test_oidc_lock_file_adds_only_the_packages_for_tokens() -> None:
    added = {"cryptography", "cffi", "pycparser", "pyjwt"}
    assert locked("requirements-oidc.lock") == locked("requirements.lock") | added
    pins = {line.partition(" ")[0] for line in lines(TOP / "requirements-oidc.lock")}
    assert {line.partition(" ")[0] for line in lines(TOP / "requirements.lock")} <= pins


def test_image_can_be_built_from_the_smaller_lock_file(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ("ARG", "LOCK_FILE=requirements-oidc.lock") in stages()["packages"]
    monkeypatch.setenv("LOCK_FILE", "requirements.lock")
    assert run_build("r.io/puller", "1.0").returncode == 0
    service = record.read_text().splitlines()[-1]
    assert "--build-arg LOCK_FILE=requirements.lock " in service


def test_sbom_and_licences_read_the_lock_file_of_the_default_image() -> None:
    (lock,) = (
        value.removeprefix("LOCK_FILE=")
        for name, value in stages()["packages"]
        if name == "ARG" and value.startswith("LOCK_FILE=")
    )
    make = ["make", "--dry-run", "--no-print-directory", "sbom"]
    path = {"PATH": os.environ["PATH"]}
    run = subprocess.run(make, cwd=TOP, env=path, capture_output=True, text=True, check=True)
    assert f" {lock}\n" in run.stdout
    assert f"/{lock}" in (TOP / "build/licences").read_text()


def test_image_names_are_set_by_the_variables_of_the_original_project() -> None:
    def names(*assignments: str) -> list[str]:
        make = ["make", "--dry-run", "--no-print-directory", "docker", *assignments]
        path = {"PATH": os.environ["PATH"]}  # without the variables of a make that runs the tests
        run = subprocess.run(make, cwd=TOP, env=path, capture_output=True, text=True, check=True)
        return run.stdout.split()[1:]

    assert names() == ["'kubernetes-image-puller'", "'next'"]
    assert names("DOCKERIMAGE_NAME=r.io/p", "DOCKERIMAGE_TAG=1") == ["'r.io/p'", "'1'"]
    assert names("IMAGE_NAME=r.io/p", "IMAGE_TAG=1") == ["'r.io/p'", "'1'"]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put fake builders into PATH that write their command lines to a file. Return the file."""
    file = tmp_path / "record"
    for name in ("docker", "podman", "buildah"):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >>{file}\n')
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    for name in (
        "CONTAINER_TOOL",
        "BASE",
        "COMPILER",
        "LOCK_FILE",
        "SLEEP_IMAGE",
        "SOURCE_DATE_EPOCH",
    ):
        monkeypatch.delenv(name, raising=False)
    return file


def run_build(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run build/container-images."""
    command: list[str | Path] = [TOP / "build" / "container-images", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("tool", ["docker", "podman", "buildah"])
def test_each_tool_builds_both_images(
    record: Path, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTAINER_TOOL", tool)
    monkeypatch.setenv("BASE", "python@sha256:00")
    assert run_build("r.io/puller", "1.0").returncode == 0
    sleep, service = (line for line in record.read_text().splitlines() if "--tag" in line)
    assert sleep.startswith(f"{tool} ")
    assert "--tag r.io/puller-sleep:1.0 --target sleep " in sleep
    assert "--tag r.io/puller:1.0 --target service " in service
    assert "--build-arg SLEEP_IMAGE=r.io/puller-sleep:1.0 " in service
    for line in (sleep, service):
        assert "--build-arg BASE=python@sha256:00 " in line
        assert f"--build-arg VERSION={__version__} " in line
        assert "--timestamp 0 " in line or "SOURCE_DATE_EPOCH=0 " in line


def test_docker_without_its_engine_is_not_used(record: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "docker").write_text("#!/bin/sh\nexit 1\n")
    assert run_build("puller", "1.0").returncode == 0
    assert {line.split()[0] for line in record.read_text().splitlines()} == {"podman"}


def test_several_platforms_are_pushed_as_one_manifest_list(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTAINER_TOOL", "podman")
    run = run_build("--only", "sleep", "--platforms", "linux/amd64,linux/arm64", "r.io/p", "1")
    assert run.returncode == 0
    _, amd64, arm64, push = record.read_text().splitlines()
    assert " --platform linux/amd64 --manifest r.io/p-sleep:1-all " in amd64
    assert " --platform linux/arm64 --manifest r.io/p-sleep:1-all " in arm64
    assert push == "podman manifest push --all r.io/p-sleep:1-all docker://r.io/p-sleep:1"


def test_several_platforms_without_a_registry_are_an_error(record: Path) -> None:
    run = run_build("--platforms", "linux/amd64,linux/arm64", "puller", "1")
    assert run.returncode == 1
    assert "'puller' has no registry to push to" in run.stderr
    assert "such as registry.example.com/puller" in run.stderr
    assert not record.exists()


def test_layers_of_the_sleep_image_are_not_cached(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTAINER_TOOL", "buildah")
    assert run_build("r.io/puller", "1.0").returncode == 0
    sleep, service = record.read_text().splitlines()
    assert " --target sleep --layers=false " in sleep
    assert "--layers" not in service


@pytest.mark.parametrize("arguments", [(), ("name",), ("--only", "base", "name", "tag"), ("--x",)])
def test_wrong_arguments_print_the_usage(record: Path, arguments: tuple[str, ...]) -> None:
    run = run_build(*arguments)
    assert run.returncode == 1
    assert "usage: build/container-images" in run.stderr
    assert not record.exists()


def test_missing_builder_is_an_error_with_its_name(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTAINER_TOOL", "kaniko")
    run = run_build("name", "tag")
    assert run.returncode == 1
    assert "no kaniko to build with" in run.stderr


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda script: script.name)
def test_script_is_strict_and_begins_with_a_comment(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    assert script.stat().st_mode & 0o111


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_scripts_pass_shellcheck() -> None:
    subprocess.run(["shellcheck", *SHELL_SCRIPTS], check=True)


def test_wheel_contains_only_the_package_with_its_py_typed_marker_and_its_pages(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", tmp_path], cwd=TOP, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "image_puller/py.typed" in names
    folder = TOP / "service" / "image_puller" / "http" / "templates"
    pages = {f"image_puller/http/templates/{file.name}" for file in folder.iterdir()}
    assert "image_puller/http/templates/overview.html" in pages
    assert pages <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "image_puller",
        "kubernetes_image_puller",
    }


def test_pre_commit_hooks_run_programs_that_make_installs() -> None:
    config = yaml.safe_load((TOP / ".pre-commit-config.yaml").read_text())
    entries = [hook["entry"].split() for repo in config["repos"] for hook in repo["hooks"]]
    assert {entry[0].split("/")[0] for entry in entries} == {".venv"}
    scripts = [part for entry in entries for part in entry if part.startswith("build/")]
    assert scripts == ["build/prose.py"]
    assert (TOP / scripts[0]).is_file()
