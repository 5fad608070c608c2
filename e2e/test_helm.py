"""The Helm chart: which values it refuses, what it renders, and releases on real nodes."""

import base64
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.harness.control_plane import ControlPlane
from e2e.harness.deployed import (
    ADDRESS,
    SERVICE_IMAGE,
    SLEEP_IMAGE,
    WEBHOOK,
    Deployed,
    ProductImages,
    way_of_holding,
)
from e2e.harness.helm import CHART, WAIT, Helm, HelmError, Kinds, Values, objects, of_kind
from e2e.harness.installation import NAME, SECRET, Installation, reference
from e2e.harness.kubernetes_api import ApiError, Json
from e2e.harness.nodes import Nodes
from e2e.harness.oci_images import File, Image, sleep_image
from e2e.harness.pods import Pods
from e2e.harness.registry import HOST, Registry
from e2e.harness.workspace import Workspace, wait_until
from image_puller.config import configuration
from image_puller.core import quota, rights
from image_puller.core.daemonset import OWNER_LABEL
from image_puller.values import quantity
from tests.support.rights import given, wanted

MakeHelm = Callable[..., Helm]
MakeRegistry = Callable[..., Registry]

# All values of the original's chart, none with its default.
OLD_VALUES: dict[str, Any] = {
    "deploymentName": "old-name",
    "deploymentAnnotations": {"reloader.stakater.com/auto": "true"},
    "serviceAccount": {"name": "old-account"},
    "updateStrategy": {"type": "RollingUpdate"},
    "priorityClassName": "system-cluster-critical",
    "resources": {"requests": {"cpu": "60m"}, "limits": {"memory": "300Mi"}},
    "tolerations": [{"operator": "Exists"}],
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "containerSecurityContext": {"runAsUser": 1234},
    "configMap": {
        "name": "old-config",
        "images": "one=nginx:1.29.1;\n  two=quay.io/org/two:latest;\n",
        "cachingIntervalHours": "2",
        "cachingMemoryRequest": "11Mi",
        "cachingMemoryLimit": "21Mi",
        "cachingCpuRequest": ".06",
        "cachingCpuLimit": 0.3,
        "daemonsetAnnotations": '{"a": "b"}',
        "nodeSelector": '{"disktype": "ssd"}',
        "affinity": {"nodeAffinity": {}},
        "tolerations": [{"key": "app", "operator": "Exists"}],
        "imagePullSecrets": "first; second",
    },
}

# Variables that the original does not have.
NEW_VARIABLES = {
    "imageGroups": {"gpu": {"images": {"cuda": "quay.io/org/cuda:12.4.1"}}},
    "holdBy": "volumes",
    "kipImage": "registry.example.com/sleep:1",
    "imageTagPolicies": "one=any",
    "keepTags": 3,
    "rolloutMinIntervalSeconds": 1_000_000,
    "rolloutMaxUnavailable": "10%",
    "rolloutSeedNodes": 3,
    "nodeStartupTaint": "image-puller.io/startup:NoSchedule",
    "nodeStartupTimeoutSeconds": 900,
    "priorityClassName": "low",
    "podLabels": {"team": "ci"},
    "podAnnotations": '{"example.com/owner": "ci"}',
    "podServiceAccount": "images",
    "runtimeClassName": "kata",
    "hostNetwork": True,
    "registryAliases": "a.example.com=b.example.com",
    "webhookRegistries": "nexus=nexus.example.com:5000",
    "webhookSecretsDir": "/somewhere/else",
    "askRegistries": "true",
    "verifyPushes": True,
    "registryCaFile": str(CHART / "Chart.yaml"),  # must exist
    "insecureRegistries": "registry.example.com:5000",
    "eventAuth": "oidc",
    "oidcAudience": "puller",
    "oidcIssuer": "https://issuer.example.com",
    "oidcKeys": "https://issuer.example.com/keys",
    "oidcSubjects": "system:serviceaccount:other:*",
    "garAudience": "google",
    "garServiceAccount": "push@project.iam.gserviceaccount.com",
    "readAuth": "none",
    "kSink": "http://sink.example.com/events",
    "port": 9090,
    "logLevel": "warning",
    "logFormat": "json",
}

EVERYTHING = {
    "replicas": 2,
    "image": {"digest": f"sha256:{'0' * 64}", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "pull"}],
    "serviceAccount": {"annotations": {"a": "b"}},
    "affinity": {"podAntiAffinity": {}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "podSecurityContext": {"fsGroup": 1},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    "service": {"type": "NodePort", "port": 8080, "annotations": {"a": "b"}},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "annotations": {"a": "b"},
        "host": "puller.example.com",
        "tlsSecret": "certificate",
    },
    "httpRoute": {
        "enabled": True,
        "annotations": {"a": "b"},
        "parentRefs": [{"name": "gateway", "namespace": "gateways"}],
        "hostnames": ["puller.example.com"],
    },
    "cronJob": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "job": "pullers",
        "runbookUrl": "https://git.example.com/image-puller/",
    },
    "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Images"}},
    "networkPolicy": {
        "enabled": True,
        "from": [{"namespaceSelector": {}}],
        "egress": [{"ports": [{"port": 443}]}],
    },
    "podDisruptionBudget": {"enabled": True},
    "resourceQuota": {"enabled": True, "hard": {"pods": 20, "limits.memory": "2Gi"}},
}

PUBLIC_STATUS: Values = {
    "ingress": {"enabled": True, "host": "puller.example.com", "status": True},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "status": True},
}

MATRIX: dict[str, Values] = {
    "defaults": {},
    "the original's values": OLD_VALUES,
    "every variable": {"configMap": NEW_VARIABLES},
    "every object": EVERYTHING,
    "every object and variable": EVERYTHING | {"configMap": NEW_VARIABLES},
    "as little as possible": {
        "nodes": {"watch": False},
        "secrets": {"existingSecret": "my-own"},
        "resources": {},
    },
    "any host of a Gateway": {
        "ingress": {"enabled": True, "host": "puller.example.com"},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]},
        "networkPolicy": {"enabled": False},
        "cronJob": {"enabled": True},
        "serviceMonitor": {"enabled": True},
    },
    "a status for pipelines": PUBLIC_STATUS,
    "no authentication": {
        "configMap": {"eventAuth": "none", "readAuth": "none"},
        "cronJob": {"enabled": True},
        "serviceMonitor": {"enabled": True},
    },
    "a rolling update": {
        "replicas": 2,
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
    },
    "Knative": {"knative": {"enabled": True}},
    "Knative with everything": {
        "configMap": NEW_VARIABLES,
        "knative": {
            "enabled": True,
            "public": True,
            "inMemoryChannel": True,
            "deadLetterSink": {"uri": "http://dead.example.com"},
            "sink": {"uri": "http://sink.example.com"},
            "minScale": 2,
        },
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
        "networkPolicy": {"from": [{"namespaceSelector": {}}]},
        "podSecurityContext": {"fsGroup": 1},
        "imagePullSecrets": [{"name": "pull"}],
        "extraEnv": [{"name": "A", "value": "b"}],
        "podLabels": {"a": "b"},
    },
    "Knative with little": {
        "knative": {"enabled": True, "public": True, "existingWebhooksSecret": "mine"},
        "nodes": {"watch": False},
        "secrets": {"existingSecret": "my-own"},
    },
}

