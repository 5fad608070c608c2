"""The verification: which pushes a registry is asked about, and what its answers change. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from enum import Enum, auto

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.core.changes import (
    AwaitVerification,
    Change,
    CheckDaemonSet,
    RegistryAnswer,
    TrackTag,
    UntrackTag,
)
from image_puller.values.answers import Absent, Answer, OtherArtifact, Present, Unanswered
from image_puller.values.reference import Reference


class Trust(Enum):
    """How far a sender is trusted."""

    FULL = auto()
    """A push counts. Its registry is asked for what the push lacks."""
    AFTER_VERIFICATION = auto()
    """A push counts once its registry has confirmed it (`VERIFY_PUSHES`)."""
    NONE = auto()
    """A push only makes the service ask the registry (`EVENT_AUTH=none`)."""


NOT_ASKED = Unanswered("its registry was not asked: the request has too many pushes to ask about")


def questions(config: Config, changes: Iterable[Change], trust: Trust) -> tuple[Reference, ...]:
    """Return what to ask registries before the changes are decided: each once, and bounded."""
    asked = dict.fromkeys(
        _reference(config, change)
        for change in changes
        if isinstance(change, TrackTag) and _needs_answer(change, trust)
    )
    return tuple(asked)[: limits.QUESTIONS]


def settle(
    config: Config,
    changes: Iterable[Change],
    trust: Trust,
    answers: Mapping[Reference, Answer],
    *,
    asked: datetime,
) -> tuple[Change, ...]:
    """Return the changes as far as the sender is trusted. `asked` is when registries were asked."""
    return tuple(_settle(config, change, trust, answers, asked) for change in changes)


def reasons(answers: Mapping[Reference, Answer]) -> tuple[str, ...]:
    """Return why registries did not answer, each reason once."""
    unanswered = (answer for answer in answers.values() if isinstance(answer, Unanswered))
    return tuple(dict.fromkeys(answer.reason for answer in unanswered))


def _settle(
    config: Config,
    change: Change,
    trust: Trust,
    answers: Mapping[Reference, Answer],
    asked: datetime,
) -> Change:
    if isinstance(change, UntrackTag):
        return change if trust is Trust.FULL else CheckDaemonSet()
    if not isinstance(change, TrackTag) or not _needs_answer(change, trust):
        return change
    answer = answers.get(_reference(config, change), NOT_ASKED)
    return _answered(config, change, trust, answer, asked)


def _answered(
    config: Config, push: TrackTag, trust: Trust, answer: Answer, asked: datetime
) -> Change:
    reference = _reference(config, push)
    match answer:
        case Present(digest) if trust is Trust.NONE:
            return _from_registry(config, push, digest, asked)
        case Present(digest) if push.digest in (None, digest):
            return replace(push, digest=digest)
        case Present(digest):
            return _unconfirmed(push, trust, f"{reference.registry} has {digest} for {push.tag}")
        case OtherArtifact(digest, kind):
            return RegistryAnswer(
                entry=push.entry, tag=push.tag, digest=digest, time=asked, other_kind=kind
            )
        case Absent():
            return _unconfirmed(push, trust, f"{reference.registry} has no {reference}")
        case Unanswered(reason):
            return _unconfirmed(push, trust, reason)


def _reference(config: Config, push: TrackTag) -> Reference:
    return config.entry(push.entry).reference_of(push.tag)


def _needs_answer(push: TrackTag, trust: Trust) -> bool:
    return trust is not Trust.FULL or push.digest is None


def _from_registry(config: Config, push: TrackTag, digest: str, asked: datetime) -> Change:
    """Return the registry's answer as a change.

    Where the policy orders tags by time, the time of the request would make the tag the newest.
    There, a check is enough.
    """
    entry = config.entry(push.entry)
    if entry.policy.orders_tags or push.tag == entry.tag:
        return RegistryAnswer(entry=push.entry, tag=push.tag, digest=digest, time=asked)
    return CheckDaemonSet()


def _unconfirmed(push: TrackTag, trust: Trust, reason: str) -> Change:
    match trust:
        case Trust.FULL:
            # One pull too many is cheaper than a stale image. The kubelet retries a tag that can't
            # be pulled yet.
            return push
        case Trust.AFTER_VERIFICATION:
            return AwaitVerification(
                entry=push.entry,
                tag=push.tag,
                digest=push.digest,
                time=push.time,
                reason=reason,
                own_clock=push.own_clock,
            )
        case Trust.NONE:
            return CheckDaemonSet()
