"""A real browser: headless Chromium, as the system has it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
"""The names of Chromium, as in e2e/namespace.sh."""
PATIENCE_SECONDS = 60  # for a busy machine
expect.set_options(timeout=1000 * PATIENCE_SECONDS)
PROGRESS = "dl.tiles div:first-child dd"
"""Where the first page says how many nodes are complete."""
TOO_BAD = ("serious", "critical")
_ALIKE = "tr:nth-child(n+20)"
"""Rows of a long table, which are like those before. axe takes long for each cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a person prefers, and how wide the window is."""

    name: str
    width: int = 1280
    height: int = 800
    scheme: Literal["light", "dark"] = "light"


LIGHT = Look(name="light")
DARK = Look(name="dark", scheme="dark")
PHONE = Look(name="phone", width=360)
LOOKS = (LIGHT, DARK, PHONE)


@dataclass(slots=True)
class Traffic:
    """The URLs that a window requested, and what it wrote on its console."""

    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Note what a window does from now on."""
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.console.append(message.text))
        page.on("pageerror", lambda error: self.console.append(str(error)))


def find_chromium() -> Path:
    """Return the program. Raises FileNotFoundError."""
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None:
        raise FileNotFoundError(f"install Chromium: none of {', '.join(_PROGRAMS)} is in PATH")
    return Path(found)


@contextmanager
def chromium(program: Path) -> Iterator[Browser]:
    """Start the browser, and stop it at the end."""
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not work for root.
        browser = playwright.chromium.launch(
            executable_path=program, chromium_sandbox=os.geteuid() != 0
        )
        yield browser
        browser.close()


@contextmanager
def window(
    browser: Browser, look: Look = LIGHT, *, password: str | None = None, **options: Any
) -> Iterator[BrowserContext]:
    """Open a window without cookies and cache. `password` is that of all pages."""
    credentials: Any = None if password is None else {"username": "anybody", "password": password}
    context = browser.new_context(
        viewport={"width": look.width, "height": look.height},
        color_scheme=look.scheme,
        http_credentials=credentials,
        **options,
    )
    yield context
    context.close()


def violations(page: Page) -> str:
    """Return what axe finds serious or critical on a page, or ""."""
    found = Axe().run(page, {"exclude": [[_ALIKE]]})
    bad = [each["id"] for each in found.response["violations"] if each["impact"] in TOO_BAD]
    return "\n".join(found.generate_report(each) for each in bad)


def overflow(page: Page) -> int:
    """Return how many pixels a page is wider than its window."""
    width = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return int(width)
