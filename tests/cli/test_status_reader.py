"""How `status` and `wait` ask a service for selected nodes, and what they make of old ones."""

import pytest
import responses

from image_puller.cli import main
from tests.support.statuses import image, status

URL = "http://puller.example.com"
APP = "quay.io/org/app:1.2.3"
SEEN = status(image(APP, "held"))


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_PULLER_URL", URL)
    monkeypatch.setenv("IMAGE_PULLER_TOKEN", "r")


@responses.activate
def test_service_selects_the_nodes() -> None:
    selector = "pool in (gpu, cpu),!old"
    asked = responses.matchers.query_param_matcher({"selector": selector})
    responses.get(f"{URL}/status", json=SEEN | {"selector": selector}, match=[asked])
    assert main.main(["wait", "app", "--selector", selector]) == 0


@responses.activate
def test_service_that_does_not_select_nodes_is_too_old(capsys: pytest.CaptureFixture[str]) -> None:
    responses.get(f"{URL}/status", json=SEEN)
    assert main.main(["wait", "app", "-l", "pool=gpu"]) == 4
    assert capsys.readouterr().err == f"The service at {URL} is too old for --selector.\n"


@responses.activate
def test_reason_of_a_service_that_may_not_list_nodes_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    responses.get(f"{URL}/status", status=400, body="no selector can be used\x1b\n")
    assert main.main(["wait", "app", "-l", "pool=gpu"]) == 4
    assert capsys.readouterr().err == (
        f"{URL}/status?selector=pool%3Dgpu answered 400: no selector can be used \n"
    )


@responses.activate
def test_service_is_asked_about_one_image() -> None:
    responses.get(f"{URL}/status/{APP}", json=SEEN)
    assert main.main(["status", APP]) == 0
