"""build/prose.py finds long sentences and replaced words in the documentation."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from build import prose

TOP = Path(__file__).parents[2]
LONG = " ".join(["word"] * (prose.MOST_WORDS + 1))
FITS = " ".join(["word"] * prose.MOST_WORDS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two.", ["One.", "Two."]),
        ("One? Two! Three", ["One?", "Two!", "Three"]),
        ("One\nline. Two", ["One\nline.", "Two"]),
        ("First: this; then that.", ["First: this; then that."]),
        ("Use v1.2.3 or 1.2. Then go.", ["Use v1.2.3 or 1.2.", "Then go."]),
        ("It takes 1.5 s. Then go.", ["It takes 1.5 s.", "Then go."]),
        ("A tag, e.g. latest, i.e. a name.", ["A tag, e.g. latest, i.e. a name."]),
        ("A tag (e.g. Latest) changes.", ["A tag (e.g. Latest) changes."]),
        ("Harbor vs. Quay.", ["Harbor vs. Quay."]),
        ("Harbor, Quay, etc. are known.", ["Harbor, Quay, etc. are known."]),
        ("Harbor, Quay, etc. All are known.", ["Harbor, Quay, etc.", "All are known."]),
        ("Harbor, Quay, etc.", ["Harbor, Quay, etc."]),
        ('It says "ready." Then go.', ['It says "ready."', "Then go."]),
        ("(It is ready.) Then go.", ["(It is ready.)", "Then go."]),
        ("It (this one. Really.) is ready.", ["It (this one. Really.) is ready."]),
        ("zot sends it. zot is small.", ["zot sends it.", "zot is small."]),
        ("See docs/a.md and b.", ["See docs/a.md and b."]),
        ("Wait ... then go.", ["Wait ...", "then go."]),
        ("", []),
        (" \n", []),
    ],
)
def test_text_is_split_into_sentences(text: str, expected: list[str]) -> None:
    assert [sentence.strip() for sentence in prose.sentences(text)] == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("One, two: three.", 3),
        ("one-two v1.2.3 a/b", 3),
        ("push → node", 2),
        ("this \u2014 that\u2014those", 3),
        ("a = b + 1", 3),
        ("…", 0),
    ],
)
def test_words_of_a_sentence_are_counted(text: str, number: int) -> None:
    assert prose.words(text) == number


@pytest.mark.parametrize(
    ("markdown", "line"),
    [
        (f"{LONG}.", 1),
        (f"# {LONG}", 1),
        (f"Short.\n{LONG}.\nShort.", 2),
        (f"Short. {LONG}.", 1),
        (f"{FITS}\nmore.", 1),
        (f"- short\n  - {LONG}", 2),
        (f"1. {LONG}", 1),
        (f"> short\n>\n> {LONG}", 3),
        (f"| a | b |\n|---|---|\n| short | {LONG} |", 3),
        (f"| a | {LONG} |\n|---|---|\n| a | b |", 1),
        (f"<!-- short -->\n<p>\n{LONG}\n</p>", 3),
        (f"**{FITS}** *more*", 1),
        (f"[{FITS}](docs/a.md) more", 1),
        (f"![{FITS}](docs/a.png) more", 1),
        (f"{FITS} `code with dots. And more.`", 1),
        (f"{FITS} e.g. more", 1),
        (f"{FITS} (v1.2.3. Really)", 1),
        (f"{FITS}: more", 1),
        (f"{FITS}; more", 1),
    ],
)
def test_long_sentence_is_found_at_its_line(markdown: str, line: int) -> None:
    (finding,) = prose.findings(markdown)
    assert finding.line == line
    assert finding.message.startswith("sentence of ")


@pytest.mark.parametrize(
    "markdown",
    [
        f"{FITS}.",
        f"{FITS}. {FITS}.",
        f"{FITS}?\n{FITS}!",
        f"- {FITS}\n- {FITS}",
        f"| {FITS} | {FITS} |\n|---|---|\n| {FITS} | {FITS} |",
        f"{FITS}\n\n```\n{LONG}\n```\n\n    {LONG}",
        f"`{LONG}` is code",
        f"[short](https://example.com/{LONG.replace(' ', '-')})",
        f"<!-- {LONG} -->",
        "---",
        "",
    ],
)
def test_short_sentence_is_not_found(markdown: str) -> None:
    assert list(prose.findings(markdown)) == []


def test_finding_quotes_the_sentence_in_one_line_with_its_code() -> None:
    (finding,) = prose.findings(f"Run `make a`. Then run `make b`\nand {FITS}.")
    assert finding.message == f'sentence of 29 words (at most 25): "Then run `make b` and {FITS}."'


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("Each tick asks.", [(1, '"tick" is called "check" (docs/glossary.md)')]),
        ("One.\nTwo: Ticks\nask.", [(2, '"Ticks" is called "check" (docs/glossary.md)')]),
        ("A moved\ntag.", [(1, '"moved tag" is called "mutated tag" (docs/glossary.md)')]),
        ("A ticket, a sticker and `tick`.", []),
        ("```\ntick\n```", []),
    ],
)
def test_replaced_word_is_found(markdown: str, expected: list[tuple[int, str]]) -> None:
    assert [(each.line, each.message) for each in prose.findings(markdown)] == expected


def test_replacements_are_terms_of_the_glossary() -> None:
    glossary = (TOP / "docs" / "glossary.md").read_text()
    terms = {word for cell in re.findall(r"(?m)^\| ([^|]+) \|", glossary) for word in cell.split()}
    assert {better.split()[0] for better in prose.REPLACED.values()} <= {
        term.strip(",") for term in terms
    }


def run(*files: Path) -> subprocess.CompletedProcess[str]:
    """Run build/prose.py on some files."""
    command: list[str | Path] = [sys.executable, TOP / "build" / "prose.py", *files]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_fails_and_prints_the_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text("Short.\n")
    bad.write_text(f"Short.\n\n{LONG}.\n")
    result = run(good, bad)
    assert result.returncode == 1
    assert result.stdout == f'{bad}:3: sentence of 26 words (at most 25): "{LONG}."\n'
    assert run(good).returncode == 0


def test_command_fails_if_a_file_is_missing(tmp_path: Path) -> None:
    assert run(tmp_path / "missing.md").returncode not in {0, None}


def test_all_documentation_is_checked() -> None:
    names = {file.relative_to(TOP).as_posix() for file in prose.documentation()}
    top = {file.name for file in TOP.glob("*.md")}
    assert top | {"docs/glossary.md"} <= names
    assert names == top | {name for name in names if name.startswith("docs/")}


def test_lint_checks_the_documentation() -> None:
    make = ["make", "--dry-run", "--no-print-directory", "lint"]
    path = {"PATH": os.environ["PATH"]}  # without the variables of a make that runs the tests
    result = subprocess.run(make, cwd=TOP, env=path, capture_output=True, text=True, check=True)
    assert ".venv/bin/python build/prose.py" in result.stdout.splitlines()
