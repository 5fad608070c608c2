"""The command line: what each command prints, and how it ends."""

import io
import json
import os
import runpy
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import responses
import yaml
from kubernetes.client import ApiClient
from werkzeug.serving import make_server

from image_puller import __version__, serve
from image_puller.cli import demo, event_json, main
from image_puller.config.configuration import Config
from image_puller.core import daemonset, quota, rollout, state
from image_puller.core.daemonset import STATE, Platform
from image_puller.events import sources
from image_puller.simulation import SimulatedCluster
from tests.support.building import NOON, configuration, digest, state_of
from tests.support.installation import NAMESPACE, Installation, kubeconfig
from tests.support.replica import Replica
from tests.support.samples import FIXTURES, sample, source_of
from tests.support.web import Web

APP = "quay.io/org/app:1.2.3"
QUAY = {"docker_url": "quay.io/org/app", "updated_tags": ["1.2.4", "1.2.5"]}


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that configures nothing but one image."""
    for name in list(os.environ):
        if name != "PATH":
            monkeypatch.delenv(name)
    monkeypatch.setenv("IMAGES", f"app={APP}")
    return monkeypatch


def feed(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(body)))


def lines(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# parse


def test_parse_prints_a_line_for_each_event(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(environ, json.dumps(QUAY).encode())
    assert main.main(["parse", "quay"]) == 0
    image = {"registry": "quay.io", "repository": "org/app", "digest": None, "time": None}
    assert lines(capsys) == [
        {"type": "push", **image, "tag": "1.2.4"},
        {"type": "push", **image, "tag": "1.2.5"},
    ]


@pytest.mark.parametrize(
    ("kind", "more", "printed"),
    [
        ("io.image-puller.check", {}, {"type": "check"}),
        (
            "dev.knative.apiserver.resource.add",
            {"kind": "Node", "apiversion": "v1", "name": "node-1"},
            {"type": "node-joined", "node": "node-1"},
        ),
        ("any.other", {}, {"type": "ignored", "reason": "unknown type"}),
        (
            "io.image-puller.image.deleted",
            {
                "data": {
                    "registry": "quay.io",
                    "repository": "org/app",
                    "tag": None,
                    "digest": digest(1),
                },
                "time": "2026-01-15T13:00:00+01:00",
            },
            {
                "type": "delete",
                "registry": "quay.io",
                "repository": "org/app",
                "tag": None,
                "digest": digest(1),
                "time": "2026-01-15T12:00:00Z",
            },
        ),
    ],
)
def test_parse_reads_headers_from_a_file(
    environ: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    more: dict[str, Any],
    printed: dict[str, Any],
) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": kind} | more
    file = tmp_path / "headers.txt"
    file.write_text("# as it came\n\nContent-Type: application/cloudevents+json\n")
    feed(environ, json.dumps(event).encode())
    assert main.main(["parse", "cloudevents", "--headers", str(file)]) == 0
    assert lines(capsys) == [printed]


SAMPLES = sorted(path.name.partition(".")[0] for path in FIXTURES.glob("*.headers.txt"))
UNREADABLE = "cloudevents-structured-missing-id"


@pytest.mark.parametrize("name", SAMPLES)
def test_parse_prints_what_the_service_would_decode(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    headers, body = sample(name)
    source = source_of(name)
    feed(environ, body)
    file = FIXTURES / f"{name}.headers.txt"
    code = main.main(["parse", source, "--headers", str(file)])
    captured = capsys.readouterr()
    if name == UNREADABLE:
        assert (code, captured.out, captured.err) == (2, "", "a CloudEvent has no 'id'\n")
    else:
        printed = [event_json.render(event) for event in sources.decode(source, headers, body)]
        assert (code, captured.out.splitlines(), captured.err) == (0, printed, "")


@pytest.mark.parametrize(
    ("source", "body", "said"),
    [
        ("quay", b"{", "not JSON: Expecting property name"),
        ("quay", b"", "not JSON: Expecting value"),
        ("distribution", b"\xff", "not JSON: 'utf-8' codec can't decode"),
        ("distribution", b"[" * 100_000, "not JSON: nested too deeply\n"),
        ("harbor", b'{"type": 1}', "'type' is not a string: 1\n"),
        ("cloudevents", b"{}", "not a CloudEvent"),
    ],
)
def test_parse_says_what_can_not_be_read(
    environ: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    body: bytes,
    said: str,
) -> None:
    feed(environ, body)
    assert main.main(["parse", source]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(said)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("content", [None, b"no colon", b"\xff\xfe: x"])
def test_parse_says_that_headers_can_not_be_read(
    environ: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
) -> None:
    file = tmp_path / "headers.txt"
    if content is not None:
        file.write_bytes(content)
    feed(environ, json.dumps(QUAY).encode())
    assert main.main(["parse", "quay", "--headers", str(file)]) == 2
    assert capsys.readouterr().err


def test_parse_applies_no_configuration(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("IMAGES", "")
    environ.setenv("PORT", "bad")
    feed(environ, json.dumps(QUAY).encode())
    assert main.main(["parse", "quay"]) == 0
    assert len(lines(capsys)) == 2


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["parse"], ["parse", "nowhere"]])
def test_a_command_that_can_not_be_understood_is_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(arguments)
    assert end.value.code == 2
    assert "usage: image-puller" in capsys.readouterr().err


def test_the_module_is_the_command(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setattr(sys, "argv", ["image-puller", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("image_puller", run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


# render


def test_render_prints_the_daemonset_that_would_be_made(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("TOLERATIONS", '[{"operator":"Exists"}]')
    environ.setenv("DAEMONSET_ANNOTATIONS", '{"a":"b"}')
    config = configuration(TOLERATIONS='[{"operator":"Exists"}]', DAEMONSET_ANNOTATIONS='{"a":"b"}')
    assert main.main(["render"]) == 0
    rendered = yaml.safe_load(capsys.readouterr().out)
    text = rendered["metadata"]["annotations"][STATE]
    expected = rollout.advance(config, state_of(config), NOON)
    assert rendered == daemonset.manifest(config, expected, Platform(), text)
    found = state.decode(text)
    assert found.changed is not None
    assert rollout.advance(config, found, NOON) == expected


def test_what_is_rendered_is_what_the_service_wants(
    replica: Callable[..., Replica],
    installation: Installation,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main.main(["render"])
    puller = replica()
    puller.cluster.create(yaml.safe_load(capsys.readouterr().out))
    installation.sent()
    puller.check()
    assert installation.written() == []


def test_render_says_what_is_ignored_beside_it(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("IMAGES", f"app={APP};bad")
    assert main.main(["render"]) == 0
    captured = capsys.readouterr()
    assert yaml.safe_load(captured.out)["kind"] == "DaemonSet"
    assert captured.err.startswith("IMAGES: 'bad'")


@pytest.mark.parametrize(
    ("namespace", "found"), [(None, "in-a-pod"), ("other", "other"), ("", "in-a-pod")]
)
def test_the_namespace_is_the_pods_own_unless_it_is_set(
    environ: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    namespace: str | None,
    found: str,
) -> None:
    file = tmp_path / "namespace"
    file.write_text("in-a-pod\n")
    environ.setattr(main, "_NAMESPACE_FILE", file)
    if namespace is not None:
        environ.setenv("NAMESPACE", namespace)
    main.main(["render"])
    assert yaml.safe_load(capsys.readouterr().out)["metadata"]["namespace"] == found


def test_render_prints_the_quota_that_so_many_nodes_need(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.main(["render", "--quota", "10"]) == 0
    rendered = yaml.safe_load(capsys.readouterr().out)
    assert rendered == quota.manifest(configuration(IMAGES=f"app={APP}"), 10)
    assert rendered["spec"]["hard"]["limits.memory"] == "800Mi"


@pytest.mark.parametrize("nodes", ["0", "-1", "many", "1.5"])
def test_a_quota_is_for_a_whole_number_of_nodes(
    nodes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(["render", f"--quota={nodes}"])
    assert f"must be a whole number from 1 to 1000000, not '{nodes}'" in capsys.readouterr().err


def test_render_says_what_is_wrong_with_the_environment(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("PORT", "x")
    environ.setenv("KEEP_TAGS", "0")
    assert main.main(["render"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.partition(":")[0] for line in captured.err.splitlines()] == ["KEEP_TAGS", "PORT"]


# trigger-check and status


@pytest.fixture
def url(web: Callable[..., Web], environ: pytest.MonkeyPatch) -> Iterator[str]:
    """A running service, whose secrets are where the command looks for them."""
    service = web()
    service.secret("events", "t", "t2")
    service.secret("read", "r")
    environ.setenv("WEBHOOK_SECRETS_DIR", str(service.secrets))
    server = make_server("127.0.0.1", 0, service.service.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    environ.setenv("PORT", str(server.server_port))
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_trigger_check_makes_the_service_check(url: str, installation: Installation) -> None:
    assert main.main(["trigger-check"]) == 0
    installation.sent()
    assert main.main(["trigger-check", "--url", f"{url}/"]) == 0
    assert "PATCH daemonsets dry run" in installation.sent()


def test_trigger_check_takes_a_token_from_a_file(
    url: str, environ: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.delenv("WEBHOOK_SECRETS_DIR")
    file = tmp_path / "token"
    file.write_text("t\n")
    assert main.main(["trigger-check", "--token-file", str(file)]) == 0
    file.write_text("s3cret")
    assert main.main(["trigger-check", "--token-file", str(file)]) == 1
    assert main.main(["trigger-check"]) == 1
    assert main.main(["trigger-check", "--token-file", str(tmp_path / "nowhere")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("401 Client Error") == 2
    assert "No such file" in captured.err
    assert "s3cret" not in captured.err


def test_a_token_may_have_any_characters(
    url: str, environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environ.setenv("WEBHOOK_SECRETS_DIR", str(tmp_path))
    (tmp_path / "events").write_text("schlüssel", "utf-8")
    assert main.main(["trigger-check"]) == 1
    folder = next(tmp_path.glob("secrets*"))
    (folder / "events.more").write_text("schlüssel", "utf-8")
    assert main.main(["trigger-check"]) == 0


def test_status_prints_what_is_cached_where(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["trigger-check"])
    assert main.main(["status", "--url", url]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["daemonset"]["exists"] is True
    assert [image["image"] for image in found["images"]] == [APP]


@pytest.mark.parametrize("command", ["trigger-check", "status"])
def test_a_service_that_is_not_there_is_said(
    environ: pytest.MonkeyPatch, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("PORT", "1")
    assert main.main([command]) == 1
    assert "127.0.0.1" in capsys.readouterr().err


@responses.activate
def test_a_service_that_is_something_else_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    responses.get("http://127.0.0.1:8080/status", body="<html>")
    assert main.main(["status"]) == 1
    assert "Expecting value" in capsys.readouterr().err


# serve and demo


def test_serve_connects_and_serves(
    environ: pytest.MonkeyPatch, cluster: SimulatedCluster, tmp_path: Path, api: ApiClient
) -> None:
    served: list[Any] = []
    environ.setattr(serve, "run", lambda *of: served.append(of))
    environ.setenv("KUBECONFIG", str(kubeconfig(cluster, tmp_path)))
    environ.setenv("NAMESPACE", NAMESPACE)
    assert main.main(["serve"]) == 0
    ((config, connected),) = served
    assert isinstance(config, Config)
    assert config.namespace == NAMESPACE
    assert connected.platform() == Platform(openshift=False)
    connected._api.rest_client.close()


def test_serve_without_a_cluster_says_how_to_reach_one(
    environ: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("HOME", str(tmp_path))
    assert main.main(["serve"]) == 1
    assert "run in a pod with a service account, or set KUBECONFIG" in capsys.readouterr().err


def test_demo_ends_as_its_service_ends(environ: pytest.MonkeyPatch) -> None:
    environ.setattr(demo, "run", lambda environ: 7 if environ is os.environ else 0)
    assert main.main(["demo"]) == 7


def test_webhook_url_prints_where_a_registry_must_send_and_warns_of_the_secret(
    environ: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("WEBHOOK_SECRETS_DIR", str(tmp_path))
    (tmp_path / "quay").write_text("s3cret/1\n")
    (tmp_path / "harbor").write_text("s3cret\n")
    assert main.main(["webhook-url", "quay", "--url", "https://puller.example.com/"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(
        "# URL:    https://quay:s3cret%2F1@puller.example.com/webhooks/quay\n"
        "# Secret: the content of file quay in WEBHOOK_SECRETS_DIR\n"
    )
    assert told.err.startswith("This prints the secret of quay, in a URL. Whoever reads it")
    assert main.main(["webhook-url", "harbor", "--url", "https://puller.example.com"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("# URL:    https://puller.example.com/webhooks/harbor\n")
    assert (told.err, "s3cret" in told.out) == ("", False)


def test_webhook_url_leaves_a_place_for_a_secret_that_is_not_set(
    environ: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("WEBHOOK_SECRETS_DIR", str(tmp_path))
    assert main.main(["webhook-url", "dockerhub", "--url", "http://[::1]:8080/x"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("# URL:    http://[::1]:8080/x/webhooks/dockerhub/<secret>\n")
    assert told.err == ""


def test_webhook_url_knows_of_googles_tokens(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("GAR_SERVICE_ACCOUNT", "a@b.c")
    assert main.main(["webhook-url", "gar", "--url", "https://a"]) == 0
    assert "--push-auth" not in capsys.readouterr().out
    environ.setenv("GAR_AUDIENCE", "puller")
    assert main.main(["webhook-url", "gar", "--url", "https://a"]) == 0
    assert "--push-auth-token-audience 'puller'" in capsys.readouterr().out


@pytest.mark.parametrize(
    "url",
    ["puller.example.com", "ftp://a", "https://", "https://u:p@a", "https://a/?b", "https://a'"],
)
def test_webhook_url_needs_an_address(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["webhook-url", "harbor", "--url", url])
    assert ended.value.code == 2
    assert f"not of the form https://host[:port][/path]: {url!r}" in capsys.readouterr().err
