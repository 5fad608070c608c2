"""`status` and `wait` on a machine with a kubeconfig, without a service that runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import responses

from image_puller.cli import demo_session, main
from image_puller.controller.clock import Clock
from image_puller.simulation import SimulatedCluster
from tests.support.installation import NAME, NAMESPACE, Installation
from tests.support.web import Web

APP = "quay.io/org/app:1.2.3"
CONFIGURED = {"IMAGES": f"app={APP}", "IMAGE_GROUPS": '{"gpu": {"images": "cuda=nvcr.io/cuda:12"}}'}

Json = dict[str, Any]
Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Keep the variables of this machine away, and its demos."""
    names = ("KUBECONFIG", "IMAGE_PULLER_URL", "IMAGE_PULLER_TOKEN", "PORT", "WEBHOOK_SECRETS_DIR")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(demo_session, "found", lambda _port: None)
    return monkeypatch


@pytest.fixture
def installed(cluster: SimulatedCluster, web: Callable[..., Web]) -> SimulatedCluster:
    """Install the service, which writes the DaemonSets and ends. Then the nodes pull."""
    deploy(cluster, NAME, envFrom=[{"configMapRef": {"name": "k8s-image-puller"}}])
    cluster.add(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "k8s-image-puller"},
            "data": CONFIGURED,
        },
        NAMESPACE,
    )
    web(ROLLOUT_MIN_INTERVAL_SECONDS="0", **CONFIGURED).stop()
    cluster.advance(60)
    return cluster


def deploy(cluster: SimulatedCluster, name: str, **container: Any) -> None:
    """Add a Deployment whose container has these fields."""
    cluster.add(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"template": {"spec": {"containers": [{"name": "service", **container}]}}},
        },
        NAMESPACE,
    )


