"""Sample requests: a body beside its headers, in a folder."""

from collections.abc import Mapping
from pathlib import Path

from image_puller.parse import read_headers

FIXTURES = Path(__file__).parent / "fixtures" / "payloads"


def sample(name: str, folder: Path = FIXTURES) -> tuple[Mapping[str, str], bytes]:
    """The headers and the body of one sample."""
    (body,) = (path for path in folder.glob(f"{name}.*") if path.suffix != ".txt")
    return read_headers((folder / f"{name}.headers.txt").read_text("utf-8")), body.read_bytes()
