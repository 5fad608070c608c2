"""The running service: its parts together, in this process and as a real one."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
import requests
import responses
from kubernetes.client import ApiClient

from image_puller import http, limits, serve
from image_puller.cluster.client import KubernetesCluster
from image_puller.errors import ConfigurationError
from image_puller.serve import Gunicorn, Service, Worker
from image_puller.simulation import SimulatedCluster
from image_puller.values.reference import parse
from tests.conftest import (
    NAME,
    NAMESPACE,
    PATIENCE_SECONDS,
    Installation,
    Web,
    kubeconfig,
    wait_until,
)
from tests.support.building import configuration, digest

APP = "quay.io/org/app:1.2.3"
NEWER = "quay.io/org/app:1.2.4"
PATH = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{NAME}"
QUAY = {"docker_url": "quay.io/org/app", "updated_tags": ["1.2.4"]}

MakeWeb = Callable[..., Web]


def is_there(cluster: SimulatedCluster) -> bool:
    return cluster.daemonset(NAME, NAMESPACE) is not None


# The start and the ticks


def test_the_start_makes_the_daemonset(web: MakeWeb, cluster: SimulatedCluster) -> None:
    web()
    wait_until(lambda: is_there(cluster))


def test_faults_of_entries_are_said_loudly(
    web: MakeWeb, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    service = web(IMAGES=f"app={APP};bad;app={APP}", READ_AUTH="none")
    wait_until(lambda: is_there(installation.cluster))
    service.stop()
    (bad, twice) = service.service._config.warnings
    assert {("ImagesMalformed", bad), ("ImagesMalformed", twice)} == set(installation.reports())
    assert {bad, twice} <= set(caplog.messages)
    assert {bad, twice} <= set(service.client.get("/status").json["problems"])
    assert "image_puller_malformed_entries 2.0" in service.client.get("/metrics").text


def test_off_knative_the_service_ticks_by_itself(
    web: MakeWeb, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.01)
    service = web()
    wait_until(lambda: is_there(installation.cluster))
    uid = installation.live()["metadata"]["uid"]
    service.service._cluster.delete(uid)
    wait_until(lambda: is_there(installation.cluster))
    assert installation.live()["metadata"]["uid"] != uid


def test_off_knative_a_node_that_joins_is_looked_after_at_once(
    web: MakeWeb, installation: Installation
) -> None:
    service = web(READ_AUTH="none")
    cluster = installation.cluster
    wait_until(lambda: any("watch" in request.query for request in cluster.requests))
    cluster.delete(NAME, NAMESPACE)
    cluster.join("late")
    wait_until(lambda: is_there(cluster))
    wait_until(lambda: 'source="nodes"' in service.client.get("/metrics").text)


def test_without_leave_to_watch_nodes_the_ticks_look_after_them(
    web: MakeWeb, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    installation.cluster.fail(times=1, status=403, path="/api/v1/nodes")
    service = web()
    service.service._watch.join(PATIENCE_SECONDS)
    assert not service.service._watch.is_alive()
    assert "nodes that join are seen by ticks only" in caplog.text


def test_the_watch_of_nodes_is_taken_up_again(
    web: MakeWeb, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RETRY_SECONDS", 0.01)
    cluster = installation.cluster
    cluster.fail(times=3, status=500, path="/api/v1/nodes")
    web()
    wait_until(lambda: any("watch" in request.query for request in cluster.requests))


def test_on_knative_it_looks_once_and_others_tick(
    web: MakeWeb, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.01)
    web(K_SERVICE=NAME)
    time.sleep(0.1)  # many a tick, if it ticked
    assert installation.sent().count("GET apis") == 1
    assert installation.images() == [APP]


def test_the_ticks_outlive_what_they_find(
    web: MakeWeb,
    installation: Installation,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.01)
    web()
    wait_until(lambda: is_there(installation.cluster))
    installation.cluster.documents[PATH] = {"no": "DaemonSet"}
    wait_until(lambda: "the look failed" in caplog.messages)
    del installation.cluster.documents[PATH]
    installation.cluster.fail(method="GET", path=NAME, times=3)
    wait_until(lambda: "the look could not be finished" in caplog.text)
    installation.sent()
    wait_until(lambda: "PATCH daemonsets dry run" in installation.sent())


def test_an_api_server_that_is_away_at_the_start_stops_nothing(
    web: MakeWeb, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RETRY_SECONDS", 0.01)
    cluster.fail(times=10)
    service = web(first_look=False)
    assert service.client.get("/readyz").status_code == 200
    wait_until(lambda: is_there(cluster))


# Gunicorn


@pytest.fixture
def gunicorn(api: ApiClient) -> Gunicorn:
    config = configuration()
    return Gunicorn(Service(config, KubernetesCluster(api, config)), "127.0.0.1:8081")


def test_gunicorn_runs_one_process_with_many_threads(gunicorn: Gunicorn) -> None:
    settings = gunicorn.cfg
    assert settings.address == [("127.0.0.1", 8081)]
    assert (settings.workers, settings.worker_class, settings.threads) == (1, Worker, 32)
    assert settings.keepalive > 90  # Knative's queue-proxy
    assert 10 <= settings.graceful_timeout < 30  # Kubernetes' grace period
    assert settings.control_socket_disable
    assert not settings.preload_app
    assert settings.accesslog is None  # it would show secrets in paths
    assert gunicorn.load() is gunicorn._service.app


def test_gunicorns_heartbeat_is_where_there_is_a_place_for_it(
    api: ApiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(configuration(), KubernetesCluster(api, configuration()))
    for folder, found in ((tmp_path, str(tmp_path)), (tmp_path / "nowhere", None)):
        monkeypatch.setattr(serve, "_IN_MEMORY", folder)
        assert Gunicorn(service, "127.0.0.1:8081").cfg.worker_tmp_dir == found


def test_gunicorn_starts_and_stops_the_service_in_its_worker(
    gunicorn: Gunicorn, cluster: SimulatedCluster
) -> None:
    assert not is_there(cluster)
    gunicorn.cfg.post_worker_init(None)
    wait_until(lambda: is_there(cluster))
    gunicorn.cfg.worker_exit(None, None)
    gunicorn._service._ticker._thread.join(PATIENCE_SECONDS)
    assert not gunicorn._service._ticker._thread.is_alive()
    assert is_there(cluster)


@pytest.mark.parametrize(("has_ipv6", "host"), [(True, "::"), (False, "0.0.0.0")])
def test_it_listens_on_all_addresses_there_are(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch, has_ipv6: bool, host: str
) -> None:
    started: list[Gunicorn] = []

    def run(gunicorn: Gunicorn) -> None:
        started.append(gunicorn)

    monkeypatch.setattr(Gunicorn, "run", run)
    monkeypatch.setattr(serve, "_has_ipv6", lambda: has_ipv6)
    config = configuration(PORT="8099")
    serve.run(config, KubernetesCluster(api, config))
    ((found, port),) = started[0].cfg.address
    assert (found.strip("[]"), port) == (host, 8099)


def test_a_kernel_without_ipv6_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoSocket:
        def __init__(self, family: int) -> None:
            raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(serve.socket, "socket", NoSocket)
    assert serve._has_ipv6() is False


def test_a_kernel_with_ipv6_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Socket:
        def __init__(self, family: int) -> None:
            assert family == socket.AF_INET6

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def bind(self, address: tuple[str, int]) -> None:
            assert address == ("::", 0)

    monkeypatch.setattr(serve.socket, "socket", Socket)
    assert serve._has_ipv6() is True


# A real process


@contextmanager
def running(folder: Path, **environ: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`image-puller serve` with this environment and no other, once it takes events."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = (sys.executable, "-m", "image_puller", "serve")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PORT": str(port)} | environ
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: process.poll() is not None or answers(f"{url}/readyz"))
        yield process, url
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).status_code == 200
    except requests.RequestException:
        return False


def test_a_real_process_takes_pushes_and_applies_what_is_pending_on_sigterm(
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
        wait_until(lambda: is_there(installation.cluster))
        answer = requests.post(f"{url}/webhooks/quay/s3cret", json=QUAY, timeout=5)
        assert (answer.status_code, answer.content) == (202, b"")
        too_large = iter([b" " * limits.BODY_BYTES, b" "])
        answer = requests.post(f"{url}/webhooks/quay/s3cret", data=too_large, timeout=5)
        assert answer.status_code == 202
        assert requests.post(f"{url}/webhooks/quay/wrong", json=QUAY, timeout=5).status_code == 401
        assert installation.images() == [APP]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    assert installation.images() == [APP, NEWER]
    log = (tmp_path / "log").read_text()
    assert "quay: app 1.2.4 followed" in log
    assert "quay: a body above 1048576 bytes is ignored" in log
    assert "s3cret" not in log


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
def test_what_gunicorn_can_not_read_is_not_repeated(
    quiet: tuple[str, Path], sent: str, answered: bytes
) -> None:
    url, log = quiet
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
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A real process with a secret, and its log."""
    folder = tmp_path_factory.mktemp("quiet")
    (folder / "quay").write_text(SECRET)
    with SimulatedCluster(nodes=1) as cluster:
        environ = {
            "IMAGES": f"app={APP}",
            "KUBECONFIG": str(kubeconfig(cluster, folder)),
            "WEBHOOK_SECRETS_DIR": str(folder),
        }
        with running(folder, **environ) as (_, url):
            yield url, folder / "log"


