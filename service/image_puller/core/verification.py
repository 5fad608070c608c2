"""What a push becomes once its registry was asked about it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from enum import Enum, auto

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.core.changes import Change, Follow, Forget, Found, Hold, Refresh
from image_puller.values.answers import Absent, Answer, Present, Unanswered
from image_puller.values.reference import Reference


class Trust(Enum):
    """How far a sender is believed."""

    WORD = auto()
    """What it says counts, and its registry fills in what it does not say."""
    CONFIRMED = auto()
    """What it says counts once its registry has confirmed it (`VERIFY_PUSHES`)."""
    HINT = auto()
    """It may say when to look, and nothing else (`EVENT_AUTH=none`)."""


NOT_ASKED = Unanswered("its registry was not asked: one request asks for too much")


def questions(config: Config, changes: Iterable[Change], trust: Trust) -> tuple[Reference, ...]:
    """What to ask registries before the changes can be decided, each once and not too many."""
    asked = dict.fromkeys(
        config.entry(change.entry).reference_of(change.tag)
        for change in changes
        if isinstance(change, Follow) and _is_open(change, trust)
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
    """The changes as far as they are believed; `asked` is when registries were asked."""
    return tuple(_settle(config, change, trust, answers, asked) for change in changes)


def _settle(
    config: Config,
    change: Change,
    trust: Trust,
    answers: Mapping[Reference, Answer],
    asked: datetime,
) -> Change:
    if isinstance(change, Forget):
        return change if trust is Trust.WORD else Refresh()
    if not isinstance(change, Follow) or not _is_open(change, trust):
        return change
    reference = config.entry(change.entry).reference_of(change.tag)
    return _answered(config, change, trust, answers.get(reference, NOT_ASKED), asked)


def _answered(
    config: Config, change: Follow, trust: Trust, answer: Answer, asked: datetime
) -> Change:
    reference = config.entry(change.entry).reference_of(change.tag)
    match answer:
        case Present(digest) if trust is Trust.HINT:
            return _hinted(config, change, digest, asked)
        case Present(digest) if change.digest in (None, digest):
            return replace(change, digest=digest)
        case Present(digest):
            return _unconfirmed(change, trust, f"{reference.registry} has {digest} there")
        case Absent():
            return _unconfirmed(change, trust, f"{reference.registry} has no {reference}")
        case Unanswered(reason):
            return _unconfirmed(change, trust, reason)


def _is_open(push: Follow, trust: Trust) -> bool:
    return trust is not Trust.WORD or push.digest is None


def _hinted(config: Config, push: Follow, digest: str, asked: datetime) -> Change:
    """What the registry has counts, unless its being named now would put it before others."""
    entry = config.entry(push.entry)
    if entry.policy.orders_tags or push.tag == entry.tag:
        return Found(entry=push.entry, tag=push.tag, digest=digest, time=asked)
    return Refresh()


def _unconfirmed(push: Follow, trust: Trust, reason: str) -> Change:
    match trust:
        case Trust.WORD:
            # One pull too many is cheaper than a stale image, and a tag that can't be read yet
            # is asked for by the kubelet until it can.
            return push
        case Trust.CONFIRMED:
            return Hold(
                entry=push.entry, tag=push.tag, digest=push.digest, time=push.time, reason=reason
            )
        case Trust.HINT:
            return Refresh()


def reasons(answers: Mapping[Reference, Answer]) -> tuple[str, ...]:
    """Why registries did not say what they were asked, each reason once."""
    unanswered = (answer for answer in answers.values() if isinstance(answer, Unanswered))
    return tuple(dict.fromkeys(answer.reason for answer in unanswered))
