"""What is printed for each registry can be pasted, and what it sets up is let in."""

import json
import os
import re
import subprocess
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from image_puller.cli.webhook_setup import GUIDES, render, shows_secret
from image_puller.config.configuration import Google
from image_puller.events.sources import SOURCES
from tests.support.web import Web

MakeWeb = Callable[..., Web]

SERVICE = "https://puller.example.com:8443/base"
SECRET = "s3cret/of a source@%:"
GOOGLE = Google(audience="https://puller/gar", service_account="a@p.iam.gserviceaccount.com")
IN_URL = {"quay", "dockerhub", "gar", "aliyun", "acr"}
TOOLS = ("aws", "az", "curl", "gcloud", "gh", "kubectl")

every_source = pytest.mark.parametrize("name", sorted(SOURCES))


def printed(
    name: str, *, secret: str | None = SECRET, google: Google | None = None, url: str = SERVICE
) -> str:
    return render(name, url, secret.encode() if secret else None, google)


def url_of(text: str) -> str:
    found = re.match(r"# URL:    (\S+)\n", text)
    assert found
    return found[1]


def blocks(text: str) -> list[str]:
    """What is no comment, and so to be pasted."""
    return re.findall(r"(?m)(?:^[^#\n].*\n)+", text)


def test_there_is_a_guide_for_every_source() -> None:
    assert set(GUIDES) == set(SOURCES)


@every_source
def test_a_guide_is_complete(name: str) -> None:
    text = printed(name)
    for left in ("<service>", "<url>", "<key>", "<with-key>", "<file>", "<google"):
        assert left not in text
    assert url_of(text).partition("@")[2] or url_of(text).startswith(SERVICE)


@every_source
def test_only_a_url_shows_a_secret(name: str) -> None:
    text = printed(name)
    assert SECRET not in text
    assert ("s3cret%2Fof%20a%20source%40%25%3A" in text) is (name in IN_URL)
    assert shows_secret(name, None) is (name in IN_URL)
    assert "s3cret" not in printed(name, secret=None)


def test_in_the_url_only_those_show_it_that_can_not_do_otherwise() -> None:
    assert {name for name, source in SOURCES.items() if source.scheme.in_path} == IN_URL


@every_source
def test_the_url_lets_its_sender_in_and_nobody_else(web: MakeWeb, name: str) -> None:
    service = web()
    service.secret("events" if name == "cloudevents" else name, SECRET)
    parts = urlsplit(url_of(printed(name, url="https://puller.example.com")))
    headers = {}
    if parts.username:
        userinfo = f"{parts.username}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + b64encode(userinfo.encode()).decode()
    answer = service.client.post(parts.path, headers=headers, data=b"{}")
    shown = name in IN_URL - {"acr"}
    assert answer.status_code == (202 if shown else 401)
    wrong = service.client.post(parts.path.replace("s3cret", "x"), data=b"{}")
    assert wrong.status_code == 401


def test_event_grids_url_lets_it_in(web: MakeWeb) -> None:
    service = web()
    service.secret("acr", SECRET)
    found = re.search(r"--endpoint '([^']+)'", printed("acr", url="https://puller.example.com"))
    assert found
    assert service.client.post(urlsplit(found[1]).path, data=b"{}").status_code == 202


def test_without_a_known_secret_its_place_is_shown() -> None:
    assert (
        url_of(printed("quay", secret=None))
        == SERVICE.replace("://", "://quay:<secret>@") + "/webhooks/quay"
    )
    assert url_of(printed("dockerhub", secret=None)) == f"{SERVICE}/webhooks/dockerhub/<secret>"


def test_google_shows_no_secret_where_its_tokens_are_checked() -> None:
    text = printed("gar", google=GOOGLE)
    assert url_of(text) == f"{SERVICE}/webhooks/gar"
    assert "s3cret" not in text
    assert not shows_secret("gar", GOOGLE)
    assert "--push-auth-service-account 'a@p.iam.gserviceaccount.com'" in text
    assert "--push-auth-token-audience 'https://puller/gar'" in text
    for name in set(SOURCES) - {"gar"}:
        assert printed(name, google=GOOGLE) == printed(name)


# What is pasted


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str, str], list[tuple[list[str], str]]]:
    """Runs commands where every tool writes down what it is given; gives that back."""
    for tool in TOOLS:
        stub = tmp_path / tool
        stub.write_text(
            "#!/bin/bash\n"
            f'[[ {tool} != kubectl ]] || {{ echo "$ENCODED"; exit; }}\n'
            'input=; if [[ " $* " == *" -d @- "* ]]; then input=$(cat); fi\n'
            f'printf "%s\\0" {tool} "$@" "$input" end >>{tmp_path}/asked; echo told\n'
        )
        stub.chmod(0o755)

    def run(commands: str, secret: str) -> list[tuple[list[str], str]]:
        # Whoever pastes puts something in place of each <placeholder>.
        filled = re.sub(r"<([a-z ]+)>", lambda found: found[1].replace(" ", "-"), commands)
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "ENCODED": b64encode(secret.encode()).decode(),
        }
        subprocess.run(["bash", "-eu", "-c", filled], env=environment, cwd=tmp_path, check=True)
        words = (tmp_path / "asked").read_text().split("\0")
        asked = []
        while "end" in words:
            *arguments, given = words[: words.index("end")]
            asked.append((arguments, given))
            words = words[words.index("end") + 1 :]
        return asked

    return run


COMMANDS = [
    "acr",
    "cdevents",
    "cloudevents",
    "ecr",
    "gar",
    "gitea",
    "github",
    "harbor",
    "jfrog",
    "quay",
]


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_give_the_sender_the_url_and_the_secret(
    shell: Callable[[str, str], list[tuple[list[str], str]]], name: str
) -> None:
    text = printed(name)
    tokens = "QUAY_TOKEN=q JFROG_TOKEN=j GITEA_TOKEN=g\n"
    asked = shell(tokens + text, "of-the-cluster")
    told = "\n".join("\n".join([*arguments, given]) for arguments, given in asked)
    assert url_of(text) in told
    assert ("of-the-cluster" in told) is ("$SECRET" in text)
    for arguments, given in asked:
        if given:
            json.loads(given)
            assert "Content-Type: application/" in " ".join(arguments)


def test_every_guide_with_commands_is_run() -> None:
    named = {name for name in SOURCES if any(f"\n{tool} " in printed(name) for tool in TOOLS)}
    assert named == set(COMMANDS)


def test_the_secret_of_the_cluster_is_read_by_its_name() -> None:
    assert ".data.harbor}" in printed("harbor")
    assert ".data.events}" in printed("cloudevents")


def test_distributions_configuration_is_yaml() -> None:
    (block,) = blocks(printed("distribution"))
    (endpoint,) = yaml.safe_load(block)["notifications"]["endpoints"]
    assert endpoint["url"] == f"{SERVICE}/webhooks/distribution"
    assert endpoint["headers"] == {"Authorization": ["Bearer <secret>"]}
    assert endpoint["timeout"] == "1s"


def test_zots_configuration_is_json() -> None:
    (block,) = blocks(printed("zot"))
    (sink,) = json.loads(block)["extensions"]["events"]["sinks"]
    assert sink["address"] == f"{SERVICE}/webhooks/zot"
    assert sink["credentials"] == {"username": "zot", "password": "<secret>"}
