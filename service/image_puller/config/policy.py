"""Policies: which tags an entry of IMAGES tracks, and in which order."""

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
_REBUILT_SUFFIX = "-snapshot"  # Maven publishes 1.2.3-SNAPSHOT many times


class InvalidPolicyError(ImagePullerError, ValueError):
    """A text is not a policy. The message names the mistake."""


class ReasonKind(StrEnum):
    """The kinds of reasons not to track a tag. They are labels of a metric, so there are few."""

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
class NotTracked:
    """Why a tag is not tracked. `kind` is a metric label, and `detail` is for the log."""

    kind: ReasonKind
    detail: str

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class Constant:
    """One answer for every tag but the configured one: `pinned`, `exact` and `any`."""

    answer: NotTracked | None

    def reason(self, _tag: str) -> NotTracked | None:
        """Return why the tag is not tracked, or None if it is."""
        return self.answer


@dataclass(frozen=True, slots=True)
class Newer:
    """Newer versions in the shape of the configured one: `auto` on a full version."""

    tag: str
    configured: Version

    def reason(self, tag: str) -> NotTracked | None:
        """Return why the tag is not tracked, or None if it is."""
        version = read_full(tag)
        if version is None:
            return NotTracked(
                ReasonKind.NO_VERSION, f"not a full version like the configured {self.tag}"
            )
        if version.shape != self.configured.shape:
            return NotTracked(
                ReasonKind.OTHER_SHAPE,
                f"not of the same shape as the configured {self.tag}",
            )
        kind = version.prerelease[:1]
        if kind and kind != self.configured.prerelease[:1]:
            return NotTracked(
                ReasonKind.PRERELEASE, f"a pre-release unlike the configured {self.tag}"
            )
        if version.rank <= self.configured.rank:
            return NotTracked(ReasonKind.NOT_NEWER, f"not newer than the configured {self.tag}")
        return None


@dataclass(frozen=True, slots=True)
class InRange:
    """SemVer versions in a range, and newer than the configured version if that is SemVer."""

    tag: str | None
    configured: Version | None
    range: Range

    def reason(self, tag: str) -> NotTracked | None:
        """Return why the tag is not tracked, or None if it is."""
        version = read_semver(tag)
        if version is None:
            return NotTracked(ReasonKind.NO_VERSION, "not a SemVer version")
        if not self.range.contains(version):
            hint = "; pre-releases need a range that names one" if version.prerelease else ""
            return NotTracked(ReasonKind.OUT_OF_RANGE, f"not in the range {self.range.text}{hint}")
        if self.configured is not None and version.rank <= self.configured.rank:
            return NotTracked(ReasonKind.NOT_NEWER, f"not newer than the configured {self.tag}")
        return None


@dataclass(frozen=True, slots=True)
class Matching:
    """Tags that a pattern matches as a whole: `glob` and `regex`.

    A glob never backtracks past a `*`. A regular expression such as `(a+)+b` can take very long on
    a malicious tag, and Python can't interrupt it. The risk is accepted: only the operator writes
    regular expressions. Only authenticated pushes to configured repositories reach them.
    """

    pattern: re.Pattern[str]
    text: str

    def reason(self, tag: str) -> NotTracked | None:
        """Return why the tag is not tracked, or None if it is."""
        if self.pattern.fullmatch(tag):
            return None
        return NotTracked(ReasonKind.NO_MATCH, f"does not match {self.text}")


Rule: TypeAlias = Constant | Newer | InRange | Matching
Precedence: TypeAlias = tuple[Rank, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rule for the tags that one entry of IMAGES tracks.

    `tag` is the configured tag, which is tracked under every rule. It is None if only a digest
    is configured, or if the entry is pinned.
    """

    text: str
    tag: str | None
    rule: Rule

    def reason(self, tag: str) -> NotTracked | None:
        """Return why a pushed tag is not tracked, or None if it is. The tag may be any text."""
        if not is_tag(tag):
            return NotTracked(ReasonKind.NOT_A_TAG, "not a tag by the grammar of image references")
        return None if tag == self.tag else self.rule.reason(tag)

    def tracks(self, tag: str) -> bool:
        """Whether the entry tracks this tag."""
        return self.reason(tag) is None

    @property
    def tracks_other_tags(self) -> bool:
        """Whether the entry can track tags other than the configured one."""
        return not isinstance(self.rule, Constant) or self.rule.answer is None

    @property
    def orders_tags(self) -> bool:
        """Whether the order of tracked tags is that of their versions, not that of their pushes."""
        return isinstance(self.rule, Newer | InRange)

    def precedence(self, tag: str) -> Precedence:
        """Return a sort key for tags. Use it only if `orders_tags`.

        A tag that is not a version sorts before all versions. Equal versions sort by their text.
        """
        version = read_semver(tag) if isinstance(self.rule, InRange) else read_full(tag)
        return (LOWEST if version is None else version.rank), tag


def parse(text: str, configured_tag: str | None, configured_digest: str | None) -> Policy:
    """Parse the policy of an entry with this configured tag and digest.

    If both are None, the configured tag is `latest`. Raises InvalidPolicyError.
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
        raise InvalidPolicyError(f"{text[:80]!r} is not one of the policies {choices}")
    if not colon or not argument.strip():
        raise InvalidPolicyError(f"{text[:80]!r} is not of the form {_FORMS[name]}")
    return Policy(text=text, tag=tag, rule=_parse_rule(name, argument.strip(), tag))


def is_mutable(tag: str) -> bool:
    """Whether the content of a tag changes by nature. That is so for all but full versions."""
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
    if tag is None:  # only a digest is configured, so there is no tag to track
        return _pinned(text)
    other = NotTracked(ReasonKind.OTHER_TAG, f"only the configured {tag} is tracked")
    return Policy(text=text, tag=tag, rule=Constant(other))


def _pinned(text: str) -> Policy:
    return Policy(
        text=text, tag=None, rule=Constant(NotTracked(ReasonKind.PINNED, "the entry is pinned"))
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