ON_KNATIVE = [values for name, values in MATRIX.items() if name.startswith("Knative")]


@pytest.fixture
def offline(make_helm: MakeHelm) -> Helm:
    """Return helm without a cluster."""
    return make_helm()


@pytest.fixture
def helm(make_helm: MakeHelm, control_plane: ControlPlane, pods: Pods) -> Iterator[Helm]:
    """Return helm for the cluster's administrator, in a namespace that admits `restricted` pods.

    The release is removed after the test: nodes are small, and all releases have one address.
    """
    helm = make_helm(control_plane.kubeconfig(control_plane.admin_token), pods.namespace)
    yield helm
    with suppress(HelmError):
        helm.run("uninstall", "puller", *WAIT)
    wait_until(lambda: not pods.all(), "all pods gone")
    address = f"/apis/networking.k8s.io/v1/ipaddresses/{ADDRESS}"
    wait_until(lambda: not is_there(control_plane, address), f"{ADDRESS} free")


@pytest.fixture
def installation(control_plane: ControlPlane, namespace: str) -> Installation:
    """Return the namespace of the release, for what tests read there."""
    return Installation(control_plane, namespace, Path(), Path())


@pytest.fixture(scope="module")
def kinds(
    control_plane: ControlPlane, built_crds: Path, built_knative_manifests: Path
) -> Iterator[Kinds]:
    """Return the kinds of the API server, after adding those that the chart needs besides."""
    admin = control_plane.admin
    folder = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    there = {each["metadata"]["name"] for each in admin.get(folder)["items"]}
    knative = built_knative_manifests
    eventing = ("apiserversource", "broker", "eventpolicy", "pingsource", "sinkbindings", "trigger")
    files = [
        *built_crds.iterdir(),
        *(knative / "eventing" / "core" / "resources" / f"{kind}.yaml" for kind in eventing),
        knative / "serving" / "core" / "300-resources" / "service.yaml",
    ]
    shipped = [each for file in files for each in objects(file.read_text())]
    schemas = [schema for schema in shipped if schema["metadata"]["name"] not in there]
    for schema in schemas:
        admin.post(folder, schema)

    def is_served(schema: Json) -> bool:
        status = admin.get(f"{folder}/{schema['metadata']['name']}").get("status", {})
        conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
        return conditions.get("Established") == "True"

    for schema in schemas:
        wait_until(partial(is_served, schema), schema["metadata"]["name"])
    yield Kinds(admin)
    for schema in schemas:
        path = f"{folder}/{schema['metadata']['name']}"
        admin.delete(path)
        wait_until(partial(is_gone, control_plane, path), f"{path} gone")


# Refused values


@pytest.mark.parametrize(
    "image", [*configuration.ORIGINAL_IMAGES, "mirror:5000/eclipse/kubernetes-image-puller"]
)
def test_the_image_of_the_original_is_refused_and_the_error_names_ours(
    offline: Helm, image: str
) -> None:
    for values in (
        {"image": {"repository": image, "tag": "next"}},
        {"image": {"repository": image}},
    ):
        with pytest.raises(HelmError) as refusal:
            offline.template(values)
        assert f"image.repository: {image} is the original puller's image" in str(refusal.value)
        assert "repository: quay.io/kubernetes-image-puller/kubernetes-image-puller\n" in str(
            refusal.value
        )


@pytest.mark.parametrize("suffix", ["", ":next", ":1.1.2", f"@sha256:{'0' * 64}"])
@pytest.mark.parametrize("image", configuration.ORIGINAL_IMAGES)
def test_the_image_of_the_original_is_refused_as_sleep_image(
    offline: Helm, image: str, suffix: str
) -> None:
    with pytest.raises(HelmError, match=r"configMap\.kipImage: .* has no /sleep"):
        offline.template({"configMap": {"kipImage": image + suffix}})


@pytest.mark.parametrize("tag", ["next", "1.1.2"])
def test_a_tag_of_the_original_is_refused_for_our_image(offline: Helm, tag: str) -> None:
    with pytest.raises(HelmError, match=f"image.tag: {tag} .*\n.*this chart belongs to 0.1.0"):
        offline.template({"image": {"tag": tag}})
    offline.template({"image": {"tag": tag, "repository": "registry.example.com/puller"}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"configMap": {"keepTag": 3}}, "keepTag"),
        ({"configMap": {"cachingIntervalHours": "often"}}, "cachingIntervalHours"),
        ({"configMap": {"eventAuth": "nobody"}}, "eventAuth"),
        ({"replica": 2}, "replica"),
        ({"ingress": {"enabled": "yes"}}, "ingress/enabled"),
        ({"configMap": {"images": " "}}, "configMap.images: must be set"),
        ({"configMap": {"images": {}}}, "configMap.images: must be set"),
        ({"configMap": {"images": []}}, "configMap.images: must be set"),
        ({"configMap": {"images": "nginx:1.29.1"}}, "configMap/images"),
        ({"configMap": {"images": {"App": "nginx"}}}, "configMap/images"),
        ({"configMap": {"images": [{"name": "app"}]}}, "configMap/images"),
        ({"configMap": {"keepTags": 50}}, "configMap/keepTags': maximum: got 50, want 20"),
        ({"configMap": {"keepTags": "50"}}, "configMap/keepTags"),
        ({"configMap": {"cachingMemoryLimit": "10MB"}}, "configMap/cachingMemoryLimit"),
        (
            {"configMap": {"daemonsetAnnotations": {"image-puller.io/state": "{}"}}},
            "image-puller.io/state",
        ),
        ({"configMap": {"garAudience": "puller"}}, "configMap.garServiceAccount: set both"),
        ({"configMap": {"oidcKeys": "/keys"}}, "configMap.oidcIssuer: must be set where"),
        (
            {"configMap": {"verifyPushes": True, "askRegistries": "false"}},
            "configMap.verifyPushes: must not be true where configMap.askRegistries is false",
        ),
        ({"ingress": {"enabled": True}}, "--set ingress.host=puller.example.com"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs: name the Gateway"),
        (
            {**PUBLIC_STATUS, "configMap": {"readAuth": "none"}},
            "ingress.status: must not be true where configMap.readAuth is none",
        ),
        ({"configMap": {"eventAuth": "oidc"}}, "configMap.oidcAudience: must be set where"),
        (
            {"knative": {"enabled": True}, "cronJob": {"enabled": True}},
            "cronJob.enabled: must not be true together with knative.enabled",
        ),
        ({"resourceQuota": {"enabled": True}}, "resourceQuota.hard: must be set where"),
        ({"resourceQuota": {"enabled": True, "nodes": 3}}, "resourceQuota"),
    ],
)
def test_an_invalid_value_is_refused(offline: Helm, values: Values, message: str) -> None:
    with pytest.raises(HelmError) as refusal:
        offline.template(values)
    assert message in str(refusal.value)


