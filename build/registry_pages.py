#!/usr/bin/env python3
"""Writes the page of each registry, and the table of docs/registries/README.md.

  build/registry_pages.py FOLDER      FOLDER is docs/registries, or a copy of it

The text comes from service/image_puller/cli/guides; `image-puller webhook-url` prints the same.
Run it with the Python that has the service's packages.
"""

import re
import sys
from pathlib import Path

from image_puller.cli import webhook_setup

MADE = "<!-- Made by `make docs` from service/image_puller/cli/guides: change the text there. -->"
TABLE = re.compile(r"(?s)(?<=<!-- table -->\n\n).*?(?=\n<!-- end of table -->)")


def main() -> None:
    """Write into the folder that is named."""
    if len(sys.argv) != len(("script", "folder")):
        sys.exit("usage: build/registry_pages.py FOLDER")
    folder = Path(sys.argv[1])
    for name, guide in webhook_setup.GUIDES.items():
        if guide.page is None:
            text = f"{MADE}\n\n{webhook_setup.page(name)}"
            (folder / f"{name}.md").write_text(text, "utf-8")
    overview = folder / "README.md"
    text, tables = TABLE.subn(lambda _: webhook_setup.table(), overview.read_text("utf-8"))
    if tables != 1:
        sys.exit(f"{overview}: the marks of the table are not there once, but {tables} times")
    overview.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
