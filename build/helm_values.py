"""Print docs/install/helm-values.md: a table of the values of a Helm chart.

    build/helm_values.py [CHART]        CHART is the chart's folder. Without it: deploy/helm.

The comment above a key in values.yaml is the description of its value, or of its section. A section
is a map whose keys values.schema.json closes. Every other map is one value.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "deploy" / "helm"
VARIABLES = "configMap"
NO_VARIABLE = "name"

HEAD = """\
<!-- `make docs` makes this page from values.yaml and values.schema.json of deploy/helm. -->

# Values of the Helm chart

The chart refuses a value that is not in these tables.
"""


@dataclass(frozen=True)
class Value:
    """A row: `name` is the path of the value, as in `image.tag`; `default` is YAML or JSON."""

    name: str
    default: str
    description: str


@dataclass(frozen=True)
class Section:
    """A table: `name` is the key that its values begin with; empty for values of the top level."""

    name: str
    description: str
    values: tuple[Value, ...]


def main(arguments: list[str]) -> None:
    chart = Path(arguments[0]) if arguments else CHART
    schema = json.loads((chart / "values.schema.json").read_text())
    try:
        found = tuple(sections((chart / "values.yaml").read_text(), schema))
    except ValueError as error:
        sys.exit(f"build/helm_values.py: {error}")
    sys.stdout.write(page(found))


def sections(text: str, schema: Mapping[str, Any]) -> Iterator[Section]:
    """Read the values of the top level, then each section, in the order of values.yaml.

    Raises ValueError for a value without a comment, and for one that the schema does not have.
    """
    lines = text.splitlines()
    known = schema["properties"]
    top: list[Value] = []
    closed: list[Section] = []
    for key, node in entries(yaml.compose(text, yaml.SafeLoader)):
        name = key.value
        if known.get(name, {}).get("additionalProperties") is False:
            inner = known[name]
            values = tuple(
                value(f"{name}.{each.value}", each, default, lines, inner["properties"], schema)
                for each, default in entries(node)
            )
            closed.append(Section(name, description(name, key, lines), values))
        else:
            top.append(value(name, key, node, lines, known, schema))
    yield Section("", "", tuple(top))
    yield from closed


def entries(node: yaml.Node | None) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """Return the keys of a map with their nodes."""
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1 if node else 1
        raise ValueError(f"values.yaml: line {line}: expected a map")
    yield from node.value


def value(
    name: str,
    key: yaml.ScalarNode,
    node: yaml.Node,
    lines: list[str],
    known: Mapping[str, Any],
    schema: Mapping[str, Any],
) -> Value:
    """Make the row of a value; `known` are the schema's properties beside it."""
    if key.value not in known:
        raise ValueError(f"{name}: values.schema.json does not have it")
    choices = enumeration(known[key.value], schema)
    text = description(name, key, lines)
    if choices:
        text += f" One of {', '.join(f'`{each}`' for each in choices)}."
    return Value(name, default(node), text)


def description(name: str, key: yaml.ScalarNode, lines: list[str]) -> str:
    """Return the comment directly above a key, as one line."""
    first = last = key.start_mark.line
    beginning = f"{' ' * key.start_mark.column}# "
    while first > 0 and lines[first - 1].startswith(beginning):
        first -= 1
    if first == last:
        raise ValueError(f"{name}: values.yaml has no comment above it")
    return " ".join(line.removeprefix(beginning) for line in lines[first:last])


def enumeration(described: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Return the texts that the schema allows for a value, without the empty one."""
    if "$ref" in described:
        described = schema["definitions"][described["$ref"].rpartition("/")[2]]
    choices = [each for each in described.get("enum", ()) if isinstance(each, str)]
    return [each for each in choices if each]


def default(node: yaml.Node) -> str:
    """Return a default as it may be written in a values file, in one line."""
    if isinstance(node, yaml.ScalarNode) and node.tag != "tag:yaml.org,2002:str":
        return str(node.value)  # .05 stays .05
    loaded = yaml.SafeLoader("").construct_document(node)
    return json.dumps(loaded, ensure_ascii=False)


def page(found: tuple[Section, ...]) -> str:
    """Return the page in Markdown."""
    return "\n".join((HEAD, *(f"{table(section)}\n" for section in found))).rstrip("\n") + "\n"


def table(section: Section) -> str:
    """Return a section's heading, description and table."""
    with_variables = section.name == VARIABLES
    heading = f"`{section.name}`" if section.name else "The service and its pod"
    head = ["value", *(["variable"] if with_variables else []), "default", "description"]
    rows = [head, ["---"] * len(head)]
    for each in section.values:
        cells = [code(each.name), code(each.default), each.description.replace("|", r"\|")]
        if with_variables:
            cells.insert(1, variable(each.name))
        rows.append(cells)
    lines = [f"## {heading}", ""]
    if section.description:
        lines += [*sentences(section.description), ""]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def variable(name: str) -> str:
    """Return the variable that a value of the ConfigMap sets, as the chart's template names it."""
    key = name.rpartition(".")[2]
    return "" if key == NO_VARIABLE else code(re.sub(r"(?=[A-Z])", "_", key).upper())


def code(text: str) -> str:
    return f"`{text}`".replace("|", r"\|")


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=\.) (?=[A-Z`])", text)


if __name__ == "__main__":
    main(sys.argv[1:])
