"""What a registry says of one image."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Present:
    """The registry has the tag, with this digest."""

    digest: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The registry has no such tag, as far as it shows."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The registry did not say, and why.

    `is_closed` where it never will, as far as one can see: it shows nothing to this service, or
    may not be asked. Nodes may still pull from it.
    """

    reason: str
    is_closed: bool = False


Answer = Present | Absent | Unanswered
