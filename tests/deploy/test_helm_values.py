"""docs/install/helm-values.md has a row for each value of the chart, with its variable."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.chart import CHART, SET_BY_KNATIVE, SET_BY_THE_CHART, value_paths
from tests.support.environment import variables

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "install" / "helm-values.md"


def render_page(chart: Path) -> "subprocess.CompletedProcess[str]":
    """Run build/helm_values.py, which prints the page of a chart."""
    command = (sys.executable, TOP / "build" / "helm_values.py", chart)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rows() -> list[list[str]]:
    """Return the cells of each row of the page, without header rows."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [re.split(r" \| ", line.removeprefix("| ").removesuffix(" |")) for line in lines]


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """Copy the chart's files that the script reads, and return their folder."""
    for name in ("values.yaml", "values.schema.json"):
        shutil.copy(CHART / name, tmp_path)
    return tmp_path


def test_page_is_the_output_of_make_docs() -> None:
    result = render_page(CHART)
    assert result.returncode == 0, result.stderr
    assert PAGE.read_text() == result.stdout, "run `make docs`"


def test_page_has_each_value_of_the_chart_once() -> None:
    names = [row[0].strip("`") for row in rows()]
    all_paths = value_paths()
    sections = {path.rpartition(".")[0] for path in all_paths}
    assert len(names) == len(set(names))
    assert set(names) == all_paths - sections


def test_each_row_of_the_config_map_has_its_variable() -> None:
    names = {row[1].strip("`") for row in rows() if row[0].startswith("`configMap.")}
    assert names - {""} == variables() - SET_BY_THE_CHART - SET_BY_KNATIVE


def test_each_row_has_a_default_and_a_description() -> None:
    for row in rows():
        assert len(row) == (4 if row[0].startswith("`configMap.") else 3), row
        assert re.fullmatch(r"`.+`", row[-2]), row
        assert re.fullmatch(r"[A-Z].*\.", row[-1]), row


@pytest.mark.parametrize("name", ["replicas", "image.tag", "configMap.keepTags", "ingress"])
def test_value_without_a_comment_is_an_error(chart: Path, name: str) -> None:
    file = chart / "values.yaml"
    section, _, key = name.rpartition(".")
    beginning = re.escape(f"\n{section}:\n") + r"(?:  .*\n)*?" if section else r"\n"
    indent = "  " if section else ""
    pattern = rf"({beginning})(?:{indent}# .*\n)+({indent}{key}:)"
    text, replaced = re.subn(pattern, r"\1\2", file.read_text())
    assert replaced == 1
    file.write_text(text)
    result = render_page(chart)
    assert result.returncode == 1
    assert result.stderr == f"build/helm_values.py: {name}: values.yaml has no comment above it\n"


def test_value_that_is_missing_in_the_schema_is_an_error(chart: Path) -> None:
    file = chart / "values.schema.json"
    schema: dict[str, Any] = json.loads(file.read_text())
    del schema["properties"]["image"]["properties"]["digest"]
    file.write_text(json.dumps(schema))
    result = render_page(chart)
    assert result.returncode == 1
    assert (
        result.stderr == "build/helm_values.py: image.digest: values.schema.json does not have it\n"
    )
