"""Tests that docs/configuration.md lists every variable of the service with its default."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from image_puller import __version__
from image_puller.config.configuration import Config, Sink, from_environ
from image_puller.errors import ConfigurationError

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "configuration.md"
HEADER = ["variable", "default", "meaning"]
SMALLEST = {"IMAGES": "app=nginx:1.29.1"}
WITH_OIDC = SMALLEST | {"EVENT_AUTH": "oidc", "OIDC_AUDIENCE": "puller"}


class Row(NamedTuple):
    """One variable as the page describes it."""

    variable: str
    default: str
    meaning: str


class Recorded(dict[str, str]):
    """An environment that records which variables were read."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)


def rows(text: str) -> list[Row]:
    """Return the rows of all tables of variables. Other tables are skipped."""
    found: list[Row] = []
    in_table = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            in_table = False
        elif cells == HEADER:
            in_table = True
        elif in_table and set(line) - set("|-"):
            variable, default, meaning = cells
            found.append(Row(variable.strip("`"), default, meaning))
    return found


ROWS = rows(PAGE.read_text())
VALUES = [row for row in ROWS if re.fullmatch("`[^`]+`", row.default)]
NONE = [row for row in ROWS if row.default == "none"]
REQUIRED = [row for row in ROWS if row.default == "required"]


def environment_of(variable: str) -> dict[str, str]:
    """Return the smallest environment in which the service reads a variable."""
    return WITH_OIDC if variable.startswith("OIDC_") else SMALLEST


def field_of(variable: str, config: Config) -> Any:
    if variable.startswith("GAR_"):
        return config.google
    if variable == "K_SINK":
        return config.sink
    return getattr(config, variable.lower())


IN_WORDS: dict[tuple[str, str], Callable[[], bool]] = {
    ("IMAGE_TAG_POLICIES", "`auto` for each entry"): lambda: (
        from_environ(SMALLEST | {"IMAGE_TAG_POLICIES": "app=auto"}) == from_environ(SMALLEST)
    ),
    ("KIP_IMAGE", "this release's sleep image"): lambda: from_environ(SMALLEST).kip_image.endswith(
        f"-sleep:{__version__}"
    ),
    ("NAMESPACE", "the pod's own"): lambda: (
        from_environ(SMALLEST, pod_namespace="images").namespace == "images"
        and from_environ(SMALLEST).namespace == "k8s-image-puller"
    ),
    ("OIDC_ISSUER", "the API server's"): lambda: oidc_field("issuer") is None,
    ("OIDC_KEYS", "the API server's"): lambda: oidc_field("keys") is None,
    ("K_SERVICE", "set by Knative"): lambda: from_environ(SMALLEST).knative_service is None,
    ("K_CA_CERTS", "set by Knative"): lambda: sink().ca_certs is None,
    ("K_CE_OVERRIDES", "set by Knative"): lambda: sink().extensions == {},
}
"""Checks of defaults in words. The keys contain the words, so that a changed text fails."""


def sink() -> Sink:
    found = from_environ(SMALLEST | {"K_SINK": "http://sink"}).sink
    assert found is not None
    return found


def oidc_field(name: str) -> Any:
    return getattr(from_environ(WITH_OIDC).oidc, name)


def test_page_lists_each_variable_once_and_no_other() -> None:
    environment = Recorded(WITH_OIDC)
    from_environ(environment)
    assert sorted(row.variable for row in ROWS) == sorted(environment.read)


def test_each_default_has_a_known_form() -> None:
    in_words = {(row.variable, row.default) for row in ROWS} - {
        (row.variable, row.default) for row in (*VALUES, *NONE, *REQUIRED)
    }
    assert in_words == IN_WORDS.keys()


@pytest.mark.parametrize("row", VALUES, ids=lambda row: row.variable)
def test_documented_default_changes_nothing(row: Row) -> None:
    environment = environment_of(row.variable)
    default = row.default.strip("`").replace("<NAMESPACE>", "k8s-image-puller")
    assert from_environ(environment | {row.variable: default}) == from_environ(environment)


@pytest.mark.parametrize("row", NONE, ids=lambda row: row.variable)
def test_variable_without_default_sets_nothing(row: Row) -> None:
    assert not field_of(row.variable, from_environ(SMALLEST))


@pytest.mark.parametrize("row", REQUIRED, ids=lambda row: row.variable)
def test_missing_required_variable_is_reported(row: Row) -> None:
    environment = {k: v for k, v in WITH_OIDC.items() if k != row.variable}
    with pytest.raises(ConfigurationError, match=rf"^{row.variable}: must be set"):
        from_environ(environment)


@pytest.mark.parametrize("described", IN_WORDS, ids=lambda described: described[0])
def test_default_in_words_is_true(described: tuple[str, str]) -> None:
    assert IN_WORDS[described]()


def test_readme_has_ten_variables_with_the_defaults_of_the_page() -> None:
    shown = [(row.variable, row.default) for row in rows((TOP / "README.md").read_text())]
    assert len(shown) == len(set(shown)) == 10
    assert set(shown) <= {(row.variable, row.default) for row in ROWS}


def test_each_variable_has_a_meaning() -> None:
    assert [row.variable for row in ROWS if len(row.meaning) < len("A JSON array.")] == []
