"""Checks the pages of docs/registries against the code, and the output of `webhook-url`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from image_puller.cli import webhook_setup
from image_puller.cli.webhook_setup import GUIDES
from image_puller.events.event import ImagePushed
from image_puller.events.sources import SOURCES, decode
from tests.support.samples import sample

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "registries"

for_every_source = pytest.mark.parametrize("name", sorted(SOURCES))


def write_pages(folder: Path) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "build" / "registry_pages.py"), str(folder)]
    return subprocess.run(script, capture_output=True, text=True, check=False)


def test_committed_pages_are_those_that_make_docs_writes(tmp_path: Path) -> None:
    shutil.copy(PAGES / "README.md", tmp_path)
    assert write_pages(tmp_path).returncode == 0
    written = {file.name: file.read_text("utf-8") for file in tmp_path.iterdir()}
    committed = {file.name: file.read_text("utf-8") for file in PAGES.iterdir()}
    assert committed == written, "run `make docs`"


def test_overview_without_marks_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Registries\n")
    ended = write_pages(tmp_path)
    assert ended.returncode == 1
    assert "the marks of the table are not there once, but 0 times" in ended.stderr


@for_every_source
def test_every_source_has_a_row_and_a_page(name: str) -> None:
    guide = GUIDES[name]
    page = f"{guide.page or name}.md"
    assert f"| [{guide.title}]({page}) |" in webhook_setup.table()
    assert f"image-puller webhook-url {name} " in (PAGES / page).read_text("utf-8")


@for_every_source
def test_page_has_no_mark_of_a_guide(name: str) -> None:
    text = webhook_setup.page(GUIDES[name].page or name)
    for mark in ("<url>", "<key>", "<with-key>", "<file>", "<read-secret>", "<google"):
        assert mark not in text
    assert "https://https://" not in text


@for_every_source
def test_printed_text_is_that_of_the_page(name: str) -> None:
    printed = webhook_setup.render(name, "https://<service>", None, None)
    text = webhook_setup.page(GUIDES[name].page or name)
    code = [line for line in printed.splitlines() if line and not line.startswith("#")]
    assert [line for line in code if line not in text.splitlines()] == []
    words = text.replace("**", "").split()
    comments = [line.removeprefix("#") for line in printed.splitlines()[3:]]
    assert [word for line in comments for word in line.split() if word not in words] == []


@pytest.mark.parametrize(
    ("name", "authentication"),
    [
        ("harbor", "the secret in `Authorization`"),
        (
            "ecr",
            (
                "the secret in `Authorization`; or the secret in `X-Api-Key`; or the secret as the "
                "last part of the URL"
            ),
        ),
        ("nexus", "HMAC-SHA1 in `X-Nexus-Webhook-Signature`"),
        ("dockerhub", "the secret in `Authorization`; or the secret as the last part of the URL"),
    ],
)
def test_authentication_is_that_of_the_source(name: str, authentication: str) -> None:
    assert f"| authentication | {authentication} |\n" in webhook_setup.page(name)


HUB = {"push_data": {"tag": "1"}, "repository": {"repo_name": "team/app"}}
ECR = {
    "source": "aws.ecr",
    "detail-type": "ECR Image Action",
    "account": "123456789012",
    "region": "eu-central-1",
    "time": "2026-01-01T00:00:00Z",
    "detail": {
        "result": "SUCCESS",
        "repository-name": "team/app",
        "image-digest": f"sha256:{'a' * 64}",
        "action-type": "PUSH",
        "image-tag": "1",
    },
}
ALIYUN = {
    "push_data": {"tag": "1", "digest": f"sha256:{'a' * 64}"},
    "repository": {"repo_full_name": "team/app", "region": "cn-hangzhou"},
}


@pytest.mark.parametrize(
    ("name", "headers", "body"),
    [
        ("harbor", *sample("harbor-default-push-nested-port")),
        ("quay", *sample("quay-repo_push-selfhosted-port-nested")),
        ("distribution", *sample("distribution-v2-push-tag")),
        ("gitlab", *sample("distribution-v2-push-tag")),
        ("dockerhub", {}, json.dumps(HUB).encode()),
        ("github", *sample("github-package-form-encoded")),
        ("acr", *sample("eventgrid-cloudevents-imagepushed-batch")),
        ("ecr", {}, json.dumps(ECR).encode()),
        ("gar", *sample("gar-pubsub-unwrapped")),
        ("jfrog", *sample("jfrog-docker-pushed-no-origin")),
        ("nexus", *sample("nexus-component-created-docker")),
        ("zot", *sample("zot-image-updated-channel")),
        ("aliyun", {}, json.dumps(ALIYUN).encode()),
    ],
)
def test_payload_has_host_and_digest_as_the_table_says(
    name: str, headers: dict[str, str], body: bytes
) -> None:
    pushes = [event for event in decode(name, headers, body) if isinstance(event, ImagePushed)]
    assert pushes
    guide = GUIDES[name]
    # The sample of JFrog is from a platform without a Custom Base URL.
    has_host = guide.host not in ("no", "with a Custom Base URL")
    for push in pushes:
        assert (push.registry is not None) is has_host
        assert (push.digest is not None) is (guide.digest == "yes")
