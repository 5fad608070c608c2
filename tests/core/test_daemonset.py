"""The DaemonSet's manifest: its template, its hashes, and what its pods ask for."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller.config.configuration import Config
from image_puller.config.entries import INSTALL_CONTAINER
from image_puller.core import daemonset, isolation
from image_puller.core.changes import Change, TrackTag
from image_puller.core.daemonset import DIGESTS, PULLED_AGAIN, STATE, Manifest, Owner, Platform
from image_puller.core.state import Refused, Seeding
from image_puller.errors import ConfigurationError
from image_puller.values import quantity
from tests.support.building import NOON, at, configuration, deletion, digest, push, state_of

SLEEP = "mirror.local/sleep:1.0.0"
UNKNOWN = Platform()
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
COMMON_REQUESTS = {"memory": "10Mi", "cpu": ".05"}
COMMON_LIMITS = {"memory": "20Mi", "cpu": ".2"}
COMMON = {
    "workingDir": "/",
    "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}],
    "resources": {"requests": COMMON_REQUESTS, "limits": COMMON_LIMITS},
    "securityContext": RESTRICTED,
    "volumeMounts": [{"name": "install-sleep", "mountPath": "/kip"}],
}


def template(config: Config, *changes: Change, platform: Platform = UNKNOWN) -> Manifest:
    return daemonset.template(config, state_of(config, *changes), platform)


def containers(config: Config, *changes: Change) -> list[Manifest]:
    """Return the containers of the images, without the install container."""
    found: list[Manifest] = template(config, *changes)["spec"]["containers"]
    return found[1:]


def images(config: Config, *changes: Change) -> list[str]:
    return [container["image"] for container in containers(config, *changes)]


def pull_policy_of(config: Config, image: str, *changes: Change) -> str:
    """Return the pull policy of the container of an image."""
    (found,) = (each for each in containers(config, *changes) if each["image"] == image)
    return str(found["imagePullPolicy"])


def digests(config: Config, *changes: Change) -> dict[str, str]:
    """Return the expected digests of the template's annotation, by container."""
    text = template(config, *changes)["metadata"]["annotations"][DIGESTS]
    expected: dict[str, str] = json.loads(text)
    return expected


def test_the_whole_manifest() -> None:
    config = configuration(KIP_IMAGE=SLEEP)
    owner = Owner(api_version="apps/v1", kind="Deployment", name="puller", uid="42")
    state = state_of(config, push("1.2.4", 1))
    name = daemonset.container_name(config.entries[0], "1.2.4")
    labels = {
        "app.kubernetes.io/name": "image-puller",
        "image-puller.io/daemonset": "kubernetes-image-puller",
    }

    assert daemonset.manifest(config, state, Platform(owner=owner), "the state") == {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": "kubernetes-image-puller",
            "namespace": "k8s-image-puller",
            "labels": {
                **labels,
                "app.kubernetes.io/managed-by": "kubernetes-image-puller",
                "image-puller.io/installation": "kubernetes-image-puller",
            },
            "annotations": {"image-puller.io/state": "the state"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "puller", "uid": "42"}
            ],
        },
        "spec": {
            "selector": {"matchLabels": labels},
            "revisionHistoryLimit": 2,
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0},
            },
            "template": {
                "metadata": {
                    "labels": {**labels, "sidecar.istio.io/inject": "false"},
                    "annotations": {
                        "image-puller.io/digests": f'{{"{name}":"{digest(1)}"}}',
                        "sidecar.istio.io/inject": "false",
                    },
                },
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": 1,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "seccompProfile": {"type": "RuntimeDefault"},
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                    },
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "volumes": [{"name": "install-sleep", "emptyDir": {"sizeLimit": "1Mi"}}],
                    "containers": [
                        {
                            "name": "install-sleep",
                            "image": SLEEP,
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["/sleep", "--install", "/kip/sleep", "720h"],
                            "lifecycle": {
                                "postStart": {
                                    "exec": {"command": ["/sleep", "--install", "/kip/sleep"]}
                                }
                            },
                            **COMMON,
                        },
                        {
                            "name": name,
                            "image": "quay.io/org/app:1.2.4",
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["/kip/sleep"],
                            "args": ["720h"],
                            **COMMON,
                        },
                        {
                            "name": "app",
                            "image": "quay.io/org/app:1.2.3",
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["/kip/sleep"],
                            "args": ["720h"],
                            **COMMON,
                        },
                    ],
                },
            },
        },
    }


