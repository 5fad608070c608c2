"""promtool of Prometheus, which evaluates the alerts over time."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

RULES = Path(__file__).parents[2] / "deploy" / "helm" / "files" / "alerts.yaml"
JOB = "kubernetes-image-puller"

_FOLDERS = (str(Path(sys.executable).parent), os.environ["PATH"])
_FIRED = re.compile(r'Labels:\{alertname="(\w+)"')


def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run promtool. Skip the test where it is missing, but not in CI."""
    program = shutil.which("promtool", path=os.pathsep.join(_FOLDERS))
    if program is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("promtool is missing: make .venv/bin/promtool")
    return subprocess.run((program, *arguments), capture_output=True, text=True, check=False)


def rules() -> dict[str, dict[str, Any]]:
    """Return the alerts, by name."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def series(text: str | None, instance: str = "a") -> dict[str, float]:
    """Return what Prometheus stores of the metrics of a process. None if it did not answer."""
    target = {"job": JOB, "namespace": "k8s-image-puller", "instance": instance}
    found = {_name("up", target): 0.0 if text is None else 1.0}
    for family in text_string_to_metric_families(text or ""):
        found |= {_name(each.name, each.labels | target): each.value for each in family.samples}
    return found


def firing(
    folder: Path, scrapes: Sequence[Mapping[str, float]], *, began: datetime, step: int
) -> frozenset[str]:
    """Return the alerts that fire at the last scrape. `step` minutes are between two."""
    end = step * (len(scrapes) - 1)
    names = sorted({name for scrape in scrapes for name in scrape})
    test = {
        "interval": f"{step}m",
        "start_timestamp": began.timestamp(),
        "input_series": [{"series": name, "values": _values(scrapes, name)} for name in names],
        # No alert is expected, so promtool prints those that fire.
        "alert_rule_test": [
            {"alertname": name, "eval_time": f"{end}m", "exp_alerts": []} for name in rules()
        ],
    }
    file = folder / "alerts.yaml"
    content = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
    file.write_text(yaml.safe_dump(content))
    result = run("test", "rules", file)
    output = result.stdout + result.stderr
    assert result.returncode == 0 or "FAILED:" in output, output
    return frozenset(_FIRED.findall(output))


def _values(scrapes: Sequence[Mapping[str, float]], name: str) -> str:
    """Return the values of a series, as promtool reads them."""
    return " ".join(repr(scrape[name]) if name in scrape else "_" for scrape in scrapes)


def _name(name: str, labels: Mapping[str, str]) -> str:
    written = ", ".join(f"{key}={json.dumps(value)}" for key, value in sorted(labels.items()))
    return f"{name}{{{written}}}"
