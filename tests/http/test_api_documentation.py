"""Checks docs/http-api.md and docs/operations/status.md against the application."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from image_puller import errors, limits
from image_puller.core.node_state import ImageState, NodeState
from image_puller.core.page import Why
from image_puller.events.sources import SOURCES
from tests.support.installation import Installation
from tests.support.web import Web

MakeWeb = Callable[..., Web]

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "http-api.md").read_text("utf-8")


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading, without its head."""
    section = PAGE.partition(f"{heading}\n")[2]
    table = re.search(r"(?m)(?:^\|.*\n)+", section)
    assert table
    lines = table[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def without_names(path: str) -> str:
    """Return a path without the names of its variables."""
    return re.sub(r"<[^>]+>", "<>", path)


ROUTES = rows("## Routes")


def test_table_has_every_route_of_the_application(web: MakeWeb) -> None:
    served = {
        (method, without_names(rule.rule))
        for rule in web().client.application.url_map.iter_rules()
        for method in rule.methods or ()
        if method != "HEAD"
    }
    documented = [(method, without_names(path)) for method, path, *_ in ROUTES]
    assert sorted(documented) == sorted(served)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: " ".join(route[:2]))
def test_route_answers_without_credentials_as_the_table_says(
    web: MakeWeb, route: list[str]
) -> None:
    method, path, *_, status = route
    named = path.replace("<source>", "quay").replace("<secret>", "x").replace("<image>", "app")
    answer = web().client.open(named, method=method, data=b"{}" if method == "POST" else None)
    assert answer.status_code == int(status)


def test_table_has_every_status_of_an_error() -> None:
    documented = {int(status) for status, _ in rows("## Answers")}
    raised = {
        error.status
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.ImagePullerError)
    }
    assert raised <= documented


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/webhooks/nobody", 404),
        ("GET", "/nothing", 404),
        ("PUT", "/status", 405),
        ("GET", "/webhooks/quay", 405),
    ],
)
def test_unknown_path_or_method_is_answered_as_the_table_says(
    web: MakeWeb, method: str, path: str, status: int
) -> None:
    answer = web().client.open(path, method=method)
    assert answer.status_code == status
    assert status in {int(documented) for documented, _ in rows("## Answers")}
    assert "Location" not in answer.headers


def test_retry_after_is_documented() -> None:
    assert f"`Retry-After: {limits.RETRY_AFTER_SECONDS}`" in PAGE


def test_documented_timeouts_are_those_of_the_sources() -> None:
    *named, (_, others) = rows("## Timeouts")
    documented = {source: text for names, text in named for source in re.findall(r"\w+", names)}
    for name, source in SOURCES.items():
        assert documented.get(name, others) == f"{source.timeout:g} s"
    assert others == f"{limits.PUSH_SECONDS:g} s"


def test_every_status_field_is_documented(web: MakeWeb, installation: Installation) -> None:
    service = web(READ_AUTH="none")
    service.stop()
    status = service.client.get("/status").get_json()
    assert isinstance(status, dict)
    (image,) = status["images"]
    nodes = (*image["nodes"].values(), *status["nodes"].values())
    assert len(nodes) == 6
    fields = {*status, *status["daemonset"], *image, *(field for node in nodes for field in node)}
    page = (DOCS / "operations" / "status.md").read_text("utf-8")
    assert {"rollout", "images", "digest"} <= fields
    assert [field for field in sorted(fields) if f"`{field}`" not in page] == []


def test_every_word_of_the_page_for_why_an_image_is_there_is_documented() -> None:
    page = (DOCS / "operations" / "status.md").read_text("utf-8")
    section = page.partition("say why an image is there:\n")[2].partition("\n## ")[0]
    assert re.findall(r"(?m)^\| `([a-z ]+)` \|", section) == list(Why)


def test_every_state_is_documented() -> None:
    page = (DOCS / "operations" / "status.md").read_text("utf-8")
    images = page.partition("## Images")[2].partition("\n## ")[0]
    documented = re.findall(r"(?m)^\| `([a-z ]+)` \| [A-Z].* \| .* \|$", images)
    assert documented == list(ImageState)
    assert [state for state in NodeState if f"`{state}`" not in page] == []
