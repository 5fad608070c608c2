"""Versions in tags: their shape, their order, and SemVer ranges."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeAlias

from image_puller.errors import ImagePullerError
from image_puller.values.reference import is_tag

# An identifier of a pre-release: (0, number, "") or (1, 0, text). In SemVer numbers sort first.
Identifier: TypeAlias = tuple[int, int, str]
# A sort key: the numbers, whether the version is stable, and the pre-release's identifiers.
Rank: TypeAlias = tuple[tuple[int, ...], bool, tuple[Identifier, ...]]

LOWEST: Rank = ((), False, ())  # below every version
_HIGHEST: Rank = ((10**128,), False, ())  # above every version in a tag of 128 characters
_FIRST_IDENTIFIER: Identifier = (-1, 0, "")  # before every identifier
_SEMVER_NUMBERS = 3
_RANGE_LENGTH = 512  # characters; int() raises ValueError on thousands of digits

# A dot starts a suffix only before a letter: `.Final` is a suffix, and `.1` is a number.
_FULL = re.compile(
    r"""
    (?P<prefix>v?)
    (?P<numbers>[0-9]+(?:\.[0-9]+){2,})
    (?:[-._]?(?P<kind>alpha|beta|rc|pre|dev|snapshot)[-._]?(?P<count>[0-9]+))?
    (?P<suffix>(?:(?:[-_]|\.(?=[a-z]))[a-z0-9_.-]+)?)
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_NUMBER = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_PRERELEASE = rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})*"
_SEMVER = re.compile(
    rf"(?P<prefix>v?)(?P<numbers>{_NUMBER}\.{_NUMBER}\.{_NUMBER})(?:-(?P<prerelease>{_PRERELEASE}))?"
)
_PART = rf"(?:{_NUMBER}|[xX*])"
_BOUND = rf"v?{_PART}(?:\.{_PART}){{0,2}}(?:-{_PRERELEASE})?"
_TERM = re.compile(
    rf"(?:(?P<first>{_BOUND})\s+-\s+(?P<last>{_BOUND})"
    rf"|(?P<operator>[<>=!~^]*)\s*(?P<bound>{_BOUND}))"
    r"(?:\s*,\s*(?=\S)|\s+|\Z)",
    re.ASCII,
)


class InvalidRangeError(ImagePullerError, ValueError):
    """A text is not a range of versions. The message names the wrong part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The parts of a version in a tag.

    Two spellings of one version, such as `1.2.3` and `01.02.03`, have the same rank.
    """

    prefix: str
    numbers: tuple[int, ...]
    prerelease: tuple[Identifier, ...] = ()
    suffix: str = ""

    @property
    def shape(self) -> tuple[str, int, str]:
        """Return the parts that versions must have in common to be compared."""
        return self.prefix, len(self.numbers), self.suffix

    @property
    def rank(self) -> Rank:
        """Return the sort key among the versions of this shape."""
        return self.numbers, not self.prerelease, self.prerelease


def read_full(tag: str) -> Version | None:
    """Parse a full version: three or more numbers, and optional `v`, pre-release and suffix.

    A pre-release is a kind and a number, as in `-rc.1`, `-RC1` and `rc1`. A kind without a number
    is a suffix, because it often names a variant, such as `-dev`. Any other tag gives None.
    """
    match = _FULL.fullmatch(tag) if is_tag(tag) else None
    if match is None:
        return None
    kind = match["kind"]
    return Version(
        prefix=match["prefix"],
        numbers=_numbers(match["numbers"]),
        prerelease=_identifiers(f"{kind.lower()}.{match['count']}") if kind else (),
        suffix=match["suffix"],
    )


def read_semver(tag: str) -> Version | None:
    """Parse a version by https://semver.org, with an optional `v`. Any other tag gives None."""
    match = _SEMVER.fullmatch(tag) if is_tag(tag) else None
    if match is None:
        return None
    return Version(
        prefix=match["prefix"],
        numbers=_numbers(match["numbers"]),
        prerelease=_identifiers(match["prerelease"] or ""),
    )