# Rendered objects


@pytest.mark.parametrize(
    ("values", "paths"),
    [(MATRIX["any host of a Gateway"], ["/webhooks"]), (PUBLIC_STATUS, ["/webhooks", "/status"])],
)
def test_ingress_and_route_lead_to_the_status_only_on_request(
    offline: Helm, values: Values, paths: list[str]
) -> None:
    rendered = offline.template(values)
    (rule,) = of_kind("Ingress", rendered)["spec"]["rules"]
    assert [each["path"] for each in rule["http"]["paths"]] == paths
    (rule,) = of_kind("HTTPRoute", rendered)["spec"]["rules"]
    assert [each["path"]["value"] for each in rule["matches"]] == paths


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_lint_finds_no_problem(offline: Helm, values: Values) -> None:
    assert "0 chart(s) failed" in offline.lint(values)


def test_values_of_the_original_chart_configure_the_service(offline: Helm) -> None:
    rendered = offline.template(OLD_VALUES)
    found = of_kind("ConfigMap", rendered)
    read = configuration.from_environ(found["data"])
    assert found["metadata"]["name"] == "old-config"
    assert [(entry.name, entry.image) for entry in read.entries] == [
        ("one", "nginx:1.29.1"),
        ("two", "quay.io/org/two:latest"),
    ]
    assert read.caching_interval.total_seconds() == 7200
    assert read.resources == configuration.Resources(
        memory_request="11Mi", memory_limit="21Mi", cpu_request=".06", cpu_limit="0.3"
    )
    assert (read.daemonset_name, read.deployment_name) == ("old-name", "old-name")
    assert read.daemonset_annotations == {"a": "b"}
    assert read.node_selector == {"disktype": "ssd"}
    assert read.affinity == {"nodeAffinity": {}}
    assert read.tolerations == ({"key": "app", "operator": "Exists"},)
    assert read.image_pull_secrets == ("first", "second")


@pytest.mark.parametrize(
    ("images", "variable"),
    [
        ("b=nginx:1; a=quay.io/org/a", "b=nginx:1; a=quay.io/org/a"),
        ({"b": "nginx:1", "a": "quay.io/org/a"}, "a=quay.io/org/a;b=nginx:1"),
        ([{"name": "b", "image": "nginx:1"}, "a=quay.io/org/a"], "b=nginx:1;a=quay.io/org/a"),
    ],
    ids=["text", "map", "list"],
)
def test_images_are_a_text_a_map_or_a_list(offline: Helm, images: Any, variable: str) -> None:
    data = of_kind("ConfigMap", offline.template({"configMap": {"images": images}}))["data"]
    assert data["IMAGES"] == variable
    read = configuration.from_environ(data)
    assert {(each.name, each.image) for each in read.entries} == {
        ("a", "quay.io/org/a"),
        ("b", "nginx:1"),
    }


def test_values_of_the_original_chart_configure_the_deployment(offline: Helm) -> None:
    rendered = offline.template(OLD_VALUES)
    deployment = of_kind("Deployment", rendered)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert deployment["metadata"]["name"] == container["name"] == "old-name"
    assert deployment["metadata"]["annotations"] == OLD_VALUES["deploymentAnnotations"]
    assert deployment["spec"]["strategy"] == {"type": "RollingUpdate"}
    assert deployment["spec"]["selector"] == {"matchLabels": {"app": "old-name"}}
    assert pod["serviceAccountName"] == "old-account"
    assert pod["priorityClassName"] == OLD_VALUES["priorityClassName"]
    assert pod["tolerations"] == OLD_VALUES["tolerations"]
    assert pod["nodeSelector"] == OLD_VALUES["nodeSelector"]
    # helm merges values, so others keep their defaults.
    assert container["resources"]["requests"] == {"cpu": "60m", "memory": "96Mi"}
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "300Mi"}
    assert container["securityContext"]["runAsUser"] == 1234
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    names = {kind: of_kind(kind, rendered)["metadata"]["name"] for kind in ("Role", "RoleBinding")}
    assert set(names.values()) == {"old-account"}


def test_every_variable_configures_the_service(offline: Helm) -> None:
    values = {"configMap": OLD_VALUES["configMap"] | NEW_VARIABLES}
    rendered = offline.template(values)
    found = of_kind("ConfigMap", rendered)["data"]
    read = configuration.from_environ(found)
    known = yaml.safe_load((CHART / "values.yaml").read_text())["configMap"]
    # NAMESPACE, DEPLOYMENT_NAME and DAEMONSET_NAME are no values, and `name` is no variable.
    assert len(found) == len(known) + 2
    assert read.keep_tags == 3
    assert [group.group for group in read.groups] == ["gpu"]
    assert read.hold_by is configuration.HoldBy.VOLUMES
    assert read.rollout_min_interval.total_seconds() == 1_000_000
    assert read.event_auth is configuration.EventAuth.OIDC
    assert read.verify_pushes
    (container,) = of_kind("Deployment", rendered)["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": read.port}]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert str(read.webhook_secrets_dir) in mounts


def test_default_values_are_the_defaults_of_the_service(offline: Helm) -> None:
    data = of_kind("ConfigMap", offline.template({"configMap": {"images": "app=nginx:1"}}))["data"]
    chart = configuration.from_environ(data)
    own = configuration.from_environ({"IMAGES": "app=nginx:1", "NAMESPACE": "default"})
    bounds = {"resources": own.resources}
    differing = {
        name for name in own.__slots__ if getattr(chart, name) != getattr(own, name)
    } - set(bounds)
    assert not differing


STARTUP = {"nodeStartupTaint": "image-puller.io/startup=images:NoSchedule"}


@pytest.mark.parametrize(
    ("knative", "more"),
    [
        (False, {}),
        (False, {"kSink": "http://sink.example.com"}),
        (False, STARTUP),
        (True, {}),
        (True, {"kSink": "http://sink.example.com"}),
        (True, STARTUP),
    ],
)
def test_the_role_gives_exactly_the_rights_that_the_service_needs(
    offline: Helm, more: Values, *, knative: bool
) -> None:
    values = {
        "knative": {"enabled": knative},
        "configMap": {"imagePullSecrets": "first;second", **more},
    }
    rendered = offline.template(values)
    own = [
        each
        for each in rendered
        if each["kind"] in ("Role", "ClusterRole")
        if each["metadata"]["name"].endswith("k8s-image-puller")
    ]
    variables = of_kind("ConfigMap", rendered)["data"] | ({"K_SERVICE": NAME} if knative else {})
    assert given(own) == wanted(rights.needed(configuration.from_environ(variables)))


@pytest.mark.parametrize("watch", [False, True])
def test_with_a_startup_taint_the_service_sees_and_changes_nodes(
    offline: Helm, *, watch: bool
) -> None:
    rendered = offline.template({"nodes": {"watch": watch}, "configMap": STARTUP})
    (rule,) = of_kind("ClusterRole", rendered)["rules"]
    assert rule["verbs"] == ["list", "watch", "patch"]


