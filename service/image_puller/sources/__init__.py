"""Every sender's request to the events that it means: one module and one row for each source."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from image_puller import cloudevents_http
from image_puller.cloudevents_http import CloudEvent
from image_puller.events import Event, Ignored
from image_puller.limits import PUSH_SECONDS
from image_puller.payload import load
from image_puller.sources import cloudevents, distribution, harbor, quay
from image_puller.sources.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is special about one sender.

    `decode` reads its own payload, also where that comes wrapped in a CloudEvent. `types` has the
    CloudEvents that are its own, by the beginning of their type. `patience` is how many seconds
    it waits for an answer, less a margin. `secret_in_path` allows the secret as the last part of
    the path, for senders that can prove themselves by nothing else.
    """

    name: str
    decode: Callable[[Any], Iterable[Event]]
    types: Mapping[str, Callable[[CloudEvent], Iterable[Event]]] = field(default_factory=dict)
    patience: float = PUSH_SECONDS
    tests_with_empty_body: bool = False
    secret_in_path: bool = False


_CLOUDEVENTS = Source(
    name="cloudevents", decode=cloudevents.decode, types={"": cloudevents.decode_event}
)

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        source.name: source
        for source in (
            Source(
                name="harbor",
                decode=harbor.decode,
                types={"harbor.": harbor.decode_event},
                tests_with_empty_body=True,  # 1.9 to 2.7
            ),
            Source(name="quay", decode=quay.decode, patience=8, secret_in_path=True),
            Source(name="distribution", decode=distribution.decode, patience=0.8),
            Source(name="gitlab", decode=distribution.decode, patience=0.8),
            _CLOUDEVENTS,  # the last: any type is its own
        )
    }
)
"""The senders by name, which is also the last part of their path."""


def decode(source: str, headers: Mapping[str, str], body: bytes) -> tuple[Event, ...]:
    """The events of one request to the source of that name, at least one; or BadEventError.

    Header names are in lower case. Nothing is looked up, and nobody is authenticated here.
    """
    return tuple(_decode(SOURCES[source], headers, body)) or (Ignored(reason=Reason.NO_EVENTS),)


def _decode(source: Source, headers: Mapping[str, str], body: bytes) -> Iterable[Event]:
    events = cloudevents_http.read(headers, body)
    if events is not None:
        return (found for event in events for found in _decode_event(source, event))
    if source.tests_with_empty_body and not body.strip():
        return (Ignored(reason=Reason.TEST),)
    return source.decode(load(body))


def _decode_event(source: Source, event: CloudEvent) -> Iterable[Event]:
    # `POST /` takes every registry's own CloudEvents; a registry's path only that registry's.
    owners = SOURCES.values() if source is _CLOUDEVENTS else (source,)
    for owner in owners:
        for beginning, decode_event in owner.types.items():
            if event.type.startswith(beginning):
                return decode_event(event)
    return source.decode(event.json())
