"""What registries know and no webhook has said: moved tags, newer versions, tags that are gone.

Pure: what to ask, and what the answers change. A listing of tags has no times, so only policies
that order tags by themselves can find newer ones.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core.changes import Change, Follow, Found, Known
from image_puller.core.state import Followed, State, Unverified
from image_puller.values.answers import Absent, Answer, Present, Unanswered
from image_puller.values.reference import Reference

Listings = Mapping[Reference, tuple[str, ...] | Unanswered]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A tag of an entry that its registry is asked about."""

    entry: str
    reference: Reference

    @property
    def tag(self) -> str:
        """The tag, which is always there."""
        return str(self.reference.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the answers change; the tags about which nobody can be asked; what was not said.

    Tags are given by entry and name.
    """

    changes: tuple[Change, ...]
    closed: frozenset[tuple[str, str]]
    reasons: tuple[str, ...]


def repositories(config: Config) -> tuple[Reference, ...]:
    """The repositories whose tags are to be listed."""
    entries = (entry for entry in config.entries if entry.policy.orders_tags)
    return tuple(dict.fromkeys(entry.repository for entry in entries))


def questions(config: Config, state: State, listings: Listings) -> tuple[Question, ...]:
    """Every tag that an entry follows, waits for, or would follow had its push been heard of."""
    return tuple(
        Question(entry=entry.name, reference=entry.reference_of(tag))
        for entry in config.entries
        for tag in _tags(config, entry, state.entries[entry.name], listings)
    )


def unverified(config: Config, state: State) -> tuple[Question, ...]:
    """The tags whose pushes wait for their registry's word."""
    return tuple(
        Question(entry=entry.name, reference=entry.reference_of(push.tag))
        for entry in config.entries
        for push in state.entries[entry.name].unverified
    )


def findings(
    config: Config,
    state: State,
    asked: Sequence[Question],
    answers: Mapping[Reference, Answer],
    *,
    time: datetime,
) -> Findings:
    """What registries said when they were asked at that time."""
    seen = {question.entry for question in asked if isinstance(_of(answers, question), Present)}
    changes: list[Change] = []
    closed = set()
    reasons = []
    for question in asked:
        followed = state.entries[question.entry]
        match _of(answers, question):
            case Present(digest):
                changes += _present(followed, question, digest, time)
            case Absent() if question.entry in seen:
                changes.append(_found(followed, question, None, time))
                if question.tag == config.entry(question.entry).tag:
                    reasons.append(
                        f"{question.reference} is configured, but gone from its registry"
                    )
            case Absent() if _is_new(followed, question.tag):
                changes.append(_found(followed, question, None, time))
            case Absent():
                # A registry that hides a repository says the same as one that never had it.
                reasons.append(
                    f"registry {question.reference.registry} shows nothing of "
                    f"{question.reference.name}: is it deleted, or is a pull secret missing?"
                )
            case Unanswered(reason, is_closed):
                reasons.append(reason)
                if is_closed:
                    closed.add((question.entry, question.tag))
    return Findings(
        changes=tuple(changes),
        closed=frozenset(closed),
        reasons=tuple(dict.fromkeys(reasons)),
    )


def unlisted(listings: Listings) -> tuple[str, ...]:
    """Why tags could not be listed, each reason once."""
    return tuple(dict.fromkeys(a.reason for a in listings.values() if isinstance(a, Unanswered)))


def _of(answers: Mapping[Reference, Answer], question: Question) -> Answer:
    return answers[question.reference]


def _tags(config: Config, entry: Entry, followed: Followed, listings: Listings) -> Iterable[str]:
    known = (tag.name for tag in followed.tags)
    waiting = (push.tag for push in followed.unverified)
    configured = () if entry.policy.tag is None else (entry.policy.tag,)
    newest = _newest(config, entry, listings)
    return dict.fromkeys((*configured, *known, *waiting, *newest))


def _newest(config: Config, entry: Entry, listings: Listings) -> Iterator[str]:
    """As many of the listed tags as are remembered, had each been pushed just now."""
    listed = listings.get(entry.repository, ())
    if isinstance(listed, Unanswered) or not entry.policy.orders_tags:
        return iter(())
    others = (tag for tag in listed if tag != entry.tag and entry.policy.follows(tag))
    newest = sorted(others, key=entry.policy.precedence, reverse=True)
    return iter(newest[: config.keep_tags + limits.SPARE_TAGS])


def _present(
    followed: Followed, question: Question, digest: str, time: datetime
) -> Iterator[Change]:
    """A push that is confirmed by now counts as it was made; anything else as it was found.

    Of another digest than was pushed a registry is not believed at once: it may be about to come.
    """
    push = _waiting(followed, question.tag)
    if push is None:
        yield _found(followed, question, digest, time)
    elif push.digest in (None, digest):
        yield Follow(entry=question.entry, tag=push.tag, digest=digest, time=push.time)
    elif time - push.time >= timedelta(seconds=limits.SETTLING_SECONDS):
        yield _found(followed, question, digest, time)


def _found(followed: Followed, question: Question, digest: str | None, time: datetime) -> Found:
    tag = followed.tag(question.tag)
    known = Known(is_followed=tag is not None, digest=None if tag is None else tag.digest)
    return Found(entry=question.entry, tag=question.tag, digest=digest, time=time, known=known)


def _is_new(followed: Followed, tag: str) -> bool:
    """Whether a tag was pushed, as nobody has confirmed yet, and is not followed so far."""
    return _waiting(followed, tag) is not None and followed.tag(tag) is None


def _waiting(followed: Followed, tag: str) -> Unverified | None:
    return next((push for push in followed.unverified if push.tag == tag), None)
