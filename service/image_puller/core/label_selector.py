"""Label selectors of nodes, in the syntax of Kubernetes. Pure.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from image_puller.core import nodes
from image_puller.core.daemonset import Manifest
from image_puller.errors import ImagePullerError

_MOST_CHARACTERS = 2000
_SHOWN_CHARACTERS = 80
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_VALUE = rf"(?:{_NAME})?"
_KEY = rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_NAME}"
_REQUIREMENT = re.compile(
    rf"""\s*(?:
        !\s*(?P<absent>{_KEY})
        |(?P<key>{_KEY})\s*(?:
            (?P<sign>==?|!=)\s*(?P<value>{_VALUE})
            |(?P<bound>[<>])\s*(?P<number>-?[0-9]{{1,18}})
            |\s(?P<set>in|notin)\s*\(\s*+(?P<values>{_VALUE}(?:\s*+,\s*+{_VALUE})*)\s*+\)
        )?
    )\s*(?:,(?=.)|\Z)""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_OPERATORS = {"=": "In", "==": "In", "!=": "NotIn", "in": "In", "notin": "NotIn"}
_BOUNDS = {"<": "Lt", ">": "Gt"}


class InvalidSelectorError(ImagePullerError, ValueError):
    """A text is not a label selector. The message names the wrong part."""

    status = 400


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A label selector. `requirements` are as `matchExpressions` of Kubernetes."""

    text: str
    requirements: tuple[Manifest, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet all requirements."""
        return nodes.meets_all(self.requirements, labels)


def parse(text: str) -> LabelSelector:
    """Return the selector that a text is. Raises InvalidSelectorError."""
    if len(text) > _MOST_CHARACTERS:
        raise InvalidSelectorError(f"a label selector may have {_MOST_CHARACTERS} characters")
    return LabelSelector(text.strip(), tuple(_requirements(text)))


def _requirements(text: str) -> Iterator[Manifest]:
    start = 0
    while start < len(text) or start == 0:
        found = _REQUIREMENT.match(text, start)
        if found is None or found["values"] == "":
            raise InvalidSelectorError(
                f"{text[start:][:_SHOWN_CHARACTERS]!r} is not a label selector; write it as "
                "pool=gpu, pool!=gpu, pool in (a,b), pool notin (a,b), pool or !pool, with commas "
                "in between"
            )
        yield _requirement(found)
        start = found.end()


def _requirement(found: re.Match[str]) -> Manifest:
    if found["absent"]:
        return {"key": found["absent"], "operator": "DoesNotExist"}
    if found["sign"]:
        operator, values = _OPERATORS[found["sign"]], [found["value"]]
    elif found["bound"]:
        operator, values = _BOUNDS[found["bound"]], [found["number"]]
    elif found["set"]:
        operator = _OPERATORS[found["set"]]
        values = [value.strip() for value in found["values"].split(",")]
    else:
        return {"key": found["key"], "operator": "Exists"}
    return {"key": found["key"], "operator": operator, "values": values}