def test_containers_are_ordered_by_name_and_not_as_in_images() -> None:
    config = configuration(
        IMAGES="web=nginx:1.2.3;app=quay.io/org/app:1.2.3;db=bitnami/redis:7.0.0"
    )

    assert [(each["name"], each["image"]) for each in containers(config)] == [
        ("app", "quay.io/org/app:1.2.3"),
        ("db", "docker.io/bitnami/redis:7.0.0"),
        ("web", "docker.io/library/nginx:1.2.3"),
    ]


def test_containers_of_a_small_pod_end_at_once() -> None:
    config = configuration(IMAGES=";".join(f"app-{n}=nginx:1.{n}" for n in range(10)))
    spec = template(config)["spec"]

    installer, *others = spec["containers"]
    assert installer["command"] == ["/sleep", "--install", "/kip/sleep", "720h"]
    assert [each["args"] for each in others] == [["720h"]] * 10
    assert spec["terminationGracePeriodSeconds"] == 1  # a kubelet waits two seconds at least


@pytest.mark.parametrize(
    ("number", "second", "last", "grace"),
    [
        (11, "524ms", "764ms", 10),
        (30, "562ms", "2360ms", 12),
        (50, "600ms", "5500ms", 15),
        (300, "600ms", "30500ms", 40),
    ],
)
def test_containers_of_a_large_pod_end_one_after_another(
    number: int, second: str, last: str, grace: int
) -> None:
    config = configuration(IMAGES=";".join(f"app-{n}=nginx:1.{n}" for n in range(number)))
    spec = template(config)["spec"]

    installer, *others = spec["containers"]
    assert installer["command"] == ["/sleep", "--install", "/kip/sleep", "720h", "500ms"]
    assert others[0]["args"] == ["720h", second]
    assert others[-1]["args"] == ["720h", last]
    assert spec["terminationGracePeriodSeconds"] == grace


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("nginx:1.29.1", "docker.io/library/nginx:1.29.1"),
        ("nginx", "docker.io/library/nginx"),
        ("bitnami/redis:7", "docker.io/bitnami/redis:7"),
        ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
        (f"nginx@{digest(1)}", f"docker.io/library/nginx@{digest(1)}"),
        ("Quay.io/org/app:1.2.3", "quay.io/org/app:1.2.3"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
    ],
)
def test_containers_have_the_full_names_of_their_images(image: str, full: str) -> None:
    config = configuration(IMAGES=f"app={image}", KIP_IMAGE=image)

    assert [each["image"] for each in template(config)["spec"]["containers"]] == [full, full]
    assert [each.image for each in daemonset.desired_images(config, state_of(config))] == [full]


def test_images_that_pushes_bring_come_before_the_others() -> None:
    config = configuration(IMAGES="app=quay.io/org/app:1.2.3;web=nginx:1.2.3;x=quay.io/org/x:next")
    changes = [push("1.3.0", 1), push("1.2.4", 2), push("2.0.0", 3, entry="web")]

    assert images(config, *changes) == [
        "quay.io/org/app:1.2.4",
        "quay.io/org/app:1.3.0",
        "docker.io/library/nginx:2.0.0",
        "quay.io/org/x:next",
        "quay.io/org/app:1.2.3",
        "docker.io/library/nginx:1.2.3",
    ]
    assert images(config, *changes, push("1.2.3", 4, entry="web"))[3:] == [
        "docker.io/library/nginx:1.2.3",
        "quay.io/org/x:next",
        "quay.io/org/app:1.2.3",
    ]


