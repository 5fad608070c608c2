"""Decodes the requests of all sources. Each source has a row in a table, and a decoder."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Any

from image_puller.errors import BadEventError
from image_puller.events import cloudevents_http
from image_puller.events.cloudevents_http import CloudEvent
from image_puller.events.event import CheckRequested, Event, Ignored
from image_puller.events.payload import load
from image_puller.events.sources import (
    acr,
    aliyun,
    cdevents,
    cloudevents,
    distribution,
    dockerhub,
    ecr,
    form,
    gar,
    gitea,
    github,
    harbor,
    jfrog,
    nexus,
    quay,
    zot,
)
from image_puller.events.sources.reasons import Reason
from image_puller.events.sources.scheme import Scheme, Signature
from image_puller.limits import EVENTS, PUSH_SECONDS

_COMPRESSIONS = ("gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd")
"""No known sender compresses, and a small compressed body could exhaust the memory."""
_IN_HEADER = Scheme(authorization=True)
_IN_HEADER_OR_PATH = Scheme(authorization=True, in_path=True)
_GITHUB_SIGNATURE = Signature(header="x-hub-signature-256", prefix="sha256=")


def _read_json(_headers: Mapping[str, str], body: bytes) -> Any:
    return load(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """How to decode, authenticate and answer the requests of one source.

    `decode` decodes the source's own payload, which may also be the data of a CloudEvent.
    `types` has the decoders of the source's own CloudEvents, by the prefix of their type.
    `decode_other` decodes CloudEvents of other types. Without it their data goes to `decode`.
    `read` extracts the payload from a request. The default parses the body as JSON.
    `timeout` is how many seconds the sender waits for an answer, less a margin.
    `tests_with_empty_body`: the sender tests the webhook with an empty body.
    `handshake` returns the answer to a handshake, or None for any other request.
    """

    name: str
    decode: Callable[[Any], Iterable[Event]]
    types: Mapping[str, Callable[[CloudEvent], Iterable[Event]]] = field(default_factory=dict)
    decode_other: Callable[[CloudEvent], Iterable[Event]] | None = None
    read: Callable[[Mapping[str, str], bytes], Any] = _read_json
    scheme: Scheme = _IN_HEADER
    timeout: float = PUSH_SECONDS
    tests_with_empty_body: bool = False
    handshake: Callable[[bytes], Mapping[str, str] | None] | None = None


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
            Source(name="quay", decode=quay.decode, scheme=_IN_HEADER_OR_PATH, timeout=8),
            Source(name="distribution", decode=distribution.decode, timeout=0.8),
            Source(name="gitlab", decode=distribution.decode, timeout=0.8),
            Source(name="dockerhub", decode=dockerhub.decode, scheme=_IN_HEADER_OR_PATH),
            Source(
                name="github",
                decode=github.decode,
                read=form.read,
                scheme=Scheme(signatures=(_GITHUB_SIGNATURE,)),
                timeout=8,
            ),
            Source(
                name="acr",
                decode=acr.decode,
                types={"Microsoft.ContainerRegistry.": acr.decode_event},
                scheme=_IN_HEADER_OR_PATH,  # in the path for Event Grid; webhooks can set headers
                handshake=acr.handshake,
            ),
            Source(
                name="ecr",
                decode=ecr.decode,
                types={"com.amazon.ecr.": ecr.decode_event, ecr.SQS: ecr.decode_message},
                scheme=Scheme(authorization=True, headers=("x-api-key",), in_path=True),  # for SNS
                timeout=4,
            ),
            Source(
                name="gar",
                decode=gar.decode,
                types={"google.cloud.pubsub.": gar.decode_event},
                read=gar.read,
                scheme=_IN_HEADER_OR_PATH,
            ),
            Source(
                name="jfrog",
                decode=jfrog.decode,
                scheme=Scheme(
                    headers=("x-jfrog-event-auth",),
                    signatures=(Signature(header="x-jfrog-event-auth"),),
                ),
            ),
            Source(
                name="nexus",
                decode=nexus.decode,
                scheme=Scheme(
                    signatures=(Signature(header="x-nexus-webhook-signature", algorithm="sha1"),)
                ),
            ),
            Source(
                name="gitea",
                decode=gitea.decode,
                read=form.read,
                scheme=Scheme(
                    signatures=(
                        Signature(header="x-gitea-signature"),
                        Signature(header="x-forgejo-signature"),
                        _GITHUB_SIGNATURE,
                    )
                ),
                timeout=4,
            ),
            Source(
                name="zot",
                decode=zot.decode,
                types={"zotregistry.": zot.decode_event},
                decode_other=zot.decode_event,
            ),
            Source(
                name="cdevents",
                decode=cdevents.decode,
                types={cdevents.ARTIFACT: cdevents.decode_event},
            ),
            Source(name="aliyun", decode=aliyun.decode, scheme=_IN_HEADER_OR_PATH),
            _CLOUDEVENTS,  # last, because it takes events of any type
        )
    }
)
"""The sources by name, as in `/webhooks/<source>`."""


def decode(source: str, headers: Mapping[str, str], body: bytes) -> tuple[Event, ...]:
    """Return the events of one request to a source, at least one.

    Of a request with too many events the first ones are taken. A check finds the others' pushes.
    Header names are in lower case. The caller authenticates the sender. Raises BadEventError.
    """
    found = iter(_decode(SOURCES[source], headers, body))
    events = tuple(islice(found, EVENTS))
    if next(found, None) is not None:
        return (*events, Ignored(reason=Reason.TOO_MANY), CheckRequested())
    return events or (Ignored(reason=Reason.NO_EVENTS),)


def _decode(source: Source, headers: Mapping[str, str], body: bytes) -> Iterable[Event]:
    encoding = headers.get("content-encoding", "")
    if encoding.strip().lower() in _COMPRESSIONS:
        raise BadEventError(f"compressed bodies are not accepted: {encoding.strip()}")
    events = cloudevents_http.read(headers, body)
    if events is not None:
        return (found for event in events for found in _decode_event(source, event))
    if source.tests_with_empty_body and not body.strip():
        return (Ignored(reason=Reason.TEST),)
    return source.decode(source.read(headers, body))


def _decode_event(source: Source, event: CloudEvent) -> Iterable[Event]:
    # `POST /` takes the CloudEvents of every registry. Other paths take those of one registry.
    owners = SOURCES.values() if source is _CLOUDEVENTS else (source,)
    for owner in owners:
        for prefix, decode_event in owner.types.items():
            if event.type.startswith(prefix):
                return decode_event(event)
    if source.decode_other:
        return source.decode_other(event)
    return source.decode(event.json())
