"""The index of the documentation links to each page."""

from pathlib import Path

from markdown_it import MarkdownIt

DOCS = Path(__file__).parents[2] / "docs"
INDEX = DOCS / "README.md"


def linked_pages(page: Path) -> set[Path]:
    """Return the pages of docs/ that a page links to."""
    targets = {
        (page.parent / str(child.attrs["href"]).partition("#")[0]).resolve()
        for token in MarkdownIt().enable("table").parse(page.read_text())
        for child in token.children or ()
        if child.type == "link_open"
    }
    return {target for target in targets if target.is_file() and target.is_relative_to(DOCS)}


def test_index_links_to_each_page() -> None:
    """The index may link to a README.md, which links to the other pages of its folder."""
    found = linked_pages(INDEX) | {INDEX}
    for page in list(found):
        if page.name == "README.md":
            found |= {target for target in linked_pages(page) if target.is_relative_to(page.parent)}
    pages = set(DOCS.rglob("*.md"))
    assert sorted(str(page.relative_to(DOCS)) for page in pages - found) == []
