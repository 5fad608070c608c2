"""The pages of docs/registries say what the code does, and what `webhook-url` prints."""

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

every_source = pytest.mark.parametrize("name", sorted(SOURCES))


def write_pages(folder: Path) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "build" / "registry_pages.py"), str(folder)]
    return subprocess.run(script, capture_output=True, text=True, check=False)


def test_pages_are_as_make_docs_writes_them(tmp_path: Path) -> None:
    shutil.copy(PAGES / "README.md", tmp_path)
    assert write_pages(tmp_path).returncode == 0
    written = {file.name: file.read_text("utf-8") for file in tmp_path.iterdir()}
    committed = {file.name: file.read_text("utf-8") for file in PAGES.iterdir()}
    assert committed == written, "run `make docs`"


def test_an_overview_without_marks_is_reported(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Registries\n")
    ended = write_pages(tmp_path)
    assert ended.returncode == 1
    assert "the marks of the table are not there once, but 0 times" in ended.stderr


@every_source
def test_every_source_has_a_row_and_a_page(name: str) -> None:
    guide = GUIDES[name]
    page = f"{guide.page or name}.md"
    assert f"| [{guide.title}]({page}) |" in webhook_setup.table()
    assert f"image-puller webhook-url {name} " in (PAGES / page).read_text("utf-8")


@every_source
def test_a_page_shows_placeholders_only_where_a_person_fills_them_in(name: str) -> None:
    text = webhook_setup.page(GUIDES[name].page or name)
    for mark in ("<url>", "<key>", "<with-key>", "<file>", "<read-secret>", "<google"):
        assert mark not in text
    assert "https://https://" not in text


@every_source
def test_what_is_printed_is_the_text_of_the_page(name: str) -> None:
    printed = webhook_setup.render(name, "https://<service>", None, None)
    text = webhook_setup.page(GUIDES[name].page or name)
    pasted = [line for line in printed.splitlines() if line and not line.startswith("#")]
    assert [line for line in pasted if line not in text.splitlines()] == []
    words = text.replace("**", "").split()
    said = [word for line in printed.splitlines()[3:] for word in line.removeprefix("#").split()]
    assert [word for word in said if word not in words] == []


@pytest.mark.parametrize(
    ("name", "proof"),
    [
        ("harbor", "the secret in `Authorization`"),
        ("ecr", "the secret in `Authorization`; or the secret in `X-Api-Key`"),
        ("nexus", "HMAC-SHA1 in `X-Nexus-Webhook-Signature`"),
        ("dockerhub", "the secret in `Authorization`; or the secret as the last part of the URL"),
    ],
)
def test_the_proof_is_that_of_the_table_of_sources(name: str, proof: str) -> None:
    assert f"| proof of the sender | {proof} |\n" in webhook_setup.page(name)


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
def test_host_and_digest_are_in_a_payload_as_the_table_says(
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
