"""docs/install/helm-values.md: a row for every value of the chart, with its variable."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.test_chart import BY_KNATIVE, BY_THE_CHART, CHART, paths, values, variables

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "install" / "helm-values.md"


def helm_values(chart: Path) -> "subprocess.CompletedProcess[str]":
    command = (sys.executable, TOP / "build" / "helm_values.py", chart)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rows() -> list[list[str]]:
    """Return the cells of each row of the page, without the heads of tables."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [re.split(r" \| ", line.removeprefix("| ").removesuffix(" |")) for line in lines]


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A copy of what the script reads of the chart."""
    for name in ("values.yaml", "values.schema.json"):
        shutil.copy(CHART / name, tmp_path)
    return tmp_path


def test_the_page_is_what_make_docs_makes():
    made = helm_values(CHART)
    assert made.returncode == 0, made.stderr
    assert PAGE.read_text() == made.stdout, "run `make docs`"


def test_the_page_has_every_value_of_the_chart():
    named = [row[0].strip("`") for row in rows()]
    every = set(paths(values(), lambda value: value))
    sections = {name.rpartition(".")[0] for name in every}
    assert len(named) == len(set(named))
    assert set(named) == every - sections


def test_each_value_of_the_config_map_names_its_variable():
    named = {row[1].strip("`") for row in rows() if row[0].startswith("`configMap.")}
    assert named - {""} == variables() - BY_THE_CHART - BY_KNATIVE


def test_each_row_has_a_default_and_a_description():
    for row in rows():
        assert len(row) == (4 if row[0].startswith("`configMap.") else 3), row
        assert re.fullmatch(r"`.+`", row[-2]), row
        assert re.fullmatch(r"[A-Z].*\.", row[-1]), row


@pytest.mark.parametrize("name", ["replicas", "image.tag", "configMap.keepTags", "ingress"])
def test_a_value_without_a_comment_is_refused(chart: Path, name: str):
    file = chart / "values.yaml"
    section, _, key = name.rpartition(".")
    beginning = re.escape(f"\n{section}:\n") + r"(?:  .*\n)*?" if section else r"\n"
    indent = "  " if section else ""
    pattern = rf"({beginning})(?:{indent}# .*\n)+({indent}{key}:)"
    text, replaced = re.subn(pattern, r"\1\2", file.read_text())
    assert replaced == 1
    file.write_text(text)
    made = helm_values(chart)
    assert made.returncode == 1
    assert made.stderr == f"build/helm_values.py: {name}: values.yaml has no comment above it\n"


def test_a_value_that_the_schema_lacks_is_refused(chart: Path):
    file = chart / "values.schema.json"
    schema: dict[str, Any] = json.loads(file.read_text())
    del schema["properties"]["image"]["properties"]["digest"]
    file.write_text(json.dumps(schema))
    made = helm_values(chart)
    assert made.returncode == 1
    assert (
        made.stderr == "build/helm_values.py: image.digest: values.schema.json does not have it\n"
    )
