"""Print deploy/helm/files/dashboard.json: the dashboard for Grafana, as `make docs` writes it.

In queries, OURS stands for the labels that choose an installation, and GROUP for those and a group.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

OURS = 'namespace=~"$namespace", job=~"$job"'
GROUP = f'{OURS}, group=~"$group"'
COLUMNS = 24
HEIGHT = {"stat": 4, "row": 1}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
YES_OR_NO = [
    {
        "type": "value",
        "options": {
            "0": {"text": "no", "color": "red", "index": 0},
            "1": {"text": "yes", "color": "green", "index": 1},
        },
    }
]

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel. `queries` has each query with the name of its series."""

    title: str
    description: str
    queries: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    stacked: bool = False
    yes_or_no: bool = False


def quantiles(histogram: str, by: str, name: str) -> Sequence[tuple[str, str]]:
    """Return the queries of the median and of the 95th percentile, over an hour each."""
    return [
        (
            (
                f"histogram_quantile({quantile}, sum by (le, {by}) "
                f"(increase({histogram}_bucket{{GROUP}}[1h])))"
            ),
            f"p{int(100 * quantile)} {name}",
        )
        for quantile in (0.5, 0.95)
    ]


PANELS: Sequence[str | Panel] = (
    "Now",
    Panel(
        title="Warm nodes",
        description="Nodes that hold every desired image.",
        kind="stat",
        width=4,
        queries=[
            (
                'sum(max by (namespace, job, group) (image_puller_nodes{GROUP, state="warm"}))',
                "warm",
            )
        ],
    ),
    Panel(
        title="Other nodes",
        description="Nodes that lack an image, are not ready, or have no pod.",
        kind="stat",
        width=4,
        queries=[
            (
                (
                    "sum(max by (namespace, job, group, state) "
                    '(image_puller_nodes{GROUP, state!="warm"}))'
                ),
                "others",
            )
        ],
    ),
    Panel(
        title="Problems",
        description="What a person must solve. `image-puller status` shows what to do.",
        kind="stat",
        width=4,
        queries=[
            (
                "sum(max by (namespace, job, group, kind) (image_puller_problems{GROUP}))",
                "problems",
            )
        ],
    ),
    Panel(
        title="Last push",
        description="The time since the last push that was received.",
        kind="stat",
        unit="s",
        width=4,
        queries=[
            ("time() - max(image_puller_last_push_timestamp_seconds{OURS})", "since the last push")
        ],
    ),
    Panel(
        title="Last check",
        description="The time since the last check, of the group that was checked the longest ago.",
        kind="stat",
        unit="s",
        width=4,
        queries=[
            (
                (
                    "time() - min(max by (namespace, job, group) "
                    "(image_puller_last_check_timestamp_seconds{GROUP}))"
                ),
                "since the last check",
            )
        ],
    ),
    Panel(
        title="Processes",
        description="The processes of the service, by version.",
        kind="stat",
        width=4,
        queries=[("count by (version) (image_puller_build_info{OURS})", "{{version}}")],
    ),
    "Nodes and images",
    Panel(
        title="Nodes by state",
        description="The selected nodes of each group.",
        stacked=True,
        queries=[("max by (group, state) (image_puller_nodes{GROUP})", "{{group}} {{state}}")],
    ),
    Panel(
        title="Images by state",
        description="Each desired image on each node counts once.",
        stacked=True,
        queries=[
            (
                (
                    "sum by (state) (max by (namespace, job, group, entry, role, state) "
                    "(image_puller_image_nodes{GROUP}))"
                ),
                "{{state}}",
            )
        ],
    ),
    Panel(
        title="Nodes that lack an image",
        description="By entry, and by the state of the image there.",
        queries=[
            (
                (
                    "sum by (group, entry, state) "
                    "(max by (namespace, job, group, entry, role, state) "
                    '(image_puller_image_nodes{GROUP, state!="held"})) > 0'
                ),
                "{{group}} {{entry}} {{state}}",
            )
        ],
    ),
    Panel(
        title="Tags that reach no node",
        description="Quarantined and refused tags, and pushes that wait for their registry.",
        queries=[
            (
                "max by (group, entry) (image_puller_quarantined_tags{GROUP}) > 0",
                "{{group}} {{entry}} quarantined",
            ),
            (
                "max by (group, entry) (image_puller_refused_tags{GROUP}) > 0",
                "{{group}} {{entry}} refused",
            ),
            (
                "max by (group, entry) (image_puller_unverified_pushes{GROUP}) > 0",
                "{{group}} {{entry}} unverified",
            ),
        ],
    ),
    "Rollouts",
    Panel(
        title="Rollout",
        description="The state of the rollout of each group.",
        kind="state-timeline",
        yes_or_no=True,
        queries=[("max by (group, state) (image_puller_rollout{GROUP})", "{{group}} {{state}}")],
    ),
    Panel(
        title="Start of the rollout",
        description="The time since the last rollout of each group began.",
        unit="s",
        queries=[
            (
                "time() - max by (group) (image_puller_rollout_start_timestamp_seconds{GROUP})",
                "{{group}}",
            )
        ],
    ),
    Panel(
        title="From a push to all nodes",
        description="The seconds from a push until every node holds the image, of the last hour.",
        unit="s",
        queries=quantiles("image_puller_push_to_nodes_seconds", "group, entry", "{{entry}}"),
    ),
    Panel(
        title="Pulls",
        description="The seconds that a node pulled an image, of the last hour.",
        unit="s",
        queries=quantiles("image_puller_pull_seconds", "group, entry", "{{entry}}"),
    ),
    Panel(
        title="From a node's creation to all images",
        description="The seconds until a node that joined held all its images, of the last hour.",
        unit="s",
        queries=quantiles("image_puller_node_warm_seconds", "group", "{{group}}"),
    ),
    Panel(
        title="Nodes that lost the startup taint",
        description="Nodes that became warm, and nodes whose time was over before.",
        stacked=True,
        queries=[
            (
                (
                    "sum by (reason) "
                    "(increase(image_puller_node_startup_releases_total{OURS}[$__rate_interval]))"
                ),
                "{{reason}}",
            )
        ],
    ),
    "Events",
    Panel(
        title="Events by outcome",
        description="What senders, nodes and checks reported, and what was decided.",
        stacked=True,
        queries=[
            (
                "sum by (outcome) (increase(image_puller_events_total{OURS}[$__rate_interval]))",
                "{{outcome}}",
            )
        ],
    ),
    Panel(
        title="Rejected requests",
        description="Requests that were answered 4xx or 503, and connections that were closed.",
        stacked=True,
        queries=[
            (
                (
                    "sum by (source, status) "
                    "(increase(image_puller_requests_rejected_total{OURS}[$__rate_interval]))"
                ),
                "{{source}} {{status}}",
            ),
            (
                (
                    "sum by (reason) "
                    "(increase(image_puller_connections_refused_total{OURS}[$__rate_interval]))"
                ),
                "{{reason}}",
            ),
        ],
    ),
    "Problems",
    Panel(
        title="Problems by kind",
        description="What a person must solve. `image-puller status` shows what to do.",
        stacked=True,
        queries=[
            (
                "max by (group, kind) (image_puller_problems{GROUP}) > 0",
                "{{group}} {{kind}}",
            ),
            (
                "max(image_puller_malformed_entries{OURS}) > 0",
                "malformed entries",
            ),
            (
                "max(image_puller_registry_problems{OURS}) > 0",
                "registries without an answer",
            ),
        ],
    ),
    Panel(
        title="In charge",
        description="Whether each process is in charge of the DaemonSet of each group.",
        kind="state-timeline",
        yes_or_no=True,
        queries=[
            ("max by (instance, group) (image_puller_in_charge{GROUP})", "{{instance}} {{group}}")
        ],
    ),
    "Registries and API server",
    Panel(
        title="Reachable",
        description="Whether the API server and each registry answered the last time.",
        kind="state-timeline",
        yes_or_no=True,
        queries=[
            ("max(image_puller_api_server_reachable{OURS})", "API server"),
            ("max by (registry) (image_puller_registry_reachable{OURS})", "{{registry}}"),
        ],
    ),
    Panel(
        title="Checks",
        description="Whether the last check of each group was successful.",
        kind="state-timeline",
        yes_or_no=True,
        queries=[("max by (group) (image_puller_last_check_success{GROUP})", "{{group}}")],
    ),
    Panel(
        title="Commits",
        description="The seconds that a commit took, of the last hour.",
        unit="s",
        queries=quantiles("image_puller_commit_seconds", "group", "{{group}}"),
    ),
    Panel(
        title="CloudEvents",
        description="Events for the sink, by outcome. There are none without `K_SINK`.",
        queries=[
            (
                (
                    "sum by (outcome) "
                    "(increase(image_puller_cloudevents_total{OURS}[$__rate_interval]))"
                ),
                "{{outcome}}",
            )
        ],
    ),
    Panel(
        title="Writes",
        description="Writes, lost races, and pushes that shared the write of another one.",
        queries=[
            (
                "sum by (group) (increase(image_puller_writes_total{GROUP}[$__rate_interval]))",
                "{{group}} writes",
            ),
            (
                "sum by (group) (increase(image_puller_conflicts_total{GROUP}[$__rate_interval]))",
                "{{group}} lost races",
            ),
            (
                (
                    "sum by (group) "
                    "(increase(image_puller_coalesced_pushes_total{GROUP}[$__rate_interval]))"
                ),
                "{{group}} shared writes",
            ),
        ],
    ),
)


