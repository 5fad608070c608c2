"""Every sender's request to the events that it means: one module and one row for each source."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from image_puller.errors import BadEventError
from image_puller.events import cloudevents_http
from image_puller.events.cloudevents_http import CloudEvent
from image_puller.events.event import Event, Ignored
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
from image_puller.events.sources.proof import Proof, Signature
from image_puller.events.sources.reasons import Reason
from image_puller.limits import PUSH_SECONDS

_COMPRESSIONS = ("gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd")
"""A small body could grow without bound; no sender that is known here compresses."""
_STATIC = Proof(authorization=True)
_IN_PATH = Proof(authorization=True, in_path=True)
_GITHUB = Signature(header="x-hub-signature-256", prefix="sha256=")


def _read_json(_headers: Mapping[str, str], body: bytes) -> Any:
    return load(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is special about one sender.

    `decode` reads its own payload, also where that comes wrapped in a CloudEvent; `read` finds
    that in a request which is not JSON alone. `types` has the CloudEvents that are its own, by the
    beginning of their type; one of any other type that comes on its path is read by `decode_other`,
    or as its wrapped payload. `proof` is how it proves itself, and `timeout` how many seconds it
    waits for an answer, less a margin. `handshake` has the answer to what is no event, but a
    question that it wants answered before it sends any.
    """

    name: str
    decode: Callable[[Any], Iterable[Event]]
    types: Mapping[str, Callable[[CloudEvent], Iterable[Event]]] = field(default_factory=dict)
    decode_other: Callable[[CloudEvent], Iterable[Event]] | None = None
    read: Callable[[Mapping[str, str], bytes], Any] = _read_json
    proof: Proof = _STATIC
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
            Source(name="quay", decode=quay.decode, proof=_IN_PATH, timeout=8),
            Source(name="distribution", decode=distribution.decode, timeout=0.8),
            Source(name="gitlab", decode=distribution.decode, timeout=0.8),
            Source(name="dockerhub", decode=dockerhub.decode, proof=_IN_PATH),
            Source(
                name="github",
                decode=github.decode,
                read=form.read,
                proof=Proof(signatures=(_GITHUB,)),
                timeout=8,
            ),
            Source(
                name="acr",
                decode=acr.decode,
                types={"Microsoft.ContainerRegistry.": acr.decode_event},
                proof=_IN_PATH,  # Event Grid; a webhook can have headers
                handshake=acr.handshake,
            ),
            Source(
                name="ecr",
                decode=ecr.decode,
                types={"com.amazon.ecr.": ecr.decode_event},
                proof=Proof(authorization=True, headers=("x-api-key",)),
                timeout=4,
            ),
            Source(
                name="gar",
                decode=gar.decode,
                types={"google.cloud.pubsub.": gar.decode_event},
                read=gar.read,
                proof=_IN_PATH,
            ),
            Source(
                name="jfrog",
                decode=jfrog.decode,
                proof=Proof(
                    headers=("x-jfrog-event-auth",),
                    signatures=(Signature(header="x-jfrog-event-auth"),),
                ),
            ),
            Source(
                name="nexus",
                decode=nexus.decode,
                proof=Proof(
                    signatures=(Signature(header="x-nexus-webhook-signature", algorithm="sha1"),)
                ),
            ),
            Source(
                name="gitea",
                decode=gitea.decode,
                read=form.read,
                proof=Proof(
                    signatures=(
                        Signature(header="x-gitea-signature"),
                        Signature(header="x-forgejo-signature"),
                        _GITHUB,
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
            Source(name="aliyun", decode=aliyun.decode, proof=_IN_PATH),
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
    encoding = headers.get("content-encoding", "")
    if encoding.strip().lower() in _COMPRESSIONS:
        raise BadEventError(f"a body with Content-Encoding {encoding.strip()} is never unpacked")
    events = cloudevents_http.read(headers, body)
    if events is not None:
        return (found for event in events for found in _decode_event(source, event))
    if source.tests_with_empty_body and not body.strip():
        return (Ignored(reason=Reason.TEST),)
    return source.decode(source.read(headers, body))


def _decode_event(source: Source, event: CloudEvent) -> Iterable[Event]:
    # `POST /` takes every registry's own CloudEvents; a registry's path only that registry's.
    owners = SOURCES.values() if source is _CLOUDEVENTS else (source,)
    for owner in owners:
        for beginning, decode_event in owner.types.items():
            if event.type.startswith(beginning):
                return decode_event(event)
    if source.decode_other:
        return source.decode_other(event)
    return source.decode(event.json())