def test_the_configured_image_and_the_newest_tags_are_desired() -> None:
    config = configuration(KEEP_TAGS="2")

    assert images(config, *(push(f"1.2.{n}", n) for n in range(4, 20))) == [
        "quay.io/org/app:1.2.18",
        "quay.io/org/app:1.2.19",
        "quay.io/org/app:1.2.3",
    ]


def test_a_push_of_the_configured_tag_adds_no_container() -> None:
    config = configuration(IMAGES="app=quay.io/org/app:latest")

    assert images(config, push("latest", 1)) == ["quay.io/org/app:latest"]


def test_a_configured_digest_is_pulled_as_it_was_configured() -> None:
    image = f"quay.io/org/app:1.2.3@{digest(1)}"
    config = configuration(IMAGES=f"app={image}", IMAGE_TAG_POLICIES="app=any")

    assert images(config, push("1.2.3", 1)) == ["quay.io/org/app:1.2.3", image]
    assert pull_policy_of(config, image) == "IfNotPresent"


def test_a_configured_image_that_the_cluster_refused_is_left_out() -> None:
    config = configuration(IMAGES="app=quay.io/org/app:1.2.3;web=nginx")
    refused = Refused(name="1.2.3", digest=None, reason="no")
    state = isolation.refuse(state_of(config), config.entries[0], refused)

    assert [image.image for image in daemonset.desired_images(config, state)] == [
        "docker.io/library/nginx"
    ]


def test_a_live_configured_image_stays_when_its_mutated_tag_is_refused() -> None:
    config = configuration()
    refused = Refused(name="1.2.3", digest=digest(2), reason="no")
    state = isolation.refuse(state_of(config), config.entries[0], refused)
    state = state.with_entry("app", replace(state.entries["app"], live_tags=()))

    assert [image.image for image in daemonset.desired_images(config, state)] == [
        "quay.io/org/app:1.2.3"
    ]


@pytest.mark.parametrize(
    ("image", "changes", "policy"),
    [
        ("quay.io/org/app:1.2.3", [], "IfNotPresent"),
        ("quay.io/org/app:1.2.3", [push("1.2.3", 1)], "Always"),
        ("quay.io/org/app:1.2.3-SNAPSHOT", [], "Always"),
        ("quay.io/org/app:1.2", [], "Always"),
        ("quay.io/org/app:latest", [], "Always"),
        ("quay.io/org/app", [], "Always"),
        (f"quay.io/org/app@{digest(1)}", [], "IfNotPresent"),
    ],
)
def test_a_mutable_configured_tag_is_always_pulled(
    image: str, changes: list[Change], policy: str
) -> None:
    config = configuration(IMAGES=f"app={image}")

    assert pull_policy_of(config, image, *changes) == policy


@pytest.mark.parametrize(
    ("tag", "changes", "policy"),
    [
        ("1.2.4", [push("1.2.4", 1)], "IfNotPresent"),
        ("1.2.4", [push("1.2.4", None)], "IfNotPresent"),
        ("1.2.4", [push("1.2.4", 1), push("1.2.4", 1, seconds=1)], "IfNotPresent"),
        ("1.2.4", [push("1.2.4", 1), push("1.2.4", 2, seconds=1)], "Always"),
        ("1.2.4", [push("1.2.4", None), push("1.2.4", None, seconds=1)], "Always"),
        ("edge", [push("edge", 1)], "Always"),
    ],
)
def test_a_mutated_or_mutable_tracked_tag_is_always_pulled(
    tag: str, changes: list[Change], policy: str
) -> None:
    config = configuration(IMAGE_TAG_POLICIES="app=any")

    assert pull_policy_of(config, f"quay.io/org/app:{tag}", *changes) == policy


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("mirror.local/sleep:1.0.0", "IfNotPresent"),
        (f"mirror.local/sleep@{digest(1)}", "IfNotPresent"),
        (f"mirror.local/sleep:next@{digest(1)}", "IfNotPresent"),
        ("mirror.local/sleep:next", "Always"),
        ("mirror.local/sleep", "Always"),
    ],
)
def test_a_mutable_sleep_image_is_always_pulled(image: str, policy: str) -> None:
    installer, _ = template(configuration(KIP_IMAGE=image))["spec"]["containers"]

    assert (installer["image"], installer["imagePullPolicy"]) == (image, policy)