@dataclass(frozen=True, slots=True)
class _Bound:
    """A version in a range. It may have fewer than three numbers, so it spans a set of ranks."""

    numbers: tuple[int, ...]
    prerelease: tuple[Identifier, ...]

    @property
    def start(self) -> Rank:
        return _padded(self.numbers), not self.prerelease, self.prerelease

    @property
    def end(self) -> Rank:
        if len(self.numbers) < _SEMVER_NUMBERS:
            return self.end_of_line(len(self.numbers))
        return _padded(self.numbers), not self.prerelease, (*self.prerelease, _FIRST_IDENTIFIER)

    @property
    def end_before(self) -> Rank:
        return _padded(self.numbers), False, self.prerelease

    @property
    def end_of_compatible(self) -> Rank:
        zeros = len(tuple(takewhile(lambda number: number == 0, self.numbers)))
        return self.end_of_line(zeros + 1)

    def end_of_line(self, length: int) -> Rank:
        """Return the end of the versions that have the first `length` numbers in common."""
        line = self.numbers[:length]
        return (_padded((*line[:-1], line[-1] + 1)), False, ()) if line else _HIGHEST


@dataclass(frozen=True, slots=True)
class _Span:
    """All ranks from `start` to before `end`, or, without `inside`, all other ranks."""

    start: Rank
    end: Rank
    inside: bool = True

    def contains(self, rank: Rank) -> bool:
        return (self.start <= rank < self.end) is self.inside


@dataclass(frozen=True, slots=True)
class _Alternative:
    spans: tuple[_Span, ...]
    prereleases: bool

    def contains(self, version: Version) -> bool:
        allowed = self.prereleases or not version.prerelease
        return allowed and all(span.contains(version.rank) for span in self.spans)


@dataclass(frozen=True, slots=True)
class Range:
    """A set of SemVer versions."""

    text: str
    alternatives: tuple[_Alternative, ...]

    def contains(self, version: Version) -> bool:
        """Whether a version is in the range. It must be one that `read_semver` returned."""
        return any(alternative.contains(version) for alternative in self.alternatives)


def parse_range(text: str) -> Range:
    """Parse a range in the notation of npm, Flux and Argo CD: `>=1.2 <2`, `~1.2.3`, `^1 || 3.x`.

    A space or a comma means "and"; `||` means "or". Terms joined by "and" include pre-releases only
    if one of them names a pre-release, as in `>=1.2.0-0 <2`. An upper bound without a pre-release
    excludes its own pre-releases: `<2` excludes 2.0.0-rc.1. Raises InvalidRangeError.
    """
    if len(text) > _RANGE_LENGTH:
        raise InvalidRangeError(f"a range has at most {_RANGE_LENGTH} characters")
    return Range(text.strip(), tuple(_parse_alternative(part) for part in text.split("||")))


def _parse_alternative(text: str) -> _Alternative:
    spans: list[_Span] = []
    prereleases = False
    for operator, bound in _terms(text.strip()):
        if operator not in _SPANS:
            raise InvalidRangeError(f"{operator[:80]!r} is not an operator of ranges")
        spans.append(_SPANS[operator](bound))
        prereleases |= bound.prerelease != ()
    if not spans:
        raise InvalidRangeError("the range, or one side of '||', is empty")
    return _Alternative(tuple(spans), prereleases)


def _terms(text: str) -> Iterator[tuple[str, _Bound]]:
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None:
            raise InvalidRangeError(f"{text[position:][:80]!r} is not a range of versions")
        if match["first"]:
            yield ">=", _parse_bound(match["first"])
            yield "<=", _parse_bound(match["last"])
        else:
            yield match["operator"], _parse_bound(match["bound"])
        position = match.end()


_SPANS: Mapping[str, Callable[[_Bound], _Span]] = {
    "": lambda bound: _Span(bound.start, bound.end),
    "=": lambda bound: _Span(bound.start, bound.end),
    "!=": lambda bound: _Span(bound.start, bound.end, inside=False),
    ">": lambda bound: _Span(bound.end, _HIGHEST),
    ">=": lambda bound: _Span(bound.start, _HIGHEST),
    "=>": lambda bound: _Span(bound.start, _HIGHEST),
    "<": lambda bound: _Span(LOWEST, bound.end_before),
    "<=": lambda bound: _Span(LOWEST, bound.end),
    "=<": lambda bound: _Span(LOWEST, bound.end),
    "~": lambda bound: _Span(bound.start, bound.end_of_line(2)),
    "~>": lambda bound: _Span(bound.start, bound.end_of_line(2)),
    "^": lambda bound: _Span(bound.start, bound.end_of_compatible),
}


def _parse_bound(text: str) -> _Bound:
    numbers, _, prerelease = text.removeprefix("v").partition("-")
    known = takewhile(str.isdigit, numbers.split("."))
    return _Bound(tuple(int(number) for number in known), _identifiers(prerelease))


def _padded(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return (*numbers, 0, 0, 0)[:_SEMVER_NUMBERS]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split("."))


def _identifiers(text: str) -> tuple[Identifier, ...]:
    parts = text.split(".") if text else ()
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
