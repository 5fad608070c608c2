"""What `image-puller check` concludes from the answers of registries."""

import pytest

from image_puller.cli import check_registries
from image_puller.cli.check_registries import RegistriesCheck, of_registry, of_sleep_image
from image_puller.cli.findings import Finding, Result
from image_puller.errors import RegistryUnavailableError
from image_puller.registries.lookup import Lookup
from image_puller.values.answers import Absent, Answer, OtherArtifact, Present, Unanswered
from image_puller.values.reference import parse
from tests.support.building import configuration, digest
from tests.support.registries import FakeRegistries

ONE, TWO, THREE = (parse(f"quay.io/org/{name}:1") for name in ("one", "two", "three"))
REPOSITORY = parse("quay.io/org/one")
HERE = Present(digest(1))
AWAY = Unanswered("no answer from quay.io")
REFUSED = Unanswered("it answered 403", is_unqueryable=True)


def found(*answers: Answer, listing: Unanswered | None = None) -> list[tuple[Result, str]]:
    """Return what the answers about images say, and about the list of tags of the first one."""
    images = dict(zip((ONE, TWO, THREE), answers, strict=False))
    listings = {REPOSITORY: listing or ("1",)}
    every = of_registry("quay.io", images, listings if HERE in answers else {}, lacks_secrets=False)
    return [(each.result, each.title) for each in every]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([HERE, HERE], [(Result.OK, "registry quay.io")]),
        ([AWAY, AWAY], [(Result.FAILED, "registry quay.io")]),
        ([HERE, AWAY], [(Result.WARNING, "registry quay.io")]),
        ([HERE, REFUSED], [(Result.FAILED, "registry quay.io")]),
        ([REFUSED, REFUSED], [(Result.FAILED, "registry quay.io")]),
        ([HERE, Absent()], [(Result.FAILED, f"image {TWO}")]),
        ([HERE, OtherArtifact(digest(2), "a chart")], [(Result.FAILED, f"image {TWO}")]),
        (
            [Unanswered("quay.io answered 429 and limits requests for 60 s")],
            [(Result.WARNING, "registry quay.io")],
        ),
    ],
)
def test_answers_of_a_registry(answers: list[Answer], expected: list[tuple[Result, str]]) -> None:
    assert found(*answers) == expected


def test_a_refused_list_of_tags_is_a_failure() -> None:
    assert found(HERE, listing=REFUSED) == [(Result.FAILED, "registry quay.io")]
    assert found(HERE, listing=AWAY) == [(Result.WARNING, "registry quay.io")]


def test_many_refused_repositories_are_one_finding() -> None:
    images = {parse(f"quay.io/org/app-{number}:1"): REFUSED for number in range(1, 8)}
    (only,) = of_registry("quay.io", images, {}, lacks_secrets=False)
    named = ", ".join(f"org/app-{number}" for number in range(1, 6))
    assert only.detail == f"it refuses access to {named} and 2 more: it answered 403"


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("no trusted TLS connection to quay.io", "REGISTRY_CA_FILE"),
        ("no trusted TLS connection to q ([SSL: WRONG_VERSION_NUMBER])", "INSECURE_REGISTRIES"),
        ("no trusted TLS connection to q (record layer failure)", "INSECURE_REGISTRIES"),
        ("no connection to q through the proxy", "HTTPS_PROXY and NO_PROXY"),
        ("q limits requests for 60 s", "IMAGE_PULL_SECRETS"),
        ("no answer from q", "ASK_REGISTRIES=false"),
    ],
)
def test_the_fix_fits_the_reason(reason: str, fix: str) -> None:
    (only,) = of_registry("q", {ONE: Unanswered(reason)}, {}, lacks_secrets=False)
    assert fix in only.fix


def sleep(answer: Answer, *, is_running: bool = False) -> Finding:
    return of_sleep_image(ONE, answer, is_running=is_running, is_asked=True, lacks_secrets=False)


@pytest.mark.parametrize(
    ("answer", "fix"),
    [
        (Absent(), "push it to that registry"),
        (OtherArtifact(digest(1), "a chart"), "correct KIP_IMAGE"),
        (REFUSED, "IMAGE_PULL_SECRETS"),
        (AWAY, "NetworkPolicy"),
    ],
)
def test_a_sleep_image_that_runs_nowhere_must_be_at_its_registry(answer: Answer, fix: str) -> None:
    assert sleep(answer).result == "failed"
    assert fix in sleep(answer).fix
    assert sleep(answer, is_running=True).result == "warning"
    assert sleep(HERE).result == "ok"


def test_one_registry_that_does_not_answer_does_not_hold_the_others_up(
    registries: FakeRegistries, lookup: Lookup
) -> None:
    config = configuration(
        IMAGES="one=quay.io/org/one:1;away=away.example.com/org/app:1",
        KIP_IMAGE="quay.io/org/sleep:1",
        ASK_REGISTRIES="true",
    )
    registries.digests = {ONE: digest(1), parse("quay.io/org/sleep:1"): digest(2)}
    registries.listings = {REPOSITORY: ("1",)}
    registries.fail("away.example.com", RegistryUnavailableError("no answer"))
    check = RegistriesCheck(
        config,
        lookup,
        lacks_secrets=lambda: False,
        is_running=lambda _image: False,
        seconds=lambda: 10.0,
    )
    assert [(each.title, each.result) for each in check.registries()] == [
        ("registry quay.io", "ok"),
        ("registry away.example.com", "failed"),
    ]
    (last,) = check.sleep_image()
    assert last.result == "ok"
    assert check_registries.hosts(config) == {"quay.io", "away.example.com"}
