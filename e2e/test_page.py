"""The status page in a real browser, beside a simulated cluster."""

import base64
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Locator, Page, expect

from e2e.harness.browser import (
    LOOKS,
    PATIENCE_SECONDS,
    PHONE,
    PROGRESS,
    Look,
    Traffic,
    overflow,
    violations,
)
from e2e.harness.browser import window as opened
from e2e.harness.prefix import Below, below
from e2e.harness.service import Service
from e2e.harness.site import HOST, PASSWORD, Site
from e2e.harness.workspace import Workspace, wait_until
from e2e.screenshots import take

MakeService = Callable[..., Service]

APP = f"{HOST}/team/app:1.2.3"
PATHS = ("/", "/status/broken", "/nodes/node-1", "/status/nothing/at/all")
FOREIGN_SCRIPT = """() => {
  const script = document.createElement("script");
  script.text = "window.bad = 1";
  document.body.append(script);
}"""
PREFIXES = ("/puller/", "/api/v1/namespaces/x/services/y:80/proxy/")
SIGNED_IN = {"Authorization": "Basic " + base64.b64encode(f"x:{PASSWORD}".encode()).decode()}
"""Playwright turns the browser's cache off where it is to give the password itself."""
NAME = "each => each.getAttribute('href') || each.getAttribute('aria-labelledby')"
"""Returns the name of a link, or of a table that can be scrolled."""
IMAGES = Path(__file__).parents[1] / "docs" / "images"


@pytest.fixture(scope="module")
def site(workspace: Workspace, make_service: MakeService) -> Iterator[Site]:
    """Return a site with states of all kinds, and with more nodes than one page shows."""
    images = {"app": "1.2.3", "tools": "latest", "broken": "1.0.0"}
    with Site(workspace, make_service, images, nodes=101, crowded=True) as site:
        for name, tag in (("app", "1.2.4"), ("app", "1.0.0"), ("other", "1"), ("tools", "latest")):
            site.push(name, tag)
        site.cluster.advance(3)
        yield site


