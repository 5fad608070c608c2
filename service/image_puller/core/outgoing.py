"""The events that the service sends to its sink, as CloudEvents. Pure.

`docs/events.md` describes them, and `docs/events` has a JSON schema of the data of each type.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, assert_never

from image_puller.config.configuration import Config
from image_puller.core.health import Degraded, HealthChange
from image_puller.core.progress import (
    ImageFailing,
    ImageRecovered,
    NodeWarm,
    Notice,
    OnAllNodes,
    RolloutComplete,
    RolloutStarted,
)

PREFIX = "io.image-puller."


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingEvent:
    """An event to send. A repeat of the event, also by another process, has the same id."""

    id: str
    type: str
    source: str
    subject: str
    data: Mapping[str, Any]


def of_notice(config: Config, notice: Notice) -> OutgoingEvent:
    """Return the event of a notice about the group of a configuration."""
    kind, subject, data = _described(config, notice)
    return OutgoingEvent(
        id=notice.key,
        type=f"{PREFIX}{kind}",
        source=_source(config),
        subject=subject,
        data={"group": notice.group, "repeated": notice.is_repeated, **data},
    )


def of_health(config: Config, change: HealthChange) -> OutgoingEvent:
    """Return the event of a change of the health of a configuration's group."""
    since = change.since.isoformat().replace("+00:00", "Z")
    data: dict[str, Any] = {"group": config.group, "since": since}
    if isinstance(change, Degraded):
        kind = "health.degraded"
        data["problems"] = [
            {"kind": each.kind, "message": each.message} for each in change.problems
        ]
    else:
        kind, data["seconds"] = "health.restored", change.seconds
    return OutgoingEvent(
        id=f"{kind}/{since}",
        type=f"{PREFIX}{kind}",
        source=_source(config),
        subject=config.daemonset_name,
        data=data,
    )


def _source(config: Config) -> str:
    """Return the path of the DaemonSet in the API, which names the group in the cluster."""
    return f"/apis/apps/v1/namespaces/{config.namespace}/daemonsets/{config.daemonset_name}"


def _described(config: Config, notice: Notice) -> tuple[str, str, dict[str, Any]]:
    """Return the type without its prefix, the subject, and what the data have of this type."""
    match notice:
        case RolloutStarted():
            return "rollout.started", config.daemonset_name, _rollout(notice)
        case RolloutComplete():
            data = _rollout(notice)
            data |= {"notReady": notice.not_ready, "seconds": notice.seconds}
            return "rollout.complete", config.daemonset_name, data
        case OnAllNodes():
            data = _image(notice)
            data |= {"digest": notice.digest, "nodes": notice.nodes, "seconds": notice.seconds}
            data |= {"since": "push" if notice.is_since_push else "rollout"}
            return "image.on-all-nodes", notice.image, data
        case ImageFailing():
            data = _image(notice)
            data |= {"nodes": notice.nodes, "reason": notice.reason}
            return "image.failing", notice.image, data
        case ImageRecovered():
            return "image.recovered", notice.image, _image(notice) | {"desired": notice.is_desired}
        case NodeWarm():
            return "node.warm", notice.node, {"node": notice.node, "seconds": notice.seconds}
    assert_never(notice)


def _rollout(notice: RolloutStarted | RolloutComplete) -> dict[str, Any]:
    return {
        "template": notice.template,
        "images": [asdict(each) for each in notice.changed],
        "nodes": notice.nodes,
    }


def _image(notice: OnAllNodes | ImageFailing | ImageRecovered) -> dict[str, Any]:
    return {"entry": notice.entry, "image": notice.image}
