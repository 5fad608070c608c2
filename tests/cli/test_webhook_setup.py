"""The printed steps for each sender: they can be pasted, and the service accepts the sender."""

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

from image_puller.cli.webhook_setup import GUIDES, prints_secret, render
from image_puller.config.configuration import Google
from image_puller.events.sources import SOURCES
from tests.support.web import Web

MakeWeb = Callable[..., Web]

SERVICE = "https://puller.example.com:8443/base"
SECRET = "s3cret/of a source@%:"
GOOGLE = Google(audience="https://puller/gar", service_account="a@p.iam.gserviceaccount.com")
IN_URL = {"quay", "dockerhub", "gar", "aliyun", "acr", "ecr"}
TOOLS = ("aws", "az", "curl", "gcloud", "gh", "kubectl")

for_every_source = pytest.mark.parametrize("name", sorted(SOURCES))


def printed(
    name: str, *, secret: str | None = SECRET, google: Google | None = None, url: str = SERVICE
) -> str:
    return render(name, url, secret.encode() if secret else None, google)


def url_of(text: str) -> str:
    found = re.match(r"# URL:    (\S+)\n", text)
    assert found
    return found[1]


def blocks(text: str) -> list[str]:
    """Return the blocks that are not comments."""
    return re.findall(r"(?m)(?:^[^#\n].*\n)+", text)


def test_every_source_has_a_guide() -> None:
    assert set(GUIDES) == set(SOURCES)


@for_every_source
def test_all_marks_of_a_guide_are_filled_in(name: str) -> None:
    text = printed(name)
    for mark in ("<service>", "<url>", "<key>", "<with-key>", "<file>", "<google"):
        assert mark not in text
    assert url_of(text).partition("@")[2] or url_of(text).startswith(SERVICE)


@for_every_source
def test_secret_is_printed_only_in_a_url(name: str) -> None:
    text = printed(name)
    assert SECRET not in text
    assert ("s3cret%2Fof%20a%20source%40%25%3A" in text) is (name in IN_URL)
    assert prints_secret(name, None) is (name in IN_URL)
    assert "s3cret" not in printed(name, secret=None)


def test_printed_urls_with_a_secret_are_those_of_sources_that_accept_it() -> None:
    assert {name for name, source in SOURCES.items() if source.scheme.in_path} == IN_URL


@for_every_source
def test_printed_url_authenticates_its_sender_and_a_changed_one_does_not(
    web: MakeWeb, name: str
) -> None:
    service = web()
    service.secret("events" if name == "cloudevents" else name, SECRET)
    parts = urlsplit(url_of(printed(name, url="https://puller.example.com")))
    headers = {}
    if parts.username:
        userinfo = f"{parts.username}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + b64encode(userinfo.encode()).decode()
    answer = service.client.post(parts.path, headers=headers, data=b"{}")
    has_secret = name in IN_URL - {"acr", "ecr"}
    assert answer.status_code == (202 if has_secret else 401)
    wrong = service.client.post(parts.path.replace("s3cret", "x"), data=b"{}")
    assert wrong.status_code == 401


def test_printed_url_for_event_grid_authenticates_it(web: MakeWeb) -> None:
    service = web()
    service.secret("acr", SECRET)
    found = re.search(r"--endpoint '([^']+)'", printed("acr", url="https://puller.example.com"))
    assert found
    assert service.client.post(urlsplit(found[1]).path, data=b"{}").status_code == 202


def test_printed_endpoints_for_sns_and_knative_authenticate_them(web: MakeWeb) -> None:
    service = web()
    service.secret("ecr", SECRET)
    text = printed("ecr", url="https://puller.example.com")
    endpoints = re.findall(r"--notification-endpoint '([^']+)'|\n    uri: (\S+)", text)
    paths = [urlsplit(url or path).path for url, path in endpoints]
    assert len(paths) == 2
    for path in paths:
        assert service.client.post(path, data=b"{}").status_code == 202


def test_integration_source_is_yaml_with_the_queue_and_the_service() -> None:
    (text,) = re.findall(r"(?s)kubectl apply -f - <<EOF\n(.*?)\nEOF", printed("ecr"))
    source = yaml.safe_load(text)
    assert source["kind"] == "IntegrationSource"
    assert source["spec"]["aws"]["sqs"]["arn"] == "$ARN"
    assert source["spec"]["sink"]["ref"]["kind"] == "Service"


def test_unknown_secret_is_a_placeholder() -> None:
    assert (
        url_of(printed("quay", secret=None))
        == SERVICE.replace("://", "://quay:<secret>@") + "/webhooks/quay"
    )
    assert url_of(printed("dockerhub", secret=None)) == f"{SERVICE}/webhooks/dockerhub/<secret>"