@pytest.fixture
def run(cluster: SimulatedCluster, environ: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs a command with a kubeconfig, in whose context is a namespace."""

    def run(*arguments: str, namespace: str = NAMESPACE) -> int:
        config = cluster.kubeconfig(namespace)
        config["contexts"].append({"name": "other", "context": config["contexts"][0]["context"]})
        (tmp_path / "config").write_text(json.dumps(config))
        environ.setenv("KUBECONFIG", str(tmp_path / "config"))
        return main.main(arguments)

    return run


def test_status_is_read_from_the_cluster(
    run: Run, installed: SimulatedCluster, capsys: Capture
) -> None:
    assert run("status") == 0
    assert capsys.readouterr().out.splitlines() == [
        "ENTRY     IMAGE                  HELD  OTHERS  REASON",
        f"app       {APP}  3/3   -       -",
        "gpu/cuda  nvcr.io/cuda:12        3/3   -       -",
        "",
        "2 of 2 images are held on every node that counts.",
    ]


def test_status_needs_no_secret_and_writes_nothing(run: Run, installed: SimulatedCluster) -> None:
    installed.requests.clear()
    assert run("status", "app") == 0
    assert {each.method for each in installed.requests} == {"GET"}
    assert not [each.path for each in installed.requests if "secrets" in each.path]


@pytest.mark.parametrize(
    "options",
    [["-n", NAMESPACE], ["--namespace", NAMESPACE, "--context", "other", "--deployment", NAME]],
)
def test_options_name_the_place(run: Run, installed: SimulatedCluster, options: list[str]) -> None:
    assert run("status", *options, namespace="default") == 0


def test_status_is_that_of_the_service(
    run: Run,
    installed: SimulatedCluster,
    web: Callable[..., Web],
    capsys: Capture,
) -> None:
    assert run("status", "-o", "json") == 0
    service = web(ROLLOUT_MIN_INTERVAL_SECONDS="0", READ_AUTH="none", **CONFIGURED)
    assert json.loads(capsys.readouterr().out) == service.client.get("/status").get_json()


def test_one_image_is_shown(run: Run, installed: SimulatedCluster, capsys: Capture) -> None:
    assert run("status", "cuda", "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [found["images"], len(found["groups"]["gpu"]["images"])] == [[], 1]
    assert run("status", "other") == 2
    error = capsys.readouterr().err
    assert error == "no image is called 'other'. `image-puller status` shows all.\n"


def test_wait_reads_the_cluster(run: Run, installed: SimulatedCluster, capsys: Capture) -> None:
    assert run("wait", "--timeout", "0") == 0
    assert run("wait", "app", "-l", "kubernetes.io/hostname in (node-1)", "--timeout", "0") == 0
    assert "1/1 nodes hold it" in capsys.readouterr().out
    assert run("wait", "app", "--selector", "pool=gpu", "--timeout", "0") == 3
    assert "no node matches the selector pool=gpu" in capsys.readouterr().err


def test_wait_notices_a_changed_configuration(
    run: Run, installed: SimulatedCluster, environ: pytest.MonkeyPatch
) -> None:
    installed.requests.clear()
    environ.setattr(Clock, "wait", lambda *_: None)
    assert run("wait", "quay.io/org/app:1.2.4", "--timeout", "0") == 3
    assert any("configmaps" in each.path for each in installed.requests)


# Where the status comes from


@responses.activate
@pytest.mark.parametrize(
    ("variable", "options", "url"),
    [
        ("IMAGE_PULLER_URL=http://puller.example.com", [], "http://puller.example.com"),
        ("IMAGE_PULLER_TOKEN=r", [], "http://127.0.0.1:8080"),
        ("PORT=9000", [], "http://127.0.0.1:9000"),
        ("X=", ["--url", "http://puller.example.com"], "http://puller.example.com"),
        ("X=", ["--token-file", "/dev/null"], "http://127.0.0.1:8080"),
    ],
)
def test_service_that_is_named_is_asked(
    run: Run, environ: pytest.MonkeyPatch, variable: str, options: list[str], url: str
) -> None:
    name, _, value = variable.partition("=")
    environ.setenv(name, value)
    responses.get(f"{url}/status", status=503)
    assert run("status", *options) == 4
    assert len(responses.calls) == 1


@responses.activate
def test_service_of_the_pod_and_the_demo_are_asked(
    run: Run, environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "read").write_text("r")
    responses.get("http://127.0.0.1:8080/status", status=503)
    environ.setattr(demo_session, "found", lambda _port: tmp_path)
    assert run("status") == 4
    environ.setenv("WEBHOOK_SECRETS_DIR", str(tmp_path))
    assert run("status") == 4
    assert len(responses.calls) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--url", "http://x"], "can't be used with --url or --token-file"),
        (["--token-file", "x"], "can't be used with --url or --token-file"),
        ([], "need a kubeconfig; set KUBECONFIG"),
    ],
)
def test_options_exclude_each_other(
    environ: pytest.MonkeyPatch,
    options: list[str],
    message: str,
    capsys: Capture,
) -> None:
    assert main.main(["status", "-n", NAMESPACE, *options]) == 2
    found = capsys.readouterr().err
    assert found == f"--namespace, --context and --deployment {message}\n"


# Errors


def test_errors_say_what_to_do(run: Run, installed: SimulatedCluster, capsys: Capture) -> None:
    for name in ("default", NAMESPACE):
        installed.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    use = "Use --namespace, --deployment or --context."
    for options, message in (
        (
            ["-n", "default"],
            f"namespace default has no Deployment or Knative Service {NAME}. {use}",
        ),
        (["-n", "nowhere"], f"the cluster has no namespace nowhere. {use}"),
        (
            ["--deployment", "x"],
            f"namespace {NAMESPACE} has no Deployment or Knative Service x. {use}",
        ),
        (
            ["--context", "x"],
            "the kubeconfig has no context 'x'; `kubectl config get-contexts` lists them.",
        ),
    ):
        for command in ("status", "wait"):
            assert run(command, *options) == 4
            assert capsys.readouterr().err == f"Cannot read the cluster: {message}\n"


@pytest.mark.parametrize("path", ["/deployments/", "/configmaps/", "/pods"])
def test_missing_right_is_named(
    run: Run, installed: SimulatedCluster, path: str, capsys: Capture
) -> None:
    installed.fail(method="GET", path=path, status=403)
    assert run("status") == 4
    error = capsys.readouterr().err
    assert error.startswith("Cannot read the cluster: ")
    assert error.endswith(
        f". You need the ClusterRole view in namespace {NAMESPACE}. Or use --url.\n"
    )


def test_wait_goes_on_while_the_api_server_is_away(
    run: Run,
    installed: SimulatedCluster,
    environ: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    def wait(*_: object) -> None:
        installed.fail(method="GET", path="/deployments/", status=500)
        environ.setattr(Clock, "wait", lambda *_: None)

    environ.setattr(Clock, "wait", wait)
    environ.setattr(Clock, "monotonic", iter(range(1000)).__next__)
    assert run("wait", "quay.io/org/app:1.2.4", "--timeout", "3") == 3
    printed = capsys.readouterr().out
    assert "Check --context, your login and the network." in printed


def test_api_server_that_never_answers_ends_the_command(
    run: Run, installed: SimulatedCluster, capsys: Capture
) -> None:
    installed.close()
    assert run("wait") == 4
    error = capsys.readouterr().err
    assert error.startswith("Cannot read the cluster: the API server can't be reached: ")
    assert len(error.splitlines()) == 1


def test_kubeconfig_that_can_not_be_read_ends_the_command(
    environ: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    environ.setenv("KUBECONFIG", str(tmp_path / "missing"))
    assert main.main(["status"]) == 4
    assert "the kubeconfig can't be read: " in capsys.readouterr().err


def test_configuration_that_is_not_accepted_is_named(
    run: Run, installed: SimulatedCluster, capsys: Capture
) -> None:
    deploy(installed, "broken", env=[{"name": "IMAGES", "value": "x"}])
    assert run("status", "--deployment", "broken") == 4
    error = capsys.readouterr().err.splitlines()
    assert error[0] == (
        f"Deployment broken in namespace {NAMESPACE} has a configuration that this release of "
        "image-puller does not accept:"
    )
    assert error[1].startswith("IMAGES: ")


def test_service_of_a_newer_release_needs_a_newer_command(
    run: Run, installation: Installation, installed: SimulatedCluster, capsys: Capture
) -> None:
    installation.annotate("{")
    assert run("status") == 0
    assert "no readable state annotation" in capsys.readouterr().out
    installation.annotate('{"schema": 1000}')
    assert run("status") == 4
    assert "of a newer release than this command. Update the command" in capsys.readouterr().err


def test_who_may_not_list_nodes_is_told_so_once(
    run: Run, installed: SimulatedCluster, capsys: Capture
) -> None:
    installed.fail(method="GET", path="/nodes", status=403, times=3)
    assert run("wait", "app", "--timeout", "0") == 0
    assert capsys.readouterr().err == (
        "You may not list nodes, so nodes that are not ready or cordoned count too.\n"
    )
    installed.fail(method="GET", path="/nodes", status=403, times=3)
    assert run("wait", "app", "--selector", "pool=gpu") == 4
    assert "Cannot read the cluster: no selector can be used" in capsys.readouterr().err
