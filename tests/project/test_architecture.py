"""The names and the schema in `docs/architecture.md` are those of the code."""

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import image_puller
from image_puller.core.charge import Process
from image_puller.core.state import (
    Blocked,
    Deletion,
    EntryState,
    Quarantined,
    Refused,
    Seeding,
    State,
    Tag,
    UnverifiedPush,
    encode,
)
from tests.support.building import NOON

TEXT = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text("utf-8")
PACKAGES = sorted(
    path.name
    for path in Path(image_puller.__path__[0]).iterdir()
    if (path / "__init__.py").exists()
)
NAMES = sorted(set(re.findall(rf"`((?:{'|'.join(PACKAGES)})\.[A-Za-z_.]+)`", TEXT)))


def resolve(name: str) -> Any:
    """Return the module, class, function or method of a dotted name."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(["image_puller", *parts[:end]]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AssertionError(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_on_the_page_exists(name: str) -> None:
    assert resolve(name) is not None


def test_a_wrong_name_would_be_noticed() -> None:
    assert len(NAMES) > 20
    with pytest.raises(AttributeError):
        resolve("core.decide.no_such_function")


def test_every_package_is_on_the_page() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", TEXT, flags=re.MULTILINE)
    assert [name for name in PACKAGES if name not in rows] == []


def test_the_schema_on_the_page_is_that_of_the_annotation() -> None:
    tag = Tag(
        name="1",
        digest=None,
        time=NOON,
        mutated=True,
        pulled_again=True,
        confirmed=True,
        own_clock=True,
    )
    entry = EntryState(
        image="a",
        tags=(tag,),
        live_tags=(replace(tag, name="2"),),
        previous=(replace(tag, name="2"),),
        quarantined=(Quarantined(tag=tag, since=NOON, reason="no"),),
        refused=(Refused(name="3", digest=None, reason="no"),),
        unverified=(UnverifiedPush(tag="4", digest=None, time=NOON, reason="no"),),
        deleted=(Deletion(tag="5", digest=None, time=NOON),),
    )
    state = State(
        configuration="",
        processes=(Process(name="b", since=NOON, outside=True),),
        seeding=Seeding.SEEDS,
        degraded_since=NOON,
        blocked=Blocked(template="", reason="no"),
        entries={"a": entry},
    )
    written = json.loads(encode(state))
    schema = TEXT[TEXT.index("## The state annotation") : TEXT.index("## Rules")]
    tables = [re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) for part in schema.split("Each ")]
    assert tables == [
        list(written),
        list(written["processes"][0]),
        list(written["entries"]["a"]),
        list(written["entries"]["a"]["tags"][0]),
    ]
