"""Advice about a valid configuration that its author probably did not intend."""

from collections.abc import Collection, Iterable
from difflib import SequenceMatcher

from image_puller.values import quantity

_NEAR = 0.83
"""The least similarity of a misspelt name: `CACHING_INTERVAL` for `CACHING_INTERVAL_HOURS`."""
_LEAST_MEMORY = "12Mi"


def on_names(names: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """Return a warning for each unknown variable whose name is near a known one.

    Other programs read the same environment, so all other unknown variables are right.
    """
    nearest = {name: _nearest(name, known) for name in sorted(set(names).difference(known))}
    return tuple(
        f"{name}: the service has no such variable, and ignores it; did you mean {near}?"
        for name, near in nearest.items()
        if near is not None
    )


def on_memory(limit: str | None) -> tuple[str, ...]:
    """Return a warning where a container runtime may not start a container with this limit."""
    if limit is None or not 0 < quantity.parse(limit) < quantity.parse(_LEAST_MEMORY):
        return ()  # 0 means no limit too
    warning = (
        f"CACHING_MEMORY_LIMIT: with {limit} containers may not start; set {_LEAST_MEMORY} or "
        "more: CRI-O accepts no less, and runc 1.1 fails below 8Mi"
    )
    return (warning,)


def _nearest(name: str, known: Collection[str]) -> str | None:
    plain = _plain(name)
    for each in sorted(known):
        if plain == _plain(each):
            return each
    matcher = SequenceMatcher(b=name.upper(), autojunk=False)
    best, nearest = _NEAR, None
    for each in sorted(known):
        if name.endswith(f"_{each}"):  # SERVER_PORT is the port of another program
            continue
        matcher.set_seq1(each)
        if matcher.real_quick_ratio() >= best and matcher.quick_ratio() >= best:
            ratio = matcher.ratio()
            if ratio >= best:
                best, nearest = ratio, each
    return nearest


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).upper()
