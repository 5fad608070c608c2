"""promtool of Prometheus, which evaluates the alerts over time."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
_ANSWERED = re.compile(r'(?m)^ *expr: (".*"), time:')


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


@dataclass(frozen=True, kw_only=True)
class Scrapes:
    """What Prometheus got of all scrapes, the oldest first. `step` minutes are between two."""

    values: Sequence[Mapping[str, float]]
    began: datetime
    step: int

    def firing(self, folder: Path) -> frozenset[str]:
        """Return the alerts that fire at the last scrape."""
        # No alert is expected, so promtool prints those that fire.
        tests = [{"alertname": name, "eval_time": self._end, "exp_alerts": []} for name in rules()]
        return frozenset(_FIRED.findall(self._output(folder, "alert_rule_test", tests)))

    def answered(self, folder: Path, queries: Iterable[str]) -> frozenset[str]:
        """Return those queries that have a result at the last scrape."""
        tests = [{"expr": each, "eval_time": self._end, "exp_samples": []} for each in queries]
        found = _ANSWERED.findall(self._output(folder, "promql_expr_test", tests))
        return frozenset(json.loads(each) for each in found)

    @property
    def _end(self) -> str:
        return f"{self.step * (len(self.values) - 1)}m"

    def _output(self, folder: Path, kind: str, tests: Sequence[Mapping[str, Any]]) -> str:
        names = sorted({name for each in self.values for name in each})
        test = {
            "interval": f"{self.step}m",
            "start_timestamp": self.began.timestamp(),
            "input_series": [{"series": name, "values": self._of(name)} for name in names],
            kind: tests,
        }
        file = folder / "promtool.yaml"
        content = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
        file.write_text(yaml.safe_dump(content))
        result = run("test", "rules", file)
        output = result.stdout + result.stderr
        assert result.returncode == 0 or "FAILED:" in output, output
        return output

    def _of(self, name: str) -> str:
        """Return the values of a series, as promtool reads them."""
        return " ".join(repr(each[name]) if name in each else "_" for each in self.values)


def _name(name: str, labels: Mapping[str, str]) -> str:
    written = ", ".join(f"{key}={json.dumps(value)}" for key, value in sorted(labels.items()))
    return f"{name}{{{written}}}"
