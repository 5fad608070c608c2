"""What a check asks registries, and what their answers change. Pure.

The check finds pushes whose webhook was missed: mutated tags, newer versions and deleted tags. A
listing of tags has no times, so newer tags are found only where the policy orders tags.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.config.entries import Entry
from image_puller.core import selection, spelling
from image_puller.core.changes import Change, Precondition, RegistryAnswer, TrackTag
from image_puller.core.state import EntryState, State, Tag, UnverifiedPush
from image_puller.values.answers import Absent, Answer, OtherArtifact, Present, Unanswered
from image_puller.values.reference import Reference

Listings = Mapping[Reference, tuple[str, ...] | Unanswered]
"""The tags of repositories."""

_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A tag of an entry that its registry is asked about."""

    entry: str
    reference: Reference

    @property
    def tag(self) -> str:
        """Return the tag, which a question always has."""
        return str(self.reference.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the answers change.

    `unqueryable` has tags by entry and name. `reasons` has the problems found at registries.
    """

    changes: tuple[Change, ...] = ()
    unqueryable: frozenset[tuple[str, str]] = frozenset()
    reasons: tuple[str, ...] = ()


def repositories(
    config: Config, only: Collection[Reference] | None = None
) -> tuple[Reference, ...]:
    """Return the repositories whose tags a check lists: all, or only some of them."""
    entries = (entry for entry in _entries(config, only) if entry.policy.orders_tags)
    return tuple(dict.fromkeys(entry.repository for entry in entries))


def questions(
    config: Config,
    state: State,
    listings: Listings,
    only: Collection[Reference] | None = None,
    others: Collection[Reference] = (),
) -> tuple[Question, ...]:
    """Return every tag to ask about: configured, tracked, unverified, quarantined, newly listed.

    `only` has the repositories to ask about. None means all. `others` has the tags that are known
    to be no images, so that older images are asked about instead.
    """
    return tuple(
        Question(entry=entry.name, reference=entry.reference_of(tag))
        for entry in _entries(config, only)
        for tag in _tags(config, entry, state.entries[entry.name], listings, others)
    )


def question(config: Config, entry: str, tag: str) -> Question:
    """Return the question about a tag of an entry."""
    return Question(entry=entry, reference=config.entry(entry).reference_of(tag))


def unverified(config: Config, state: State) -> tuple[Question, ...]:
    """Return the tags whose pushes are unverified."""
    return tuple(
        Question(entry=entry.name, reference=entry.reference_of(push.tag))
        for entry in config.entries
        for push in state.entries[entry.name].unverified
    )


def doubtful(config: Config, tags: Iterable[tuple[str, str]]) -> tuple[Question, ...]:
    """Return the questions about tags, each given as its entry and its name.

    The configured tags are asked about too. They show whether a repository is hidden.
    """
    questions: dict[Question, None] = {}
    for name, tag in tags:
        entry = config.entry(name)
        for each in dict.fromkeys(filter(None, (entry.policy.tag, tag))):
            questions[Question(entry=name, reference=entry.reference_of(each))] = None
    return tuple(questions)


def still_doubtful(
    config: Config,
    state: State,
    tags: Iterable[tuple[str, str]],
    answers: Mapping[Reference, Answer],
) -> frozenset[tuple[str, str]]:
    """Return the tags whose registry did not answer, or differs from the state.

    Some registries announce a push before they show it, so one that differs is asked again.
    """
    return frozenset(
        (name, tag)
        for name, tag in tags
        if not _agrees(state.entries[name].tag(tag), answers[config.entry(name).reference_of(tag)])
    )


def _agrees(tag: Tag | None, answer: Answer) -> bool:
    match answer:
        case Present(digest):
            return tag is not None and tag.digest in (None, digest)
        case Absent() | OtherArtifact():
            return tag is None
        case Unanswered():
            return False


def findings(
    config: Config,
    state: State,
    asked: Sequence[Question],
    answers: Mapping[Reference, Answer],
    *,
    time: datetime,
    are_decisive: bool = False,
) -> Findings:
    """Return what the answers change. `time` is when the questions were asked.

    `are_decisive`: the answers count also soon after a push.
    """
    shown = {q.entry for q in asked if isinstance(answers[q.reference], Present | OtherArtifact)}
    found = [
        _finding(
            config,
            state,
            question,
            answers[question.reference],
            time=time,
            is_shown=question.entry in shown,
        )
        for question in asked
    ]
    changes = tuple(change for each in found for change in each.changes)
    if are_decisive:
        changes = tuple(
            replace(change, is_decisive=True) if isinstance(change, RegistryAnswer) else change
            for change in changes
        )
    return Findings(
        changes=changes,
        unqueryable=frozenset[tuple[str, str]]().union(*(each.unqueryable for each in found)),
        reasons=tuple(dict.fromkeys(reason for each in found for reason in each.reasons)),
    )


def _finding(
    config: Config,
    state: State,
    question: Question,
    answer: Answer,
    *,
    time: datetime,
    is_shown: bool,
) -> Findings:
    """Return what one answer changes.

    `is_shown`: the registry shows something of the repository.
    """
    current = state.entries[question.entry]
    name = question.reference
    is_configured = question.tag == config.entry(question.entry).tag
    changes: tuple[Change, ...] = ()
    reasons: tuple[str, ...] = ()
    unqueryable: frozenset[tuple[str, str]] = frozenset()
    match answer:
        case Present(digest):
            changes = tuple(_present(current, question, digest, time))
        case OtherArtifact(kind=kind) if is_configured:
            reasons = (f"{name} is configured, but it is {kind} and no image; change IMAGES",)
        case OtherArtifact(digest, kind):
            changes = tuple(_other_artifact(current, question, digest, kind, time))
        case Absent() if is_shown or _is_new(current, question.tag):
            changes = (_answer(current, question, None, time),)
            if is_shown and is_configured:
                gone = f"{name} is configured, but its registry does not have it"
                reasons = (f"{gone}; push it again, or change IMAGES",)
        case Absent():
            # A registry that hides a repository answers as one that never had it.
            hidden = f"registry {name.registry} shows nothing of {name.name}"
            reasons = (f"{hidden}: was it deleted, or is a pull secret missing?",)
        case Unanswered(reason, is_unqueryable):
            reasons = (reason,)
            unqueryable = frozenset({(question.entry, question.tag)} if is_unqueryable else ())
    return Findings(changes=changes, unqueryable=unqueryable, reasons=reasons)


def _other_artifact(
    current: EntryState, question: Question, digest: str, kind: str, time: datetime
) -> Iterator[Change]:
    """Yield what it changes that a tag is no image."""
    name = question.tag
    if current.tag(name) or _waiting(current, name) or current.quarantine(name):
        yield replace(_answer(current, question, digest, time), other_kind=kind)


def unlisted(listings: Listings) -> tuple[str, ...]:
    """Return why tags could not be listed, each reason once."""
    return tuple(dict.fromkeys(a.reason for a in listings.values() if isinstance(a, Unanswered)))


def _entries(config: Config, only: Collection[Reference] | None) -> Iterator[Entry]:
    return (entry for entry in config.entries if only is None or entry.repository in only)


def _tags(
    config: Config,
    entry: Entry,
    current: EntryState,
    listings: Listings,
    others: Collection[Reference],
) -> Iterable[str]:
    tracked = (tag.name for tag in current.tags)
    waiting = (push.tag for push in current.unverified)
    quarantined = (each.tag.name for each in current.quarantined)
    configured = () if entry.policy.tag is None else (entry.policy.tag,)
    listed = _listed(config, entry, listings, others)
    return dict.fromkeys((*configured, *tracked, *waiting, *quarantined, *listed))


def images(state: State) -> frozenset[str]:
    """Return the digests that registries were seen to have, and that are of images."""
    return frozenset(
        tag.digest
        for entry in state.entries.values()
        for tag in entry.tags
        if tag.confirmed and tag.digest is not None
    )


def _listed(
    config: Config, entry: Entry, listings: Listings, others: Collection[Reference]
) -> Iterator[str]:
    """Return the listed tags that the entry would track if all were pushed now."""
    listed = listings.get(entry.repository, ())
    if isinstance(listed, Unanswered) or not entry.policy.orders_tags:
        return iter(())
    if spelling.folds_case(entry, listed):
        listed = tuple(spelling.spelled(entry, tag) for tag in listed)
    tags = [
        Tag(name=tag, digest=None, time=_EPOCH)
        for tag in listed
        if entry.policy.tracks(tag) and entry.reference_of(tag) not in others
    ]
    return (tag.name for tag in selection.tracked(config, entry, tags))


def _present(
    current: EntryState, question: Question, digest: str, time: datetime
) -> Iterator[Change]:
    """Yield what a digest changes. An unverified push that it confirms counts from its own time.

    Another digest than the pushed one does not count at once: some registries announce a push
    before they show it.
    """
    push = _waiting(current, question.tag)
    if push is None:
        yield _answer(current, question, digest, time)
    elif push.digest in (None, digest):
        yield TrackTag(
            entry=question.entry,
            tag=push.tag,
            digest=digest,
            time=push.time,
            own_clock=push.own_clock,
        )
    elif time - push.time >= timedelta(seconds=limits.SETTLING_SECONDS):
        yield _answer(current, question, digest, time)


def _answer(
    current: EntryState, question: Question, digest: str | None, time: datetime
) -> RegistryAnswer:
    tag = current.tag(question.tag)
    return RegistryAnswer(
        entry=question.entry,
        tag=question.tag,
        digest=digest,
        time=time,
        precondition=Precondition(
            is_tracked=tag is not None, digest=None if tag is None else tag.digest
        ),
    )


def _is_new(current: EntryState, tag: str) -> bool:
    """Whether a tag has an unverified push and is not tracked yet."""
    return _waiting(current, tag) is not None and current.tag(tag) is None


def _waiting(current: EntryState, tag: str) -> UnverifiedPush | None:
    return next((push for push in current.unverified if push.tag == tag), None)
