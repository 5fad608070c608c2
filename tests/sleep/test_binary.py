"""The ELF files: https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html."""

import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sleep.programs import SOURCES, Program, build

LOAD, DYNAMIC, INTERPRETER, STACK = 1, 2, 3, 0x6474E551
EXECUTABLE, WRITABLE = 1, 2
FIXED_ADDRESS = 2
MACHINE_CODES = {"amd64": 62, "arm64": 183, "ppc64le": 21, "s390x": 22}
LARGEST_PAGES = {"amd64": 4 << 10, "arm64": 64 << 10, "ppc64le": 64 << 10, "s390x": 4 << 10}


@dataclass(frozen=True, slots=True)
class Segment:
    kind: int
    flags: int
    offset: int
    address: int
    physical_address: int
    file_size: int
    memory_size: int
    alignment: int


def read_elf(path: Path) -> tuple[int, int, list[Segment]]:
    data = path.read_bytes()
    assert data[:5] == b"\x7fELF\x02", "64 bits"
    order = "<" if data[5] == 1 else ">"
    kind, machine = struct.unpack_from(f"{order}HH", data, 16)
    (start,) = struct.unpack_from(f"{order}Q", data, 32)
    size, count = struct.unpack_from(f"{order}HH", data, 54)
    headers = (struct.unpack_from(f"{order}IIQQQQQQ", data, start + i * size) for i in range(count))
    return kind, machine, [Segment(*header) for header in headers]


@pytest.fixture
def segments(built: Program) -> list[Segment]:
    return read_elf(built.path)[2]


def test_binary_has_its_architecture_and_a_fixed_address(built: Program) -> None:
    assert read_elf(built.path)[:2] == (FIXED_ADDRESS, MACHINE_CODES[built.arch])


def test_binary_takes_at_most_16_kib_on_disk(built: Program) -> None:
    assert built.path.stat().st_size <= 16 << 10


def test_binary_can_be_loaded_with_large_pages(built: Program, segments: list[Segment]) -> None:
    loaded = [segment for segment in segments if segment.kind == LOAD]
    assert loaded
    for segment in loaded:
        assert segment.alignment >= LARGEST_PAGES[built.arch]
        assert segment.offset % segment.alignment == segment.address % segment.alignment


def test_binary_needs_no_loader(segments: list[Segment]) -> None:
    assert not {segment.kind for segment in segments} & {DYNAMIC, INTERPRETER}


def test_no_segment_is_writable_and_executable(segments: list[Segment]) -> None:
    assert STACK in {segment.kind for segment in segments}, "without it, the stack is executable"
    assert not [s for s in segments if s.flags & EXECUTABLE and s.flags & WRITABLE]


def test_same_sources_give_the_same_bytes_in_another_folder(
    built: Program, native: Program, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(SOURCES, elsewhere, ignore=shutil.ignore_patterns("build"))
    again = build(built.arch, sources=elsewhere, VERSION=version_of(native))
    assert again.path.read_bytes() == built.path.read_bytes()


def version_of(program: Program) -> str:
    return program.run("--version").stdout.removeprefix("sleep ").strip()
