"""Which tags an entry of IMAGES follows, and in which order."""

import fnmatch
import re
import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from image_puller.errors import ImagePullerError
from image_puller.values.reference import is_tag
from image_puller.values.version import (
    LOWEST,
    InvalidRangeError,
    Range,
    Rank,
    Version,
    parse_range,
    read_full,
    read_semver,
)

_FORMS = {"semver": "semver:<range>", "glob": "glob:<pattern>", "regex": "regex:<pattern>"}
_REBUILT_SUFFIX = "-snapshot"  # Maven publishes 1.2.3-SNAPSHOT again and again


class InvalidPolicyError(ImagePullerError, ValueError):
    """A text is not a policy; the message says what is wrong with it."""


class ReasonKind(StrEnum):
    """The reasons to refuse a tag: few fixed texts, to be counted."""

    NOT_A_TAG = "not a tag"
    PINNED = "pinned"
    OTHER_TAG = "other tag"
    NO_VERSION = "no version"
    OTHER_SHAPE = "other shape"
    PRERELEASE = "pre-release"
    NOT_NEWER = "not newer"
    OUT_OF_RANGE = "out of range"
    NO_MATCH = "no match"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a tag is refused: the kind for a counter, the detail (also as `str`) for the log."""

    kind: ReasonKind
    detail: str

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class Constant:
    """One answer for every tag that is not configured: `pinned`, `exact`, `any`."""

    answer: Reason | None

    def reason(self, _tag: str) -> Reason | None:
        """Say why the tag is refused, or None."""
        return self.answer


@dataclass(frozen=True, slots=True)
class Newer:
    """Newer versions of the configured one's shape: `auto` on a full version."""

    tag: str
    configured: Version

    def reason(self, tag: str) -> Reason | None:
        """Say why the tag is refused, or None."""
        version = read_full(tag)
        if version is None:
            return Reason(
                ReasonKind.NO_VERSION, f"no full version, as the configured {self.tag} is"
            )
        if version.shape != self.configured.shape:
            return Reason(ReasonKind.OTHER_SHAPE, f"not of the shape of the configured {self.tag}")
        kind = version.prerelease[:1]
        if kind and kind != self.configured.prerelease[:1]:
            return Reason(ReasonKind.PRERELEASE, f"a pre-release unlike the configured {self.tag}")
        if version.rank <= self.configured.rank:
            return Reason(ReasonKind.NOT_NEWER, f"not newer than the configured {self.tag}")
        return None


@dataclass(frozen=True, slots=True)
class InRange:
    """SemVer versions of a range, newer than the configured one if that is SemVer too."""

    tag: str | None
    configured: Version | None
    range: Range

    def reason(self, tag: str) -> Reason | None:
        """Say why the tag is refused, or None."""
        version = read_semver(tag)
        if version is None:
            return Reason(ReasonKind.NO_VERSION, "no SemVer version")
        if not self.range.contains(version):
            hint = "; pre-releases need a range that names one" if version.prerelease else ""
            return Reason(ReasonKind.OUT_OF_RANGE, f"not in the range {self.range.text}{hint}")
        if self.configured is not None and version.rank <= self.configured.rank:
            return Reason(ReasonKind.NOT_NEWER, f"not newer than the configured {self.tag}")
        return None


@dataclass(frozen=True, slots=True)
class Matching:
    """Tags that a pattern matches as a whole: `glob` and `regex`.

    A glob never backtracks past a `*`. A regular expression such as `(a+)+b` can take for ever on
    a tag made for it, and Python can't stop it: only the operator writes one, and what reaches it
    are authenticated pushes to repositories that IMAGES names, with tags of 128 characters at most.
    """

    pattern: re.Pattern[str]
    text: str

    def reason(self, tag: str) -> Reason | None:
        """Say why the tag is refused, or None."""
        if self.pattern.fullmatch(tag):
            return None
        return Reason(ReasonKind.NO_MATCH, f"does not match {self.text}")