def test_an_annotation_has_the_expected_digests() -> None:
    config = configuration(IMAGES="app=quay.io/org/app:1.2.3;web=nginx")
    app, _ = config.entries

    assert digests(config) == {}
    assert digests(config, push("1.2.4", 1), push("latest", 2, entry="web")) == {
        daemonset.container_name(app, "1.2.4"): digest(1),
        "web": digest(2),
    }


def test_a_mutated_tag_without_a_digest_is_identified_by_its_time() -> None:
    config = configuration()
    name = daemonset.container_name(config.entries[0], "1.2.4")
    mutated = [push("1.2.4", 1), push("1.2.4", None, seconds=5)]

    assert digests(config, push("1.2.4", None)) == {}
    assert digests(config, *mutated) == {name: "pushed 2026-01-15T12:00:05+00:00"}


def test_a_mutated_tag_changes_the_template() -> None:
    config = configuration(IMAGES="app=quay.io/org/app:latest")
    history = [push("latest", 1), push("latest", 2, seconds=1), push("latest", None, seconds=2)]
    hashes = [
        daemonset.template_hash(config, state_of(config, *history[:count])) for count in range(4)
    ]

    assert len(set(hashes)) == 4


def test_a_later_push_of_the_same_content_keeps_the_template() -> None:
    config = configuration()
    once, again = push("1.2.4", 1), push("1.2.4", 1, seconds=5)

    assert template(config, once) == template(config, once, again)


def test_a_deleted_configured_image_keeps_the_template() -> None:
    config = configuration(IMAGES="app=quay.io/org/app:latest")

    assert template(config, push("latest", 1)) == template(
        config, push("latest", 1), deletion("latest")
    )


def test_an_annotation_has_the_time_of_pulling_again() -> None:
    config = configuration()
    state = state_of(config)
    pulled_again = replace(state, pulled_again_at=NOON)
    annotations = daemonset.template(config, pulled_again, UNKNOWN)["metadata"]["annotations"]

    assert PULLED_AGAIN not in template(config)["metadata"]["annotations"]
    assert annotations[PULLED_AGAIN] == "2026-01-15T12:00:00+00:00"
    assert daemonset.template_hash(config, pulled_again) != daemonset.template_hash(config, state)


@pytest.mark.parametrize(("openshift", "user"), [(None, 65532), (False, 65532), (True, None)])
def test_the_template_names_a_user_except_on_openshift(
    openshift: bool | None, user: int | None
) -> None:
    spec = template(configuration(), platform=Platform(openshift=openshift))["spec"]
    security = spec["securityContext"]

    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (security.get("runAsUser"), security.get("runAsGroup")) == (user, user)


@pytest.mark.parametrize("openshift", [None, False, True])
def test_every_container_is_restricted(openshift: bool | None) -> None:
    spec = template(
        configuration(IMAGES="a=nginx;b=nginx:1.2.3"),
        push("1.2.4", 1, entry="b"),
        platform=Platform(openshift=openshift),
    )["spec"]

    assert len(spec["containers"]) == 4
    assert all(each["securityContext"] == RESTRICTED for each in spec["containers"])
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(spec)


def test_no_container_asks_for_a_gpu_or_for_a_directory_of_its_image() -> None:
    spec = template(configuration(IMAGES="a=nginx;b=nginx:1.2.3"), push("1.2.4", 1, entry="b"))

    assert len(spec["spec"]["containers"]) == 4
    for each in spec["spec"]["containers"]:
        assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in each["env"]
        assert each["workingDir"] == "/"


