"""Tags of registries that do not distinguish upper and lower case. Pure.

Gitea and Forgejo store tags in lower case, and serve them in any case.
"""

import re

from image_puller.config.entries import Entry

_START, _END = re.compile(r"[^0-9]*"), re.compile(r"[^0-9]*\Z")


def spelled(entry: Entry, tag: str) -> str:
    """Return a tag in lower case as the entry's policy tracks it, or else unchanged."""
    configured = entry.policy.tag or ""
    if tag == configured.lower() and configured:
        return configured
    variants = (tag, _like(configured, tag), tag.upper())
    return next((each for each in variants if entry.policy.tracks(each)), tag)


def folds_case(entry: Entry, listed: tuple[str, ...]) -> bool:
    """Whether a list of tags has the configured one only in lower case."""
    configured = entry.policy.tag
    return configured is not None and configured not in listed and configured.lower() in listed


def _like(configured: str, tag: str) -> str:
    """Return the tag with the letters at its ends as the configured tag has them."""
    start, end = _START.match(configured), _END.search(configured)
    if start and start[0] and tag.startswith(start[0].lower()):
        tag = start[0] + tag[len(start[0]) :]
    if end and end[0] and tag.endswith(end[0].lower()):
        tag = tag[: -len(end[0])] + end[0]
    return tag