Rule: TypeAlias = Constant | Newer | InRange | Matching
Precedence: TypeAlias = tuple[Rank, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What one entry of IMAGES follows beside the digest it has.

    `tag` is the tag that is followed whatever the rule says; None where there is none, or where
    the entry is pinned.
    """

    text: str
    tag: str | None
    rule: Rule

    def reason(self, tag: str) -> Reason | None:
        """Say why a pushed tag is not followed, or None if it is. Takes any text."""
        if not is_tag(tag):
            return Reason(ReasonKind.NOT_A_TAG, "not a tag by the grammar of image references")
        return None if tag == self.tag else self.rule.reason(tag)

    def tracks(self, tag: str) -> bool:
        """Whether a push of this tag is for the entry."""
        return self.reason(tag) is None

    @property
    def tracks_other_tags(self) -> bool:
        """Whether a push of a tag that is not configured can be for the entry."""
        return not isinstance(self.rule, Constant) or self.rule.answer is None

    @property
    def orders_tags(self) -> bool:
        """Whether the tags followed have an order of their own, whenever they were pushed."""
        return isinstance(self.rule, Newer | InRange)

    def precedence(self, tag: str) -> Precedence:
        """Give the tag's place in a total order of all tags, for use where `orders_tags`.

        A tag that is no version comes before all versions; equal versions go by their text.
        """
        version = read_semver(tag) if isinstance(self.rule, InRange) else read_full(tag)
        return (LOWEST if version is None else version.rank), tag


def parse(text: str, configured_tag: str | None, configured_digest: str | None) -> Policy:
    """Read an entry's policy, given what the entry configures; neither means the tag `latest`.

    Raises InvalidPolicyError.
    """
    text = text.strip()
    name, colon, argument = text.partition(":")
    tag = "latest" if configured_tag is None and configured_digest is None else configured_tag
    if text == "auto":
        return _auto(tag, configured_digest)
    if text == "exact":
        return _exact(text, tag)
    if text == "any":
        return Policy(text=text, tag=tag, rule=Constant(None))
    if text == "pinned":
        return _pinned(text)
    if name not in _FORMS:
        choices = ", ".join(["auto", "exact", "any", "pinned", *_FORMS.values()])
        raise InvalidPolicyError(f"{text[:80]!r} is none of the policies {choices}")
    if not colon or not argument.strip():
        raise InvalidPolicyError(f"{text[:80]!r} is not of the form {_FORMS[name]}")
    return Policy(text=text, tag=tag, rule=_parse_rule(name, argument.strip(), tag))


def is_mutable(tag: str) -> bool:
    """Whether a tag is one that moves by its nature: all but full versions."""
    version = read_full(tag)
    return version is None or version.suffix.lower() == _REBUILT_SUFFIX


def _auto(tag: str | None, digest: str | None) -> Policy:
    if digest is not None or tag is None:
        return _pinned("auto")
    version = read_full(tag)
    if version is None:
        return _exact("auto", tag)
    return Policy(text="auto", tag=tag, rule=Newer(tag, version))


def _exact(text: str, tag: str | None) -> Policy:
    if tag is None:  # a digest alone: there is no tag to follow
        return _pinned(text)
    other = Reason(ReasonKind.OTHER_TAG, f"only the configured {tag} is followed")
    return Policy(text=text, tag=tag, rule=Constant(other))


def _pinned(text: str) -> Policy:
    return Policy(
        text=text, tag=None, rule=Constant(Reason(ReasonKind.PINNED, "the entry is pinned"))
    )


def _parse_rule(name: str, argument: str, tag: str | None) -> Rule:
    text = f"{name}:{argument}"
    if name == "semver":
        configured = None if tag is None else read_semver(tag)
        return InRange(tag, configured, _parse_range(argument))
    pattern = fnmatch.translate(argument) if name == "glob" else argument
    return Matching(_compile(pattern, text), text)


def _parse_range(text: str) -> Range:
    try:
        return parse_range(text)
    except InvalidRangeError as e:
        raise InvalidPolicyError(f"'semver:{text[:80]}': {e}") from e


def _compile(pattern: str, text: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings(action="error"):  # `[[:digit:]]` does not mean digits here
            return re.compile(pattern)
    except (re.error, ValueError, OverflowError, RecursionError, Warning) as e:
        raise InvalidPolicyError(f"{text[:80]!r} is not a regular expression: {e}") from e