def test_an_unknown_owner_is_left_out() -> None:
    config = configuration()
    manifest = daemonset.manifest(config, state_of(config), Platform(), "")

    assert "ownerReferences" not in manifest["metadata"]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("{}", {"kubernetes.io/os": "linux"}),
        ('{"pool": "ci"}', {"kubernetes.io/os": "linux", "pool": "ci"}),
        ('{"kubernetes.io/os": "windows"}', {"kubernetes.io/os": "windows"}),
    ],
)
def test_pods_run_on_linux_unless_configured_otherwise(
    selector: str, expected: dict[str, str]
) -> None:
    assert template(configuration(NODE_SELECTOR=selector))["spec"]["nodeSelector"] == expected


AFFINITY: Manifest = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("AFFINITY", json.dumps(AFFINITY), "affinity", AFFINITY),
        ("TOLERATIONS", '[{"operator": "Exists"}]', "tolerations", [{"operator": "Exists"}]),
        ("IMAGE_PULL_SECRETS", "a;b", "imagePullSecrets", [{"name": "a"}, {"name": "b"}]),
        ("PRIORITY_CLASS_NAME", "low", "priorityClassName", "low"),
        ("POD_SERVICE_ACCOUNT", "images", "serviceAccountName", "images"),
        ("RUNTIME_CLASS_NAME", "kata", "runtimeClassName", "kata"),
        ("HOST_NETWORK", "true", "hostNetwork", True),
    ],
)
def test_a_field_that_is_not_configured_is_left_out(
    variable: str, text: str, key: str, value: object
) -> None:
    assert template(configuration(**{variable: text}))["spec"][key] == value
    assert key not in template(configuration())["spec"]


def test_configured_annotations_are_on_the_daemonset_but_never_replace_the_state() -> None:
    # The configuration refuses the second annotation, so this is a second line of defence.
    config = replace(configuration(), daemonset_annotations={"a/b": "c", STATE: "mine"})
    manifest = daemonset.manifest(config, state_of(config), Platform(), "the state")

    assert manifest["metadata"]["annotations"] == {"a/b": "c", STATE: "the state"}
    assert "a/b" not in manifest["spec"]["template"]["metadata"]["annotations"]
    with pytest.raises(
        ConfigurationError, match=f"^DAEMONSET_ANNOTATIONS: '{STATE}' is not allowed"
    ):
        configuration(DAEMONSET_ANNOTATIONS=json.dumps({STATE: "mine"}))


@pytest.mark.parametrize(
    ("unset", "resources"),
    [
        (("MEMORY_LIMIT",), {"requests": COMMON_REQUESTS, "limits": {"cpu": ".2"}}),
        (("MEMORY_LIMIT", "CPU_LIMIT"), {"requests": COMMON_REQUESTS}),
        (("MEMORY_REQUEST", "CPU_REQUEST"), {"limits": COMMON_LIMITS}),
        (("MEMORY_REQUEST", "CPU_REQUEST", "MEMORY_LIMIT", "CPU_LIMIT"), {}),
    ],
)
def test_a_request_or_limit_of_none_is_left_out(
    unset: tuple[str, ...], resources: Manifest
) -> None:
    config = configuration(**{f"CACHING_{each}": "none" for each in unset})

    assert [each["resources"] for each in template(config)["spec"]["containers"]] == [resources] * 2


def test_a_limit_without_a_request_is_also_requested() -> None:
    limited = pod({"requests": {"cpu": "1"}, "limits": {"memory": "20Mi", "cpu": "2"}})

    assert daemonset.asked(limited) == {
        "requests.memory": quantity.parse("20Mi"),
        "requests.cpu": 1,
        "limits.memory": quantity.parse("20Mi"),
        "limits.cpu": 2,
    }


def test_configured_labels_and_annotations_are_on_the_pods_beside_the_services_own() -> None:
    config = configuration(POD_LABELS='{"team": "ci"}', POD_ANNOTATIONS='{"a.b/c": "d"}')
    own = template(configuration())["metadata"]

    assert template(config)["metadata"] == {
        "labels": own["labels"] | {"team": "ci"},
        "annotations": own["annotations"] | {"a.b/c": "d"},
    }
    manifest = daemonset.manifest(config, state_of(config), Platform(), "the state")
    assert manifest["spec"]["selector"] == {"matchLabels": daemonset.selector(configuration())}
    assert manifest["metadata"]["annotations"] == {STATE: "the state"}