def test_the_service_tolerates_the_startup_taint_so_that_somebody_removes_it(
    offline: Helm,
) -> None:
    mine = {"key": "app", "operator": "Exists"}
    rendered = offline.template({"tolerations": [mine], "configMap": STARTUP})
    config = configuration.from_environ(of_kind("ConfigMap", rendered)["data"])
    own = of_kind("Deployment", rendered)["spec"]["template"]["spec"]["tolerations"]
    assert own == [mine, *config.tolerations]


@pytest.mark.parametrize("more", [{}, {"nodes": {"watch": False}}])
def test_on_knative_a_startup_taint_needs_events_of_nodes_and_of_the_daemonsets(
    offline: Helm, more: Values
) -> None:
    rendered = offline.template({"knative": {"enabled": True}, "configMap": STARTUP, **more})
    sources = [each for each in rendered if each["kind"] == "ApiServerSource"]
    kinds = [each["spec"]["resources"][0]["kind"] for each in sources]
    assert sorted(kinds) == ["DaemonSet", "Node"]
    assert not [each for each in rendered if each["kind"] == "SinkBinding"]


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_the_pod_of_helm_test_has_what_the_service_has(offline: Helm, values: Values) -> None:
    rendered = offline.template(values)
    test = of_kind("Pod", rendered)["spec"]
    service = next(
        each["spec"]["template"]["spec"]
        for each in rendered
        if each["metadata"]["name"] == values.get("deploymentName", NAME)
        if "template" in each.get("spec", {})
    )
    (mine,), (its,) = test["containers"], service["containers"]
    for name in ("image", "imagePullPolicy", "envFrom", "volumeMounts", "securityContext"):
        assert mine.get(name) == its.get(name)
    set_by_knative = {"name": "K_SERVICE", "value": NAME}
    assert [each for each in mine.get("env", ()) if each != set_by_knative] == its.get("env", [])
    assert (set_by_knative in mine.get("env", ())) == ("Deployment" not in map(kind_of, rendered))
    for name in ("volumes", "serviceAccountName", "imagePullSecrets", "nodeSelector"):
        assert test.get(name) == service.get(name)


def kind_of(document: Json) -> str:
    """Return the kind of an object."""
    found: str = document["kind"]
    return found


