"""The tests that the simulated API server and a real one must both pass. They use plain HTTP.

Subclass `Contract` in a test module that has a fixture `api`. The cluster's controllers must run,
and the namespace must have its default service account.
"""

import copy
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Self

import pytest
import requests

Json = dict[str, Any]
Cause = tuple[str, str, str]

JSON_PATCH = "application/json-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
STATE = "/metadata/annotations/example.com~1state"
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
FIRST_IMAGE = "/spec/template/spec/containers/0/image"
TIMEOUT_SECONDS = 60

CONTAINER_DEFAULTS = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
POD_DEFAULTS = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}


@dataclass(frozen=True, kw_only=True)
class Api:
    """A client of an API server, with a token. `verify` is the file of the CA for https.

    Older servers than those of the contract have other messages, and causes in another order. With
    `has_old_messages` neither is compared. `keeps_image_volumes`: the feature is on.
    """

    url: str
    token: str = field(repr=False)
    namespace: str
    verify: str | bool = True
    has_old_messages: bool = False
    keeps_image_volumes: bool = True
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    def __post_init__(self) -> None:
        self.session.trust_env = False  # a CA bundle of the environment would replace `verify`
        self.session.verify = self.verify

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """Send a request. A body that is not a text is sent as JSON."""
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        default = JSON_PATCH if method == "PATCH" else "application/json"
        return self.session.request(
            method,
            self.url + path,
            data=text,
            params=query,
            headers={
                "Authorization": f"Bearer {self.token}",
                "Content-Type": default,
                **(headers or {}),
            },
            timeout=TIMEOUT_SECONDS,
            stream=stream,
        )

    def watched(self, path: str, query: dict[str, str], *, until: str) -> Iterator[Json]:
        """Yield the events of a watch, up to the first one of a type."""
        query = {**query, "watch": "true", "timeoutSeconds": str(TIMEOUT_SECONDS)}
        with self.send("GET", path, query=query, stream=True) as response:
            for line in response.iter_lines():
                event: Json = json.loads(line)
                yield event
                if event["type"] == until:
                    return

    def core(self, plural: str) -> str:
        """Return the path of a resource of the core group."""
        return f"/api/v1/namespaces/{self.namespace}/{plural}"

    def apps(self, plural: str) -> str:
        """Return the path of a resource of the group `apps`."""
        return f"/apis/apps/v1/namespaces/{self.namespace}/{plural}"

    def settled(self, path: str) -> Json:
        """Return a DaemonSet once its controller has observed its generation."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            live: Json = self.send("GET", path).json()
            if live["status"].get("observedGeneration") == live["metadata"]["generation"]:
                return live
            time.sleep(0.01)
        raise AssertionError(f"the DaemonSet controller did not observe {path}")

    def assert_status(self, response: requests.Response, expected: Json) -> None:
        """Assert that a response is this Status of a failure."""
        found = response.json()
        if "causes" in found["details"]:
            # Some versions of the real server report a cause more than once.
            found["details"]["causes"] = unique(found["details"]["causes"])
        if self.has_old_messages:
            found, expected = without_messages(found), without_messages(expected)
        assert found == expected
        assert response.status_code == expected["code"]

    def assert_invalid(self, response: requests.Response, name: str, causes: list[Cause]) -> None:
        """Assert that a response is the Status of an invalid DaemonSet with these causes."""
        problems = [f"{where}: {message}" for _, message, where in causes]
        listed = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
        details: Json = {"name": name} if name else {}
        details |= {"group": "apps", "kind": "DaemonSet"}
        details["causes"] = [
            {"reason": reason, "message": message, "field": where}
            for reason, message, where in causes
        ]
        message = f'DaemonSet.apps "{name}" is invalid: {listed}'
        self.assert_status(response, failure(422, "Invalid", message, details))


def daemon_set(name: str) -> Json:
    """Return a DaemonSet without defaults. Its quantities are not in their canonical form."""
    amounts = {
        "requests": {"cpu": ".05", "memory": "10Mi"},
        "limits": {"cpu": ".2", "memory": "20Mi"},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "annotations": {"example.com/state": "1"}},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": "100%"}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": {}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "hostNetwork": False,
                    "nodeSelector": {"example.com/no": "node"},
                    "tolerations": [],
                    "imagePullSecrets": [{"name": "registry"}],
                    "priorityClassName": "low",
                    "serviceAccountName": "puller",
                    "runtimeClassName": "kata",
                    "volumes": [{"name": "kip", "emptyDir": {}}],
                    "containers": [
                        container(
                            "first",
                            "nginx:1.2",
                            workingDir="/",
                            lifecycle={"postStart": {"exec": {"command": ["/install"]}}},
                            resources=amounts,
                            volumeMounts=[{"name": "kip", "mountPath": "/kip"}],
                        ),
                        container("second", "quay.io/org/tool", env=[{"name": "A", "value": ""}]),
                    ],
                },
            },
        },
    }


def container(name: str, image: str, **more: object) -> Json:
    """Return a container."""
    return {"name": name, "image": image, **more}


def completed(manifest: Json) -> Json:
    """Return the spec of `daemon_set` as the API server completes it."""
    spec: Json = copy.deepcopy(manifest["spec"])
    spec |= {"revisionHistoryLimit": 10}
    spec["updateStrategy"] = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0},
    }
    del spec["template"]["metadata"]["annotations"]
    pod = spec["template"]["spec"] = {**POD_DEFAULTS, **spec["template"]["spec"]}
    del pod["hostNetwork"], pod["tolerations"]
    pod["serviceAccount"] = "puller"
    first, second = pod["containers"]
    second["env"] = [{"name": "A"}]
    first["resources"] = {
        "requests": {"cpu": "50m", "memory": "10Mi"},
        "limits": {"cpu": "200m", "memory": "20Mi"},
    }
    pod["containers"] = [
        {**CONTAINER_DEFAULTS, **first, "imagePullPolicy": "IfNotPresent"},
        {**CONTAINER_DEFAULTS, **second, "imagePullPolicy": "Always"},
    ]
    return spec


def failure(code: int, reason: str, message: str, details: Json | None = None) -> Json:
    """Return a Status of a failure."""
    status: Json = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return status if details is None else {**status, "details": details}


def not_found(name: str) -> Json:
    """Return the Status of a DaemonSet that does not exist."""
    details = {"name": name, "group": "apps", "kind": "daemonsets"}
    return failure(404, "NotFound", f'daemonsets.apps "{name}" not found', details)


def operation(op: str, path: str, *value: object) -> Json:
    """Return an operation of a JSON Patch."""
    return {"op": op, "path": path, **({"value": value[0]} if value else {})}


def with_image_volume(manifest: Json) -> Json:
    """Return a DaemonSet whose first container mounts an image too."""
    changed = copy.deepcopy(manifest)
    spec = changed["spec"]["template"]["spec"]
    spec["volumes"].append({"name": "image", "image": {"reference": "quay.io/org/tool:1.2"}})
    mount = {"name": "image", "mountPath": "/image", "readOnly": True}
    spec["containers"][0]["volumeMounts"].append(mount)
    return changed


PATCH_REJECTED = failure(
    422, "Invalid", "the server rejected our request due to an error in our request", {}
)

REJECTED_PATCHES = {
    "test of another value": [operation("test", STATE, "2")],
    "test of a missing annotation": [operation("test", "/metadata/annotations/none", "2")],
    "test below a missing field": [operation("test", "/spec/none/deep", None)],
    "test without a value": [operation("test", "/metadata/name")],
    "removal of a missing annotation": [operation("remove", "/metadata/annotations/none")],
    "addition below a missing field": [operation("add", "/spec/none/deep", "x")],
    "replacement beyond the end of a list": [
        operation("replace", "/spec/template/spec/containers/7", {"name": "a", "image": "b"})
    ],
    "unknown operation": [operation("unknown", "/spec", "x")],
    "operation without a path": [{"op": "add", "value": "x"}],
    "test that fails after a change": [
        operation("replace", STATE, "2"),
        operation("test", STATE, "1"),
    ],
}

UNREADABLE_PATCHES = ("nope", "{}", "", '["add"]')

QUANTITIES = {
    ".05": "50m",
    "0.05": "50m",
    "50m": "50m",
    "1": "1",
    "1.0": "1",
    "1000m": "1",
    "1500m": "1500m",
    "0.1234": "124m",
    "100u": "1m",
    "0": "0",
    "0m": "0",
    "1000": "1k",
    "1e3": "1e3",
    "1e4": "10e3",
    "1.5e3": "1500",
    "2.50": "2500m",
    "10485760": "10485760",
    "10M": "10M",
    "1000M": "1G",
    "12Mi": "12Mi",
    "1024Ki": "1Mi",
    "1000Ki": "1000Ki",
    "0.5Gi": "512Mi",
    ".5Mi": "512Ki",
    "0.1Ki": "102400m",
    " 5": "5",
}

DIGEST = f"sha256:{'a' * 64}"
PULL_POLICIES = {
    "nginx": "Always",
    "nginx:latest": "Always",
    f"nginx:latest@{DIGEST}": "Always",
    "localhost:5000/nginx": "Always",
    "nginx:1": "IfNotPresent",
    f"nginx@{DIGEST}": "IfNotPresent",
    f"nginx:1@{DIGEST}": "IfNotPresent",
    "localhost:5000/nginx:1": "IfNotPresent",
    "BAD IMAGE": "IfNotPresent",
    "BAD:latest": "IfNotPresent",
}

NOT_A_LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
CONTAINERS = "spec.template.spec.containers"
MAX_UNAVAILABLE = "spec.updateStrategy.rollingUpdate.maxUnavailable"
EMPTY = ("FieldValueRequired", "Required value")

Edit = Callable[[Json], object]


def pod_of(manifest: Json) -> Json:
    """Return the pod spec of a DaemonSet."""
    pod: Json = manifest["spec"]["template"]["spec"]
    return pod


def first_of(manifest: Json) -> Json:
    """Return the first container of a DaemonSet."""
    first: Json = pod_of(manifest)["containers"][0]
    return first


def rolling_of(manifest: Json) -> Json:
    """Return the rolling update of a DaemonSet."""
    rolling: Json = manifest["spec"]["updateStrategy"]["rollingUpdate"]
    return rolling


INVALID: dict[str, tuple[Edit, list[Cause]]] = {
    "an empty image": (
        lambda item: first_of(item).update(image=""),
        [(*EMPTY, f"{CONTAINERS}[0].image")],
    ),
    "no image": (
        lambda item: first_of(item).pop("image"),
        [(*EMPTY, f"{CONTAINERS}[0].image")],
    ),
    "two empty images of one name": (
        lambda item: pod_of(item).update(containers=[container("c", ""), container("c", "")]),
        [
            (*EMPTY, f"{CONTAINERS}[0].image"),
            (*EMPTY, f"{CONTAINERS}[1].image"),
            ("FieldValueDuplicate", 'Duplicate value: "c"', f"{CONTAINERS}[1].name"),
        ],
    ),
    "no name": (
        lambda item: first_of(item).update(name=""),
        [(*EMPTY, f"{CONTAINERS}[0].name")],
    ),
    "a name that is not a label": (
        lambda item: first_of(item).update(name="A_b"),
        [
            (
                "FieldValueInvalid",
                f'Invalid value: "A_b": {NOT_A_LABEL}',
                f"{CONTAINERS}[0].name",
            )
        ],
    ),
    "a name that is too long": (
        lambda item: first_of(item).update(name="a" * 64),
        [
            (
                "FieldValueInvalid",
                f'Invalid value: "{"a" * 64}": must be no more than 63 characters',
                f"{CONTAINERS}[0].name",
            )
        ],
    ),
    "no containers": (
        lambda item: pod_of(item).update(containers=[]),
        [(*EMPTY, CONTAINERS)],
    ),
    "a request above its limit": (  # a single one, as the real server reports several in any order
        lambda item: first_of(item)["resources"]["requests"].update(memory="30Mi"),
        [
            (
                "FieldValueInvalid",
                'Invalid value: "30Mi": must be less than or equal to memory limit of 20Mi',
                f"{CONTAINERS}[0].resources.requests",
            )
        ],
    ),
    "an unknown pull policy": (
        lambda item: first_of(item).update(imagePullPolicy="Some"),
        [
            (
                "FieldValueNotSupported",
                'Unsupported value: "Some": supported values: "Always", "IfNotPresent", "Never"',
                f"{CONTAINERS}[0].imagePullPolicy",
            )
        ],
    ),
    "a mount of a volume that does not exist": (
        lambda item: first_of(item)["volumeMounts"][0].update(name="none"),
        [
            (
                "FieldValueNotFound",
                'Not found: "none"',
                f"{CONTAINERS}[0].volumeMounts[0].name",
            )
        ],
    ),
    "another restart policy": (
        lambda item: pod_of(item).update(restartPolicy="Never"),
        [
            (
                "FieldValueNotSupported",
                'Unsupported value: "Never": supported values: "Always"',
                "spec.template.spec.restartPolicy",
            )
        ],
    ),
    "labels that are not selected": (
        lambda item: item["spec"]["template"]["metadata"].update(labels={"x": "y"}),
        [
            (
                "FieldValueInvalid",
                'Invalid value: {"x":"y"}: `selector` does not match template `labels`',
                "spec.template.metadata.labels",
            )
        ],
    ),
    "more than all unavailable": (
        lambda item: rolling_of(item).update(maxUnavailable="101%"),
        [
            (
                "FieldValueInvalid",
                'Invalid value: "101%": must not be greater than 100%',
                MAX_UNAVAILABLE,
            )
        ],
    ),
    "none unavailable": (
        lambda item: rolling_of(item).update(maxUnavailable=0),
        [
            (
                "FieldValueRequired",
                "Required value: cannot be 0 when maxSurge is 0",
                MAX_UNAVAILABLE,
            )
        ],
    ),
}


class Contract:
    """The contract tests."""

    @pytest.fixture
    def name(self) -> str:
        """Return a name that is not in use."""
        return f"contract-{uuid.uuid4().hex[:8]}"

    @pytest.fixture
    def path(self, api: Api, name: str) -> Iterator[str]:
        """Return the path of a new DaemonSet that its controller has observed."""
        api.send("POST", api.apps("daemonsets"), daemon_set(name)).raise_for_status()
        path = f"{api.apps('daemonsets')}/{name}"
        api.settled(path)
        yield path
        api.send("DELETE", path)

    # Rights

    def test_a_client_may_ask_for_its_own_rights(self, api: Api) -> None:
        attributes = {
            "verb": "create",
            "group": "",
            "resource": "pods",
            "name": "",
            "namespace": api.namespace,
        }
        review = {"spec": {"resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = api.send("POST", path, review)
        assert (answer.status_code, answer.json()["status"]["allowed"]) == (201, True)

    # Creating

    def test_create_returns_the_object_with_defaults(self, api: Api, name: str, path: str) -> None:
        live = api.send("GET", path).json()
        assert without_times(live["spec"]) == completed(daemon_set(name))
        assert (live["kind"], live["apiVersion"]) == ("DaemonSet", "apps/v1")
        assert {**live["metadata"], "managedFields": []}.keys() == {
            *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"),
            *("annotations", "managedFields"),
        }
        assert live["metadata"]["generation"] == 1
        assert live["metadata"]["annotations"] == {
            "example.com/state": "1",
            TEMPLATE_GENERATION: "1",
        }

    def test_create_ignores_the_status_of_the_request(self, api: Api, name: str) -> None:
        manifest = {**daemon_set(name), "status": {"numberReady": 7}}
        query = {"dryRun": "All"}
        response = api.send("POST", api.apps("daemonsets"), manifest, query=query).json()
        assert response["status"] == {
            "currentNumberScheduled": 0,
            "desiredNumberScheduled": 0,
            "numberMisscheduled": 0,
            "numberReady": 0,
        }

    def test_host_network_is_kept(self, api: Api, name: str) -> None:
        manifest = daemon_set(name)
        pod_of(manifest)["hostNetwork"] = True
        response = api.send("POST", api.apps("daemonsets"), manifest, query={"dryRun": "All"})
        assert response.status_code == 201
        assert pod_of(response.json())["hostNetwork"] is True

    def test_create_in_a_dry_run_creates_nothing(self, api: Api, name: str) -> None:
        collection = api.apps("daemonsets")
        response = api.send("POST", collection, daemon_set(name), query={"dryRun": "All"})
        assert response.status_code == 201
        assert without_times(response.json()["spec"]) == completed(daemon_set(name))
        assert "resourceVersion" not in response.json()["metadata"]
        assert api.send("GET", f"{collection}/{name}").status_code == 404

    def test_create_with_a_name_in_use_is_a_conflict(self, api: Api, name: str, path: str) -> None:
        response = api.send("POST", api.apps("daemonsets"), daemon_set(name))
        details = {"name": name, "group": "apps", "kind": "daemonsets"}
        message = f'daemonsets.apps "{name}" already exists'
        assert response.status_code == 409
        assert response.json() == failure(409, "AlreadyExists", message, details)

    def test_create_of_an_invalid_object_with_a_name_in_use_is_invalid(
        self, api: Api, name: str, path: str
    ) -> None:
        manifest = daemon_set(name)
        first_of(manifest)["image"] = ""
        response = api.send("POST", api.apps("daemonsets"), manifest)
        api.assert_invalid(response, name, [(*EMPTY, f"{CONTAINERS}[0].image")])

    def test_create_keeps_owners(self, api: Api, name: str) -> None:
        manifest = daemon_set(name)
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "u"}
        manifest["metadata"]["ownerReferences"] = [owner]
        query = {"dryRun": "All"}
        response = api.send("POST", api.apps("daemonsets"), manifest, query=query)
        assert response.json()["metadata"]["ownerReferences"] == [owner]

    def test_create_in_an_unknown_namespace_is_not_found(self, api: Api, name: str) -> None:
        response = api.send("POST", "/apis/apps/v1/namespaces/nowhere/daemonsets", daemon_set(name))
        details = {"name": "nowhere", "kind": "namespaces"}
        message = 'namespaces "nowhere" not found'
        assert response.json() == failure(404, "NotFound", message, details)

    def test_create_with_another_namespace_than_in_the_path_is_rejected(
        self, api: Api, name: str
    ) -> None:
        manifest = daemon_set(name)
        manifest["metadata"]["namespace"] = "nowhere"
        response = api.send("POST", api.apps("daemonsets"), manifest)
        message = "the namespace of the provided object does not match the namespace sent on the "
        assert response.json() == failure(400, "BadRequest", f"{message}request")

    @pytest.mark.parametrize("body", ["nope", "[]", "", '{"kind": "Pod", "apiVersion": "apps/v1"}'])
    def test_create_with_a_body_that_is_not_a_daemonset_is_a_bad_request(
        self, api: Api, body: str
    ) -> None:
        response = api.send("POST", api.apps("daemonsets"), body)
        assert (response.status_code, response.json()["reason"]) == (400, "BadRequest")
        assert "details" not in response.json()

    def test_create_with_a_field_of_the_wrong_type_is_a_bad_request(
        self, api: Api, name: str
    ) -> None:
        manifest = daemon_set(name)
        pod_of(manifest)["containers"] = "none"
        response = api.send("POST", api.apps("daemonsets"), manifest)
        assert (response.status_code, response.json()["reason"]) == (400, "BadRequest")
        message = 'DaemonSet in version "v1" cannot be handled as a DaemonSet: '
        assert response.json()["message"].startswith(message)
        assert "details" not in response.json()

    @pytest.mark.parametrize(("sent", "stored"), QUANTITIES.items())
    def test_quantity_is_stored_in_its_canonical_form(
        self, api: Api, name: str, sent: str, stored: str
    ) -> None:
        manifest = daemon_set(name)
        first_of(manifest)["resources"] = {"limits": {"memory": sent}}
        query = {"dryRun": "All"}
        response = api.send("POST", api.apps("daemonsets"), manifest, query=query)
        assert first_of(response.json())["resources"] == {"limits": {"memory": stored}}

    @pytest.mark.parametrize("text", ["abc", "", "1e3Mi", "1_000"])
    def test_invalid_quantity_is_a_bad_request(self, api: Api, name: str, text: str) -> None:
        manifest = daemon_set(name)
        first_of(manifest)["resources"] = {"limits": {"memory": text}}
        response = api.send("POST", api.apps("daemonsets"), manifest)
        assert (response.status_code, response.json()["reason"]) == (400, "BadRequest")

    @pytest.mark.parametrize(("image", "policy"), PULL_POLICIES.items())
    def test_default_pull_policy_depends_on_the_tag(
        self, api: Api, name: str, image: str, policy: str
    ) -> None:
        manifest = daemon_set(name)
        first_of(manifest)["image"] = image
        query = {"dryRun": "All"}
        response = api.send("POST", api.apps("daemonsets"), manifest, query=query)
        assert first_of(response.json())["imagePullPolicy"] == policy

    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    def test_image_volumes_get_a_pull_policy_or_are_dropped(
        self, api: Api, name: str, path: str, method: str
    ) -> None:
        mounted: Any = with_image_volume(daemon_set(name))
        replaced = operation("replace", "/spec/template", mounted["spec"]["template"])
        if method == "POST":
            mounted["metadata"] = {"generateName": f"{name}-"}
            target, body = api.apps("daemonsets"), mounted
        else:
            target, body = path, [replaced]
        response = api.send(method, target, body, query={"dryRun": "All"})
        spec = pod_of(response.json())
        images = [each for each in spec["volumes"] if "image" in each]
        if api.keeps_image_volumes:
            volume = {"reference": "quay.io/org/tool:1.2", "pullPolicy": "IfNotPresent"}
            assert images == [{"name": "image", "image": volume}]
            mounts = first_of(response.json())["volumeMounts"]
            assert {"name": "image", "mountPath": "/image", "readOnly": True} in mounts
        else:
            assert images == []
        assert response.ok

    # Reading

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    def test_missing_daemonset_is_not_found(self, api: Api, name: str, method: str) -> None:
        response = api.send(method, f"{api.apps('daemonsets')}/{name}")
        assert (response.status_code, response.json()) == (404, not_found(name))

    def test_patch_of_a_missing_daemonset_is_not_found(self, api: Api, name: str) -> None:
        response = api.send(
            "PATCH", f"{api.apps('daemonsets')}/{name}", [operation("test", "/x", 1)]
        )
        assert (response.status_code, response.json()) == (404, not_found(name))

    @pytest.mark.parametrize("method", ["GET", "PATCH"])
    def test_partial_metadata_has_all_metadata(self, api: Api, path: str, method: str) -> None:
        body: list[Json] | None = [] if method == "PATCH" else None
        response = api.send(method, path, body, headers={"Accept": METADATA_ONLY}).json()
        response["metadata"].pop("managedFields", None)
        expected = api.send("GET", path).json()["metadata"]
        expected.pop("managedFields", None)
        # The server stores this one elsewhere, and leaves it out of partial metadata.
        del expected["annotations"][TEMPLATE_GENERATION]
        assert response == {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": expected,
        }

    def test_partial_metadata_of_a_list_is_not_acceptable(self, api: Api) -> None:
        response = api.send("GET", api.apps("daemonsets"), headers={"Accept": METADATA_ONLY})
        assert (response.status_code, response.json()["reason"]) == (406, "NotAcceptable")

    def test_list_by_name_has_one_item_without_a_kind(self, api: Api, name: str, path: str) -> None:
        query = {"fieldSelector": f"metadata.name={name}"}
        response = api.send("GET", api.apps("daemonsets"), query=query).json()
        assert (response["kind"], response["apiVersion"]) == ("DaemonSetList", "apps/v1")
        assert response["metadata"].keys() == {"resourceVersion"}
        (item,) = response["items"]
        assert item["metadata"]["name"] == name
        assert "kind" not in item
        assert "apiVersion" not in item

    def test_list_by_an_unknown_name_is_empty(self, api: Api, name: str) -> None:
        query = {"fieldSelector": f"metadata.name={name}"}
        assert api.send("GET", api.apps("daemonsets"), query=query).json()["items"] == []

    def test_list_in_pages_has_every_object_once(self, api: Api, name: str) -> None:
        events = api.core("events")
        query = {"fieldSelector": f"involvedObject.uid={name},reason=Paged", "limit": "2"}
        for number in range(5):
            event = {
                "metadata": {"name": f"{name}.{number}"},
                "involvedObject": {"uid": name, "namespace": api.namespace},
                "reason": "Paged",
            }
            api.send("POST", events, event)
        sizes, names = [], []
        while query.get("continue") != "":
            page = api.send("GET", events, query=query).json()
            sizes.append(len(page["items"]))
            names += [item["metadata"]["name"] for item in page["items"]]
            query["continue"] = page["metadata"].get("continue", "")
        assert sizes == [2, 2, 1]
        assert names == [f"{name}.{number}" for number in range(5)]

    def test_pods_can_be_listed_without_those_of_a_phase(self, api: Api) -> None:
        query = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
        assert api.send("GET", "/api/v1/pods", query=query).status_code == 200

    def test_invalid_continue_token_is_a_bad_request(self, api: Api) -> None:
        response = api.send("GET", api.core("events"), query={"limit": "1", "continue": "%"})
        assert (response.status_code, response.json()["reason"]) == (400, "BadRequest")

    def test_partial_metadata_of_an_empty_list_is_null(self, api: Api) -> None:
        query = {"labelSelector": "example.com/no=node"}
        accept = METADATA_ONLY.replace("Metadata;", "MetadataList;")
        response = api.send("GET", "/api/v1/nodes", query=query, headers={"Accept": accept})
        listed = response.json()
        assert (listed["kind"], listed["items"]) == ("PartialObjectMetadataList", None)

    def test_list_by_an_unknown_field_is_a_bad_request(self, api: Api) -> None:
        query = {"fieldSelector": "spec.none=1"}
        response = api.send("GET", api.apps("daemonsets"), query=query)
        message = (
            '"spec.none" is not a known field selector: only "metadata.name", "metadata.namespace"'
        )
        assert response.json() == failure(400, "BadRequest", message)

    def test_watch_reports_each_write_after_a_version(self, api: Api, name: str) -> None:
        collection = api.apps("daemonsets")
        version = api.send("GET", collection).json()["metadata"]["resourceVersion"]
        api.send("POST", collection, daemon_set(name))
        api.send("PATCH", f"{collection}/{name}", [operation("replace", STATE, "2")])
        api.send("DELETE", f"{collection}/{name}")
        query = {"resourceVersion": version, "fieldSelector": f"metadata.name={name}"}
        events = list(api.watched(collection, query, until="DELETED"))
        types = [event["type"] for event in events]
        assert (types[0], types[-1]) == ("ADDED", "DELETED")
        assert set(types[1:-1]) == {"MODIFIED"}
        assert {event["object"]["kind"] for event in events} == {"DaemonSet"}
        versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
        assert versions == sorted(versions)

    def test_watch_without_a_version_reports_existing_objects(
        self, api: Api, name: str, path: str
    ) -> None:
        query = {"fieldSelector": f"metadata.name={name}"}
        (event,) = api.watched(api.apps("daemonsets"), query, until="ADDED")
        assert event["object"]["metadata"]["name"] == name

    # Patching

    def test_compare_and_set_succeeds_only_once(self, api: Api, path: str) -> None:
        before = api.send("GET", path).json()["metadata"]
        patch = [operation("test", STATE, "1"), operation("replace", STATE, "2")]
        response = api.send("PATCH", path, patch)
        after = response.json()["metadata"]
        assert response.status_code == 200
        assert after["annotations"]["example.com/state"] == "2"
        assert after["resourceVersion"] != before["resourceVersion"]
        assert after["generation"] == before["generation"]
        assert api.send("PATCH", path, patch).json() == PATCH_REJECTED

    @pytest.mark.parametrize("patch", REJECTED_PATCHES.values(), ids=REJECTED_PATCHES)
    def test_patch_that_can_not_be_applied_changes_nothing(
        self, api: Api, path: str, patch: list[Json]
    ) -> None:
        before = api.send("GET", path).json()
        response = api.send("PATCH", path, patch)
        assert (response.status_code, response.json()) == (422, PATCH_REJECTED)
        assert api.send("GET", path).json() == before

    @pytest.mark.parametrize("text", UNREADABLE_PATCHES)
    def test_body_that_is_not_a_json_patch_is_a_bad_request(
        self, api: Api, path: str, text: str
    ) -> None:
        response = api.send("PATCH", path, text)
        assert (response.status_code, response.json()["reason"]) == (400, "BadRequest")
        assert "patch" in response.json()["message"]  # the other words depend on the release
        assert "details" not in response.json()

    def test_patch_with_another_media_type_is_rejected(self, api: Api, path: str) -> None:
        response = api.send("PATCH", path, [], headers={"Content-Type": "text/plain"})
        message = "415: Unsupported Media Type"
        assert response.json() == failure(415, "UnsupportedMediaType", message, {})

    def test_missing_member_equals_null_in_a_test(self, api: Api, path: str) -> None:
        patch = [operation("test", "/metadata/annotations/none", None)]
        assert api.send("PATCH", path, patch).status_code == 200

    def test_a_test_reaches_into_the_status(self, api: Api, path: str) -> None:
        for nodes, status in ((7, 422), (0, 200)):
            patch = [operation("test", "/status/desiredNumberScheduled", nodes)]
            assert api.send("PATCH", path, patch).status_code == status

    def test_replace_adds_a_missing_member(self, api: Api, path: str) -> None:
        response = api.send("PATCH", path, [operation("replace", "/metadata/annotations/new", "x")])
        assert response.json()["metadata"]["annotations"]["new"] == "x"

    def test_replace_reaches_into_lists(self, api: Api, path: str) -> None:
        other = container("other", "nginx:1.3")
        patch = [operation("replace", "/spec/template/spec/containers/0", other)]
        names = [one["name"] for one in pod_of(api.send("PATCH", path, patch).json())["containers"]]
        assert names == ["other", "second"]

    def test_replacing_the_template_by_its_text_without_defaults_changes_nothing(
        self, api: Api, name: str, path: str
    ) -> None:
        before = api.send("GET", path).json()
        patch = [operation("replace", "/spec/template", daemon_set(name)["spec"]["template"])]
        dry_run = api.send("PATCH", path, patch, query={"dryRun": "All"}).json()
        written = api.send("PATCH", path, patch).json()
        assert dry_run["spec"] == before["spec"]
        assert dry_run["metadata"]["generation"] == before["metadata"]["generation"]
        assert written == before

    def test_empty_patch_changes_nothing(self, api: Api, path: str) -> None:
        before = api.send("GET", path).json()
        assert api.send("PATCH", path, []).json() == before

    def test_new_template_increments_both_generations(self, api: Api, path: str) -> None:
        response = api.send("PATCH", path, [operation("replace", FIRST_IMAGE, "nginx:1.3")]).json()
        assert response["metadata"]["generation"] == 2
        assert response["metadata"]["annotations"][TEMPLATE_GENERATION] == "2"

    def test_other_change_of_the_spec_keeps_the_template_generation(
        self, api: Api, path: str
    ) -> None:
        response = api.send("PATCH", path, [operation("add", "/spec/minReadySeconds", 1)]).json()
        assert response["metadata"]["generation"] == 2
        assert response["metadata"]["annotations"][TEMPLATE_GENERATION] == "1"

    def test_dry_run_of_a_patch_changes_nothing(self, api: Api, path: str) -> None:
        before = api.send("GET", path).json()
        patch = [operation("replace", FIRST_IMAGE, "nginx:1.3")]
        response = api.send("PATCH", path, patch, query={"dryRun": "All"}).json()
        assert first_of(response)["image"] == "nginx:1.3"
        assert response["metadata"]["generation"] == 2
        assert response["metadata"]["annotations"][TEMPLATE_GENERATION] == "2"
        assert response["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        assert api.send("GET", path).json() == before

    @pytest.mark.parametrize(
        ("field_path", "value"),
        [
            ("/status/numberReady", 7),
            ("/metadata/generation", 7),
            ("/metadata/creationTimestamp", "2020-01-01T00:00:00Z"),
            (f"/metadata/annotations/{TEMPLATE_GENERATION}", "7"),
        ],
    )
    def test_patch_can_not_change_fields_that_the_server_sets(
        self, api: Api, path: str, field_path: str, value: object
    ) -> None:
        before = api.send("GET", path).json()
        assert api.send("PATCH", path, [operation("replace", field_path, value)]).json() == before

    def test_annotations_can_be_removed_and_added_again(self, api: Api, path: str) -> None:
        removed = api.send("PATCH", path, [operation("remove", "/metadata/annotations")]).json()
        added = api.send("PATCH", path, [operation("add", STATE, "3")]).json()
        assert removed["metadata"]["annotations"] == {TEMPLATE_GENERATION: "1"}
        assert added["metadata"]["annotations"]["example.com/state"] == "3"

    def test_patch_of_another_resource_version_is_a_conflict(
        self, api: Api, name: str, path: str
    ) -> None:
        patch = [operation("replace", "/metadata/resourceVersion", "1")]
        response = api.send("PATCH", path, [*patch, operation("replace", STATE, "2")])
        message = (
            f'Operation cannot be fulfilled on daemonsets.apps "{name}": the object has been '
            "modified; please apply your changes to the latest version and try again"
        )
        details = {"name": name, "group": "apps", "kind": "daemonsets"}
        assert response.json() == failure(409, "Conflict", message, details)

    def test_patch_of_the_uid_is_invalid(self, api: Api, name: str, path: str) -> None:
        response = api.send("PATCH", path, [operation("replace", "/metadata/uid", "1")])
        cause = ("FieldValueInvalid", 'Invalid value: "1": field is immutable', "metadata.uid")
        api.assert_invalid(response, name, [cause])

    def test_patch_of_the_name_is_a_bad_request(self, api: Api, name: str, path: str) -> None:
        response = api.send("PATCH", path, [operation("replace", "/metadata/name", "other")])
        message = f"the name of the object (other) does not match the name on the URL ({name})"
        assert response.json() == failure(400, "BadRequest", message)

    def test_patch_of_the_selector_is_invalid(self, api: Api, name: str, path: str) -> None:
        other = {"app": "other"}
        patch = [operation("replace", "/spec/selector", {"matchLabels": other})]
        immutable = (
            "FieldValueInvalid",
            'Invalid value: {"matchLabels":{"app":"other"}}: field is immutable',
            "spec.selector",
        )
        mismatch = (
            "FieldValueInvalid",
            f'Invalid value: {{"app":"{name}"}}: `selector` does not match template `labels`',
            "spec.template.metadata.labels",
        )
        api.assert_invalid(api.send("PATCH", path, patch), name, [immutable, mismatch])
        patch.append(operation("replace", "/spec/template/metadata/labels", other))
        api.assert_invalid(api.send("PATCH", path, patch), name, [immutable])

    @pytest.mark.parametrize(
        ("field_path", "value"),
        [("/spec/template", "x"), ("/metadata/annotations/new", 1)],
    )
    def test_patch_to_a_value_of_the_wrong_type_is_invalid(
        self, api: Api, path: str, field_path: str, value: object
    ) -> None:
        response = api.send("PATCH", path, [operation("add", field_path, value)])
        status = response.json()
        assert (response.status_code, status["reason"]) == (422, "Invalid")
        assert status["message"].startswith(' "" is invalid: patch: Invalid value: ')
        assert status["details"].keys() == {"causes"}
        (cause,) = status["details"]["causes"]
        assert (cause["reason"], cause["field"]) == ("FieldValueInvalid", "patch")

    # Validation

    @pytest.mark.parametrize(("edit", "causes"), INVALID.values(), ids=INVALID)
    def test_create_of_an_invalid_daemonset_names_the_causes(
        self, api: Api, name: str, edit: Edit, causes: list[Cause]
    ) -> None:
        manifest = daemon_set(name)
        edit(manifest)
        query = {"dryRun": "All"}
        response = api.send("POST", api.apps("daemonsets"), manifest, query=query)
        api.assert_invalid(response, name, causes)

    @pytest.mark.parametrize(("edit", "causes"), INVALID.values(), ids=INVALID)
    def test_patch_to_an_invalid_daemonset_names_the_causes(
        self, api: Api, name: str, path: str, edit: Edit, causes: list[Cause]
    ) -> None:
        manifest = daemon_set(name)
        edit(manifest)
        response = api.send("PATCH", path, [operation("replace", "/spec", manifest["spec"])])
        api.assert_invalid(response, name, causes)

    def test_annotations_that_are_too_long_are_invalid(
        self, api: Api, name: str, path: str
    ) -> None:
        long = "x" * 256 * 1024
        manifest = daemon_set("other")
        manifest["metadata"]["annotations"]["long"] = long
        problem = "Too long: may not be more than 262144 bytes"
        cause = ("FieldValueTooLong", problem, "metadata.annotations")
        response = api.send("POST", api.apps("daemonsets"), manifest)
        api.assert_invalid(response, "other", [cause])
        response = api.send("PATCH", path, [operation("add", "/metadata/annotations/long", long)])
        api.assert_invalid(response, name, [cause])

    def test_empty_selector_is_invalid(self, api: Api, name: str) -> None:
        manifest = daemon_set(name)
        manifest["spec"]["selector"] = {}
        response = api.send("POST", api.apps("daemonsets"), manifest)
        problem = "Invalid value: {}: empty selector is invalid for daemonset"
        api.assert_invalid(response, name, [("FieldValueInvalid", problem, "spec.selector")])

    @pytest.mark.parametrize("missing", ["spec", "template"])
    def test_missing_spec_or_template_is_invalid(self, api: Api, name: str, missing: str) -> None:
        manifest = daemon_set(name)
        del (manifest if missing == "spec" else manifest["spec"])[missing]
        response = api.send("POST", api.apps("daemonsets"), manifest)
        problem = "Invalid value: null: `selector` does not match template `labels`"
        mismatch = ("FieldValueInvalid", problem, "spec.template.metadata.labels")
        api.assert_invalid(response, name, [mismatch, (*EMPTY, CONTAINERS)])

    def test_name_with_a_capital_letter_is_invalid(self, api: Api) -> None:
        manifest = daemon_set("x")
        manifest["metadata"]["name"] = "Bad_"
        response = api.send("POST", api.apps("daemonsets"), manifest)
        (cause,) = response.json()["details"]["causes"]
        assert response.status_code == 422
        assert (cause["reason"], cause["field"]) == ("FieldValueInvalid", "metadata.name")

    def test_missing_name_is_invalid(self, api: Api) -> None:
        manifest = daemon_set("x")
        del manifest["metadata"]["name"]
        response = api.send("POST", api.apps("daemonsets"), manifest)
        problem = "Required value: name or generateName is required"
        api.assert_invalid(response, "", [("FieldValueRequired", problem, "metadata.name")])

    def test_unknown_value_of_dry_run_is_invalid(self, api: Api, name: str) -> None:
        query = {"dryRun": "Some"}
        response = api.send("POST", api.apps("daemonsets"), daemon_set(name), query=query)
        problem = 'Unsupported value: ["Some"]: supported values: "All"'
        message = f'CreateOptions.meta.k8s.io "" is invalid: dryRun: {problem}'
        cause = {"reason": "FieldValueNotSupported", "message": problem, "field": "dryRun"}
        details = {"group": "meta.k8s.io", "kind": "CreateOptions", "causes": [cause]}
        api.assert_status(response, failure(422, "Invalid", message, details))

    # Deleting

    def test_delete_returns_the_uid(self, api: Api, name: str, path: str) -> None:
        uid = api.send("GET", path).json()["metadata"]["uid"]
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        response = api.send("DELETE", path, options)
        assert response.status_code == 200
        assert response.json() == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {"name": name, "group": "apps", "kind": "daemonsets", "uid": uid},
        }
        assert api.send("GET", path).status_code == 404

    def test_delete_in_a_dry_run_deletes_nothing(self, api: Api, path: str) -> None:
        assert api.send("DELETE", path, query={"dryRun": "All"}).json()["status"] == "Success"
        assert api.send("GET", path).status_code == 200

    @pytest.mark.parametrize(
        ("precondition", "label", "consequence"),
        [
            ("uid", "UID", "deleted and then recreated"),
            ("resourceVersion", "ResourceVersion", "modified"),
        ],
    )
    def test_delete_with_a_precondition_that_fails_is_a_conflict(
        self, api: Api, name: str, path: str, precondition: str, label: str, consequence: str
    ) -> None:
        live = api.send("GET", path).json()["metadata"][precondition]
        response = api.send("DELETE", path, {"preconditions": {precondition: "1"}})
        message = (
            f'Operation cannot be fulfilled on DaemonSet.apps "{name}": the {label} in the '
            f"precondition (1) does not match the {label} in record ({live}). The object might "
            f"have been {consequence}"
        )
        details = {"name": name, "group": "apps", "kind": "DaemonSet"}
        assert response.json() == failure(409, "Conflict", message, details)

    # Pods, nodes, Events

    def test_dry_run_of_a_pod_creates_no_pod(self, api: Api, name: str) -> None:
        pod = {
            "metadata": {"generateName": f"{name}-", "labels": {"app": name}},
            "spec": {"containers": [container("first", "nginx:1.2")]},
        }
        response = api.send("POST", api.core("pods"), pod, query={"dryRun": "All"})
        created = response.json()
        assert response.status_code == 201
        assert (created["kind"], created["apiVersion"]) == ("Pod", "v1")
        assert created["metadata"]["name"].removeprefix(f"{name}-").isalnum()
        assert created["status"]["phase"] == "Pending"
        query = {"labelSelector": f"app={name}"}
        assert api.send("GET", api.core("pods"), query=query).json()["items"] == []

    def test_invalid_pod_names_the_cause(self, api: Api, name: str) -> None:
        pod = {"metadata": {"name": name}, "spec": {"containers": [container("first", "")]}}
        response = api.send("POST", api.core("pods"), pod, query={"dryRun": "All"})
        message = f'Pod "{name}" is invalid: spec.containers[0].image: Required value'
        cause = {
            "reason": "FieldValueRequired",
            "message": "Required value",
            "field": "spec.containers[0].image",
        }
        details = {"name": name, "kind": "Pod", "causes": [cause]}
        assert response.json() == failure(422, "Invalid", message, details)

    @pytest.mark.parametrize("plural", ["pods", "nodes"])
    def test_missing_pod_or_node_is_not_found(self, api: Api, name: str, plural: str) -> None:
        collection = "/api/v1/nodes" if plural == "nodes" else api.core("pods")
        details = {"name": name, "kind": plural}
        expected = failure(404, "NotFound", f'{plural} "{name}" not found', details)
        assert api.send("GET", f"{collection}/{name}").json() == expected

    def test_missing_deployment_is_not_found(self, api: Api, name: str) -> None:
        response = api.send("GET", f"{api.apps('deployments')}/{name}")
        details = {"name": name, "group": "apps", "kind": "deployments"}
        message = f'deployments.apps "{name}" not found'
        assert response.json() == failure(404, "NotFound", message, details)

    def test_list_of_nodes_has_its_kind(self, api: Api) -> None:
        response = api.send("GET", "/api/v1/nodes").json()
        assert (response["kind"], response["apiVersion"]) == ("NodeList", "v1")

    def test_event_is_created_and_listed(self, api: Api, name: str) -> None:
        event = {
            "metadata": {"generateName": f"{name}."},
            "involvedObject": {"kind": "DaemonSet", "name": name, "namespace": api.namespace},
            "reason": "Refused",
            "message": "for a reason",
            "type": "Warning",
        }
        response = api.send("POST", api.core("events"), event)
        created = response.json()
        assert response.status_code == 201
        assert created["metadata"]["name"].startswith(f"{name}.")
        assert (created["eventTime"], created["reportingComponent"]) == (None, "")
        query = {"fieldSelector": f"involvedObject.name={name}"}
        listed = api.send("GET", api.core("events"), query=query).json()
        assert [item["message"] for item in listed["items"]] == ["for a reason"]

    def test_events_are_listed_by_the_kind_of_their_object_and_their_reason(
        self, api: Api, name: str
    ) -> None:
        for kind, reason in (("Pod", "Pulled"), ("Pod", "Pulling"), ("DaemonSet", "Pulled")):
            about = {"kind": kind, "name": name, "namespace": api.namespace}
            event = {
                "metadata": {"generateName": f"{name}."},
                "involvedObject": about,
                "reason": reason,
            }
            assert api.send("POST", api.core("events"), event).status_code == 201
        selector = f"involvedObject.kind=Pod,reason=Pulled,involvedObject.name={name}"
        query = {"fieldSelector": selector, "limit": "1000"}
        listed = api.send("GET", api.core("events"), query=query).json()
        found = [(item["involvedObject"]["kind"], item["reason"]) for item in listed["items"]]
        assert found == [("Pod", "Pulled")]

    def test_event_about_another_namespace_is_invalid(self, api: Api, name: str) -> None:
        event = {"metadata": {"name": name}, "involvedObject": {"namespace": "nowhere"}}
        response = api.send("POST", api.core("events"), event)
        (cause,) = response.json()["details"]["causes"]
        assert cause == {
            "reason": "FieldValueInvalid",
            "message": 'Invalid value: "nowhere": does not match event.namespace',
            "field": "involvedObject.namespace",
        }

    # Access and paths

    def test_another_token_is_unauthorized(self, api: Api) -> None:
        response = api.send("GET", "/apis", headers={"Authorization": "Bearer other"})
        assert response.status_code == 401
        assert response.json() == failure(401, "Unauthorized", "Unauthorized")

    @pytest.mark.parametrize("kind", ["apps/v1/gadgets", "apps/v9/daemonsets"])
    def test_unknown_resource_of_a_known_group_is_not_found(self, api: Api, kind: str) -> None:
        response = api.send("GET", f"/apis/{kind}")
        message = "the server could not find the requested resource"
        assert response.json() == failure(404, "NotFound", message, {})

    @pytest.mark.parametrize("path", ["/none", "/apis/example.com/v1/namespaces/none/services/x"])
    def test_unknown_path_or_group_is_not_found_in_plain_text(self, api: Api, path: str) -> None:
        response = api.send("GET", path)
        assert (response.status_code, response.text) == (404, "404 page not found\n")
        assert response.headers["Content-Type"].startswith("text/plain")

    def test_unsupported_method_is_not_allowed(self, api: Api, name: str) -> None:
        response = api.send("POST", f"{api.apps('daemonsets')}/{name}", daemon_set(name))
        message = "the server does not allow this method on the requested resource"
        assert response.json() == failure(405, "MethodNotAllowed", message, {})

    def test_groups_version_and_readiness_are_served(self, api: Api) -> None:
        groups = api.send("GET", "/apis").json()
        assert (groups["kind"], groups["apiVersion"]) == ("APIGroupList", "v1")
        (apps,) = [group for group in groups["groups"] if group["name"] == "apps"]
        version = {"groupVersion": "apps/v1", "version": "v1"}
        assert apps == {"name": "apps", "versions": [version], "preferredVersion": version}
        assert api.send("GET", "/version").json().keys() >= {"major", "minor", "gitVersion"}
        assert api.send("GET", "/readyz").text == "ok"


def without_messages(status: Json) -> Json:
    """Return a Status of a failure without its messages, and its causes in the order of fields."""
    causes = [
        {key: value for key, value in cause.items() if key != "message"}
        for cause in sorted(status["details"].get("causes", ()), key=itemgetter("field"))
    ]
    return status | {"message": "", "details": status["details"] | {"causes": causes}}


def without_times(spec: Json) -> Json:
    """Return a spec without the time of creation that older servers write into its template."""
    template = copy.deepcopy(spec["template"])
    assert template["metadata"].pop("creationTimestamp", None) is None
    return spec | {"template": template}


def unique(items: list[Json]) -> list[Json]:
    """Return the items without duplicates."""
    return [item for place, item in enumerate(items) if item not in items[:place]]