def test_no_variable_changes_a_label_or_annotation_of_the_service() -> None:
    state = replace(state_of(configuration()), pulled_again_at=NOON)
    own = daemonset.template(configuration(), state, UNKNOWN)["metadata"]

    for part, variable in (("labels", "POD_LABELS"), ("annotations", "POD_ANNOTATIONS")):
        for key in own[part]:
            with pytest.raises(ConfigurationError, match=rf"^{variable}: '{key}' is not allowed"):
                configuration(**{variable: json.dumps({key: "mine"})})


def test_the_update_strategy_has_the_configured_max_unavailable() -> None:
    strategy = daemonset.update_strategy(configuration(ROLLOUT_MAX_UNAVAILABLE="2"))

    assert strategy["rollingUpdate"] == {"maxUnavailable": 2, "maxSurge": 0}


@pytest.mark.parametrize("hold_by", ["containers", "volumes"])
def test_a_new_daemonset_with_seeds_holds_nothing_at_first(hold_by: str) -> None:
    config = configuration(ROLLOUT_SEED_NODES="2", HOLD_BY=hold_by)
    state = state_of(config, push("1.2.4", 1))
    state = daemonset.with_all_common(config, state) if hold_by == "volumes" else state
    empty = replace(state, seeding=Seeding.EMPTY)

    (container,) = daemonset.template(config, empty, UNKNOWN)["spec"]["containers"]
    assert container["name"] == INSTALL_CONTAINER
    assert daemonset.container_count(config, empty) == 1
    assert daemonset.desired_images(config, empty) == daemonset.desired_images(config, state)
    seeds = replace(state, seeding=Seeding.SEEDS)
    assert daemonset.template_hash(config, seeds) == daemonset.template_hash(config, state)


def test_two_installations_have_different_selectors() -> None:
    one, other = configuration(), configuration(DAEMONSET_NAME="other")

    assert daemonset.selector(one) != daemonset.selector(other)
    for config in (one, other):
        assert daemonset.selector(config).items() <= daemonset.labels(config).items()
        assert daemonset.selector(config).items() <= template(config)["metadata"]["labels"].items()


def test_a_tracked_tags_container_is_named_by_entry_and_tag() -> None:
    app, web = configuration(IMAGES="app=quay.io/org/app:1;web=quay.io/org/app:1").entries

    assert daemonset.container_name(app, "1.2.4") == "app-bd737d3ea2"
    assert daemonset.container_name(app, "1.2.4") != daemonset.container_name(app, "1.2.5")
    assert daemonset.container_name(app, "1.2.4") != daemonset.container_name(web, "1.2.4")


tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
LONG = "a" * 62
DASHED = "a" * 53 + "-b"


@given(st.lists(tags, unique=True, min_size=2, max_size=20))
@settings(max_examples=60, deadline=None)
def test_container_names_are_valid_and_unique(tags: list[str]) -> None:
    config = configuration(
        IMAGES=f"{LONG}x=quay.io/org/app:1.2.3;{LONG}y=quay.io/org/app:1.2.3;{DASHED}=nginx"
    )
    names = [each.name for each in config.entries]
    names += [daemonset.container_name(each, tag) for each in config.entries for tag in tags]

    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for name in names)


def test_a_desired_image_has_its_tag_and_expected_digest() -> None:
    config = configuration()
    configured, tracked = daemonset.desired_images(config, state_of(config, push("1.2.4", 1)))

    assert (configured.tag, configured.expected) == (None, None)
    assert tracked.tag is not None
    assert tracked.tag.name == "1.2.4"
    assert tracked.expected == digest(1)


NOTHING, POLICY, STRUCTURE, TEMPLATE = range(4)


