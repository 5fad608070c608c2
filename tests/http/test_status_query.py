"""The query of a request for the status."""

import pytest

from image_puller.core.awaiting import Enough
from image_puller.core.label_selector import InvalidSelectorError
from image_puller.errors import BadQueryError
from image_puller.http import status_query
from image_puller.http.status_query import StatusQuery


def test_query_is_about_all_nodes_and_waits_for_nothing_by_default() -> None:
    assert status_query.parse({"page": "2"}) == StatusQuery(
        selector=None, wait=None, enough=Enough()
    )


def test_query_has_the_nodes_and_the_time() -> None:
    found = status_query.parse({"wait": "60", "nodes": "95%", "selector": "pool=gpu"})
    assert (found.wait, found.enough) == (60, Enough(number=95))
    assert found.selector is not None
    assert found.selector.text == "pool=gpu"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"wait": "61"}, "wait: must be a whole number from 0 to 60"),
        ({"wait": "-1"}, "wait: must be a whole number from 0 to 60"),
        ({"wait": ""}, "wait: must be a whole number from 0 to 60"),
        ({"wait": "1m"}, "wait: must be a whole number from 0 to 60"),
        ({"nodes": "0"}, "nodes: must be a number of nodes such as 3"),
    ],
)
def test_malformed_query_is_an_error(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(BadQueryError, match=f"^{message}"):
        status_query.parse(parameters)


def test_malformed_selector_is_an_error() -> None:
    with pytest.raises(InvalidSelectorError):
        status_query.parse({"selector": ""})
