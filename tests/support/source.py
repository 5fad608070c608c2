"""The source of the service, in which documented messages are looked for."""

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "service" / "image_puller"


def source_of_the_service() -> str:
    """Return the service's source, with texts that are split over lines joined."""
    text = "".join(file.read_text("utf-8") for file in sorted(PACKAGE.rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", text)


def quoted_messages(page: str) -> list[str]:
    """Return what the first cells of a page's tables quote. `…` stands for any words."""
    cells = re.findall(r"(?m)^\| ([^|]*`[^|]*) \|", page)
    quoted = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    return [part for text in quoted for each in text.split("…") if (part := each.strip(" .:;,"))]
