"""The commands in README.md and docs/ are valid. Those that need no cluster are run."""

import io
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from markdown_it import MarkdownIt
from werkzeug.serving import make_server

from image_puller.cli import demo, demo_content, demo_push, demo_session, main
from image_puller.controller.clock import Clock
from image_puller.simulation import RegistryServer, SimulatedCluster
from tests.support.samples import FIXTURES, sample
from tests.support.web import Web

TOP = Path(__file__).parents[2]
README = TOP / "README.md"
PAGES = (README, *sorted((TOP / "docs").rglob("*.md")))
SHELL = ("sh", "bash", "shell")
COMMANDS_WITHOUT_A_CLUSTER = ("parse", "render", "webhook-url")
ENVIRONMENT = {"IMAGES": "app=nginx:1.29.1"}

_COMMENT = re.compile(r"(?m)(^|\s)#(\s.*)?$")
_HERE_DOCUMENT = re.compile(r"(?ms)<<-?'?(\w+)'?(.*?)^\s*\1$")
_PLACEHOLDER = re.compile(r"<[a-z][^<>\n]*>")
_EXAMPLES = {"<source>": "harbor", "<nodes>": "3", "<number of nodes>": "3"}
_ASSIGNMENT = re.compile(r"[A-Z_]+=")
_OPERATORS = frozenset(";|&()<>\n")
_KEYWORDS = ("do", "then", "else", "time", "sudo")


class Block(NamedTuple):
    """Shell code in a page, and the output that the page shows directly below it."""

    page: Path
    line: int
    text: str
    output: str | None


class Command(NamedTuple):
    """One command: its place, variables and words, the text piped into it, and its output."""

    place: str
    environment: dict[str, str]
    words: tuple[str, ...]
    piped: str | None
    output: str | None


def blocks(page: Path) -> Iterator[Block]:
    """Return the shell code of a page."""
    tokens = MarkdownIt().parse(page.read_text())
    for token, below in zip(tokens, (*tokens[1:], None), strict=True):
        if token.type == "fence" and token.info in SHELL:
            assert token.map is not None
            is_output = below is not None and below.type == "fence" and below.info not in SHELL
            output = below.content if below is not None and is_output else None
            yield Block(page, token.map[0] + 1, token.content, output)


def inline_code() -> Iterator[tuple[str, str]]:
    """Return the code in sentences and tables, each with the name of its page."""
    for page in PAGES:
        for token in MarkdownIt().enable("table").parse(page.read_text()):
            for child in token.children or ():
                if child.type == "code_inline":
                    yield page.name, child.content


def segments(text: str) -> Iterator[tuple[str, list[str]]]:
    """Split shell code at its operators. Return each operator with the words after it."""
    text = _HERE_DOCUMENT.sub("", _COMMENT.sub("", text)).replace("\\\n", " ")
    text = _PLACEHOLDER.sub(lambda found: _EXAMPLES.get(found[0], "example"), text)
    lexer = shlex.shlex(text, posix=True, punctuation_chars="".join(_OPERATORS))
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    lexer.commenters = ""
    operator, words = "", list[str]()
    for word in lexer:
        if set(word) <= _OPERATORS:
            yield operator, words
            operator, words = word, []
        else:
            words.append(word)
    yield operator, words


def commands_of(block: Block) -> Iterator[Command]:
    """Return the commands of a block, without keywords of the shell and `kubectl exec --`."""
    place = f"{block.page.name}:{block.line}"
    previous: list[str] = []
    for operator, segment in segments(block.text):
        words = [word for word in segment if word not in _KEYWORDS]
        environment = {}
        while words and _ASSIGNMENT.match(words[0]):
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        if "--" in words and words[0] in ("kubectl", "oc"):
            words = words[words.index("--") + 1 :]
        piped = previous[-1] if operator == "|" and previous[:1] in (["echo"], ["printf"]) else None
        if words:
            yield Command(place, environment, tuple(words), piped, block.output)
        previous = words


COMMANDS = [command for page in PAGES for block in blocks(page) for command in commands_of(block)]
SERVICE_COMMANDS = [each for each in COMMANDS if Path(each.words[0]).name == "image-puller"]
MAKE_COMMANDS = [each for each in COMMANDS if each.words[0] == "make"]
RUNNABLE = [each for each in SERVICE_COMMANDS if each.words[1] in COMMANDS_WITHOUT_A_CLUSTER]
WITH_OUTPUT = [each for each in RUNNABLE if each.output is not None]


def name_of(command: Command) -> str:
    """Return the place and the text of a command."""
    return f"{command.place}:{shlex.join(command.words)}"


def targets(makefile: Path) -> set[str]:
    """Return the targets of a Makefile."""
    return set(re.findall(r"(?m)^([a-z][a-z0-9-]*):", makefile.read_text()))


def check_targets(words: tuple[str, ...]) -> None:
    """Assert that each word after `make` is a target, a variable or `-C folder`."""
    rest = list(words)
    folder = TOP
    if rest[:1] == ["-C"]:
        folder = TOP / rest[1]
        del rest[:2]
    used = {word for word in rest if not _ASSIGNMENT.match(word)}
    assert used <= targets(folder / "Makefile")