def test_the_pod_of_helm_test_reaches_what_the_service_reaches(offline: Helm) -> None:
    values = {"networkPolicy": {"egress": [{"ports": [{"port": 443}]}]}}
    rendered = offline.template(values)
    policies = {
        each["metadata"]["name"]: each["spec"]
        for each in rendered
        if each["kind"] == "NetworkPolicy"
    }
    labels = of_kind("Pod", rendered)["metadata"]["labels"]
    policy = policies[f"{NAME}-test"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["egress"][1:] == policies[NAME]["egress"]


def test_a_changed_variable_replaces_the_pod(offline: Helm) -> None:
    def template(values: Values) -> Json:
        found: Json = of_kind("Deployment", offline.template(values))["spec"]["template"]
        return found

    assert template({}) == template({"service": {"port": 8080}})
    assert template({}) != template({"configMap": {"keepTags": 3}})


def test_alerts_are_about_the_release_and_name_their_pages(offline: Helm) -> None:
    url = "https://git.example.com/puller"
    values = {"deploymentName": "own", "prometheusRule": {"enabled": True, "runbookUrl": f"{url}/"}}
    rule = of_kind("PrometheusRule", offline.template(values))
    text = (CHART / "files" / "alerts.yaml").read_text()
    own = f'job="own", namespace="{rule["metadata"]["namespace"]}"'
    text = text.replace('job="kubernetes-image-puller"', own)
    text = text.replace("runbook_url: docs/", f"runbook_url: {url}/docs/")
    assert rule["spec"] == yaml.safe_load(text)


def test_on_knative_no_alert_fires_because_nothing_is_scraped(offline: Helm) -> None:
    values = {"knative": {"enabled": True}, "prometheusRule": {"enabled": True, "job": "a/b"}}
    (group,) = of_kind("PrometheusRule", offline.template(values))["spec"]["groups"]
    assert group["name"] == "image-puller"
    assert all('job="a/b"' in rule["expr"] for rule in group["rules"])


def test_dashboard_is_found_by_grafanas_sidecar(offline: Helm) -> None:
    values = {"dashboard": {"enabled": True, "namespace": "monitoring"}}
    rendered = offline.template(values)
    (found,) = (each for each in rendered if each["metadata"]["name"].endswith("-dashboard"))
    assert (found["kind"], found["metadata"]["namespace"]) == ("ConfigMap", "monitoring")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    file = (CHART / "files" / "dashboard.json").read_text()
    assert found["data"] == {"image-puller.json": file}


@pytest.mark.parametrize("text", ["", " ; ", "; ;", ";"])
def test_without_pull_secrets_the_role_allows_no_secret(offline: Helm, text: str) -> None:
    rendered = offline.template({"configMap": {"imagePullSecrets": text}})
    rules = of_kind("Role", rendered)["rules"]
    assert all("secrets" not in rule["resources"] for rule in rules)


def test_two_releases_fit_in_one_namespace(offline: Helm) -> None:
    one = offline.template(EVERYTHING)
    two = offline.template(EVERYTHING | OLD_VALUES)

    def names(documents: list[Json]) -> set[tuple[str, str]]:
        return {(each["kind"], each["metadata"]["name"]) for each in documents}

    assert len(names(one)) == len(one)
    assert names(one).isdisjoint(names(two))


def test_without_a_cluster_no_secret_is_generated(offline: Helm) -> None:
    text = offline.run("template", "puller", str(CHART))
    assert "Secret" not in {each["kind"] for each in objects(text)}


def test_a_secret_is_generated_for_a_namespace_that_does_not_exist_yet(
    make_helm: MakeHelm, control_plane: ControlPlane
) -> None:
    kubeconfig = control_plane.kubeconfig(control_plane.admin_token)
    rendered = make_helm(kubeconfig, "not-there-yet").template({}, "--dry-run=server")
    assert set(of_kind("Secret", rendered)["data"]) > {"events", "read", "harbor"}


def test_an_administrator_of_one_namespace_can_install(
    make_helm: MakeHelm, control_plane: ControlPlane, helm: Helm
) -> None:
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{helm.namespace}/rolebindings"
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": helm.namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}
    binding = {"metadata": {"name": "rules"}, "roleRef": role, "subjects": [subject]}
    control_plane.admin.post(base, binding)
    token = control_plane.token_for(helm.namespace, "default")
    own = make_helm(control_plane.kubeconfig(token), helm.namespace)
    with pytest.raises(HelmError, match="clusterroles"):
        own.install({"replicas": 0})
    own.run("uninstall", "puller", "--ignore-not-found")
    own.install({"replicas": 0, "nodes": {"watch": False}})


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_the_api_server_accepts_all_rendered_objects_and_their_pods(
    helm: Helm, kinds: Kinds, values: Values
) -> None:
    rendered = helm.template(values, "--dry-run=server")
    assert {"Service", "ConfigMap", "Role", "RoleBinding"} <= {each["kind"] for each in rendered}
    test = of_kind("Pod", rendered)
    for document in rendered:
        if document is not test:  # its service account must exist
            kinds.would_take(document, helm.namespace)
    # Admission looks at pods only, so create the pods of each workload as well.
    account = test["spec"]["serviceAccountName"]
    accounts = f"/api/v1/namespaces/{helm.namespace}/serviceaccounts"
    kinds.api.post(accounts, {"metadata": {"name": account}})
    kinds.would_take(test, helm.namespace)
    for template in filter(None, map(pod_template, rendered)):
        pod = template | {"apiVersion": "v1", "kind": "Pod"}
        pod["metadata"] = template["metadata"] | {"name": "would-be"}
        kinds.would_take(pod, helm.namespace)


def pod_template(document: Json) -> Json | None:
    """Return the pod template of an object, for a Knative Service as Knative would complete it."""
    if document["kind"] == "CronJob":
        document = document["spec"]["jobTemplate"]
    template: Json | None = document.get("spec", {}).get("template")
    if document.get("apiVersion") == "serving.knative.dev/v1" and template is not None:
        del template["spec"]["containerConcurrency"], template["spec"]["timeoutSeconds"]
        (container,) = template["spec"]["containers"]
        for probe in ("readinessProbe", "livenessProbe"):
            container[probe]["httpGet"]["port"] = container["ports"][0]["containerPort"]
    return template


def test_the_api_server_refuses_an_unknown_field(helm: Helm, kinds: Kinds) -> None:
    everything, on_knative = helm.template(EVERYTHING), helm.template(MATRIX["Knative"])
    # Not kinds of Eventing: their schemas accept all fields, and Knative's webhook checks them.
    for document in (
        *(
            of_kind(kind, everything)
            for kind in ("Deployment", "ServiceMonitor", "PrometheusRule", "HTTPRoute")
        ),
        of_kind("Service", on_knative),
    ):
        document["spec"]["misspelt"] = 1
        with pytest.raises(ApiError, match=r'unknown field "spec\.misspelt"'):
            kinds.would_take(document, helm.namespace)


# On Knative


@pytest.mark.parametrize("values", ON_KNATIVE)
def test_on_knative_no_deployment_is_rendered_nor_what_belongs_to_one(
    helm: Helm, values: Values
) -> None:
    rendered = helm.template(values, "--dry-run=server")
    kinds = {(each["apiVersion"], each["kind"]) for each in rendered}
    assert kinds.isdisjoint({("apps/v1", "Deployment"), ("v1", "Service")})
    (rule,) = (
        rule
        for role in rendered
        if role["kind"] == "Role"
        for rule in role["rules"]
        if rule["apiGroups"] == ["serving.knative.dev"]
    )
    assert rule == {
        "apiGroups": ["serving.knative.dev"],
        "resources": ["services"],
        "resourceNames": [NAME],
        "verbs": ["get"],
    }


def test_the_public_service_mounts_only_secrets_of_webhooks(helm: Helm) -> None:
    rendered = helm.template({"knative": {"enabled": True, "public": True}}, "--dry-run=server")
    secrets = {each["metadata"]["name"]: each for each in rendered if each["kind"] == "Secret"}
    mounted = {
        each["metadata"]["name"]: volume["secret"]["secretName"]
        for each in rendered
        if each["apiVersion"] == "serving.knative.dev/v1"
        for volume in each["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "secrets"
    }
    assert set(secrets[mounted[NAME]]["data"]) == {"events", "read"}
    webhooks = set(secrets[mounted[f"{NAME}-webhooks"]]["data"])
    assert "harbor" in webhooks
    assert webhooks.isdisjoint({"events", "read"})


@pytest.mark.parametrize(
    ("variables", "inside", "audience"),
    [({}, "none", None), ({"eventAuth": "oidc", "oidcAudience": "puller"}, "oidc", "puller")],
)
def test_event_auth_of_both_knative_services_is_as_in_the_values(
    offline: Helm, variables: Json, inside: str, audience: str | None
) -> None:
    values = {"knative": {"enabled": True, "public": True}, "configMap": variables}
    rendered = offline.template(values)
    auth = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["containers"][0]["env"]
        for each in rendered
        if each["apiVersion"] == "serving.knative.dev/v1"
    }
    assert auth == {
        NAME: [{"name": "EVENT_AUTH", "value": inside}],
        f"{NAME}-webhooks": [{"name": "EVENT_AUTH", "value": "token"}],
    }
    triggers = [each for each in rendered if each["kind"] == "Trigger"]
    assert {each["spec"]["subscriber"].get("audience") for each in triggers} == {audience}
    assert any(each["kind"] == "EventPolicy" for each in rendered) == (audience is not None)


FOLDER = Path(__file__).parents[1] / "knative" / "base"
CREDENTIALS = "registry-credentials"  # the name in the folder for the secret in IMAGE_PULL_SECRETS


def test_on_knative_the_chart_renders_the_objects_of_the_knative_folder(offline: Helm) -> None:
    files = [*FOLDER.glob("*.yaml"), *FOLDER.glob("service/*.yaml")]
    documents = [each for file in files for each in objects(file.read_text()) if "metadata" in each]
    shipped = comparable([each for each in documents if each["kind"] != "Namespace"])
    values = {"knative": {"enabled": True}, "configMap": {"imagePullSecrets": CREDENTIALS}}
    rendered = comparable(offline.template(values))
    # kustomize generates this ConfigMap, with a hash in its name; here an annotation has the hash.
    del rendered["ConfigMap k8s-image-puller"], rendered[f"Pod {NAME}-test"]
    pod = rendered[f"Service {NAME}"]["spec"]["template"]
    del pod["metadata"]["annotations"]["checksum/config"]
    del pod["spec"]["containers"][0]["imagePullPolicy"]
    pod["spec"]["volumes"][0]["secret"]["secretName"] = "image-puller-secrets"
    # Several releases fit in one namespace, so the chart's policy is for its own DaemonSet.
    any_daemonset = {"matchExpressions": [{"key": OWNER_LABEL, "operator": "Exists"}]}
    rendered[f"NetworkPolicy {NAME}-daemonset"]["spec"]["podSelector"] = any_daemonset
    assert rendered == shipped


PLAIN = Path(__file__).parents[1] / "deploy" / "kubernetes"


def test_the_chart_renders_the_pod_and_the_network_policy_of_the_plain_manifests(
    offline: Helm,
) -> None:
    rendered = offline.template({"secrets": {"existingSecret": "image-puller-secrets"}})
    shipped = [each for file in PLAIN.glob("*.yaml") for each in objects(file.read_text())]
    pods = []
    for documents in (rendered, shipped):
        pod = of_kind("Deployment", documents)["spec"]["template"]["spec"]
        for name in ("name", "imagePullPolicy", "securityContext"):
            pod["containers"][0].pop(name, None)
        pods.append(pod)
    assert pods[0] == pods[1]
    policies = [
        {
            each["metadata"]["name"]: each["spec"]["ingress"]
            for each in documents
            if each["kind"] == "NetworkPolicy" and "ingress" in each["spec"]
        }
        for documents in (rendered, shipped)
    ]
    assert policies[0] == policies[1] == {NAME: [{"ports": [{"port": "http"}]}]}


def test_network_policies_can_be_turned_off(offline: Helm) -> None:
    for knative in (False, True):
        values = {"networkPolicy": {"enabled": False}, "knative": {"enabled": knative}}
        kinds = {each["kind"] for each in offline.template(values)}
        assert "NetworkPolicy" not in kinds


def test_on_knative_both_services_are_reached_at_the_queue_proxy_only(offline: Helm) -> None:
    rendered = offline.template({"knative": {"enabled": True, "public": True}})
    (policy,) = (
        each["spec"]
        for each in rendered
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == NAME
    )
    (expression,) = policy["podSelector"]["matchExpressions"]
    services = [each for each in rendered if each["apiVersion"] == "serving.knative.dev/v1"]
    labels = [each["spec"]["template"]["metadata"]["labels"]["app"] for each in services]
    assert sorted(expression["values"]) == sorted(labels)
    (rule,) = policy["ingress"]
    assert {port["port"] for port in rule["ports"]} == {8012, 8013, 8022, 8112, 9090, 9091}


def comparable(documents: list[Json]) -> dict[str, Json]:
    """Return objects by kind and name, without fields that depend on release and namespace."""
    found = {}
    for document in documents:
        metadata = document["metadata"]
        metadata["labels"] = metadata.get("labels", {}).get("networking.knative.dev/visibility")
        metadata.pop("namespace", None)
        for named in (metadata, document.get("roleRef", {})):
            if document["kind"].startswith("Cluster"):
                named.update(name=named.get("name", "").removeprefix("default-"))
        for subject in document.get("subjects", ()):
            subject.pop("namespace", None)
        found[f"{document['kind']} {metadata['name']}"] = document
    return found


# The quota


@pytest.mark.parametrize("nodes", [1, 250])
def test_the_quota_is_the_one_that_the_service_prints(offline: Helm, nodes: int) -> None:
    rendered = offline.template(EVERYTHING | {"dashboard": {}})
    read = configuration.from_environ(of_kind("ConfigMap", rendered)["data"])
    hard = quota.manifest(read, nodes)["spec"]["hard"]
    values = EVERYTHING | {"resourceQuota": {"enabled": True, "hard": hard}}
    assert of_kind("ResourceQuota", offline.template(values))["spec"] == {"hard": hard}


def test_amounts_of_the_quota_may_be_numbers(offline: Helm) -> None:
    hard = {"pods": 20, "limits.memory": 2_147_483_648, "limits.cpu": 0.5}
    rendered = offline.template({"resourceQuota": {"enabled": True, "hard": hard}})
    assert of_kind("ResourceQuota", rendered)["spec"]["hard"] == {
        "pods": "20",
        "limits.memory": "2147483648",
        "limits.cpu": "0.5",
    }


def test_a_quota_without_amounts_is_refused_with_the_command_that_prints_them(
    make_helm: MakeHelm,
) -> None:
    values = {"resourceQuota": {"enabled": True}, "deploymentName": "puller"}
    with pytest.raises(HelmError) as refusal:
        make_helm(namespace="images").template(values)
    command = "kubectl exec -n images deploy/puller -- image-puller render --quota 10"
    assert command in str(refusal.value)


def quota_of_all_pods(helm: Helm, values: Values, nodes: int) -> dict[str, str]:
    """Return the amounts for the DaemonSet's pods and for those of the chart itself.

    These are one of the Deployment, one of the CronJob and one of `helm test`. The last two request
    the same amounts.
    """
    rendered = helm.template(values)
    read = configuration.from_environ(of_kind("ConfigMap", rendered)["data"])
    daemonset = quota.manifest(read, nodes)["spec"]["hard"]
    total = {resource: quantity.parse(amount) for resource, amount in daemonset.items()}
    service = of_kind("Deployment", rendered)["spec"]["template"]
    test = of_kind("Pod", rendered)
    for pod in (service, test, test):
        total["pods"] += 1
        (container,) = pod["spec"]["containers"]
        for bound, amounts in container["resources"].items():
            for resource, amount in amounts.items():
                total[f"{bound}.{resource}"] += quantity.parse(amount)
    return {resource: quantity.render(amount) for resource, amount in total.items()}


# Releases on nodes


@pytest.fixture(scope="module")
def registry(make_registry: MakeRegistry, product_images: ProductImages) -> Iterator[Registry]:
    """Run a registry with the product's own images, and the service as its webhook."""
    with make_registry([WEBHOOK]) as registry:
        product_images.push(registry)
        yield registry


def hold_by() -> Json:
    """Return the value for the way of holding that the run asks for, or none."""
    return {"holdBy": way_of_holding().get("HOLD_BY", "")}


def values_of_a_release(images: str, **more: Any) -> Json:
    """Return values for a release on the nodes of the tests."""
    repository, _, tag = SERVICE_IMAGE.rpartition(":")
    variables = {
        "images": images,
        "kipImage": SLEEP_IMAGE,
        "rolloutMinIntervalSeconds": 0,
        **hold_by(),
    }
    return {
        "image": {"repository": repository, "tag": tag},
        "configMap": variables | more.pop("configMap", {}),
        "service": {"clusterIP": ADDRESS},
        **more,
    }


def with_content(workspace: Workspace, content: str) -> Image:
    """Return an image of a container that runs, with this content."""
    image = sleep_image(workspace)
    return Image(
        files={**image.files, "content": File(content.encode())},
        entrypoint=image.entrypoint,
        user=image.user,
    )


def secret(installation: Installation, name: str = f"{NAME}-secrets") -> dict[str, str]:
    """Return the data of a Secret."""
    path = f"/api/v1/namespaces/{installation.namespace}/secrets/{name}"
    data = installation.control_plane.admin.get(path)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def left_over(installation: Installation, documents: list[Json]) -> list[str]:
    """Return the paths of the objects that exist."""
    kinds = Kinds(installation.control_plane.admin)
    paths = [kinds.path(document, installation.namespace) for document in documents]
    return [path for path in paths if is_there(installation.control_plane, path)]


def is_there(control_plane: ControlPlane, path: str) -> bool:
    """Return whether there is an object at the path."""
    try:
        control_plane.admin.get(path)
    except ApiError:
        return False
    return True


def is_gone(control_plane: ControlPlane, path: str) -> bool:
    """Return whether there is no object at the path."""
    return not is_there(control_plane, path)


def log(installation: Installation) -> str:
    """Return the log of the service."""
    path = f"/api/v1/namespaces/{installation.namespace}/pods"
    admin = installation.control_plane.admin
    (pod,) = admin.get(path, labelSelector=f"app={NAME}")["items"]
    return admin.text(f"{path}/{pod['metadata']['name']}/log")


def test_a_push_reaches_the_nodes_and_uninstalling_leaves_nothing(
    nodes: Nodes, registry: Registry, helm: Helm, installation: Installation, workspace: Workspace
) -> None:
    admin = installation.control_plane.admin
    own = {"metadata": {"name": "own"}, "stringData": {"distribution": SECRET, "read": SECRET}}
    admin.post(f"/api/v1/namespaces/{helm.namespace}/secrets", own)
    configured, tracked = reference("helm/app", "1.0.0"), reference("helm/app", "1.1.0")
    registry.push_image("helm/app", "1.0.0", with_content(workspace, "one"))
    values = values_of_a_release(f"app={configured}", secrets={"existingSecret": "own"})
    hard = quota_of_all_pods(helm, values, len(nodes.names))
    notes = helm.install(values | {"resourceQuota": {"enabled": True, "hard": hard}})
    assert f"http://{NAME}.{helm.namespace}/webhooks/distribution\n" in notes
    puller = Deployed(installation)
    puller.wait_until_held(configured, *nodes.names)
    digest = registry.push_image("helm/app", "1.1.0", with_content(workspace, "two"))
    wait_until(
        lambda: all(node.images().get(tracked) == digest for node in nodes), "the push on nodes"
    )
    puller.wait_until_held(tracked, *nodes.names)
    assert "forbidden" not in log(installation)
    documents = helm.manifest()
    helm.run("uninstall", "puller", *WAIT)
    assert left_over(installation, documents) == []
    wait_until(lambda: installation.daemonset() is None, "the DaemonSet gone with its owner")


def test_upgrade_and_rollback_keep_secrets_and_pods(
    nodes: Nodes, registry: Registry, helm: Helm, installation: Installation, workspace: Workspace
) -> None:
    configured = reference("helm/calm", "1.0.0")
    registry.push_image("helm/calm", "1.0.0", with_content(workspace, "calm"))
    helm.install(values_of_a_release(f"app={configured}"))
    generated = secret(installation)
    assert len(set(generated.values())) == len(generated)
    assert all(len(value) == 40 for value in generated.values())
    puller = Deployed(installation, token=generated["read"])
    puller.wait_until_held(configured, *nodes.names)
    before, variables = puller.pods(), data(installation)

    # A user rotates a secret, with two secrets in one file meanwhile.
    rotated = {"quay": "rotated", "harbor.new": "the next one"}
    path = f"/api/v1/namespaces/{helm.namespace}/secrets/{NAME}-secrets"
    installation.control_plane.admin.patch(path, {"stringData": rotated})
    changed = {"configMap": {"cachingIntervalHours": 2}, "podLabels": {"changed": "yes"}}
    helm.upgrade(changed, "--reset-then-reuse-values")
    assert data(installation) == variables | {"CACHING_INTERVAL_HOURS": "2"}
    assert secret(installation) == generated | rotated
    puller.wait_until_held(configured, *nodes.names)

    helm.run("rollback", "puller", "1", *WAIT)
    assert data(installation) == variables
    assert secret(installation) == generated | rotated | {"quay": generated["quay"]}
    puller.wait_until_held(configured, *nodes.names)
    assert puller.pods() == before


def test_helm_test_fails_with_the_fix_where_the_service_lacks_something(
    nodes: Nodes, registry: Registry, helm: Helm, installation: Installation, workspace: Workspace
) -> None:
    configured = reference("helm/tested", "1.0.0")
    registry.push_image("helm/tested", "1.0.0", with_content(workspace, "tested"))
    nowhere = f"{HOST.partition(':')[0]}:1"
    variables = {
        "insecureRegistries": f"{HOST};{nowhere}",
        "imageGroups": {"none": {"images": {"app": configured}, "nodeSelector": {"none": "yes"}}},
    }
    values = values_of_a_release(f"app={configured}", configMap=variables)
    helm.install(values)
    puller = Deployed(installation, token=secret(installation)["read"])
    puller.wait_until_held(configured, *nodes.names)
    helm.run("test", "puller", "--timeout=170s")

    admin = installation.control_plane.admin
    role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{helm.namespace}/roles/k8s-image-puller"
    complete = admin.get(role)["rules"]
    lacking = [rule for rule in complete if "patch" not in rule["verbs"]]
    admin.patch(role, {"rules": [*lacking, complete[0] | {"verbs": ["get", "delete"]}]})
    assert "rights: the service may not patch daemonsets/" in failed_test(helm, installation)
    admin.patch(role, {"rules": complete})

    bad = values["configMap"] | {"images": f"app={configured};gone={nowhere}/org/app:1"}
    helm.upgrade(values | {"configMap": bad})
    text = failed_test(helm, installation)
    assert f"registry {nowhere}: registry {nowhere} can't be asked" in text
    assert "1 failed, " in text
    admin.delete(f"/api/v1/namespaces/{helm.namespace}/pods/{NAME}-test")


def failed_test(helm: Helm, installation: Installation) -> str:
    """Run `helm test`, which must fail, and return the log of its pod."""
    with pytest.raises(HelmError):
        helm.run("test", "puller", "--timeout=170s")
    path = f"/api/v1/namespaces/{helm.namespace}/pods/{NAME}-test/log"
    return installation.control_plane.admin.text(path)


def data(installation: Installation) -> dict[str, str]:
    """Return the variables of the service."""
    path = f"/api/v1/namespaces/{installation.namespace}/configmaps/k8s-image-puller"
    found: dict[str, str] = installation.control_plane.admin.get(path)["data"]
    return found


def test_the_cron_job_triggers_a_check(
    nodes: Nodes, registry: Registry, helm: Helm, installation: Installation, workspace: Workspace
) -> None:
    configured = reference("helm/checked", "1.0.0")
    registry.push_image("helm/checked", "1.0.0", with_content(workspace, "checked"))
    values = values_of_a_release(f"app={configured}", cronJob={"enabled": True})
    helm.install(values | {"networkPolicy": {"from": [{"podSelector": {}}]}})
    puller = Deployed(installation, token=secret(installation)["read"])
    puller.wait_until_held(configured, *nodes.names)
    admin = installation.control_plane.admin
    admin.delete(installation.path)
    wait_until(lambda: installation.daemonset() is None, "the DaemonSet gone")
    cron_job = of_kind("CronJob", helm.manifest())
    jobs = f"/apis/batch/v1/namespaces/{helm.namespace}/jobs"
    admin.post(jobs, {"metadata": {"name": "now"}, "spec": cron_job["spec"]["jobTemplate"]["spec"]})
    wait_until(lambda: admin.get(f"{jobs}/now")["status"].get("succeeded"), "the job done")
    wait_until(lambda: installation.daemonset() is not None, "the DaemonSet there again")
    admin.delete(f"{jobs}/now", propagationPolicy="Background")


@pytest.mark.parametrize(
    "request_",
    [
        f"patch apps/daemonsets {NAME}",
        "list apps/daemonsets",
        f"get apps/deployments {NAME}",
        "get /secrets first",
        "get /secrets second",
        "list /pods",
        "list /nodes in no namespace",
    ],
)
def test_the_role_allows_all_that_the_service_does(
    control_plane: ControlPlane, idle_release: str, request_: str
) -> None:
    wait_until(lambda: may(control_plane, idle_release, request_), request_)


@pytest.mark.parametrize(
    "request_",
    [
        "patch apps/daemonsets another",
        "delete apps/daemonsets another",
        f"patch apps/deployments {NAME}",
        f"get /secrets {NAME}-secrets",
        "list /secrets",
        "delete /pods any",
        "list /pods in no namespace",
        "get /secrets first in no namespace",
        "patch /nodes node-1 in no namespace",
    ],
)
def test_the_role_allows_nothing_else(
    control_plane: ControlPlane, idle_release: str, request_: str
) -> None:
    assert not may(control_plane, idle_release, request_)


def may(control_plane: ControlPlane, namespace: str, request: str) -> bool:
    """Return whether RBAC allows the service's account to do this."""
    verb, resource, *name = request.removesuffix(" in no namespace").split()
    group, _, plural = resource.partition("/")
    asked = {"verb": verb, "group": group, "resource": plural, "name": "".join(name)}
    if not request.endswith("in no namespace"):
        asked["namespace"] = namespace
    user = f"system:serviceaccount:{namespace}:k8s-image-puller"
    allowed: bool = control_plane.admin.post(
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        {"spec": {"user": user, "resourceAttributes": asked}},
    )["status"]["allowed"]
    return allowed


@pytest.fixture(scope="module")
def idle_release(make_helm: MakeHelm, control_plane: ControlPlane) -> Iterator[str]:
    """Install a release without pods, and return its namespace."""
    name = "e2e-helm-rights"
    admin = control_plane.admin
    admin.post("/api/v1/namespaces", {"metadata": {"name": name}})
    helm = make_helm(control_plane.kubeconfig(control_plane.admin_token), name)
    helm.install({"replicas": 0, "configMap": {"imagePullSecrets": "first;second"}})
    yield name
    helm.run("uninstall", "puller")
    admin.delete(f"/api/v1/namespaces/{name}")


# The upgrade from the original

ORIGINAL = Path(__file__).parent / "original"
ORIGINAL_LABELS = "test=daemonset-test"


def upgrade_from_original(helm: Helm, images: str) -> None:
    """Upgrade the original's release to this chart, as docs/moving-over.md describes."""
    repository, _, tag = SERVICE_IMAGE.rpartition(":")
    image = {"repository": repository, "tag": tag}
    variables = {"kipImage": SLEEP_IMAGE, "images": images, **hold_by()}
    values = {"image": image, "configMap": variables}
    helm.upgrade(values | {"service": {"clusterIP": ADDRESS}}, "--reset-then-reuse-values")


@pytest.fixture
def original(
    registry: Registry, helm: Helm, installation: Installation, product_images: ProductImages
) -> Callable[[str], None]:
    """Return a function that installs a stand-in for the original in a namespace for its pods."""
    registry.push_layout("eclipse/kubernetes-image-puller", "next", product_images.service)
    admin = installation.control_plane.admin
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    admin.patch(f"/api/v1/namespaces/{helm.namespace}", {"metadata": {"labels": labels}})

    def install(entries: str) -> None:
        image = {"repository": f"{HOST}/eclipse/kubernetes-image-puller"}
        helm.install({"image": image, "configMap": {"images": entries}}, chart=ORIGINAL)

    return install


def original_pods(installation: Installation) -> list[Json]:
    """Return the pods of the original's DaemonSet."""
    path = f"/api/v1/namespaces/{installation.namespace}/pods"
    pods: list[Json] = installation.control_plane.admin.get(path, labelSelector=ORIGINAL_LABELS)[
        "items"
    ]
    return pods


def test_an_upgrade_from_the_original_pulls_no_image_again_and_removes_its_objects(
    *,
    nodes: Nodes,
    registry: Registry,
    helm: Helm,
    original: Callable[[str], None],
    installation: Installation,
    workspace: Workspace,
    product_images: ProductImages,
) -> None:
    admin = installation.control_plane.admin
    names = [reference("upgrade/stable", "1.0.0"), reference("upgrade/mutable", "latest")]
    digests = [
        registry.push_image("upgrade/stable", "1.0.0", with_content(workspace, "stable")),
        registry.push_image("upgrade/mutable", "latest", with_content(workspace, "mutable")),
    ]
    entries = f"stable={names[0]};mutable={names[1]};"
    original(entries)
    wait_until(lambda: "ready" in log(installation), "the original's pods ready")
    old, old_objects = installation.daemonset(), helm.manifest()
    assert old is not None
    deployment = of_kind("Deployment", old_objects)
    path = Kinds(admin).path(deployment, helm.namespace)
    owner = admin.get(path)["metadata"]["uid"]
    before = registry.blob_fetches()

    with pytest.raises(HelmError, match="use --reset-then-reuse-values: --reuse-values keeps"):
        helm.upgrade({}, "--reuse-values")
    upgrade_from_original(helm, entries)
    puller = Deployed(installation, token=secret(installation)["read"])
    for name, digest in zip(names, digests, strict=True):
        puller.wait_until_held(name, *nodes.names)
        assert {node.images()[name] for node in nodes} == {digest}
    # Only the sleep image is new on the nodes.
    layout = product_images.sleep / "blobs" / "sha256"
    sleep = {f"sha256:{blob.name}" for blob in layout.iterdir()}
    assert set(registry.blob_fetches() - before) <= sleep

    new = installation.daemonset()
    assert new is not None
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert admin.get(path)["metadata"]["uid"] == owner
    assert [each["uid"] for each in new["metadata"]["ownerReferences"]] == [owner]
    assert "test" not in new["spec"]["selector"]["matchLabels"]
    assert original_pods(installation) == []
    now = {(each["kind"], each["metadata"]["name"]) for each in helm.manifest()}
    assert {(each["kind"], each["metadata"]["name"]) for each in old_objects} <= now

    helm.run("rollback", "puller", "1", *WAIT)
    wait_until(
        lambda: len(original_pods(installation)) == len(nodes.names),
        "the pods of the original again",
    )


def test_an_upgrade_removes_the_pods_of_an_original_that_was_killed(
    nodes: Nodes,
    registry: Registry,
    helm: Helm,
    original: Callable[[str], None],
    installation: Installation,
    workspace: Workspace,
) -> None:
    there, missing = reference("stuck/there", "1.0.0"), reference("stuck/missing", "1.0.0")
    image = with_content(workspace, "there")
    registry.push_image("stuck/there", "1.0.0", image)
    # It waits for an image that does not exist, and so it will be killed.
    original(f"there={there};missing={missing}")
    wait_until(
        lambda: len(original_pods(installation)) == len(nodes.names), "the pods of the original"
    )
    wait_until(
        lambda: all(there in node.images() for node in nodes), "the existing image on all nodes"
    )
    before = registry.blob_fetches()
    old = installation.daemonset()
    assert old is not None
    upgrade_from_original(helm, f"there={there};missing={missing}")
    puller = Deployed(installation, token=secret(installation)["read"])
    puller.wait_until_held(there, *nodes.names)
    assert original_pods(installation) == []
    new = installation.daemonset()
    assert new is not None
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert not set(registry.blob_fetches() - before) & set(image.layer_digests)