@pytest.mark.parametrize(
    ("variable", "text", "changes"),
    [
        ("IMAGES", "app=quay.io/org/app:1.2.4", TEMPLATE),
        ("IMAGES", "app=quay.io/org/app:1.2.3;web=nginx", TEMPLATE),
        ("IMAGES", "apps=quay.io/org/app:1.2.3", TEMPLATE),
        ("CACHING_MEMORY_REQUEST", "11Mi", TEMPLATE),
        ("CACHING_MEMORY_LIMIT", "21Mi", TEMPLATE),
        ("CACHING_CPU_REQUEST", "50m", TEMPLATE),
        ("CACHING_CPU_LIMIT", "1", TEMPLATE),
        ("CACHING_CPU_LIMIT", "none", TEMPLATE),
        ("DAEMONSET_NAME", "other", TEMPLATE),
        ("NODE_SELECTOR", '{"pool": "ci"}', TEMPLATE),
        ("AFFINITY", '{"nodeAffinity": {}}', TEMPLATE),
        ("TOLERATIONS", "[{}]", TEMPLATE),
        ("IMAGE_PULL_SECRETS", "a", TEMPLATE),
        ("KIP_IMAGE", SLEEP, TEMPLATE),
        ("PRIORITY_CLASS_NAME", "low", TEMPLATE),
        ("POD_LABELS", '{"a": "b"}', TEMPLATE),
        ("POD_ANNOTATIONS", '{"a": "b"}', TEMPLATE),
        ("POD_SERVICE_ACCOUNT", "images", TEMPLATE),
        ("RUNTIME_CLASS_NAME", "kata", TEMPLATE),
        ("HOST_NETWORK", "true", TEMPLATE),
        ("ROLLOUT_MAX_UNAVAILABLE", "1", STRUCTURE),
        ("IMAGE_TAG_POLICIES", "app=any", POLICY),
        ("KEEP_TAGS", "3", POLICY),
        ("ROLLOUT_SEED_NODES", "2", POLICY),
        ("DAEMONSET_ANNOTATIONS", '{"a": "b"}', POLICY),
        ("CACHING_INTERVAL_HOURS", "2", NOTHING),
        ("NAMESPACE", "other", NOTHING),
        ("DEPLOYMENT_NAME", "other", NOTHING),
        ("K_SERVICE", "other", NOTHING),
        ("ROLLOUT_MIN_INTERVAL_SECONDS", "1", NOTHING),
        ("REGISTRY_ALIASES", "a=b", NOTHING),
        ("WEBHOOK_REGISTRIES", "quay=quay.io", NOTHING),
        ("WEBHOOK_SECRETS_DIR", "/run", NOTHING),
        ("EVENT_AUTH", "none", NOTHING),
        ("READ_AUTH", "none", NOTHING),
        ("PORT", "80", NOTHING),
    ],
)
def test_each_hash_covers_its_part_of_the_configuration(
    variable: str, text: str, changes: int
) -> None:
    old, new = configuration(), configuration(**{variable: text})
    old_state, new_state = state_of(old), state_of(new)

    assert [
        daemonset.configuration_hash(old) != daemonset.configuration_hash(new),
        daemonset.structure_hash(old) != daemonset.structure_hash(new),
        daemonset.template_hash(old, old_state) != daemonset.template_hash(new, new_state),
    ] == [changes >= POLICY, changes >= STRUCTURE, changes >= TEMPLATE]


@pytest.mark.parametrize(
    "order", ["b=redis;c=quay.io/org/c:1.2.3;a=nginx", "c=quay.io/org/c:1.2.3;b=redis;a=nginx"]
)
def test_another_order_of_images_is_the_same_configuration(order: str) -> None:
    one = configuration(IMAGES="a=nginx;b=redis;c=quay.io/org/c:1.2.3")
    other = configuration(IMAGES=order)
    pushes = [push("latest", 1, entry="b"), push("1.2.4", 2, entry="c")]

    assert daemonset.configuration_hash(one) == daemonset.configuration_hash(other)
    assert template(one, *pushes) == template(other, *pushes)


