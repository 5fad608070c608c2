"""The answers of a registry to a question about one tag."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Present:
    """The registry has the tag, with this digest."""

    digest: str


@dataclass(frozen=True, slots=True)
class OtherArtifact:
    """The registry has the tag, but it is no image: `kind` is what it is, such as a chart's type.

    `digest` is that of its manifest.
    """

    digest: str
    kind: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The registry does not have the tag."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The registry gave no answer, for this reason.

    `is_unqueryable`: the registry refuses this service, or must not be asked. Asking again later
    would not help. Nodes may still pull from it.
    """

    reason: str
    is_unqueryable: bool = False


Answer = Present | OtherArtifact | Absent | Unanswered
