"""What this process received lately: each push and deletion, with what was decided. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

MEANINGS: Mapping[str, str] = {
    "tracked": "The entry's policy allows the tag, so it is tracked.",
    "mutated": "The tag has other content, so nodes pull it again.",
    "in_doubt": "It counts, but may not be the newest. Its registry is asked.",
    "unchanged": "The tag has this content already.",
    "older": "A newer push or deletion of the tag is known.",
    "not_newest": "The entry keeps newer tags (KEEP_TAGS).",
    "untracked": "The tag was deleted, so it is no longer tracked.",
    "digest_completed": "The tag was known, and now its digest is.",
    "awaiting_verification": "It counts once its registry confirms it (VERIFY_PUSHES).",
    "displaced": "It counts once its registry confirms it. The oldest such push was dropped.",
    "not_image": "The tag is no image.",
    "quarantined": "This content fails on every node that tried it.",
    "refused": "The cluster does not admit the tag.",
}
"""What the outcomes of pushes mean."""
IGNORED = "ignored"
NOT_WRITTEN = "not written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An image event that arrived, and what was decided.

    `subject` says what it is about. `decision` is an outcome, `ignored` or `not written`, and `why`
    has more words about it, or is "". `group` and `entry` are None where no entry was found.
    """

    time: datetime
    source: str
    subject: str
    decision: str
    why: str = ""
    group: str | None = None
    entry: str | None = None


def meaning(outcome: str) -> str:
    """Return what an outcome means, in a sentence, or "" where it is no outcome of a push."""
    return MEANINGS.get(outcome, "")
