"""What a request for the status asks for in its query: `selector`, `wait` and `nodes`. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from image_puller import limits
from image_puller.config import variables
from image_puller.core import awaiting, label_selector
from image_puller.core.awaiting import Enough
from image_puller.core.label_selector import LabelSelector
from image_puller.errors import BadQueryError


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusQuery:
    """Which nodes are asked about, and how many of them have to hold the image.

    `wait` is how long the answer may wait for that, in seconds. None: it is the status at once.
    """

    selector: LabelSelector | None
    wait: int | None
    enough: Enough


def parse(parameters: Mapping[str, str]) -> StatusQuery:
    """Return the query. Raises BadQueryError, InvalidSelectorError."""
    selector, wait, nodes = (parameters.get(name) for name in ("selector", "wait", "nodes"))
    return StatusQuery(
        selector=None if selector is None else label_selector.parse(selector),
        wait=None if wait is None else _seconds(wait),
        enough=Enough() if nodes is None else _enough(nodes),
    )


def _seconds(text: str) -> int:
    try:
        return variables.whole_number(0, limits.WAIT_SECONDS)(text)
    except ValueError as error:
        raise BadQueryError(f"wait: {error}") from error


def _enough(text: str) -> Enough:
    try:
        return awaiting.enough(text)
    except ValueError as error:
        raise BadQueryError(f"nodes: {error}") from error
