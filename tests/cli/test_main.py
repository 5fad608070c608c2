"""The command line: the output and the exit code of each command."""

import argparse
import io
import json
import os
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient
from werkzeug.serving import make_server

from image_puller import __version__, serve
from image_puller.cli import demo, event_json, main
from image_puller.cluster.client import KubernetesCluster
from image_puller.config.configuration import Config
from image_puller.controller.clock import Clock
from image_puller.core import daemonset, quota, rollout, state
from image_puller.core.daemonset import STATE, Platform
from image_puller.events import sources
from image_puller.http.server import all_addresses
from image_puller.simulation import SimulatedCluster
from tests.support.building import NOON, configuration, digest, state_of
from tests.support.installation import NAMESPACE, Installation, kubeconfig
from tests.support.replica import Replica, Time
from tests.support.samples import FIXTURES, sample, source_of
from tests.support.web import Web

APP = "quay.io/org/app:1.2.3"
QUAY = {"docker_url": "quay.io/org/app", "updated_tags": ["1.2.4", "1.2.5"]}


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Configure only one image."""
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
    file.write_text("# a comment\n\nContent-Type: application/cloudevents+json\n")
    feed(environ, json.dumps(event).encode())
    assert main.main(["parse", "cloudevents", "--headers", str(file)]) == 0
    assert lines(capsys) == [printed]


SAMPLES = sorted(path.name.partition(".")[0] for path in FIXTURES.glob("*.headers.txt"))
UNREADABLE = "cloudevents-structured-missing-id"


@pytest.mark.parametrize("name", SAMPLES)
def test_parse_prints_the_events_that_the_service_decodes(
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
    ("source", "body", "reason"),
    [
        ("quay", b"{", "not JSON: Expecting property name"),
        ("quay", b"", "not JSON: Expecting value"),
        ("distribution", b"\xff", "not JSON: 'utf-8' codec can't decode"),
        ("distribution", b"[" * 40_000, "not JSON: nested too deeply\n"),
        ("harbor", b'{"type": 1}', "'type' is not a string: 1\n"),
        ("cloudevents", b"{}", "not a CloudEvent"),
    ],
)
def test_parse_prints_the_reason_for_an_unreadable_body(
    environ: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    body: bytes,
    reason: str,
) -> None:
    feed(environ, body)
    assert main.main(["parse", source]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(reason)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("content", [None, b"no colon", b"\xff\xfe: x"])
def test_parse_with_unreadable_headers_ends_with_2(
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


def test_parse_does_not_read_the_configuration(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("IMAGES", "")
    environ.setenv("PORT", "bad")
    feed(environ, json.dumps(QUAY).encode())
    assert main.main(["parse", "quay"]) == 0
    assert len(lines(capsys)) == 2


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["parse"], ["parse", "nowhere"]])
def test_wrong_arguments_end_with_2_and_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(arguments)
    assert end.value.code == 2
    assert "usage: image-puller" in capsys.readouterr().err


def test_module_runs_the_command_line(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setattr(sys, "argv", ["image-puller", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("image_puller", run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


# render


def test_render_prints_the_daemonset_that_the_service_creates(
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
    decoded = state.decode(text)
    assert decoded.changed is not None
    assert rollout.advance(config, decoded, NOON) == expected


def test_service_changes_nothing_in_the_rendered_daemonset(
    replica: Callable[..., Replica],
    installation: Installation,
    capsys: pytest.CaptureFixture[str],
    now: Time,
) -> None:
    main.main(["render"])
    now.now = datetime.now(UTC)  # the time of the rendered state
    puller = replica()
    puller.cluster.create(yaml.safe_load(capsys.readouterr().out))
    created = installation.live()
    puller.check()  # it only adds itself to the processes of the state
    assert installation.live()["spec"] == created["spec"]
    assert installation.live()["metadata"]["generation"] == created["metadata"]["generation"]
    installation.sent()
    puller.check()
    assert installation.written() == []


GROUPS = '{"gpu": {"images": "cuda=quay.io/org/cuda:12.4.1", "nodeSelector": {"gpu": "yes"}}}'


def test_render_prints_the_daemonset_of_each_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGES", f"app={APP}")
    monkeypatch.setenv("IMAGE_GROUPS", GROUPS)
    assert main.main(["render"]) == 0
    printed = capsys.readouterr()
    names = [each["metadata"]["name"] for each in yaml.safe_load_all(printed.out)]
    assert names == ["kubernetes-image-puller", "kubernetes-image-puller-gpu"]
    assert "each pod of DaemonSet kubernetes-image-puller-gpu requests 100m CPU" in printed.err
    assert main.main(["render", "--quota", "10"]) == 0
    (quota_of_all,) = yaml.safe_load_all(capsys.readouterr().out)
    assert quota_of_all["metadata"]["name"] == "kubernetes-image-puller"
    assert quota_of_all["spec"]["hard"]["pods"] == "20"


def test_render_prints_warnings_to_standard_error(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("IMAGES", f"app={APP};bad")
    assert main.main(["render"]) == 0
    captured = capsys.readouterr()
    assert yaml.safe_load(captured.out)["kind"] == "DaemonSet"
    assert captured.err.startswith("IMAGES: 'bad'")


@pytest.mark.parametrize("arguments", [(), ("--quota", "3")])
def test_render_prints_advice_and_requests_to_standard_error(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    environ.setenv("KEEPTAGS", "3")
    assert main.main(["render", *arguments]) == 0
    advice, requests = capsys.readouterr().err.splitlines()
    assert advice.endswith("did you mean KEEP_TAGS?")
    assert requests == quota.describe(configuration(IMAGES=f"app={APP}"))


@pytest.mark.parametrize(
    ("namespace", "expected"), [(None, "in-a-pod"), ("other", "other"), ("", "in-a-pod")]
)
def test_namespace_is_that_of_the_pod_unless_it_is_configured(
    environ: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    namespace: str | None,
    expected: str,
) -> None:
    file = tmp_path / "namespace"
    file.write_text("in-a-pod\n")
    environ.setattr(main, "_NAMESPACE_FILE", file)
    if namespace is not None:
        environ.setenv("NAMESPACE", namespace)
    main.main(["render"])
    assert yaml.safe_load(capsys.readouterr().out)["metadata"]["namespace"] == expected


def test_render_prints_the_quota_for_a_number_of_nodes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.main(["render", "--quota", "10"]) == 0
    rendered = yaml.safe_load(capsys.readouterr().out)
    assert rendered == quota.manifest(configuration(IMAGES=f"app={APP}"), 10)
    assert rendered["spec"]["hard"]["limits.memory"] == "800Mi"


@pytest.mark.parametrize("nodes", ["0", "-1", "many", "1.5"])
def test_quota_needs_a_whole_number_of_nodes(
    nodes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(["render", f"--quota={nodes}"])
    assert f"must be a whole number from 1 to 1000000, not '{nodes}'" in capsys.readouterr().err


def test_render_prints_every_wrong_variable(
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
    """Return the address of a running service, with secrets in `WEBHOOK_SECRETS_DIR`."""
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


def test_trigger_check_starts_a_check(url: str, installation: Installation) -> None:
    assert main.main(["trigger-check"]) == 0
    installation.sent()
    assert main.main(["trigger-check", "--url", f"{url}/"]) == 0
    assert "PATCH daemonsets dry run" in installation.sent()


def test_trigger_check_reads_the_secret_from_a_file(
    url: str, environ: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.delenv("WEBHOOK_SECRETS_DIR")
    file = tmp_path / "token"
    file.write_text("t\n")
    assert main.main(["trigger-check", "--token-file", str(file)]) == 0
    file.write_text("s3cret")
    assert main.main(["trigger-check", "--token-file", str(file)]) == 4
    assert main.main(["trigger-check"]) == 4
    assert main.main(["trigger-check", "--token-file", str(tmp_path / "nowhere")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    what = "Put the secret of `events` into a file, and name it in --token-file.\n"
    assert f"{url} answered 401: the secret is wrong. {what}" in captured.err
    assert f"{url} answered 401: it needs a secret. {what}" in captured.err
    assert "No such file" in captured.err
    assert "s3cret" not in captured.err


def test_secret_may_have_any_characters(
    url: str, environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environ.setenv("WEBHOOK_SECRETS_DIR", str(tmp_path))
    (tmp_path / "events").write_text("schlüssel", "utf-8")
    assert main.main(["trigger-check"]) == 4
    folder = next(tmp_path.glob("secrets*"))
    (folder / "events.more").write_text("schlüssel", "utf-8")
    assert main.main(["trigger-check"]) == 0


def test_status_as_json_is_the_answer_of_the_service(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["trigger-check"])
    assert main.main(["status", "--url", url, "-o", "json"]) == 1
    status = json.loads(capsys.readouterr().out)
    assert status["daemonset"]["exists"] is True
    assert [image["image"] for image in status["images"]] == [APP]


def test_status_ends_with_0_once_every_node_holds_every_image(
    url: str, cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["trigger-check"])
    assert main.main(["status"]) == 1
    assert "0/3" in capsys.readouterr().out
    cluster.settle()
    assert main.main(["status"]) == 0
    assert capsys.readouterr().out == (
        "ENTRY  IMAGE                  HELD  OTHERS  REASON\n"
        f"app    {APP}  3/3   -       -\n"
        "\n"
        "1 of 1 images are held on every node that counts.\n"
    )


@pytest.mark.parametrize("image", ["app", APP, f"{APP}@{digest(1)}", "no such image%"])
def test_status_of_one_image_asks_for_it(
    url: str, cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str], image: str
) -> None:
    main.main(["trigger-check"])
    cluster.settle()
    is_known = image in {"app", APP}
    assert main.main(["status", image]) == (0 if is_known else 2)
    captured = capsys.readouterr()
    assert (APP in captured.out) is is_known
    expected = (
        "" if is_known else f"no image is called {image!r}. `image-puller status` shows all.\n"
    )
    assert captured.err == expected


def test_status_is_shown_again_until_it_is_interrupted(
    url: str, environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Clock):
        def wait(self, condition: threading.Condition, seconds: float | None) -> None:
            raise KeyboardInterrupt

    environ.setattr(main, "Clock", Interrupted)  # the service keeps its own
    main.main(["trigger-check"])
    assert main.main(["status", "--watch", "--url", url]) == 1
    assert capsys.readouterr().out.startswith("ENTRY")


def test_failing_images_can_not_be_selected_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["status", "--failing", "-o", "json"]) == 2
    assert capsys.readouterr().err.startswith("--failing can't be used with -o json")


def test_address_and_secret_may_be_in_the_environment(
    url: str, environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("PORT", "1")
    environ.delenv("WEBHOOK_SECRETS_DIR")
    environ.setenv("IMAGE_PULLER_URL", f"{url}/")
    environ.setenv("IMAGE_PULLER_TOKEN", " t\n")
    assert main.main(["trigger-check"]) == 0
    environ.setenv("IMAGE_PULLER_TOKEN", "s3cret")
    assert main.main(["trigger-check"]) == 4
    assert capsys.readouterr().err.startswith(f"{url} answered 401: the secret is wrong. ")
    environ.setenv("IMAGE_PULLER_URL", "puller.example.com")
    assert main.main(["trigger-check"]) == 2
    assert capsys.readouterr().err == (
        "IMAGE_PULLER_URL: must have the form https://host[:port][/path], not "
        "'puller.example.com'\n"
    )


def test_status_of_this_machine_uses_no_proxy_of_the_environment(
    url: str, environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("http_proxy", "http://127.0.0.1:1")
    assert main.main(["status", "-o", "json"]) == 1
    assert "daemonset" in json.loads(capsys.readouterr().out)
    assert main.main(["status", "--url", url.replace("127.0.0.1", "127.0.0.3")]) == 4
    assert "the proxy of the environment does not answer" in capsys.readouterr().err


def test_interrupted_command_ends_with_130(environ: pytest.MonkeyPatch) -> None:
    def interrupted(_environ: object) -> None:
        raise KeyboardInterrupt

    environ.setattr(demo, "run", interrupted)
    assert main.main(["demo"]) == 130


@pytest.mark.parametrize("command", ["trigger-check", "status"])
def test_error_about_an_unreachable_service_has_its_address_and_what_to_do(
    environ: pytest.MonkeyPatch, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("PORT", "1")
    assert main.main([command]) == 4
    error = capsys.readouterr().err
    assert error.startswith("Cannot reach the service at http://127.0.0.1:1")
    assert error.endswith(": connection refused. Is it running? Use --url.\n")


# version, completion and help


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version_is_printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert main.main(arguments) == 0
    except SystemExit as exited:
        assert exited.code == 0  # noqa: PT017 - argparse ends --version so
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize("shell", main._SHELLS)
def test_completion_prints_a_script_for_the_program(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["completion", shell]) == 0
    assert "image-puller" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("image-puller sta", ["status"]),
        ("image-puller demo push ha", ["harbor"]),
        ("image-puller status --fa", ["--failing"]),
        ("image-puller status -o w", ["wide"]),
    ],
)
def test_shell_completes_commands_arguments_and_options(
    tmp_path: Path, line: str, expected: list[str]
) -> None:
    answer = tmp_path / "answer"
    asked = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    command = (sys.executable, "-m", "image_puller")
    subprocess.run(command, env={"PATH": os.environ["PATH"], **asked}, check=True)
    assert answer.read_text().split() == expected


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (
        action
        for action in main._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(found.choices)


@pytest.mark.parametrize("name", commands())
def test_help_explains_every_argument_and_has_valid_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = commands()[name]
    assert all(action.help for action in parser._actions if action.dest != argparse.SUPPRESS)
    with pytest.raises(SystemExit, match="0"):
        main.main([name, "--help"])
    examples = re.findall(
        r"(?<![\w-])image-puller ([^)\"<\n]+)", capsys.readouterr().out.partition("examples:")[2]
    )
    assert examples
    for example in examples:
        main._parser().parse_args(example.split())


# serve and demo


def test_serve_connects_to_the_cluster_and_runs_the_service(
    environ: pytest.MonkeyPatch, cluster: SimulatedCluster, tmp_path: Path, api: ApiClient
) -> None:
    runs: list[Any] = []
    environ.setattr(serve, "run", lambda *arguments: runs.append(arguments))
    environ.setenv("KUBECONFIG", str(kubeconfig(cluster, tmp_path)))
    environ.setenv("NAMESPACE", NAMESPACE)
    assert main.main(["serve"]) == 0
    ((config, connected, bind),) = runs
    assert bind is None
    assert isinstance(config, Config)
    assert config.namespace == NAMESPACE
    assert connected.platform() == Platform(openshift=False)
    connected._api.rest_client.close()


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "[::1]:80", "localhost:1", "fd://3"])
def test_serve_listens_on_the_given_address(
    environ: pytest.MonkeyPatch, cluster: SimulatedCluster, tmp_path: Path, address: str
) -> None:
    runs: list[Any] = []
    environ.setattr(serve, "run", lambda *arguments: runs.append(arguments))
    environ.setenv("KUBECONFIG", str(kubeconfig(cluster, tmp_path)))
    assert main.main(["serve", "--bind", address]) == 0
    ((_, connected, bind),) = runs
    assert bind == address
    connected._api.rest_client.close()


@pytest.mark.parametrize("bind", [None, "127.0.0.1:8099"])
def test_web_server_listens_on_all_addresses_unless_one_is_given(
    environ: pytest.MonkeyPatch, cluster: SimulatedCluster, api: ApiClient, bind: str | None
) -> None:
    addresses: list[str] = []

    class WebServer:
        def __init__(self, _app: object, address: str, _hooks: object) -> None:
            addresses.append(address)

        def run(self) -> None:
            """Do nothing."""

    environ.setattr(serve, "Gunicorn", WebServer)
    config = configuration(PORT="8098")
    serve.run(config, KubernetesCluster(api, config), bind)
    assert addresses == [bind or all_addresses(8098)]


@pytest.mark.parametrize("address", ["", "8080", "a b:1", "unix:/a", "fd://x", ":8080"])
def test_serve_needs_a_valid_address(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(["serve", "--bind", address])
    message = f"must have the form host:port or fd://<number>, not {address!r}"
    assert message in capsys.readouterr().err


def test_error_of_serve_without_a_cluster_has_the_variable_to_set(
    environ: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("HOME", str(tmp_path))
    assert main.main(["serve"]) == 1
    assert "run in a pod with a service account, or set KUBECONFIG" in capsys.readouterr().err


def test_exit_code_of_demo_is_that_of_its_service(environ: pytest.MonkeyPatch) -> None:
    environ.setattr(demo, "run", lambda environ: 7 if environ is os.environ else 0)
    assert main.main(["demo"]) == 7


def test_webhook_url_prints_the_url_and_warns_if_it_has_the_secret(
    environ: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("WEBHOOK_SECRETS_DIR", str(tmp_path))
    (tmp_path / "quay").write_text("s3cret/1\n")
    (tmp_path / "harbor").write_text("s3cret\n")
    assert main.main(["webhook-url", "quay", "--url", "https://puller.example.com/"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(
        "# URL:    https://quay:s3cret%2F1@puller.example.com/webhooks/quay\n"
        "# Secret: the content of file quay in WEBHOOK_SECRETS_DIR\n"
    )
    assert captured.err.startswith("The output has the secret of quay in a URL. Anybody who has it")
    assert main.main(["webhook-url", "harbor", "--url", "https://puller.example.com"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("# URL:    https://puller.example.com/webhooks/harbor\n")
    assert (captured.err, "s3cret" in captured.out) == ("", False)


def test_webhook_url_prints_a_placeholder_if_no_secret_is_set(
    environ: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("WEBHOOK_SECRETS_DIR", str(tmp_path))
    assert main.main(["webhook-url", "dockerhub", "--url", "http://[::1]:8080/x"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("# URL:    http://[::1]:8080/x/webhooks/dockerhub/<secret>\n")
    assert captured.err == ""


def test_webhook_url_prints_the_commands_for_tokens_of_google_if_configured(
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
    message = f"must have the form https://host[:port][/path], not {url!r}"
    assert message in capsys.readouterr().err
