"""Sample requests: a body beside its headers, in a folder."""

from collections.abc import Mapping
from pathlib import Path

from image_puller.cli.event_json import read_headers

# A sample is named after its source, but for these.
_SOURCES = {"eventgrid": "acr", "eventarc": "gar"}

FIXTURES = Path(__file__).parents[1] / "fixtures" / "payloads"


def source_of(name: str) -> str:
    """The source that a sample is of."""
    beginning = name.partition("-")[0]
    return _SOURCES.get(beginning, beginning)


def sample(name: str, folder: Path = FIXTURES) -> tuple[Mapping[str, str], bytes]:
    """The headers and the body of one sample."""
    (body,) = (path for path in folder.glob(f"{name}.*") if path.suffix != ".txt")
    return read_headers((folder / f"{name}.headers.txt").read_text("utf-8")), body.read_bytes()