def run(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    """Run a command of the service, and return its exit code.

    Where the reader would have a file with a request, a sample is used.
    """
    arguments = list(command.words[1:])
    for name, value in (ENVIRONMENT | command.environment).items():
        monkeypatch.setenv(name, value)
    if arguments[0] == "parse":
        name = min(path.stem for path in FIXTURES.glob(f"{arguments[1]}-*push*.json"))
        headers, body = sample(name)
        if "--headers" in arguments:
            file = tmp_path / "headers"
            file.write_text("".join(f"{key}: {value}\n" for key, value in headers.items()))
            arguments[arguments.index("--headers") + 1] = str(file)
        text = body if command.piped is None else command.piped.encode()
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    return main.main(arguments)


def test_pages_have_commands_of_each_kind() -> None:
    assert MAKE_COMMANDS
    assert {each.words[1] for each in SERVICE_COMMANDS} >= {"render", "status", "webhook-url"}
    assert WITH_OUTPUT


def test_no_command_has_a_secret_as_an_argument() -> None:
    """It would be in the shell's history and in the list of processes."""
    creating = [each for each in COMMANDS if {"create", "secret"} <= set(each.words)]
    assert creating
    assert not [each.place for each in creating if "--from-literal" in " ".join(each.words)]
    sent = [each for each in COMMANDS if each.words[0] in ("curl", "gh", "aws")]
    assert sent
    secret = re.compile(r"\$(SECRET|TOKEN|token)\b")
    assert not [each.place for each in sent if secret.search(" ".join(each.words))]


@pytest.mark.parametrize("command", MAKE_COMMANDS, ids=name_of)
def test_make_target_exists(command: Command) -> None:
    check_targets(command.words[1:])


def test_make_targets_in_sentences_exist() -> None:
    found = [code.split() for _, code in inline_code() if code.startswith("make ")]
    assert found
    for words in found:
        check_targets(tuple(words[1:]))


@pytest.mark.parametrize("command", SERVICE_COMMANDS, ids=name_of)
def test_command_of_the_service_has_valid_arguments(command: Command) -> None:
    main._parser().parse_args(command.words[1:])


def test_commands_of_the_service_in_sentences_exist() -> None:
    found = {
        match[1]
        for _, code in inline_code()
        if (match := re.match(r"image-puller ([a-z][a-z-]*)", code))
    }
    assert found
    for name in found:
        with pytest.raises(SystemExit) as exited:
            main.main([name, "--help"])
        assert exited.value.code == 0, name


@pytest.mark.parametrize("command", RUNNABLE, ids=name_of)
def test_command_without_a_cluster_exits_with_0(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(command, monkeypatch, tmp_path) == 0


@pytest.mark.parametrize("command", WITH_OUTPUT, ids=name_of)
def test_command_prints_the_output_below_it(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line with `…` stands for any lines."""
    assert run(command, monkeypatch, tmp_path) == 0
    printed = iter(capsys.readouterr().out.splitlines())
    for line in (command.output or "").splitlines():
        assert "…" in line or line in printed, line


# The demo of README.md


def test_readme_has_at_most_8_kib() -> None:
    assert len(README.read_bytes()) <= 8192


@pytest.fixture
def demo_url(
    web: Callable[..., Web], cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Start the parts of the demo in this process, at the URL that README.md shows."""
    tokens = dict.fromkeys(demo_content.SECRETS, "secret")
    with RegistryServer(cluster.images) as registries:
        monkeypatch.setenv("HTTP_PROXY", registries.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        demo_content.push_configured(registries)
        environment = {"ROLLOUT_MIN_INTERVAL_SECONDS": "0", "ASK_REGISTRIES": "true"}
        service = web(**demo._ENVIRONMENT | environment)
        for name, token in tokens.items():
            service.secret(name, token)
        demo_content.push_new(registries)
        server = make_server("127.0.0.1", 0, service.service.app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with demo_session.created(server.server_port, tokens):
            yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
        server.server_close()


class SettlingClock(Clock):
    """A clock that lets all pods of a cluster start when somebody waits."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        self._cluster.settle()


def readme_output(beginning: str) -> str:
    """Return the output in README.md that begins with this text."""
    (text,) = re.findall(rf"(?s)```text\n({re.escape(beginning)}.*?)```", README.read_text())
    return str(text)


def test_readme_shows_the_first_line_of_the_demo() -> None:
    output = readme_output("Kubernetes Image Puller at http")
    (url,) = re.findall(r"http://[0-9.:]+", output)
    assert output == f"{demo.title(url)}\n"


def test_readme_shows_the_commands_of_the_demo() -> None:
    text = demo.introduction("", dict.fromkeys(demo_content.SECRETS, "secret"), "image-puller")
    shown = [c for c in SERVICE_COMMANDS if c.place.startswith("README.md") and c.environment]
    assert [" ".join(each.words[1:]) for each in shown] == ["demo push harbor", "status"]
    for command in shown:
        assert f"image-puller {' '.join(command.words[1:])}" in text.splitlines()
        assert command.environment == {"PORT": "9000"}
        assert command.words[0] == ".venv/bin/image-puller"


def test_readme_shows_the_output_of_the_demo(
    demo_url: str,
    cluster: SimulatedCluster,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = demo_url.rpartition(":")[2]
    demo_push.run("harbor", port, SettlingClock(cluster))
    output = readme_output("POST http://")
    assert capsys.readouterr().out == output.replace("http://127.0.0.1:9000", demo_url)
    monkeypatch.setenv("PORT", port)
    assert main.main(["status"]) == 0
    lines = iter(capsys.readouterr().out.splitlines())
    for line in readme_output("ENTRY").splitlines():
        assert line in lines, line
