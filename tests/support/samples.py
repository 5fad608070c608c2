"""Sample requests: each is a file with a body, and a file with its headers."""

from collections.abc import Mapping
from pathlib import Path

from image_puller.cli.event_json import read_headers

# The first word of a sample's name is its source, except for these.
_SOURCES = {"eventgrid": "acr", "eventarc": "gar"}

FIXTURES = Path(__file__).parents[1] / "fixtures" / "payloads"


def source_of(name: str) -> str:
    """Return the source of a sample."""
    first = name.partition("-")[0]
    return _SOURCES.get(first, first)


def sample(name: str, folder: Path = FIXTURES) -> tuple[Mapping[str, str], bytes]:
    """Return the headers and the body of a sample."""
    (body,) = (path for path in folder.glob(f"{name}.*") if path.suffix != ".txt")
    return read_headers((folder / f"{name}.headers.txt").read_text("utf-8")), body.read_bytes()
