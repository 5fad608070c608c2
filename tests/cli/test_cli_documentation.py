"""Checks docs/cli.md against the parser: commands, arguments and exit codes."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_puller.cli import main, wait_command

Command = tuple[str, argparse.ArgumentParser]

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command, and of the commands below it, such as `demo push`."""
    return dict(commands_of(main._parser()))


def commands_of(parser: argparse.ArgumentParser, prefix: str = "") -> Iterator[Command]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield prefix + name, below
                yield from commands_of(below, f"{prefix}{name} ")


def sections() -> dict[str, str]:
    """Return the text below the heading of each command. Their names have no capital letters."""
    parts = re.split(r"(?m)^## (?=[a-z])", PAGE)[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def usage(parser: argparse.ArgumentParser) -> list[str]:
    """Return the arguments in the form of the page, without the names of their values."""
    others = (argparse._HelpAction, argparse._SubParsersAction)
    options = [action for action in parser._actions if not isinstance(action, others)]
    names = []
    for action in options:
        if not action.option_strings:
            name = f"{action.metavar}{'…' if action.nargs == '*' else ''}"
            names.append(f"[{name}]" if action.nargs in ("?", "*") else name)
        elif action.required:
            names += action.option_strings
        else:
            names += [f"[{option}]" for option in action.option_strings]
    return sorted(names)


def documented_usage(name: str, section: str) -> list[str]:
    (line,) = re.findall(rf"(?m)^```\nimage-puller {name}\b(.*)\n```", section)
    return sorted(re.sub(r" [A-Z]+", "", line).split())


def test_every_command_has_a_section_and_a_row() -> None:
    assert sections().keys() == parsers().keys()
    rows = re.findall(r"(?m)^\| \[`([\w -]+)`\]\(#([\w-]+)\) \|", PAGE)
    assert {name for name, _ in rows} == parsers().keys()
    assert all(name.replace(" ", "-") == anchor for name, anchor in rows)


@pytest.mark.parametrize("name", sorted(sections()))
def test_section_has_the_arguments_of_its_command(name: str) -> None:
    section = sections()[name]
    expected = usage(parsers()[name])
    assert documented_usage(name, section) == expected
    assert f"\nimage-puller {name}" in section
    explained = re.findall(r"(?m)^\| `(--?[\w-]+)` \|", section)
    assert sorted(explained) == sorted(each.strip("[]") for each in expected if "-" in each[:3])


def test_options_without_a_command_are_documented() -> None:
    for action in main._parser()._actions:
        for option in action.option_strings:
            assert option == "-h" or f"`{option}`" in PAGE or f"image-puller {option}`" in PAGE


def test_documented_exit_codes_are_those_of_the_program() -> None:
    documented = {int(code) for code in re.findall(r"(?m)^\| (\d) \|", PAGE)}
    assert documented == {
        0,
        main._FAILED,
        main._BAD_INPUT,
        wait_command.TIMED_OUT,
        main._UNREACHABLE,
    }
