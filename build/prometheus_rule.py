"""Print deploy/monitoring/prometheusrule.yaml: the alerts of the chart, for `kubectl apply`."""

import sys
from pathlib import Path
from textwrap import indent

ALERTS = Path(__file__).parents[1] / "deploy" / "helm" / "files" / "alerts.yaml"

HEAD = """\
# `make docs` makes this file from deploy/helm/files/alerts.yaml.
# Where the job of your metrics has another name than kubernetes-image-puller, replace it.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: kubernetes-image-puller
spec:
"""

_, _, groups = ALERTS.read_text("utf-8").partition("\ngroups:\n")
sys.stdout.write(HEAD + indent(f"groups:\n{groups}", "  "))
