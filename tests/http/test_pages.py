"""The status page: who gets HTML, what browsers may do with it, and how it is built."""

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from image_puller import limits
from image_puller.core import page, problems
from image_puller.core.daemonset import DesiredImage
from image_puller.core.page import Seen
from image_puller.core.received import Received
from image_puller.core.state import Quarantined, Tag
from image_puller.http import pages
from image_puller.simulation import SimulatedCluster
from tests.support.building import NOON, at, configuration, digest, push
from tests.support.installation import NAME, NAMESPACE, Installation
from tests.support.observations import observed
from tests.support.states import live
from tests.support.web import Web

MakeWeb = Callable[..., Web]

APP = "quay.io/org/app:1.2.3"
HTML = "text/html; charset=utf-8"
JSON = "application/json"
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}&amp;\u202e\n\ud800"
SHOWN = HOSTILE.replace("\u202e", "\\u202e").replace("\n", "\\n").replace("\ud800", "\\ud800")
MOST_BYTES = 2_000_000
MOST_SECONDS = 1  # of a processor; a tenth is usual
VOID = {"meta", "link", "br", "wbr", "img", "input"}


@pytest.fixture
def service(web: MakeWeb) -> Web:
    """Return a service that everybody may read, whose rollout has not begun."""
    return web(READ_AUTH="none", ROLLOUT_MIN_INTERVAL_SECONDS="0")


@pytest.fixture
def app() -> Iterator[Flask]:
    """Return an application that renders pages, within a request."""
    app = Flask("image_puller", static_folder=None, template_folder="http/templates")
    pages.prepare(app)
    with app.test_request_context():
        yield app


def get(web: Web, path: str, **headers: str) -> TestResponse:
    return web.client.get(path, headers=BROWSER | headers)


class Page(HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(web: Web, path: str) -> Page:
    answer = get(web, path)
    assert (answer.status_code, answer.content_type) == (200, HTML)
    return Page(answer.text)


# Who gets HTML


@pytest.mark.parametrize("path", ["/", "/status", "/status/app", f"/status/{APP}"])
@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (BROWSER["Accept"], HTML),
        ("text/html", HTML),
        ("text/html, application/json;q=0.5", HTML),
        ("text/html;q=0.5, application/json", JSON),
        ("text/html, application/json", JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        ("text/plain", JSON),
        ("", JSON),
        (None, JSON),
    ],
)
def test_only_a_client_that_prefers_html_gets_a_page(
    service: Web, path: str, accept: str | None, content_type: str
) -> None:
    answer = service.client.get(path, headers={} if accept is None else {"Accept": accept})
    assert (answer.status_code, answer.content_type) == (200, content_type)
    assert answer.headers["Vary"] == "Accept"