@pytest.fixture
def rollout(workspace: Workspace, make_service: MakeService) -> Iterator[Site]:
    """Return a site whose nodes have not begun yet to pull a new tag."""
    with Site(workspace, make_service, {"app": "1.2.3"}, nodes=3) as site:
        site.push("app", "1.2.4")
        yield site


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return a window whose requests have the password."""
    with opened(browser, extra_http_headers=SIGNED_IN) as context:
        yield context.new_page()


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
@pytest.mark.parametrize("path", PATHS)
def test_axe_finds_nothing_serious(site: Site, browser: Browser, look: Look, path: str) -> None:
    with opened(browser, look, extra_http_headers=SIGNED_IN) as context:
        page = context.new_page()
        page.goto(site.url + path)
        assert violations(page) == ""


def test_the_tests_see_states_of_all_kinds(site: Site, page: Page) -> None:
    """Else they would show little about colours."""
    found: set[str] = set()
    for path in PATHS:
        page.goto(site.url + path)
        found.update(page.locator(".state").evaluate_all("all => all.map(each => each.className)"))
    expected = ("held", "failing", "no-pod", "not-warm", "in-progress", "tracked")
    assert {f"state {name}" for name in expected} <= found


@pytest.mark.parametrize("path", PATHS)
def test_no_page_is_wider_than_a_phone(site: Site, browser: Browser, path: str) -> None:
    with opened(browser, PHONE, extra_http_headers=SIGNED_IN) as context:
        page = context.new_page()
        page.goto(site.url + path)
        assert overflow(page) == 0


def test_the_page_can_be_read_without_javascript(site: Site, browser: Browser) -> None:
    with opened(browser, extra_http_headers=SIGNED_IN, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(site.url)
        expect(page.locator("h1")).to_have_text("Status")
        assert "of 101" in page.locator(PROGRESS).inner_text()
        assert "ignored" in page.locator("section").last.inner_text()
        page.get_by_role("link", name=APP).click()
        expect(page.locator("h1")).to_have_text(APP)
        page.get_by_role("link", name="node-1", exact=True).click()
        expect(page.locator("h1")).to_have_text("Node node-1")
        page.get_by_role("link", name="Kubernetes Image Puller").click()
        page.get_by_role("link", name="Next page").click()
        expect(page.get_by_text("Page 2 of 2")).to_be_visible()
        expect(page).to_have_url(f"{site.url}/?page=2#nodes")


def test_without_javascript_the_browser_loads_the_page_again(
    rollout: Site, browser: Browser
) -> None:
    with opened(browser, extra_http_headers=SIGNED_IN, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(rollout.url)
        expect(page.get_by_text("in progress").first).to_be_visible()
        rollout.cluster.settle()
        expect(page.locator(PROGRESS)).to_have_text("3 of 3")


def test_the_page_follows_a_rollout_without_a_reload(rollout: Site, page: Page) -> None:
    with below(PREFIXES[0], rollout.url) as proxy:
        page.goto(proxy.url)
        page.evaluate("window.isTheSame = true")
        before = page.locator(PROGRESS).inner_text()
        assert before != "3 of 3"
        polled(page, proxy)
        assert page.locator(PROGRESS).inner_text() == before
        page.get_by_role("link", name="node-2").focus()
        rollout.cluster.settle()
        expect(page.locator(PROGRESS)).to_have_text("3 of 3")
        assert page.evaluate("window.isTheSame")
        assert page.evaluate("document.activeElement.textContent") == "node-2"
        told = page.get_by_role("status")
        expect(told).to_have_text("3 of 3 nodes complete; rollout complete")
        assert set(proxy.answers) == {200, 304}
        # A pod of Knative may end now: a complete rollout is polled no more.
        seen = len(proxy.answers)
        page.wait_for_timeout(4_000)
        assert len(proxy.answers) == seen


def polled(page: Page, proxy: Below) -> None:
    """Wait until an unchanged page was answered 304."""

    def is_polled() -> bool:
        page.wait_for_timeout(50)  # the events of the page are handled meanwhile
        return 304 in proxy.answers

    wait_until(is_polled, "a 304", seconds=PATIENCE_SECONDS)


def test_every_link_is_reached_by_the_keyboard_and_its_focus_is_seen(
    site: Site, page: Page
) -> None:
    page.goto(site.url)
    every = page.locator("a[href], .scroll").evaluate_all(f"all => all.map({NAME})")
    reached, outlines = [], set()
    for _ in every:
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        reached.append(focused.evaluate(NAME))
        outlines.add(focused.evaluate("each => getComputedStyle(each).outline.slice(-9)"))
    assert reached == every
    assert outlines == {"solid 3px"}
    assert {"#main", "?page=2#nodes"} <= set(every)


def test_the_first_stop_skips_to_the_content(site: Site, page: Page) -> None:
    page.goto(site.url)
    skip = page.get_by_role("link", name="Skip to the content")
    assert is_outside(skip)
    page.keyboard.press("Tab")
    assert not is_outside(skip)
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('main').contains(document.activeElement)")


def is_outside(link: Locator) -> bool:
    """Whether a link is left of the window."""
    box = link.bounding_box()
    assert box is not None
    return box["x"] + box["width"] <= 0


def test_the_browser_asks_nobody_else_and_the_policy_holds(site: Site, page: Page) -> None:
    traffic = Traffic()
    traffic.watch(page)
    for path in PATHS[:-1]:
        page.goto(site.url + path)
    assert {each.startswith(f"{site.url}/") for each in traffic.requests} == {True}
    assert traffic.console == []
    page.evaluate(FOREIGN_SCRIPT)
    assert page.evaluate("window.bad") is None
    assert page.evaluate("fetch('http://localhost:1/').catch(error => error.name)") == "TypeError"
    assert sum("Content Security Policy" in each for each in traffic.console) >= 2


def test_a_browser_signs_in_with_the_secret_of_readers(site: Site, browser: Browser) -> None:
    for password, is_right in ((None, False), ("another", False), (PASSWORD, True)):
        with opened(browser, password=password) as context:
            page = context.new_page()
            with suppress(Error):  # without the page, Chromium may show an error of its own
                page.goto(site.url)
            assert page.get_by_role("link", name=APP).count() == is_right


def test_a_password_in_the_url_does_not_stop_the_refresh(rollout: Site, browser: Browser) -> None:
    with below("/", rollout.url) as proxy, opened(browser) as context:
        page = context.new_page()
        traffic = Traffic()
        traffic.watch(page)
        page.goto(proxy.url.replace("//", f"//x:{PASSWORD.replace(' ', '%20')}@"))
        polled(page, proxy)
        assert [each for each in traffic.console if "401" not in each] == []


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_pages_work_below_a_path(rollout: Site, page: Page, prefix: str) -> None:
    with below(prefix, rollout.url) as proxy:
        page.goto(proxy.url)
        page.get_by_role("link", name=APP).click()
        expect(page.locator("h1")).to_have_text(APP)
        expect(page).to_have_url(f"{proxy.url}status/{HOST}/team/app%3A1.2.3")
        page.get_by_role("link", name="node-2").click()
        expect(page).to_have_url(f"{proxy.url}nodes/node-2")
        page.get_by_role("link", name=APP).click()
        page.get_by_role("link", name="Kubernetes Image Puller").click()
        expect(page).to_have_url(proxy.url)
        page.goto(f"{proxy.url}status")
        page.get_by_role("link", name="node-3").click()
        expect(page.locator("h1")).to_have_text("Node node-3")
        assert 404 not in proxy.answers


def test_the_screenshots_of_the_documentation_can_be_taken(
    browser: Browser, tmp_path: Path
) -> None:
    take(browser, tmp_path)
    taken = {each.name: each.stat().st_size for each in tmp_path.iterdir()}
    assert taken.keys() == {each.name for each in IMAGES.iterdir()}
    assert max(taken.values()) < 200_000