def test_the_structure_does_not_depend_on_tracked_tags() -> None:
    config = configuration()

    assert daemonset.structure_hash(config) == daemonset.structure_hash(configuration())
    assert daemonset.template_hash(config, state_of(config, push("1.2.4", 1))) != (
        daemonset.template_hash(config, state_of(config))
    )


pushes = st.lists(
    st.builds(
        push,
        st.sampled_from(["1.2.3", "1.2.4", "1.2.5", "edge"]),
        st.none() | st.integers(0, 1),
        seconds=st.integers(0, 3),
    ),
    max_size=5,
)


@given(pushes, pushes)
@settings(max_examples=200, deadline=None)
def test_the_hash_changes_exactly_when_the_template_does(
    one: list[TrackTag], other: list[TrackTag]
) -> None:
    config = configuration(IMAGE_TAG_POLICIES="app=any", KEEP_TAGS="1")
    states = [state_of(config, *one), state_of(config, *other)]
    templates = [daemonset.template(config, state, UNKNOWN) for state in states]
    hashes = [daemonset.template_hash(config, state) for state in states]

    assert (templates[0] == templates[1]) == (hashes[0] == hashes[1])


@given(pushes)
@settings(max_examples=50, deadline=None)
def test_equal_configurations_and_states_give_equal_manifests(pushes: list[TrackTag]) -> None:
    manifests = []
    for _ in range(2):
        config = configuration(IMAGE_TAG_POLICIES="app=any")
        state = state_of(config, *pushes)
        manifests.append(json.dumps(daemonset.manifest(config, state, Platform(), "text")))

    assert manifests[0] == manifests[1]


def pod(*resources: Manifest) -> Manifest:
    """Return a template whose containers have these resources."""
    return {"spec": {"containers": [{"name": "x", "resources": each} for each in resources]}}


SMALL = {"requests": {"memory": "10Mi", "cpu": ".05"}, "limits": {"cpu": "200m"}}


@pytest.mark.parametrize(
    ("new", "old", "answer"),
    [
        (pod(SMALL), pod(SMALL), False),
        (
            pod(SMALL),
            pod({"requests": {"memory": "10240Ki", "cpu": "50m"}, "limits": {"cpu": ".2"}}),
            False,
        ),
        (pod(SMALL, SMALL), pod(SMALL), True),
        (pod(SMALL), pod(SMALL, SMALL), False),
        (pod(SMALL), pod({}), True),
        (pod({}), pod(SMALL), False),
        (pod(SMALL), pod({"requests": SMALL["requests"]}), True),
        (
            pod({"requests": {"memory": "11Mi"}}),
            pod({"requests": {"memory": "10Mi", "cpu": "1"}}),
            True,
        ),
        ({"spec": {"containers": [{"name": "x"}]}}, pod(SMALL), False),
    ],
)
def test_pods_are_compared_by_the_sum_of_their_containers(
    new: Manifest, old: Manifest, answer: bool
) -> None:
    assert daemonset.asks_for_more(new, old) is answer


def test_more_images_ask_for_more() -> None:
    config = configuration()
    before, after = template(config), template(config, push("1.2.4", 1))

    assert daemonset.asks_for_more(after, before)
    assert not daemonset.asks_for_more(before, after)


def test_tracked_tags_keep_their_place_when_others_are_pushed() -> None:
    config = configuration(IMAGE_TAG_POLICIES="app=any", KEEP_TAGS="3")
    history = [push(tag, 1, seconds=n) for n, tag in enumerate(["b", "a", "c", "a", "b"])]
    names = [
        [each["name"] for each in containers(config, *history[:count])] for count in range(3, 6)
    ]

    assert all(one == other for one, other in pairwise(names))


def test_the_time_of_a_push_does_not_change_the_template() -> None:
    config = configuration()

    assert template(config, push("1.2.4", 1)) == template(
        config, replace(push("1.2.4", 1), time=at(99))
    )
