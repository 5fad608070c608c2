"""`image-puller check`: what it finds in a cluster, at registries and in files, fault by fault."""

import base64
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient

from image_puller import cli, http
from image_puller.cli import check_command, check_secrets, main
from image_puller.cli.findings import Result
from image_puller.cluster.client import KubernetesCluster
from image_puller.cluster.reconcile import Reconciler
from image_puller.config.configuration import Config, from_environ
from image_puller.controller.clock import Clock
from image_puller.core import rights
from image_puller.core.changes import CheckDaemonSet
from image_puller.core.daemonset import ORIGINAL_SELECTOR, STATE
from image_puller.simulation import RegistryServer, SimulatedCluster
from image_puller.simulation.server import Request, Response, Server
from tests.support.building import configuration
from tests.support.daemonset import end_pod, refuse_pods, start_pod
from tests.support.installation import NAME, NAMESPACE, Json, kubeconfig
from tests.support.issuer import Issuer
from tests.support.pull_secrets import pull_secret

GPU = f"{NAME}-gpu"
APP = "quay.io/org/app:1.2.3"
CUDA = "nvcr.example.com/org/cuda:12.4.1"
SLEEP = "sleep.example.com/puller/sleep:0.1.0"
IMAGES = (APP, CUDA, SLEEP)
NOWHERE = "127.0.0.1:1"
"""A registry at whose port nothing listens."""
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME}}
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json"},
}
CHART = {**MANIFEST, "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json"}}


class Instant(Clock):
    """A clock whose waits end at once."""

    def __init__(self) -> None:
        self.on_wait: Callable[[], object] = lambda: None

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        self.on_wait()


@dataclass
class Setting:
    """An installation, in which everything works until a test breaks a part of it."""

    cluster: SimulatedCluster
    registries: RegistryServer
    api: ApiClient
    secrets: Path
    variables: dict[str, str]
    clock: Instant = field(default_factory=Instant)
    is_in_pod: bool = True
    url: str | None = None

    def config(self) -> Config:
        return from_environ(self.variables)

    def push(self, *images: str, manifest: Json = MANIFEST) -> None:
        for image in images:
            self.registries.push(image, manifest)

    def start(self, *, host: str = "service", **variables: str) -> None:
        """Let a pod of the service write its DaemonSets, and the nodes start the pods."""
        for group in from_environ(self.variables | variables).all_groups:
            cluster = KubernetesCluster(self.api, group, host=host)
            Reconciler(group, cluster, now=self.clock.now).commit([CheckDaemonSet()])
        self.cluster.settle()

    def check(self, output: str = "json") -> int:
        self.cluster.requests.clear()
        return check_command.run(
            self.config,
            self.variables,
            url=self.url,
            output=output,
            is_in_pod=self.is_in_pod,
            clock=self.clock,
        )


@pytest.fixture
def setting(
    cluster: SimulatedCluster, api: ApiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Setting]:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("events", "harbor", "read"):
        (secrets / name).write_text("a secret")
    with RegistryServer() as registries:
        variables = {
            "KUBECONFIG": str(kubeconfig(cluster, tmp_path)),
            "IMAGES": f"app={APP}",
            "IMAGE_GROUPS": json.dumps({"gpu": {"images": {"cuda": CUDA}}}),
            "KIP_IMAGE": SLEEP,
            "IMAGE_PULL_SECRETS": "credentials",
            "INSECURE_REGISTRIES": "quay.io;nvcr.example.com;sleep.example.com;127.0.0.1:1",
            "WEBHOOK_SECRETS_DIR": str(secrets),
            "NAMESPACE": NAMESPACE,
        }
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, registries.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "127.0.0.1")
        setting = Setting(cluster, registries, api, secrets, variables)
        setting.push(*IMAGES)
        cluster.add(DEPLOYMENT, NAMESPACE)
        cluster.add(pull_secret("credentials", "me"), NAMESPACE)
        start_pod(cluster, "service")
        setting.start()
        yield setting