def test_url_for_google_has_no_secret_if_tokens_are_configured() -> None:
    text = printed("gar", google=GOOGLE)
    assert url_of(text) == f"{SERVICE}/webhooks/gar"
    assert "s3cret" not in text
    assert not prints_secret("gar", GOOGLE)
    assert "--push-auth-service-account 'a@p.iam.gserviceaccount.com'" in text
    assert "--push-auth-token-audience 'https://puller/gar'" in text
    for name in set(SOURCES) - {"gar"}:
        assert printed(name, google=GOOGLE) == printed(name)


# The printed commands


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str, str], list[tuple[list[str], str]]]:
    """Run commands with fake tools. Return the arguments and the input of each tool."""
    for tool in TOOLS:
        stub = tmp_path / tool
        stub.write_text(
            "#!/bin/bash\n"
            f'[[ {tool} != kubectl ]] || {{ echo "$ENCODED"; exit; }}\n'
            'input=; case " $* " in *" @- "* | *" --input - "* | *" file:///dev/stdin "*)\n'
            "input=$(cat);; esac\n"
            f'printf "%s\\0" {tool} "$@" "$input" end >>{tmp_path}/calls; echo output\n'
        )
        stub.chmod(0o755)

    def run(commands: str, secret: str) -> list[tuple[list[str], str]]:
        # A person replaces each <placeholder>.
        filled = re.sub(r"<([a-z ]+)>", lambda found: found[1].replace(" ", "-"), commands)
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "ENCODED": b64encode(secret.encode()).decode(),
        }
        subprocess.run(["bash", "-eu", "-c", filled], env=environment, cwd=tmp_path, check=True)
        words = (tmp_path / "calls").read_text().split("\0")
        calls = []
        while "end" in words:
            *arguments, given = words[: words.index("end")]
            calls.append((arguments, given))
            words = words[words.index("end") + 1 :]
        return calls

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
def test_commands_pass_the_url_and_the_secret_to_the_sender(
    shell: Callable[[str, str], list[tuple[list[str], str]]], name: str
) -> None:
    text = printed(name)
    tokens = "QUAY_TOKEN=q JFROG_TOKEN=j GITEA_TOKEN=g\n"
    calls = shell(tokens + text, "of-the-cluster")
    passed = "\n".join("\n".join([*arguments, given]) for arguments, given in calls)
    assert url_of(text) in passed
    assert ("of-the-cluster" in passed) is ("$SECRET" in text)
    for arguments, given in calls:
        data = [given] if given else []
        if arguments[0] == "curl":
            assert "Content-Type: application/" in " ".join(arguments)
        if "-H @-" in " ".join(arguments):
            assert given == "Authorization: Bearer of-the-cluster"
            data = [arguments[arguments.index("-d") + 1]]
        for text in data:
            json.loads(text)


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"acr"}))  # az takes headers as arguments
def test_secret_of_the_cluster_is_no_argument_of_a_command(
    shell: Callable[[str, str], list[tuple[list[str], str]]], name: str
) -> None:
    """All users of a machine can see the arguments of its commands."""
    tokens = "QUAY_TOKEN=q JFROG_TOKEN=j GITEA_TOKEN=g\n"
    for arguments, _ in shell(tokens + printed(name), "of-the-cluster"):
        assert "of-the-cluster" not in " ".join(arguments)


def test_commands_of_every_guide_are_tested() -> None:
    named = {name for name in SOURCES if any(f"\n{tool} " in printed(name) for tool in TOOLS)}
    assert named == set(COMMANDS)


def test_command_reads_the_secret_of_the_source() -> None:
    assert ".data.harbor}" in printed("harbor")
    assert ".data.events}" in printed("cloudevents")


def test_configuration_of_distribution_is_yaml() -> None:
    (block,) = blocks(printed("distribution"))
    (endpoint,) = yaml.safe_load(block)["notifications"]["endpoints"]
    assert endpoint["url"] == f"{SERVICE}/webhooks/distribution"
    assert endpoint["headers"] == {"Authorization": ["Bearer <secret>"]}
    assert endpoint["timeout"] == "1s"


def test_configuration_of_zot_is_json() -> None:
    (block,) = blocks(printed("zot"))
    (sink,) = json.loads(block)["extensions"]["events"]["sinks"]
    assert sink["address"] == f"{SERVICE}/webhooks/zot"
    assert sink["credentials"] == {"username": "zot", "password": "<secret>"}
