"""The taint with which nodes join, until they hold their images (`NODE_STARTUP_TAINT`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from image_puller.config import variables

EFFECTS = ("NoSchedule", "NoExecute")
"""The effects that keep pods from a node. `PreferNoSchedule` keeps none, so it is refused."""

_FORM = "must be key:Effect or key=value:Effect"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupTaint:
    """The taint of nodes that have just joined. `value` is None where any value counts."""

    key: str
    value: str | None
    effect: str

    def __str__(self) -> str:
        value = "" if self.value is None else f"={self.value}"
        return f"{self.key}{value}:{self.effect}"

    @property
    def toleration(self) -> Mapping[str, Any]:
        """Return the toleration with which pods run on such nodes."""
        if self.value is None:
            return {"key": self.key, "operator": "Exists", "effect": self.effect}
        return {"key": self.key, "operator": "Equal", "value": self.value, "effect": self.effect}

    def matches(self, taint: Mapping[str, Any]) -> bool:
        """Whether a taint of a node is this one."""
        is_named = (taint.get("key"), taint.get("effect")) == (self.key, self.effect)
        return is_named and self.value in (None, taint.get("value") or "")


def parse(text: str) -> StartupTaint:
    """Parse `key[=value]:Effect`, as `kubectl taint` has it. Raises ValueError."""
    name, colon, effect = text.rpartition(":")
    if not colon or not name:
        raise ValueError(f"{_FORM}, not {variables.quoted(text)}")
    if effect not in EFFECTS:
        raise ValueError(
            f"the effect must be {' or '.join(EFFECTS)}, which keep pods from a node, "
            f"not {variables.quoted(effect)}"
        )
    key, equals, value = name.partition("=")
    try:
        variables.check_label(key, value)
    except ValueError as error:
        raise ValueError(f"{_FORM}: {error}") from None
    return StartupTaint(key=key, value=value if equals else None, effect=effect)