def test_a_real_process_with_a_bad_environment_ends_at_once(
    installation: Installation, tmp_path: Path
) -> None:
    file = kubeconfig(installation.cluster, tmp_path)
    with running(tmp_path, KUBECONFIG=str(file), IMAGES="bad") as (process, _url):
        assert process.wait(PATIENCE_SECONDS) == 2
    assert (tmp_path / "log").read_text().startswith("IMAGES: holds no valid entry; ")
    assert installation.sent() == []


# Asking registries


def pull_secret(name: str, username: str) -> dict[str, object]:
    config = {"auths": {"quay.io": {"username": username, "password": "word"}}}
    data = base64.b64encode(json.dumps(config).encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": data},
    }


@pytest.fixture
def quay() -> Iterator[responses.RequestsMock]:
    """quay.io, which shows one image to one user."""

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


ASKS = {
    "ASK_REGISTRIES": "true",
    "IMAGE_PULL_SECRETS": "mine",
    "ROLLOUT_MIN_INTERVAL_SECONDS": "0",
}


def test_registries_are_asked_with_the_pull_secrets(
    web: MakeWeb, installation: Installation, quay: responses.RequestsMock
) -> None:
    installation.cluster.add(pull_secret("mine", "me"), NAMESPACE)
    web(**ASKS)
    assert installation.digests() == {"app": digest(1)}


