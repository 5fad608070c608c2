"""Each link of the documentation to a file or a heading has a target."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

TOP = Path(__file__).parents[2]
FILES = [*sorted(TOP.glob("*.md")), *sorted((TOP / "docs").rglob("*.md"))]


def tokens(file: Path) -> list[Token]:
    """Return the blocks of a document."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(file.read_text())


def links(file: Path) -> Iterator[tuple[int, str]]:
    """Return the links and images of a document, with the line of their paragraph or row."""
    line = 0
    for token in tokens(file):
        line = token.map[0] + 1 if token.map else line
        for child in token.children or []:
            for attribute in ("href", "src"):
                if attribute in child.attrs:
                    yield line, str(child.attrs[attribute])


def anchors(file: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    blocks = tokens(file)
    for opening, inline in pairwise(blocks):
        if opening.type != "heading_open":
            continue
        children = inline.children or []
        text = "".join(child.content for child in children if child.type in {"text", "code_inline"})
        name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def problem(file: Path, link: str) -> str | None:
    """Return what is wrong with a link, or None. Links to other hosts are not checked."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not target.is_relative_to(TOP):
        return "is outside the repository"
    if not target.exists():
        return "leads to no file"
    if parts.fragment and parts.fragment not in anchors(target):
        return f"leads to no heading of {target.relative_to(TOP)}"
    return None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(TOP).as_posix())
def test_links_have_a_target(file: Path) -> None:
    found = [(line, link, problem(file, link)) for line, link in links(file)]
    assert [f"{file.name}:{line}: {link} {text}" for line, link, text in found if text] == []


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("other.md", None),
        ("other.md#two-words-in-code", None),
        ("other.md#again", None),
        ("other.md#again-1", None),
        ("#here", None),
        ("https://example.com/missing.md#x", None),
        ("mailto:somebody@example.com", None),
        ("missing.md", "leads to no file"),
        ("other.md#again-2", "leads to no heading of docs/other.md"),
        ("other.md#Again", "leads to no heading of docs/other.md"),
        ("#there", "leads to no heading of docs/file.md"),
        ("../../outside.md", "is outside the repository"),
    ],
)
def test_problem_of_a_link_is_found(
    link: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.TOP", tmp_path.resolve())
    file = tmp_path.resolve() / "docs" / "file.md"
    file.parent.mkdir()
    file.write_text(f"# Here\n\n[a]({link}) and ![b]({link})\n\n| a |\n|---|\n| [c]({link}) |\n")
    (file.parent / "other.md").write_text("# Two words, in `code`\n\n## Again\n\n## Again\n")
    assert [at for at, _ in links(file)] == [3, 3, 7]
    assert {problem(file, each) for _, each in links(file)} == {expected}