def test_the_page_needs_the_secret_of_readers_which_a_browser_asks_for(web: MakeWeb) -> None:
    service = web()
    service.secret("read", "t")
    basic = "Basic " + base64.b64encode(b"anybody:t").decode()
    wrong = "Basic " + base64.b64encode(b"anybody:other").decode()
    for path in ("/", "/status", "/status/app", "/nodes/node-1"):
        for headers in ({}, {"Authorization": wrong}):
            answer = get(service, path, **headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="image-puller"'
            assert "quay.io" not in answer.text
    assert get(service, "/", Authorization=basic).status_code == 200
    assert get(service, "/", Authorization="Bearer t").status_code == 200


def test_the_first_request_of_a_browser_is_no_news_in_the_log(
    web: MakeWeb, caplog: pytest.LogCaptureFixture
) -> None:
    service = web()
    get(service, "/")
    assert "no secret is set: put one into file read" in caplog.text
    service.secret("read", "t")
    caplog.clear()
    assert get(service, "/").status_code == 401
    assert caplog.messages == []
    get(service, "/", Authorization="Bearer other")
    assert "its credentials are missing or wrong" in caplog.text


def test_the_password_of_a_reader_does_not_authenticate_a_sender(web: MakeWeb) -> None:
    """A browser adds it to each request, also to one that another site makes it send."""
    service = web()
    for name in ("read", "events", "quay"):
        service.secret(name, f"s3cret-of-{name}")
    for name in ("read", "events"):
        basic = "Basic " + base64.b64encode(f"anybody:s3cret-of-{name}".encode()).decode()
        answer = service.client.post("/", headers={"Authorization": basic}, data=b"{}")
        assert answer.status_code == 401
    basic = "Basic " + base64.b64encode(b"anybody:s3cret-of-read").decode()
    headers = {"Authorization": basic}
    assert service.client.post("/webhooks/quay", headers=headers, data=b"{}").status_code == 401


def test_the_page_is_a_503_without_the_api_server(web: MakeWeb, installation: Installation) -> None:
    service = web(READ_AUTH="none")
    service.stop()
    for path in ("/", "/status/app", "/nodes/node-1"):
        installation.cluster.fail(method="GET", path="/daemonsets/")
        answer = get(service, path)
        assert (answer.status_code, answer.text) == (503, "try again later\n")


# What a browser may do with it


@pytest.mark.parametrize("path", ["/", "/status/app", "/nodes/node-1", "/status/nothing"])
def test_the_policy_allows_only_the_style_and_the_script_of_the_page(
    service: Web, path: str
) -> None:
    answer = get(service, path)
    policy = dict(
        each.split(" ", 1) for each in answer.headers["Content-Security-Policy"].split("; ")
    )
    assert policy.pop("connect-src") == "'self'"
    for name in ("style", "script"):
        allowed = policy.pop(f"{name}-src")
        for text in re.findall(rf"<{name}>(.*?)</{name}>", answer.text, re.DOTALL):
            hashed = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert allowed == f"'sha256-{hashed}'"
    assert set(policy.values()) == {"'none'"}
    assert policy.keys() == {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/", "/status/app", "/nodes/node-1"])
def test_the_page_loads_nothing(service: Web, path: str) -> None:
    found = page_of(service, path)
    for tag, attributes in found.elements:
        assert tag not in {"link", "img", "iframe", "form", "object", "base"}
        assert not {"src", "style", "srcset"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
    assert all(is_relative(each) for each in links(found))


def links(found: Page) -> list[str]:
    """Return where the links of a page lead."""
    return [each["href"] or "" for each in found.all("a")]


def is_relative(link: str) -> bool:
    """Whether a link stays below the path at which a proxy serves the pages."""
    parts = urlsplit(link)
    return not parts.scheme and not parts.netloc and not parts.path.startswith("/")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "status",
        "status/",
        "?page=1&images=1",
        "status/app",
        f"status/{APP}",
        "status/quay.io%2Forg%2Fapp:1.2.3",
        "nodes/node-1",
        "nodes/node-1?page=1",
        "status/nothing/at/all",
    ],
)
@pytest.mark.parametrize(
    "base",
    [
        "https://puller.example.com/",
        "https://example.com/puller/",
        "https://example.com/api/v1/namespaces/x/services/y:80/proxy/",
    ],
)
def test_links_stay_below_the_path_of_a_proxy(service: Web, base: str, path: str) -> None:
    """The proxy takes its path away, as the API server and most Ingresses do."""
    found = Page(get(service, f"/{path}").text)
    targets = [urljoin(base + path, each) for each in links(found) if not each.startswith("#")]
    assert base in targets
    for target in targets:
        assert target.startswith(base)
        assert get(service, "/" + target.removeprefix(base)).status_code == 200, target


# Refresh


def test_the_page_refreshes_itself_only_while_a_rollout_runs(
    service: Web, cluster: SimulatedCluster
) -> None:
    running = page_of(service, "/")
    assert len(running.all("script")) == 1
    assert [each.get("http-equiv") for each in running.all("meta")][-1] == "refresh"
    assert "data-refresh" in running.all("main")[0]
    cluster.settle()
    complete = page_of(service, "/")
    assert complete.all("script") == []
    assert "refresh" not in [each.get("http-equiv") for each in complete.all("meta")]
    assert "data-refresh" not in complete.all("main")[0]


def test_a_page_that_has_not_changed_is_a_304(service: Web, cluster: SimulatedCluster) -> None:
    tag = get(service, "/").headers["ETag"]
    known = {"If-None-Match": tag}
    answer = get(service, "/", **known)
    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["Cache-Control"] == "private, no-cache"
    cluster.settle()
    assert get(service, "/", **known).status_code == 200


# What it shows


def test_the_first_page_shows_images_nodes_and_links_to_them(
    service: Web, cluster: SimulatedCluster
) -> None:
    cluster.settle()
    found = page_of(service, "/")
    assert "3 of 3" in found.text
    assert "There are no problems." in found.text
    assert {"./nodes/node-1", "./nodes/node-2", "./nodes/node-3"} <= set(links(found))
    for link in links(found):
        assert get(service, urljoin("/", link)).status_code == 200, link


@pytest.mark.parametrize(
    "image", ["quay.io/org/app:1.2.3", "localhost:5000/a/b/c:x", f"quay.io/org/app@{digest(7)}"]
)
def test_the_link_of_an_image_finds_its_page(web: MakeWeb, image: str) -> None:
    service = web(READ_AUTH="none", IMAGES=f"app={image}")
    (link,) = (each for each in links(page_of(service, "/")) if each.startswith("./status/"))
    assert f"<h1>{image}</h1>" in get(service, urljoin("/", link)).text


def test_pushes_are_shown_with_what_was_decided_the_ignored_ones_too(service: Web) -> None:
    service.secret("quay", "s3cret")
    for repository, tag in (("app", "1.2.4"), ("app", "1.2.2"), ("other", "1")):
        payload = {"docker_url": f"quay.io/org/{repository}", "updated_tags": [tag]}
        service.client.post("/webhooks/quay/s3cret", json=payload)
    text = " ".join(page_of(service, "/").text.split())
    assert "quay app 1.2.4 · tracked The entry's policy allows the tag" in text
    assert "quay org/app 1.2.2 · ignored tag 1.2.2 of quay.io/org/app: app:" in text
    assert "quay org/other 1 · ignored no entry of IMAGES names quay.io/org/other" in text
    assert "what this process received" in text
    assert "app 1.2.4" in page_of(service, "/status/app").text


def test_requests_that_can_not_be_read_are_shown_with_the_reason(service: Web) -> None:
    service.secret("quay", "s3cret")
    for body in (b"{", b" " * (limits.BODY_BYTES + 1)):
        service.client.post("/webhooks/quay/s3cret", data=body)
    text = " ".join(page_of(service, "/").text.split())
    what = "quay a request that can't be read · ignored"
    assert f"{what} the body has more than 1048576 bytes" in text
    assert text.count(what) == 2


def test_a_missing_daemonset_or_state_is_shown(service: Web, installation: Installation) -> None:
    service.stop()
    installation.annotate("{")
    assert "no readable state annotation" in page_of(service, "/").text
    installation.cluster.delete(NAME, NAMESPACE)
    assert "no DaemonSet" in page_of(service, "/").text


def test_the_page_of_a_node_that_joined_shows_its_warm_up_time(
    service: Web, cluster: SimulatedCluster
) -> None:
    cluster.settle()
    cluster.advance(1)
    cluster.join("late")
    cluster.settle()
    assert re.search(
        r"warm, \d+ s after the node was created", page_of(service, "/nodes/late").text
    )


def test_an_unknown_image_or_node_is_a_404_with_its_name_escaped(service: Web) -> None:
    for path in ("/status/", "/nodes/"):
        answer = get(service, f"{path}%3Cscript%3Ealert(1)")
        assert (answer.status_code, answer.content_type) == (404, HTML)
        assert Page(answer.text).all("script") == []
        assert "&lt;script&gt;alert(1)" in answer.text


@pytest.mark.parametrize("number", ["2", "99999999999999999999", "-1", "x", "²", "٣", ""])
def test_any_number_of_a_page_is_answered(service: Web, number: str) -> None:
    assert "node-1" in get(service, f"/?page={number}").text


# How it is built


def hostile_group() -> Seen:
    """Return a group in which everything that comes from outside is hostile."""
    config = replace(configuration(), group=HOSTILE, warnings=(HOSTILE,))
    quarantined = Quarantined(
        tag=Tag(name=HOSTILE, digest=HOSTILE, time=NOON), since=NOON, reason=HOSTILE
    )
    state = live(configuration(), push("1.2.4", 1))
    entry = replace(state.entries["app"], quarantined=(quarantined,))
    holding = replace(state.holding, reason=HOSTILE)
    state = replace(state.with_entry("app", entry), holding=holding)
    seen = observed(config, state, (HOSTILE, "node-2"), fails=lambda _number, _image: HOSTILE)
    return Seen(observation=seen, problems=problems.find(seen), failing={})


HOSTILE_PUSH = Received(
    time=NOON,
    source=HOSTILE,
    subject=HOSTILE,
    decision=HOSTILE,
    why=HOSTILE,
    group=HOSTILE,
    entry="app",
)


@pytest.mark.parametrize("kind", ["overview", "image", "node"])
def test_hostile_text_stays_text(app: Flask, kind: str) -> None:
    groups = (hostile_group(),)
    found = {
        "overview": page.overview(groups, (HOSTILE_PUSH,)),
        "image": page.image(groups, (HOSTILE_PUSH,), "app"),
        "node": page.node(groups, HOSTILE),
    }[kind]
    assert found is not None
    text = pages.rendered(f"{kind}.html", found).get_data(as_text=True)
    rendered = Page(text)
    assert rendered.text.count(SHOWN) >= 3
    assert len(rendered.all("script")) == 1  # that of the refresh
    assert rendered.all("img") == []
    for tag, attributes in rendered.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not (attributes.get("href") or "").startswith("javascript")


def test_an_invalid_page_is_noticed() -> None:
    with pytest.raises(AssertionError):
        Page("<p><b></p></b>")


@pytest.mark.parametrize("path", ["/", "/status/app", "/nodes/node-1", "/status/nothing"])
def test_the_page_can_be_read_by_programs_for_people_who_do_not_see_it(
    service: Web, path: str
) -> None:
    service.secret("quay", "s3cret")
    payload = {"docker_url": "quay.io/org/app", "updated_tags": ["1.2.4"]}
    service.client.post("/webhooks/quay/s3cret", json=payload)
    found = Page(get(service, path).text)
    assert found.all("html") == [{"lang": "en"}]
    assert len(found.all("h1")) == len(found.all("main")) == len(found.all("title")) == 1
    assert len(found.all("table")) == len(found.all("caption"))
    assert all(each.get("scope") in ("row", "col") for each in found.all("th"))
    ids = [each["id"] for _, each in found.elements if "id" in each]
    assert len(ids) == len(set(ids))
    for _, attributes in found.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids
    first = found.all("a")[0]
    assert (first["class"], (first["href"] or "").removeprefix("#")) == ("skip", "main")
    viewports = [each["content"] for each in found.all("meta") if each.get("name") == "viewport"]
    assert viewports == ["width=device-width, initial-scale=1"]


def test_each_state_has_a_sign_beside_its_colour(app: Flask) -> None:
    text = pages.rendered("overview.html", page.overview((hostile_group(),), ())).get_data(True)
    states = re.findall(r'<span class="state [^"]*"><span aria-hidden="true">(.)</span> \S', text)
    assert len(states) == text.count('class="state')
    assert {"✗", "…"} & set(states)


def large() -> Seen:
    """Return a group of 1,000 nodes and 50 images, of which each second one fails somewhere."""
    images = {f"image-{each}": f"quay.io/org/image-{each}:1.2.3" for each in range(50)}
    config = configuration(IMAGES=";".join(f"{name}={image}" for name, image in images.items()))
    state = live(config)

    def fails(number: int, image: DesiredImage) -> str:
        is_failing = number % 10 == 0 and int(image.entry.partition("-")[2]) % 2
        return f'ErrImagePull: "{image.image}": not found {"x" * 200}' if is_failing else ""

    nodes = [f"ip-10-0-{each // 250}-{each % 250}.eu.example.com" for each in range(1000)]
    seen = observed(config, state, nodes, fails=fails)
    return Seen(observation=seen, problems=problems.find(seen), failing={})


@pytest.mark.parametrize("kind", ["overview", "image", "node"])
def test_the_page_of_a_large_cluster_is_small_and_costs_little(app: Flask, kind: str) -> None:
    groups = (large(),)
    began = time.process_time()
    received = (HOSTILE_PUSH,) * limits.RECEIVED
    found = {
        "overview": page.overview(groups, received),
        "image": page.image(groups, received, "image-1"),
        "node": page.node(groups, "ip-10-0-0-9.eu.example.com"),
    }[kind]
    assert found is not None
    answer = pages.rendered(f"{kind}.html", found)
    assert time.process_time() - began < MOST_SECONDS
    assert 10_000 < len(answer.data) < MOST_BYTES
    if kind == "overview":
        text = answer.get_data(as_text=True)
        assert "<strong>900</strong> of 1000" in text
        assert text.count('href="./nodes/') == limits.PAGE_ROWS
        assert 'href="?page=2#nodes"' in text


def test_pages_of_nodes_link_to_their_neighbours(app: Flask) -> None:
    found = page.image((large(),), (), "image-1", number=2)
    assert found is not None
    text = pages.rendered("image.html", found).get_data(as_text=True)
    links = [each for each in Page(text).all("a") if "rel" in each]
    assert [(each["rel"], each["href"]) for each in links] == [
        ("prev", "?page=1#image-1"),
        ("next", "?page=3#image-1"),
    ]
    assert "(101 to 200 of 1000)" in text


def test_times_are_shown_in_utc(app: Flask) -> None:
    received = replace(HOSTILE_PUSH, time=at(61))
    text = pages.rendered("overview.html", page.overview((large(),), (received,))).get_data(True)
    assert '<time datetime="2026-01-15T12:01:01+00:00">2026-01-15 12:01:01 UTC</time>' in text