def test_a_pull_secret_that_can_not_be_read_is_named_and_stops_nothing(
    web: MakeWeb,
    installation: Installation,
    quay: responses.RequestsMock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = web(READ_AUTH="none", **ASKS)
    assert installation.images() == [APP]
    assert "registries are asked without pull secret mine: " in caplog.text
    assert "the service's Role needs to `get` secrets of that name" in caplog.text
    assert "image_puller_registry_problems 2.0" in service.client.get("/metrics").text
    problems = service.client.get("/status").json["problems"]
    assert any("name a pull secret that covers it" in problem for problem in problems)


def test_pull_secrets_are_read_again_after_a_while_and_not_each_time(
    web: MakeWeb,
    installation: Installation,
    quay: responses.RequestsMock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "LOOKS_APART_SECONDS", 0.0)
    cluster = installation.cluster
    service = web(**ASKS)
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/mine"
    assert [request.path for request in cluster.requests].count(path) == 1
    assert installation.digests() == {}
    cluster.add(pull_secret("mine", "me"), NAMESPACE)
    service.service._pull_secrets._until = 0.0  # the while is over
    service.secret("events", "s3cret")
    service.client.post(
        "/",
        headers={
            "Authorization": "Bearer s3cret",
            "ce-id": "1",
            "ce-source": "/test",
            "ce-specversion": "1.0",
            "ce-type": "io.image-puller.refresh",
        },
    )
    wait_until(lambda: installation.digests() == {"app": digest(1)})


def test_an_api_server_that_is_away_for_a_moment_costs_no_credentials(
    web: MakeWeb, installation: Installation, quay: responses.RequestsMock
) -> None:
    cluster = installation.cluster
    cluster.add(pull_secret("mine", "me"), NAMESPACE)
    cluster.fail(times=2, path="/secrets/mine")  # the listing, the digest
    service = web(**ASKS)
    (problem,) = service.service._looks.problems
    assert problem.startswith("pull secrets can't be read: ")
    assert not any("Authorization" in call.request.headers for call in quay.calls)
    secrets = service.service._pull_secrets
    (mine,) = secrets(parse(APP))
    cluster.fail(times=1, path="/secrets/mine")
    secrets._until = 0.0
    assert secrets(parse(APP)) == (mine,)


def test_what_is_wrong_with_a_pull_secret_is_said_once(
    web: MakeWeb,
    installation: Installation,
    quay: responses.RequestsMock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = pull_secret("mine", "me") | {"type": "Opaque"}
    installation.cluster.add(bad, NAMESPACE)
    service = web(**ASKS).service._pull_secrets
    service._until = 0.0
    assert service(parse(APP)) == ()
    told = [message for message in caplog.messages if message.startswith("pull secret mine: ")]
    assert len(told) == 1


# Packages that only tokens need


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"EVENT_AUTH": "oidc", "OIDC_AUDIENCE": "a"}, "EVENT_AUTH: oidc needs the Python"),
        ({"GAR_AUDIENCE": "a", "GAR_SERVICE_ACCOUNT": "a@b"}, "GAR_SERVICE_ACCOUNT: needs the"),
    ],
)
@pytest.mark.parametrize("package", ["jwt", "cryptography"])
def test_who_believes_tokens_without_the_packages_for_it_ends_at_once(
    api: ApiClient,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    said: str,
    package: str,
) -> None:
    for module in ("oidc", "key_sets"):
        monkeypatch.delitem(sys.modules, f"image_puller.http.{module}", raising=False)
        monkeypatch.delattr(http, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    config = configuration(**variables)
    with pytest.raises(ConfigurationError) as refused:
        Service(config, KubernetesCluster(api, config))
    assert str(refused.value).startswith(said)
    assert "see FIPS in the README" in str(refused.value)


def test_nobody_else_imports_them() -> None:
    code = (
        "import sys, image_puller.cli, image_puller.serve; "
        "print(sorted({'jwt', 'cryptography'} & set(sys.modules)))"
    )
    command = (sys.executable, "-c", code)
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
