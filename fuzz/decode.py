"""Look for requests that a decoder neither decodes nor rejects: `make fuzz SECONDS=60`.

libFuzzer runs for each source, one after the other; the seconds are for all together. It begins
with the sample requests of tests/fixtures, unchanged and wrapped in CloudEvents. It writes its
findings to .cache/fuzz; add them to the tests.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parents[1]
sys.path[:0] = [str(TOP), str(TOP / "service")]

import atheris  # noqa: E402 - the paths come first

with atheris.instrument_imports(include=["image_puller"], enable_loader_override=False):
    from image_puller.events.sources import SOURCES

from tests.support.decoding import check  # noqa: E402
from tests.support.samples import FIXTURES, sample, source_of  # noqa: E402

FOUND = TOP / ".cache" / "fuzz"
LONGEST_BYTES = 20_000
"""All samples are shorter; longer requests would make each try slow."""
HANG_SECONDS = 5
MEGABYTES = 1024
_EXECUTED = re.compile(r"stat::number_of_executed_units: +(\d+)")
_WORD = re.compile(rb'"([\w./:+-]{2,60})"')


def request(data: bytes) -> tuple[dict[str, str], bytes]:
    """Split an input into headers and body, at the first empty line."""
    head, _, body = data.partition(b"\n\n")
    lines = (line.partition(b":") for line in head.splitlines())
    headers = {
        name.decode("latin-1").strip().lower(): value.decode("latin-1").strip()
        for name, separator, value in lines
        if separator
    }
    return headers, body


def beginnings(source: str) -> Iterator[bytes]:
    """Yield the samples of a source, in the form of an input."""
    for file in sorted(FIXTURES.glob("*.headers.txt")):
        name = file.name.removesuffix(".headers.txt")
        if source_of(name) in (source, "cloudevents"):
            headers, body = sample(name)
            head = "".join(f"{key}: {value}\n" for key, value in headers.items())
            yield head.encode("latin-1", "replace") + b"\n" + body
            yield from wrapped(body)


def wrapped(body: bytes) -> Iterator[bytes]:
    """Yield a sample as the data of a CloudEvent, alone and in a batch."""
    try:
        data = json.loads(body)
    except ValueError:
        return
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "any", "data": data}
    for content_type, value in (("cloudevents", event), ("cloudevents-batch", [event])):
        yield f"content-type: application/{content_type}+json\n\n{json.dumps(value)}".encode()


def dictionary(samples: list[bytes]) -> str:
    """Return the words of the samples as a dictionary for libFuzzer."""
    words = {word for text in samples for word in _WORD.findall(text)}
    return "".join(f'"{word.decode()}"\n' for word in sorted(words))


def run(source: str, seconds: int) -> bool:
    """Fuzz one source in a new process; return whether nothing was found."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, found = Path(folder) / "corpus", Path(folder) / "found"
        corpus.mkdir()
        found.mkdir()
        samples = list(beginnings(source))
        for number, data in enumerate(samples):
            (corpus / f"sample-{number}").write_bytes(data)
        (Path(folder) / "words").write_text(dictionary(samples))
        command = [
            *(sys.executable, __file__, "--one", source, str(corpus)),
            *(f"-max_total_time={seconds}", f"-max_len={LONGEST_BYTES}"),
            *(f"-timeout={HANG_SECONDS}", f"-rss_limit_mb={MEGABYTES}"),
            *(f"-artifact_prefix={found}/", f"-dict={folder}/words", "-print_final_stats=1"),
        ]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        output = ended.stdout + ended.stderr
        tried = _EXECUTED.search(output)
        print(f"{source}: {tried[1] if tried else 'no'} requests, {len(samples)} samples")
        if ended.returncode == 0 and tried:
            return True
        print(output[-5000:])
        FOUND.mkdir(parents=True, exist_ok=True)
        for file in found.iterdir():
            kept = shutil.copy(file, FOUND / f"{source}-{file.name}")
            print(f"kept as {kept}: {file.read_bytes()[:1000]!r}")
        return False


def main() -> int:
    """Fuzz all sources, or with `--one` a single one in this process."""
    if sys.argv[1:2] == ["--one"]:
        source = sys.argv[2]
        atheris.Setup([sys.argv[0], *sys.argv[3:]], lambda data: check(source, *request(data)))
        atheris.Fuzz()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=int)
    parser.add_argument("sources", nargs="*", choices=[[], *sorted(SOURCES)])
    asked = parser.parse_args()
    sources = asked.sources or sorted(SOURCES)
    share = max(1, asked.seconds // len(sources))
    results = [run(source, share) for source in sources]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
