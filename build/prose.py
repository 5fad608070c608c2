"""Check the documentation: no sentence of more than 25 words, no word that the glossary replaced.

    build/prose.py [FILE...]        Without a FILE: README.md and its neighbours, and all of docs/.

Prints one line for each finding, and exits with 1 if there is one.

Paragraphs, headings, list items and table cells are read, whatever their markup.
Inline code counts as one word, and a code block not at all.
A sentence ends at a full stop, a question mark or an exclamation mark, or with its paragraph, list
item or cell. A colon or a semicolon does not end it.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

TOP = Path(__file__).resolve().parents[1]
MOST_WORDS = 25
REPLACED = {
    "moving tag": "mutable tag",
    "moved tag": "mutated tag",
    "patience": "timeout",
    "tick": "check",
    "ticker": "schedule",
}
"""Words of earlier versions, and what docs/glossary.md calls them now."""

_CODE = "\ue000"
"""Stands for inline code, whose dots end no sentence."""
_END = re.compile(r"""[.!?]+["'\u201d\u2019»)\]]*(?=\s|$)""")
_ABBREVIATIONS = frozenset({"approx", "cf", "e.g", "i.e", "incl", "resp", "vs"})
_MAY_END = frozenset({"etc", "inc", "ltd"})
"""Abbreviations that end a sentence if an upper-case letter follows."""
_TAG_OR_COMMENT = re.compile(r"<!--.*?-->|<[^>]*>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one paragraph, heading, list item or cell, and the line where it begins."""

    line: int
    text: str
    code: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to rewrite, at a line that counts from 1."""

    line: int
    message: str


def pieces(markdown: str) -> Iterator[Piece]:
    """Yield all text of a Markdown document but its code blocks."""
    line = 0
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown):
        if token.map:
            line = token.map[0] + 1
        if token.type == "inline":
            yield _piece(line, token.children or [])
        elif token.type == "html_block":
            yield Piece(line, _TAG_OR_COMMENT.sub(_newlines, token.content))


def _newlines(match: re.Match[str]) -> str:
    """Keep the lines of what is cut out, so that later lines keep their numbers."""
    return "\n" * match[0].count("\n")


def _piece(line: int, children: Iterable[Token]) -> Piece:
    text, code = "", []
    for child in children:
        if child.type == "code_inline":
            text += _CODE
            code.append(child.content)
        elif child.type in {"softbreak", "hardbreak"}:
            text += "\n"
        elif child.type in {"text", "text_special", "image"}:
            text += child.content
    return Piece(line, text, tuple(code))


def sentences(text: str) -> Iterator[str]:
    """Split a text into its sentences, which together are the text."""
    start = 0
    for match in _END.finditer(text):
        if _is_end(text[start : match.start()], match[0], text[match.end() :]):
            yield text[start : match.end()]
            start = match.end()
    if text[start:].strip():
        yield text[start:]


def _is_end(before: str, mark: str, after: str) -> bool:
    """Whether a mark ends the sentence before it."""
    if before.count("(") > before.count(")") and not before.lstrip().startswith("("):
        return False  # a remark in brackets belongs to its sentence
    if not mark.startswith("."):
        return True
    word = re.split(r"[\s(\[/\"]", before)[-1].lower()
    if word in _ABBREVIATIONS:
        return False
    return word not in _MAY_END or after.lstrip()[:1].isupper() or not after.strip()


def words(sentence: str) -> int:
    """Count what stands between spaces and dashes and has a letter, a digit or code."""
    parts = re.split(r"[\s\u2013\u2014]+", sentence)
    return sum(1 for part in parts if _CODE in part or any(map(str.isalnum, part)))


def findings(markdown: str) -> Iterator[Finding]:
    """Yield what is wrong in a Markdown document, in the order of its text."""
    for piece in pieces(markdown):
        line = piece.line
        code = iter(piece.code)
        for sentence in sentences(piece.text):
            quoted = _with_code(sentence, code)
            number = words(sentence)
            if number > MOST_WORDS:
                start = line + sentence[: -len(sentence.lstrip())].count("\n")
                message = f'sentence of {number} words (at most {MOST_WORDS}): "{quoted}"'
                yield Finding(start, message)
            for at, word, better in _replaced(sentence):
                yield Finding(line + at, f'"{word}" is called "{better}" (docs/glossary.md)')
            line += sentence.count("\n")


def _with_code(sentence: str, code: Iterator[str]) -> str:
    """Return a sentence in one line, with its inline code in place of what stands for it."""
    parts = [
        f"`{next(code)}`" if part == _CODE else part for part in re.split(f"({_CODE})", sentence)
    ]
    return " ".join("".join(parts).split())


def _replaced(sentence: str) -> Iterator[tuple[int, str, str]]:
    """Yield each word to replace: how many lines below the sentence's start, itself, the better."""
    for word, better in REPLACED.items():
        pattern = r"\s+".join(word.split())
        for match in re.finditer(rf"\b{pattern}s?\b", sentence, re.IGNORECASE):
            yield sentence[: match.start()].count("\n"), " ".join(match[0].split()), better


def documentation() -> list[Path]:
    """Return all files that are checked unless others are named."""
    top = [TOP / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")]
    return [*top, *sorted((TOP / "docs").rglob("*.md"))]


def main(arguments: list[str]) -> int:
    """Print the findings of all files, and return the exit status."""
    found = False
    for file in [Path(argument) for argument in arguments] or documentation():
        name = file.relative_to(TOP) if file.is_relative_to(TOP) else file
        for finding in findings(file.read_text(encoding="utf-8")):
            found = True
            print(f"{name}:{finding.line}: {finding.message}")
    return int(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
