"""The running service: its parts together, in the test's process and in one of its own."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import responses
from kubernetes.client import ApiClient

from image_puller import http, limits
from image_puller.cluster.client import KubernetesCluster
from image_puller.errors import ConfigurationError
from image_puller.serve import Service
from image_puller.simulation import SimulatedCluster
from tests.support.building import configuration, digest
from tests.support.clock import ManualClock
from tests.support.daemonset import APP, AT_ONCE, NEWER
from tests.support.installation import NAME, NAMESPACE, Installation, exists, kubeconfig
from tests.support.pull_secrets import pull_secret
from tests.support.serving import answers, running
from tests.support.waiting import TIMEOUT_SECONDS, wait_until
from tests.support.web import Web

PATH = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{NAME}"
QUAY = {"docker_url": "quay.io/org/app", "updated_tags": ["1.2.4"]}

MakeWeb = Callable[..., Web]


# Start and checks


def test_the_daemonset_is_created_at_start(web: MakeWeb, cluster: SimulatedCluster) -> None:
    web()
    wait_until(lambda: exists(cluster))


def test_malformed_entries_are_in_log_events_status_and_metrics(
    web: MakeWeb, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    service = web(IMAGES=f"app={APP};bad;app={APP}", READ_AUTH="none")
    wait_until(lambda: exists(installation.cluster))
    service.stop()
    (bad, twice) = service.service._config.warnings
    assert {("ImagesMalformed", bad), ("ImagesMalformed", twice)} == set(installation.reports())
    assert {bad, twice} <= set(caplog.messages)
    assert {bad, twice} <= set(service.client.get("/status").get_json()["problems"])
    assert "image_puller_malformed_entries 2.0" in service.client.get("/metrics").text


def test_off_knative_the_service_checks_periodically(
    web: MakeWeb, installation: Installation, clock: ManualClock
) -> None:
    web()
    wait_until(lambda: exists(installation.cluster))
    uid = installation.live()["metadata"]["uid"]
    installation.cluster.delete(NAME, NAMESPACE)
    wait_until(lambda: advanced(clock, lambda: exists(installation.cluster)))
    assert installation.live()["metadata"]["uid"] != uid


def test_off_knative_a_node_that_joins_is_noticed_at_once(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(READ_AUTH="none")
    cluster = installation.cluster
    wait_until(lambda: any("watch" in request.query for request in cluster.requests))
    cluster.delete(NAME, NAMESPACE)
    cluster.join("late")
    wait_until(lambda: exists(cluster))
    wait_until(lambda: 'source="nodes"' in service.client.get("/metrics").text)


def test_a_service_that_may_not_watch_nodes_is_ready(
    web: MakeWeb, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    installation.cluster.fail(times=1, status=403, path="/api/v1/nodes")
    service = web()
    wait_until(lambda: "only checks notice a node that joins" in caplog.text)
    assert service.client.get("/readyz").status_code == 200


def test_on_knative_the_service_checks_only_at_start(
    web: MakeWeb, installation: Installation, clock: ManualClock
) -> None:
    service = web(K_SERVICE=NAME)
    wait_until(lambda: clock.sleepers() == 1)  # until the rollout is checked
    clock.advance(limits.CHECK_INTERVAL_SECONDS)
    service.stop()
    assert installation.sent().count("GET apis") == 1
    assert installation.images() == [APP]


def test_checks_continue_after_any_error(
    web: MakeWeb,
    installation: Installation,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    web()
    wait_until(lambda: exists(installation.cluster))
    installation.cluster.documents[PATH] = {"no": "DaemonSet"}
    wait_until(lambda: advanced(clock, lambda: "the check failed" in caplog.text))
    del installation.cluster.documents[PATH]
    installation.cluster.fail(method="GET", path=NAME, times=3)
    wait_until(lambda: advanced(clock, lambda: "the check could not be finished" in caplog.text))
    installation.sent()
    wait_until(lambda: advanced(clock, lambda: "PATCH daemonsets dry run" in installation.sent()))


def advanced(clock: ManualClock, condition: Callable[[], bool]) -> bool:
    """Let the next check become due, and return whether the condition holds."""
    clock.advance(limits.CHECK_INTERVAL_SECONDS)
    return condition()


def test_a_service_starts_while_the_api_server_is_unavailable(
    web: MakeWeb, cluster: SimulatedCluster, clock: ManualClock
) -> None:
    cluster.fail(times=10)
    service = web(first_check=False)
    assert service.client.get("/readyz").status_code == 200
    wait_until(lambda: advanced(clock, lambda: exists(cluster)))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(("part", "step"), [("writer", "_take"), ("schedule", "_wait")])
def test_a_process_whose_thread_has_ended_fails_its_liveness_probe(
    web: MakeWeb, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, part: str, step: str
) -> None:
    service = web()
    assert service.client.get("/healthz").status_code == 200

    def end() -> None:
        raise SystemExit

    (group,) = service.service._groups
    monkeypatch.setattr(getattr(group, f"_{part}"), step, end)
    is_broken = lambda: service.client.get("/healthz").status_code == 500  # noqa: E731
    wait_until(lambda: advanced(clock, is_broken))
    answer = service.client.get("/healthz").text
    assert answer == f"the thread {part} has ended; restart this process\n"


# A process of its own


def test_a_process_applies_a_pending_template_on_sigterm(
    installation: Installation, tmp_path: Path
) -> None:
    (tmp_path / "quay").write_text("s3cret")
    environ = {
        "IMAGES": f"app={APP}",
        "KUBECONFIG": str(kubeconfig(installation.cluster, tmp_path)),
        "WEBHOOK_SECRETS_DIR": str(tmp_path),
        "ROLLOUT_MIN_INTERVAL_SECONDS": "3600",
    }
    with running(tmp_path, **environ) as (process, url):
        wait_until(lambda: exists(installation.cluster))
        answer = requests.post(f"{url}/webhooks/quay/s3cret", json=QUAY, timeout=5)
        assert (answer.status_code, answer.content) == (202, b"")
        too_large = iter([b" " * limits.BODY_BYTES, b" "])
        answer = requests.post(f"{url}/webhooks/quay/s3cret", data=too_large, timeout=5)
        assert answer.status_code == 202
        assert requests.post(f"{url}/webhooks/quay/wrong", json=QUAY, timeout=5).status_code == 401
        assert installation.images() == [APP]
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_SECONDS) == 0
    assert installation.images() == [APP, NEWER]
    log = (tmp_path / "log").read_text()
    assert "quay: app 1.2.4: tracked" in log
    assert "quay: ignored: the body has more than 1048576 bytes" in log
    assert "s3cret" not in log


def log_of_a_process(installation: Installation, folder: Path, **environ: str) -> list[str]:
    """Return the lines of a real process that answers a wrong secret, and then ends."""
    (folder / "quay").write_text("s3cret")
    environ |= {
        "IMAGES": f"app={APP}",
        "KUBECONFIG": str(kubeconfig(installation.cluster, folder)),
        "WEBHOOK_SECRETS_DIR": str(folder),
        "KEEPTAGS": "3",
    }
    with running(folder, **environ) as (process, url):
        for _ in range(2):
            assert requests.post(f"{url}/webhooks/quay/wrong", timeout=5).status_code == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_SECONDS) == 0
    return (folder / "log").read_text().splitlines()


def test_all_lines_of_a_real_process_are_json_if_configured(
    installation: Installation, tmp_path: Path
) -> None:
    lines = log_of_a_process(installation, tmp_path, LOG_FORMAT="json")
    found = [json.loads(each) for each in lines]
    assert {"gunicorn.error", "image_puller.serve"} <= {each["logger"] for each in found}
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, found))
    messages = [each["message"] for each in found]
    assert any("did you mean KEEP_TAGS?" in each for each in messages)
    assert any("each pod of the DaemonSet requests 100m CPU" in each for each in messages)
    assert len([each for each in messages if "credentials are missing or wrong" in each]) == 1


def test_all_lines_of_a_real_process_have_one_text_format(
    installation: Installation, tmp_path: Path
) -> None:
    lines = log_of_a_process(installation, tmp_path)
    form = r"\d{4}-\d\d-\d\dT[\d:.]{12}Z [A-Z]+ ((gunicorn|image_puller)\.[a-z_.]+) .+"
    loggers = {match[1] for each in lines if (match := re.fullmatch(form, each))}
    assert [each for each in lines if not re.fullmatch(form, each)] == []
    assert {"gunicorn.error", "image_puller.serve"} <= loggers


def test_level_of_the_log_leaves_out_news(installation: Installation, tmp_path: Path) -> None:
    lines = log_of_a_process(installation, tmp_path, LOG_LEVEL="warning")
    assert {each.split()[1] for each in lines} == {"WARNING"}


SECRET = "s3cret"
HEAD = f"POST /webhooks/quay/{SECRET} HTTP/1.1\r\nHost: x\r\n"
AUTHORIZED = HEAD + f"Authorization: Bearer {SECRET}\r\n"


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (f"POST /webhooks/quay/{SECRET} with a space HTTP/1.1\r\n\r\n", b"400"),
        (f"POST /webhooks/quay/{SECRET} HTTP/9.9\r\n\r\n", b"400"),
        (f"{SECRET}! / HTTP/1.1\r\n\r\n", b"400"),
        (f"POST /webhooks/quay/{SECRET}{'x' * 9000} HTTP/1.1\r\n\r\n", b"414"),
        (HEAD + f"Authorization: Bearer {SECRET}\0\r\n\r\n", b"400"),
        (HEAD + f"Author ization: Bearer {SECRET}\r\n\r\n", b"400"),
        (HEAD + f"Authorization: Bearer\r\n {SECRET}\r\n\r\n", b"400"),
        (HEAD + f"Authorization: {SECRET * 2000}\r\n\r\n", b"431"),
        (AUTHORIZED + f"Transfer-Encoding: {SECRET}\r\n\r\n", b"501"),
        (AUTHORIZED + f"Expect: {SECRET}\r\n\r\n", b"417"),
        (AUTHORIZED + f"Content-Length: {SECRET}\r\n\r\n", b"400"),
        (AUTHORIZED + f"Transfer-Encoding: chunked\r\n\r\n{SECRET}\r\n", b""),
        (AUTHORIZED + f"Transfer-Encoding: chunked\r\n\r\n5;{SECRET}\r\nab", b""),
        (AUTHORIZED + "Content-Length: 100\r\n\r\ncut off", b""),
        (SECRET, b""),
    ],
)
def test_log_and_answer_do_not_quote_an_unreadable_request(
    served: tuple[str, Path], sent: str, answered: bytes
) -> None:
    url, log = served
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(sent.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    assert answered in answer.partition(b"\r\n")[0]
    assert SECRET.encode() not in answer
    assert answers(f"{url}/readyz")
    assert SECRET not in log.read_text()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Yield the URL of a real process with a secret, and its log."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "quay").write_text(SECRET)
    with SimulatedCluster(nodes=1) as cluster:
        environ = {
            "IMAGES": f"app={APP}",
            "KUBECONFIG": str(kubeconfig(cluster, folder)),
            "WEBHOOK_SECRETS_DIR": str(folder),
        }
        with running(folder, **environ) as (_, url):
            yield url, folder / "log"


def test_a_process_with_a_wrong_configuration_exits_at_once(
    installation: Installation, tmp_path: Path
) -> None:
    file = kubeconfig(installation.cluster, tmp_path)
    with running(tmp_path, KUBECONFIG=str(file), IMAGES="bad") as (process, _url):
        assert process.wait(TIMEOUT_SECONDS) == 2
    assert (tmp_path / "log").read_text().startswith("IMAGES: has no valid entry; ")
    assert installation.sent() == []


# Asking registries


@pytest.fixture
def quay() -> Iterator[responses.RequestsMock]:
    """Simulate quay.io, which shows one image to one user."""

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        if request.headers.get("Authorization") != "Basic bWU6d29yZA==":
            return 401, {"WWW-Authenticate": 'Basic realm="quay"'}, ""
        if request.path_url.startswith("/v2/org/app/tags/list"):
            return 200, {}, '{"tags": ["1.2.3"]}'
        return 200, {"Docker-Content-Digest": digest(1)}, ""

    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        for method in ("GET", "HEAD"):
            mock.add_callback(method, re.compile(r"https://quay\.io/v2/org/app/.*"), answer)
        yield mock


ASKS = {"ASK_REGISTRIES": "true", "IMAGE_PULL_SECRETS": "mine"} | AT_ONCE


def test_registries_are_asked_with_the_pull_secrets(
    web: MakeWeb, installation: Installation, quay: responses.RequestsMock
) -> None:
    installation.cluster.add(pull_secret("mine", "me"), NAMESPACE)
    web(**ASKS)
    assert installation.digests() == {"app": digest(1)}


def test_a_pull_secret_that_can_not_be_read_is_reported(
    web: MakeWeb,
    installation: Installation,
    quay: responses.RequestsMock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = web(READ_AUTH="none", **ASKS)
    assert installation.images() == [APP]
    assert "pull secret mine can't be read, so registries are asked without it: " in caplog.text
    assert "the service's Role needs the verb get on that Secret" in caplog.text
    metrics = service.client.get("/metrics").text
    assert "image_puller_registry_problems 2.0" in metrics
    # It refuses the service, which is an answer.
    assert 'image_puller_registry_reachable{registry="quay.io"} 1.0' in metrics
    problems = service.client.get("/status").get_json()["problems"]
    assert any("name a pull secret that covers it" in problem for problem in problems)


# Signed tokens and their packages


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"EVENT_AUTH": "oidc", "OIDC_AUDIENCE": "a"}, "EVENT_AUTH: oidc needs the Python"),
        ({"GAR_AUDIENCE": "a", "GAR_SERVICE_ACCOUNT": "a@b"}, "GAR_SERVICE_ACCOUNT: needs the"),
    ],
)
@pytest.mark.parametrize("package", ["jwt", "cryptography"])
def test_a_configuration_with_tokens_without_their_packages_is_an_error(
    api: ApiClient,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    message: str,
    package: str,
) -> None:
    for module in ("oidc", "key_sets"):
        monkeypatch.delitem(sys.modules, f"image_puller.http.{module}", raising=False)
        monkeypatch.delattr(http, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    config = configuration(**variables)
    with pytest.raises(ConfigurationError) as raised:
        Service(config, KubernetesCluster(api, config))
    assert str(raised.value).startswith(message)
    assert "see docs/fips.md" in str(raised.value)


@pytest.mark.parametrize(
    ("variables", "path", "headers"),
    [
        (
            {"EVENT_AUTH": "oidc", "OIDC_AUDIENCE": "a"},
            "/",
            {"ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-specversion": "1.0"},
        ),
        ({"GAR_AUDIENCE": "a", "GAR_SERVICE_ACCOUNT": "a@b"}, "/webhooks/gar", {}),
    ],
    ids=["events", "Google Artifact Registry"],
)
def test_a_configuration_with_tokens_rejects_requests_without_one(
    web: MakeWeb, variables: dict[str, str], path: str, headers: dict[str, str]
) -> None:
    service = web(**variables)
    answer = service.client.post(path, headers=headers)
    assert answer.status_code == 401


def test_without_tokens_their_packages_are_not_imported() -> None:
    code = (
        "import sys, image_puller.cli.main, image_puller.serve; "
        "print(sorted({'jwt', 'cryptography'} & set(sys.modules)))"
    )
    command = (sys.executable, "-c", code)
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
