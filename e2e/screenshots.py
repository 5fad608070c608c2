"""Takes the screenshots of the status page that the documentation shows: `make screenshots`.

python -m e2e.screenshots FOLDER
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from e2e.harness.browser import DARK, LIGHT, PHONE, chromium, find_chromium, window
from e2e.harness.demo import Demo
from image_puller.cli.demo_content import WEBHOOKS

_IGNORED = {"docker_url": "quay.example.com/demo/other", "updated_tags": ["1.0.0"]}
_MILLISECONDS = 60_000
_WIDE, _HEIGHT = 1100, 1050
"""In pixels. Images of whole pages are large files."""


def take(browser: Browser, folder: Path) -> None:
    """Start the demo, push images, and write `status-<look>.png` once the nodes hold them."""
    with tempfile.TemporaryDirectory() as temporary:
        log = Path(temporary, "demo.log")
        log.touch()
        with Demo(log) as demo, window(browser, password=demo.password) as context:
            demo.send("quay", _IGNORED)
            for source in WEBHOOKS:
                demo.send(source)
            page = context.new_page()
            page.goto(demo.url)
            page.locator(".tiles .complete").wait_for(timeout=_MILLISECONDS)
            for look, width in ((LIGHT, _WIDE), (DARK, _WIDE), (PHONE, PHONE.width)):
                page.set_viewport_size({"width": width, "height": _HEIGHT})
                page.emulate_media(color_scheme=look.scheme)
                page.screenshot(path=folder / f"status-{look.name}.png")


if __name__ == "__main__":
    with chromium(find_chromium()) as chosen:
        take(chosen, Path(sys.argv[1]))
