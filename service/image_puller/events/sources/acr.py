"""Azure Container Registry: https://learn.microsoft.com/azure/container-registry/container-registry-webhook-reference.

Decodes its webhooks, and Event Grid in both schemas. The payload is one event of CNCF Distribution
without its envelope.
https://learn.microsoft.com/azure/event-grid/event-schema-container-registry
"""

from collections.abc import Iterable, Iterator
from typing import Any

from image_puller.errors import BadEventError
from image_puller.events.cloudevents_http import CloudEvent
from image_puller.events.event import Event, Ignored
from image_puller.events.payload import field, load, objects, quote
from image_puller.events.sources import distribution
from image_puller.events.sources.reasons import Reason

_ACTIONS = {
    "Microsoft.ContainerRegistry.ImagePushed": "push",
    "Microsoft.ContainerRegistry.ImageDeleted": "delete",
    "Microsoft.ContainerRegistry.ChartPushed": "chart_push",
    "Microsoft.ContainerRegistry.ChartDeleted": "chart_delete",
}
_REASONS = {
    "chart_push": Reason.CHART,
    "chart_delete": Reason.CHART,
    "ping": Reason.TEST,
}
_VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"


def decode(payload: Any) -> Iterator[Event]:
    """Yield the events of a webhook (an object), or of Event Grid in its own schema (a list)."""
    if not isinstance(payload, list):
        yield from _decode(payload)
        return
    for event in objects({"events": payload}, "events"):
        kind = field(event, "eventType", str)
        if kind == _VALIDATION:
            yield Ignored(reason=Reason.TEST)
        else:
            yield from _decode_typed(kind, event.get("data"))


def decode_event(event: CloudEvent) -> Iterable[Event]:
    """Return the events of a CloudEvent from Event Grid."""
    return _decode_typed(event.type, event.json())


def handshake(body: bytes) -> dict[str, str] | None:
    """Return the answer that Event Grid needs before it sends events, or None for other requests.

    It is needed for events in Event Grid's own schema:
    https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema
    """
    # The search in the bytes saves other requests a second parse.
    if _VALIDATION.encode() not in body:
        return None
    payload = load(body)
    if not isinstance(payload, list):
        return None
    for event in objects({"events": payload}, "events"):
        if event.get("eventType") == _VALIDATION:
            return {"validationResponse": field(event, "data.validationCode", str)}
    return None


def _decode_typed(kind: str, data: Any) -> Iterable[Event]:
    action = _ACTIONS.get(kind)
    if action is None:
        return (Ignored(reason=Reason.UNKNOWN_TYPE),)
    if field(data, "action", str) != action:
        raise BadEventError(f"'action' contradicts the type {kind}: {quote(data['action'])}")
    return _decode(data)


def _decode(event: Any) -> Iterable[Event]:
    reason = _REASONS.get(field(event, "action", str))
    return (Ignored(reason=reason),) if reason else distribution.decode({"events": [event]})