Printed = Callable[[], list[Json]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """Return a function that returns the findings that were printed as JSON."""

    def read() -> list[Json]:
        captured = capsys.readouterr()
        assert captured.err == ""
        document = json.loads(captured.out)
        assert document["ok"] is not any(
            each["result"] == "failed" for each in document["findings"]
        )
        found: list[Json] = document["findings"]
        return found

    return read


def titles(found: Sequence[Json], result: Result) -> list[str]:
    return [each["title"] for each in found if each["result"] == result]


def only(found: Sequence[Json], result: Result) -> Json:
    """Return the one finding with a result."""
    (finding,) = (each for each in found if each["result"] == result)
    return finding


# An installation that works


def test_everything_is_ok_where_everything_works(setting: Setting, printed: Printed) -> None:
    assert setting.check() == 0
    found = printed()
    assert {each["result"] for each in found} == {"ok"}
    assert [each["title"] for each in found] == [
        "configuration",
        "API server",
        "rights",
        f"DaemonSet {NAME}",
        f"owner of {NAME}",
        f"DaemonSet {GPU}",
        f"owner of {GPU}",
        f"dry run of a pod of {NAME}",
        f"dry run of a pod of {GPU}",
        "pull secret credentials",
        "secrets of senders",
        "secret of readers",
        "registry quay.io",
        "registry nvcr.example.com",
        "sleep image",
    ]


def test_text_has_a_line_for_each_finding_and_counts_what_failed(
    setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    setting.variables["IMAGE_PULL_SECRETS"] = ""
    setting.start()
    assert setting.check("text") == 0
    assert capsys.readouterr().out == (
        "✓ configuration: it has 2 images in 2 DaemonSets\n"
        "✓ API server: it answers, and is Kubernetes v1.34.4\n"
        "✓ rights: the service has all 15\n"
        f"✓ DaemonSet {NAME}: it is ours, and this configuration is in charge\n"
        f"✓ owner of {NAME}: it is Deployment {NAME}, and both are deleted together\n"
        f"✓ DaemonSet {GPU}: it is ours, and this configuration is in charge\n"
        f"✓ owner of {GPU}: it is Deployment {NAME}, and both are deleted together\n"
        f"✓ dry run of a pod of {NAME}: the cluster takes it\n"
        f"✓ dry run of a pod of {GPU}: the cluster takes it\n"
        "✓ secrets of senders: these can authenticate: harbor, events\n"
        f"✓ secret of readers: {setting.secrets} has the file read\n"
        "✓ registry quay.io: it answers, and has the configured image\n"
        "✓ registry nvcr.example.com: it answers, and has the configured image\n"
        f"✓ sleep image: sleep.example.com has {SLEEP}\n"
        "Nothing failed, 0 warnings.\n"
    )


def test_nothing_is_written_to_the_cluster(setting: Setting) -> None:
    before = [setting.cluster.daemonset(name, NAMESPACE) for name in (NAME, GPU)]
    events, pods = setting.cluster.events(), setting.cluster.pods()
    setting.check()
    writes = [
        request
        for request in setting.cluster.requests
        if request.method != "GET"
        if not request.dry_run
        if not request.path.endswith("/selfsubjectaccessreviews")
    ]
    assert writes == []
    assert [setting.cluster.daemonset(name, NAMESPACE) for name in (NAME, GPU)] == before
    assert (setting.cluster.events(), setting.cluster.pods()) == (events, pods)


def test_only_what_a_new_process_may_still_do_is_awaited(
    setting: Setting, printed: Printed
) -> None:
    setting.cluster.delete(NAME, NAMESPACE)
    setting.clock.on_wait = setting.start
    assert setting.check() == 0
    assert titles(printed(), Result.OK)[3] == f"DaemonSet {NAME}"


def test_the_command_line_runs_it(
    setting: Setting, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in setting.variables.items():
        monkeypatch.setenv(name, value)
    assert main.main(["check", "-o", "json"]) == 0
    assert titles(printed(), Result.OK)[0] == "configuration"


# Faults: each gives exactly one failure, with its fix


def forbid_all(setting: Setting) -> None:
    needed = rights.needed(setting.config())
    forbid(*((each.verb, each.resource) for each in needed))(setting)


def forbid(*denied: tuple[str, str]) -> Callable[[Setting], None]:
    """Return a fault: the service lacks these rights."""

    def break_(setting: Setting) -> None:
        for verb, plural in denied:
            setting.cluster.forbid(verb, plural)

    return break_


def replace_by(selector: Json) -> Callable[[Setting], None]:
    """Return a fault: another DaemonSet has the name."""

    def break_(setting: Setting) -> None:
        setting.cluster.delete(GPU, NAMESPACE)
        container = {"name": "old", "image": "example.com/old:1"}
        template = {"metadata": {"labels": selector}, "spec": {"containers": [container]}}
        setting.cluster.add(
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": {"name": GPU, "namespace": NAMESPACE},
                "spec": {"selector": {"matchLabels": selector}, "template": template},
            }
        )

    return break_


def supersede(setting: Setting) -> None:
    start_pod(setting.cluster, "rival")
    groups = {"gpu": {"images": {"cuda": CUDA}, "keepTags": 3}}
    setting.start(host="rival", IMAGE_GROUPS=json.dumps(groups))


def raise_schema(setting: Setting) -> None:
    def edit(daemonset: Json) -> None:
        daemonset["metadata"]["annotations"][STATE] = '{"schema": 99}'

    setting.cluster.change(GPU, NAMESPACE, edit)


def set_variables(**variables: str) -> Callable[[Setting], None]:
    """Return a fault of variables, with which the service runs."""

    def break_(setting: Setting) -> None:
        setting.variables |= variables
        setting.start()

    return break_


def refuse_daemonsets(setting: Setting) -> None:
    setting.cluster.delete(NAME, NAMESPACE)
    setting.cluster.deny(lambda each: each["metadata"]["name"] == NAME, "not here")


def add_secret(**fields: Any) -> Callable[[Setting], None]:
    """Return a fault: a second pull secret with other fields."""

    def break_(setting: Setting) -> None:
        setting.variables["IMAGE_PULL_SECRETS"] = "credentials;other"
        setting.start()
        setting.cluster.add(pull_secret("other", "me") | fields, NAMESPACE)

    return break_


def remove(*names: str) -> Callable[[Setting], None]:
    """Return a fault: these files are missing in the folder of secrets."""

    def break_(setting: Setting) -> None:
        for name in names:
            (setting.secrets / name).unlink()

    return break_


def block_folder(setting: Setting) -> None:
    (setting.secrets / "harbor").unlink()
    setting.variables["WEBHOOK_SECRETS_DIR"] = str(setting.secrets / "read")


def push_chart(setting: Setting) -> None:
    setting.push(APP, manifest=CHART)


def forget_images(setting: Setting) -> None:
    """Let the nodes run no sleep image, and the registries have none."""
    for name in (NAME, GPU):
        setting.cluster.delete(name, NAMESPACE)
    setting.cluster.settle()
    setting.cluster.unpullable["sleep.example.com/puller/none:1"] = "not found"
    setting.variables["KIP_IMAGE"] = "sleep.example.com/puller/none:1"
    setting.start()


def sleep_at_nowhere(setting: Setting) -> None:
    image = f"{NOWHERE}/puller/sleep:1"
    setting.cluster.unpullable[image] = "not found"
    set_variables(KIP_IMAGE=image)(setting)


def no_service(setting: Setting) -> None:
    setting.url = f"http://{NOWHERE}"


FAULTS: dict[str, tuple[Callable[[Setting], None], str, str, str]] = {
    "no kubeconfig": (
        lambda setting: setting.variables.update(KUBECONFIG="/nowhere", IMAGE_PULL_SECRETS=""),
        "API server",
        "no API server is configured",
        "correct KUBECONFIG",
    ),
    "an API server that does not answer": (
        lambda setting: setting.cluster.hang_up(path="/version", times=9),
        "API server",
        "the API server can't be reached",
        "NetworkPolicy",
    ),
    "no Role": (
        forbid_all,
        "rights",
        (
            f"the service may not get daemonsets/{NAME}, patch daemonsets/{NAME}, "
            f"get daemonsets/{GPU}, patch daemonsets/{GPU}, create daemonsets, list pods, "
            "get secrets/credentials"
        ),
        "deploy/kubernetes/rbac.yaml",
    ),
    "a Role without one verb": (
        forbid(("patch", "daemonsets")),
        "rights",
        f"the service may not patch daemonsets/{NAME}",
        "apply the Role",
    ),
    "no right to a pull secret": (
        forbid(("get", "secrets")),
        "rights",
        "the service may not get secrets/credentials",
        "apply the Role",
    ),
    "a foreign DaemonSet": (
        replace_by({"app": "other"}),
        f"DaemonSet {GPU}",
        "belongs to somebody else: its selector is",
        f"kubectl delete daemonset {GPU} --namespace {NAMESPACE}",
    ),
    "a younger pod with another configuration": (
        supersede,
        f"DaemonSet {GPU}",
        "another configuration is in charge, that of pod rival",
        "delete another Deployment or Revision",
    ),
    "the state of a newer release": (
        raise_schema,
        f"DaemonSet {GPU}",
        "the state has schema 99; this release reads",
        "run the newer release",
    ),
    "pods that Pod Security refuses": (
        lambda setting: setting.cluster.deny(
            lambda pod: pod["metadata"]["name"].startswith(GPU),
            'violates PodSecurity "restricted:latest"',
            status=403,
            resource="pods",
        ),
        f"dry run of a pod of {GPU}",
        "violates PodSecurity",
        f"kubectl label namespace {NAMESPACE}",
    ),
    "a DaemonSet that a policy refuses": (
        refuse_daemonsets,
        f"dry run of a pod of {NAME}",
        "not here",
        "correct the policy or the webhook",
    ),
    "a pull secret that is missing": (
        set_variables(IMAGE_PULL_SECRETS="credentials;absent"),
        "pull secret absent",
        f"it does not exist in namespace {NAMESPACE}",
        f"kubectl create secret docker-registry absent --namespace {NAMESPACE}",
    ),
    "a pull secret of another type": (
        add_secret(type="Opaque"),
        "pull secret other",
        "its type is 'Opaque'",
        f"kubectl delete secret other --namespace {NAMESPACE}, then kubectl create secret",
    ),
    "a pull secret without credentials": (
        add_secret(data={".dockerconfigjson": base64.b64encode(b"{}").decode()}),
        "pull secret other",
        "it has no credentials",
        "kubectl create secret docker-registry other",
    ),
    "no secret of any sender": (
        remove("events", "harbor", "read"),
        "secrets of senders",
        "so every request is rejected",
        "create the Secret of the service",
    ),
    "no secret of readers": (
        remove("read"),
        "secret of readers",
        "nobody can read /status",
        "add the key read",
    ),
    "secrets that can't be read": (
        block_folder,
        "secrets of senders",
        "secrets can't be read from",
        "correct the mode",
    ),
    "a registry that can't be reached": (
        set_variables(IMAGES=f"app={APP};gone={NOWHERE}/org/a:1;too={NOWHERE}/org/b:1"),
        f"registry {NOWHERE}",
        f"no answer from {NOWHERE}",
        "set ASK_REGISTRIES=false",
    ),
    "an image that its registry does not have": (
        set_variables(IMAGES="app=quay.io/org/app:9.9.9"),
        "image quay.io/org/app:9.9.9",
        "its registry does not have it",
        "push it, or correct its entry",
    ),
    "a chart in place of an image": (
        push_chart,
        f"image {APP}",
        "application/vnd.cncf.helm.config.v1+json, and no image",
        "correct its entry",
    ),
    "a sleep image that its registry does not have": (
        forget_images,
        "sleep image",
        "does not have sleep.example.com/puller/none:1",
        "correct KIP_IMAGE",
    ),
    "a sleep image whose registry can't be reached": (
        sleep_at_nowhere,
        "sleep image",
        f"no answer from {NOWHERE}",
        "HTTPS_PROXY",
    ),
    "a service that does not answer": (
        no_service,
        f"service at http://{NOWHERE}",
        "Cannot reach the service",
        "look at the Service",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gives_one_failure_with_its_fix(
    setting: Setting, printed: Printed, name: str
) -> None:
    break_, title, detail, fix = FAULTS[name]
    break_(setting)
    assert setting.check() == 1
    found = only(printed(), Result.FAILED)
    assert found["title"] == title
    assert detail in found["detail"]
    assert fix in found["fix"]
    assert found["fix"]


def test_wrong_configuration_is_told_at_once_and_ends_with_2(
    setting: Setting, printed: Printed
) -> None:
    setting.variables |= {"KEEP_TAGS": "0", "EVENT_AUTH": "nobody"}
    assert setting.check() == 2
    found = printed()
    assert [(each["title"], each["result"]) for each in found] == [
        ("configuration EVENT_AUTH", "failed"),
        ("configuration KEEP_TAGS", "failed"),
    ]
    assert found[1]["fix"] == ("correct KEEP_TAGS in the ConfigMap of the service, and restart it")
    assert setting.cluster.requests == []


def test_files_without_ca_certificates_are_wrong_configuration(
    setting: Setting, printed: Printed
) -> None:
    setting.variables["REGISTRY_CA_FILE"] = str(setting.secrets / "read")
    assert setting.check() == 2
    assert titles(printed(), Result.FAILED) == ["configuration REGISTRY_CA_FILE"]


# Warnings, and what is not checked


def make_original(setting: Setting) -> None:
    replace_by(ORIGINAL_SELECTOR)(setting)


def change_configuration(setting: Setting) -> None:
    end_pod(setting.cluster, "service")
    groups = {"gpu": {"images": {"cuda": CUDA}, "keepTags": 3}}
    setting.variables["IMAGE_GROUPS"] = json.dumps(groups)


def write_state(text: str) -> Callable[[Setting], None]:
    """Return a fault: the state annotation has this text."""

    def break_(setting: Setting) -> None:
        def edit(daemonset: Json) -> None:
            daemonset["metadata"]["annotations"][STATE] = text

        setting.cluster.change(GPU, NAMESPACE, edit)

    return break_


def add_malformed_key(setting: Setting) -> None:
    auths = {"quay.io": {"username": "me"}, "https://": {"username": "me"}}
    text = base64.b64encode(json.dumps({"auths": auths}).encode()).decode()
    add_secret(data={".dockerconfigjson": text})(setting)


def disown(setting: Setting) -> None:
    def edit(daemonset: Json) -> None:
        daemonset["metadata"]["ownerReferences"] = []

    setting.cluster.change(GPU, NAMESPACE, edit)


def lose_sleep_image(setting: Setting) -> None:
    """Let the registry lose the sleep image while the nodes run it."""
    for name in (NAME, GPU):
        setting.cluster.delete(name, NAMESPACE)
    setting.variables["KIP_IMAGE"] = "sleep.example.com/puller/loaded:1"
    setting.start()


WARNINGS: dict[str, tuple[Callable[[Setting], None], list[str], str]] = {
    "a malformed entry": (
        set_variables(IMAGES=f"app={APP};Wrong={APP}"),
        ["configuration"],
        "Wrong",
    ),
    "a misspelt variable": (
        set_variables(KEEP_TAG="3"),
        ["configuration"],
        "did you mean KEEP_TAGS?",
    ),
    "rights of features": (
        forbid(("list", "nodes"), ("watch", "nodes")),
        ["right to list nodes", "right to watch nodes"],
        "it is missing, and serves image volumes",
    ),
    "a DaemonSet that does not exist": (
        lambda setting: setting.cluster.delete(GPU, NAMESPACE),
        [f"DaemonSet {GPU}"],
        "it does not exist yet",
    ),
    "a DaemonSet of the original puller": (
        make_original,
        [f"DaemonSet {GPU}"],
        "it is of the original puller",
    ),
    "a configuration that no process has applied yet": (
        change_configuration,
        [f"DaemonSet {GPU}"],
        "it has another configuration, and no process lives",
    ),
    "a state that can't be read": (
        write_state("?"),
        [f"DaemonSet {GPU}"],
        "the service starts again from IMAGES",
    ),
    "a Deployment of another name": (
        set_variables(DEPLOYMENT_NAME="other"),
        [f"owner of {NAME}", f"owner of {GPU}"],
        "Deployment other can't be found",
    ),
    "a DaemonSet without an owner": (
        disown,
        [f"owner of {GPU}"],
        f"does not have Deployment {NAME} as its owner",
    ),
    "a pull secret with a malformed entry": (
        add_malformed_key,
        ["pull secret other"],
        "it names no host",
    ),
    "no secret for events": (
        remove("events"),
        ["secrets of senders"],
        "none for POST / and trigger-check",
    ),
    "a sleep image that only the nodes have": (
        lose_sleep_image,
        ["sleep image"],
        "it runs on a node, but other nodes may lack it",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_a_warning_does_not_fail(setting: Setting, printed: Printed, name: str) -> None:
    break_, expected, detail = WARNINGS[name]
    break_(setting)
    assert setting.check() == 0
    found = [each for each in printed() if each["result"] == "warning"]
    assert [each["title"] for each in found] == expected
    assert detail in found[0]["detail"]
    assert all(each["fix"] for each in found)


SKIPPED: dict[str, tuple[Callable[[Setting], None], list[str]]] = {
    "no API server": (
        lambda setting: setting.variables.update(KUBECONFIG="/nowhere"),
        [
            "rights",
            f"DaemonSet {NAME}",
            f"DaemonSet {GPU}",
            f"dry run of a pod of {NAME}",
            f"dry run of a pod of {GPU}",
            "pull secret credentials",
        ],
    ),
    "no right to read DaemonSets": (
        forbid(("get", "daemonsets")),
        [f"DaemonSet {NAME}", f"DaemonSet {GPU}"],
    ),
    "no right to the owner": (
        forbid(("get", "deployments")),
        [f"owner of {NAME}", f"owner of {GPU}"],
    ),
    "no right to try pods": (
        forbid(("create", "pods")),
        [f"dry run of a pod of {NAME}", f"dry run of a pod of {GPU}"],
    ),
    "no right to pull secrets": (
        forbid(("get", "secrets")),
        ["pull secret credentials"],
    ),
    "reviews that nobody may make": (
        lambda setting: setting.cluster.fail(status=403, path="/selfsubjectaccessreviews"),
        ["rights"],
    ),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_what_can_not_be_checked_is_told(setting: Setting, printed: Printed, name: str) -> None:
    break_, expected = SKIPPED[name]
    break_(setting)
    setting.check()
    assert titles(printed(), Result.SKIPPED) == expected


def test_without_registries_the_nodes_show_that_they_have_the_sleep_image(
    setting: Setting, printed: Printed
) -> None:
    set_variables(ASK_REGISTRIES="false")(setting)
    assert setting.check() == 0
    found = printed()
    assert only(found, Result.SKIPPED)["title"] == "registries"
    assert found[-1]["detail"] == f"{SLEEP} runs on a node"
    setting.cluster.forbid("list", "pods")
    setting.check()
    assert titles(printed(), Result.SKIPPED)[-1] == "sleep image"


def test_without_registries_the_right_to_pull_secrets_is_not_required(
    setting: Setting, printed: Printed
) -> None:
    set_variables(ASK_REGISTRIES="false")(setting)
    setting.cluster.forbid("get", "secrets")
    assert setting.check() == 0
    assert titles(printed(), Result.WARNING) == ["right to get secrets/credentials"]


def test_a_quota_that_the_old_pods_free_is_no_failure(setting: Setting, printed: Printed) -> None:
    refuse_pods(
        setting.cluster, "exceeded quota: few, requested: pods=1, used: pods=6, limited: pods=6"
    )
    assert setting.check() == 0
    setting.cluster.delete(NAME, NAMESPACE)
    printed()
    assert setting.check() == 1
    found = only(printed(), Result.FAILED)
    assert found["title"] == f"dry run of a pod of {NAME}"
    assert "kubectl describe resourcequota" in found["fix"]


def test_a_namespace_that_does_not_exist_is_named(setting: Setting, printed: Printed) -> None:
    setting.variables |= {"NAMESPACE": "elsewhere", "IMAGE_GROUPS": "", "IMAGE_PULL_SECRETS": ""}
    assert setting.check() == 1
    found = only(printed(), Result.FAILED)
    assert found["fix"] == "kubectl create namespace elsewhere, or correct NAMESPACE"


def test_an_api_server_that_fails_in_between_fails_the_step(
    setting: Setting, printed: Printed
) -> None:
    setting.variables["IMAGE_GROUPS"] = ""
    setting.start()
    setting.cluster.hang_up(method="POST", path="/pods", times=9)
    assert setting.check() == 1
    found = only(printed(), Result.FAILED)
    assert found["title"] == f"dry run of a pod of {NAME}"
    assert "the API server can't be reached" in found["detail"]


def test_on_knative_the_owner_is_a_service(setting: Setting, printed: Printed) -> None:
    service = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
    setting.cluster.add(service | {"metadata": {"name": NAME}}, NAMESPACE)
    set_variables(K_SERVICE=NAME)(setting)
    assert setting.check() == 0
    details = [each["detail"] for each in printed()]
    assert f"it is Knative Service {NAME}, and both are deleted together" in details


def test_a_registry_that_refuses_a_repository_may_lack_the_secret_that_could_not_be_read(
    setting: Setting, printed: Printed
) -> None:
    def refuse(_request: Request) -> Response:
        return Response(403, {})

    server = Server(refuse)
    try:
        registry = server.url.removeprefix("http://")
        setting.variables["INSECURE_REGISTRIES"] += f";{registry}"
        set_variables(IMAGES=f"app={registry}/org/app:1.2.3")(setting)
        assert setting.check() == 1
        found = only(printed(), Result.FAILED)
        assert found["title"] == f"registry {registry}"
        assert found["detail"].startswith("it refuses access to org/app: ")
        assert "IMAGE_PULL_SECRETS" in found["fix"]
        set_variables(IMAGE_PULL_SECRETS="absent", KIP_IMAGE=f"{registry}/sleep:1")(setting)
        for name in (NAME, GPU):
            setting.cluster.delete(name, NAMESPACE)
        assert setting.check() == 1
        every = printed()
        assert titles(every, Result.FAILED) == ["pull secret absent"]
        assert titles(every, Result.SKIPPED) == [f"registry {registry}", "sleep image"]
    finally:
        server.close()


def test_a_service_that_answers_is_told(setting: Setting, printed: Printed) -> None:
    server = Server(lambda _request: Response(200, "ok"))
    try:
        # The proxy of the environment would get a request for this name.
        setting.url = server.url.replace("127.0.0.1", "localhost")
        assert setting.check() == 0
    finally:
        server.close()
    assert printed()[1]["title"] == f"service at {setting.url}"


def test_a_log_does_not_get_in_between(setting: Setting, printed: Printed) -> None:
    setting.cluster.forbid("get", "deployments")
    setting.check()
    assert printed()
    assert logging.getLogger().handlers


# Secrets of senders and readers


@pytest.mark.parametrize(
    ("variables", "files", "expected"),
    [
        ({}, ["events", "read"], ["ok", "ok"]),
        ({"READ_AUTH": "none"}, ["events"], ["ok", "ok"]),
        ({"EVENT_AUTH": "none"}, ["read"], ["ok", "ok"]),
        ({"EVENT_AUTH": "none"}, [], ["ok", "failed"]),
        ({"EVENT_AUTH": "oidc", "OIDC_AUDIENCE": "puller"}, ["read"], ["ok", "ok"]),
        ({}, ["harbor", "read"], ["warning", "ok"]),
        ({}, ["read"], ["failed", "ok"]),
        ({}, [], ["failed"]),
        (
            {"GAR_AUDIENCE": "a", "GAR_SERVICE_ACCOUNT": "a@b.iam.gserviceaccount.com"},
            ["read"],
            ["warning", "ok"],
        ),
    ],
)
def test_secrets_of_senders_and_readers(
    tmp_path: Path, variables: dict[str, str], files: list[str], expected: list[str]
) -> None:
    for name in files:
        (tmp_path / name).write_text("a secret")
    config = configuration(WEBHOOK_SECRETS_DIR=str(tmp_path), **variables)
    found = check_secrets.webhook_secrets(config, is_in_pod=True)
    assert [each.result for each in found] == expected


def test_outside_a_pod_a_missing_folder_of_secrets_is_skipped(tmp_path: Path) -> None:
    config = configuration(WEBHOOK_SECRETS_DIR=str(tmp_path / "none"))
    (outside,) = check_secrets.webhook_secrets(config, is_in_pod=False)
    (inside,) = check_secrets.webhook_secrets(config, is_in_pod=True)
    assert (outside.result, inside.result) == ("skipped", "failed")


# Keys of tokens

OIDC = {"EVENT_AUTH": "oidc", "OIDC_AUDIENCE": "puller"}


def test_the_keys_of_the_api_server_are_read_where_senders_have_its_tokens(
    setting: Setting, printed: Printed
) -> None:
    setting.variables |= OIDC
    assert setting.check() == 1
    assert only(printed(), Result.FAILED)["title"] == "keys of tokens for events"
    described = {"issuer": "https://cluster"}
    setting.cluster.documents["/.well-known/openid-configuration"] = described
    setting.cluster.documents["/openid/v1/jwks"] = json.loads(Issuer().document())
    assert setting.check() == 0
    assert "1 can be read" in [each["detail"] for each in printed()]
    setting.variables["KUBECONFIG"] = "/nowhere"
    setting.check()
    assert "keys of tokens for events" in titles(printed(), Result.SKIPPED)


def test_keys_in_a_file_and_at_a_url_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_bytes(Issuer().document())
    google = {"GAR_AUDIENCE": "a", "GAR_SERVICE_ACCOUNT": "a@b.iam.gserviceaccount.com"}
    monkeypatch.setenv("https_proxy", f"http://{NOWHERE}")
    config = configuration(
        OIDC_KEYS=str(file), OIDC_ISSUER="https://issuer.example.com", **OIDC, **google
    )
    events, gar = check_command.token_keys(config, lambda: None)
    assert (events.result, events.detail) == ("ok", "1 can be read")
    assert (gar.title, gar.result) == ("keys of tokens for gar", "failed")
    (alone,) = check_command.token_keys(configuration(**google), lambda: None)
    assert alone == gar


def test_an_image_without_the_packages_of_tokens_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, name in ((http, "oidc"), (http, "key_sets"), (cli, "check_tokens")):
        monkeypatch.delitem(sys.modules, f"{package.__name__}.{name}", raising=False)
        monkeypatch.delattr(package, name, raising=False)
    monkeypatch.setitem(sys.modules, "jwt", None)
    (only_one,) = check_command.token_keys(configuration(**OIDC), lambda: None)
    assert (only_one.result, only_one.title) == ("failed", "keys of tokens")
    assert "docs/fips.md" in only_one.fix