def dashboard() -> Json:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "kubernetes-image-puller",
        "title": "Kubernetes Image Puller",
        "description": "Which nodes hold which images, and what keeps the others from it.",
        "tags": ["kubernetes", "images"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": list(variables())},
        "panels": list(panels()),
    }


def variables() -> Iterator[Json]:
    """Return the variables: the data source, and what is chosen of it."""
    yield {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
    }
    yield _choice("namespace", "Namespace", "image_puller_build_info")
    yield _choice("job", "Job", 'image_puller_build_info{namespace=~"$namespace"}')
    yield _choice("group", "Group", f"image_puller_in_charge{{{OURS}}}")


def _choice(label: str, title: str, series: str) -> Json:
    query = f"label_values({series}, {label})"
    return {
        "type": "query",
        "name": label,
        "label": title,
        "datasource": DATASOURCE,
        "query": query,
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def panels() -> Iterator[Json]:
    """Return the panels, from left to right and from top to bottom."""
    x = y = below = 0
    for number, each in enumerate(PANELS, 1):
        kind, width = ("row", COLUMNS) if isinstance(each, str) else (each.kind, each.width)
        height = HEIGHT.get(kind, 8)
        if x + width > COLUMNS:
            x, y = 0, below
        place = {"x": x, "y": y, "w": width, "h": height}
        x, below = x + width, y + height
        content = _row(each) if isinstance(each, str) else _panel(each)
        yield {"id": number, "gridPos": place, **content}


def _row(title: str) -> Json:
    return {"type": "row", "title": title, "collapsed": False, "panels": []}


def _panel(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit, "min": 0}
    if panel.yes_or_no:
        defaults["mappings"] = YES_OR_NO
    if panel.stacked:
        defaults["custom"] = {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 30}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": OPTIONS[panel.kind],
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": query.replace("GROUP", GROUP).replace("OURS", OURS),
                "legendFormat": name,
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
            }
            for number, (query, name) in enumerate(panel.queries)
        ],
    }


LEGEND: Json = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
OPTIONS: dict[str, Json] = {
    "timeseries": {"legend": LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "state-timeline": {
        "mergeValues": True,
        "showValue": "auto",
        "rowHeight": 0.9,
        "legend": LEGEND,
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "stat": {
        "colorMode": "none",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=2) + "\n")
