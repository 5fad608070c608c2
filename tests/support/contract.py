"""What both API servers must answer, the simulated one and a real one: it speaks plain HTTP.

Subclass `Contract` in a test module that has a fixture `api`; the controllers must be running, and
the namespace must have its default service account.
"""

import copy
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import pytest
import requests

Json = dict[str, Any]

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
    """An API server as the owner of a token sees it; `verify` is the CA's file for https."""

    url: str
    token: str = field(repr=False)
    namespace: str
    verify: str | bool = True
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    def __post_init__(self) -> None:
        self.session.trust_env = False  # a CA bundle of the environment would go before `verify`
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
        """Send a request; a body that is not text goes as JSON."""
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
        """Tell changes up to one of a type."""
        query = {**query, "watch": "true", "timeoutSeconds": str(TIMEOUT_SECONDS)}
        with self.send("GET", path, query=query, stream=True) as answer:
            for line in answer.iter_lines():
                change: Json = json.loads(line)
                yield change
                if change["type"] == until:
                    return

    def core(self, plural: str) -> str:
        """Name the path of a kind of the core group."""
        return f"/api/v1/namespaces/{self.namespace}/{plural}"

    def apps(self, plural: str) -> str:
        """Name the path of a kind of the apps group."""
        return f"/apis/apps/v1/namespaces/{self.namespace}/{plural}"

    def settled(self, path: str) -> Json:
        """Give a DaemonSet once its controller has seen it and has no more to write."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            live: Json = self.send("GET", path).json()
            if live["status"].get("observedGeneration") == live["metadata"]["generation"]:
                return live
            time.sleep(0.01)
        raise AssertionError(f"the controller did not see {path}")


def daemon_set(name: str) -> Json:
    """Write a DaemonSet as the service might: shortest quantities, nothing that has a default."""
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
                    "nodeSelector": {"example.com/none": "such"},
                    "tolerations": [],
                    "imagePullSecrets": [{"name": "registry"}],
                    "priorityClassName": "low",
                    "volumes": [{"name": "kip", "emptyDir": {}}],
                    "containers": [
                        container(
                            "first",
                            "nginx:1.2",
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
    """Write a container."""
    return {"name": name, "image": image, **more}


def completed(manifest: Json) -> Json:
    """Write the spec of `daemon_set` as the API server gives it back."""
    spec: Json = copy.deepcopy(manifest["spec"])
    spec |= {"revisionHistoryLimit": 10}
    spec["updateStrategy"] = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0},
    }
    del spec["template"]["metadata"]["annotations"]
    pod = spec["template"]["spec"] = {**POD_DEFAULTS, **spec["template"]["spec"]}
    del pod["hostNetwork"], pod["tolerations"]
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
    """Write a Status of failure."""
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
    """Write the Status of a DaemonSet that is not there."""
    details = {"name": name, "group": "apps", "kind": "daemonsets"}
    return failure(404, "NotFound", f'daemonsets.apps "{name}" not found', details)


def operation(op: str, path: str, *value: object) -> Json:
    """Write an operation of a JSON Patch."""
    return {"op": op, "path": path, **({"value": value[0]} if value else {})}


PATCH_REFUSED = failure(
    422, "Invalid", "the server rejected our request due to an error in our request", {}
)

REFUSED_PATCHES = {
    "test of another value": [operation("test", STATE, "2")],
    "test of a missing annotation": [operation("test", "/metadata/annotations/none", "2")],
    "test below a missing field": [operation("test", "/spec/none/deep", None)],
    "test without a value": [operation("test", "/metadata/name")],
    "removal of a missing annotation": [operation("remove", "/metadata/annotations/none")],
    "addition below a missing field": [operation("add", "/spec/none/deep", "x")],
    "replacement beyond the end of a list": [
        operation("replace", "/spec/template/spec/containers/7", {"name": "a", "image": "b"})
    ],
    "unknown operation": [operation("frobnicate", "/spec", "x")],
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
Cause = tuple[str, str, str]


def pod_of(manifest: Json) -> Json:
    """Find the pod's spec in a DaemonSet's."""
    pod: Json = manifest["spec"]["template"]["spec"]
    return pod


def first_of(manifest: Json) -> Json:
    """Find the first container in a DaemonSet's template."""
    first: Json = pod_of(manifest)["containers"][0]
    return first


def rolling_of(manifest: Json) -> Json:
    """Find the rolling update in a DaemonSet."""
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
    "a name that is no label": (
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
    "a request above its limit": (  # of two the real server tells in any order
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
    "a mount of no volume": (
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
    """The tests, to be inherited."""

    @pytest.fixture
    def name(self) -> str:
        """Make a name that nothing has."""
        return f"contract-{uuid.uuid4().hex[:8]}"

    @pytest.fixture
    def path(self, api: Api, name: str) -> Iterator[str]:
        """Create a DaemonSet, and wait for its controller; gone after the test."""
        api.send("POST", api.apps("daemonsets"), daemon_set(name)).raise_for_status()
        path = f"{api.apps('daemonsets')}/{name}"
        api.settled(path)
        yield path
        api.send("DELETE", path)

    # Creating

    def test_create_answers_the_whole_object(self, api: Api, name: str, path: str) -> None:
        live = api.send("GET", path).json()
        assert live["spec"] == completed(daemon_set(name))
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

    def test_a_new_daemonset_has_counted_nothing(self, api: Api, name: str) -> None:
        manifest = {**daemon_set(name), "status": {"numberReady": 7}}
        query = {"dryRun": "All"}
        answer = api.send("POST", api.apps("daemonsets"), manifest, query=query).json()
        assert answer["status"] == {
            "currentNumberScheduled": 0,
            "desiredNumberScheduled": 0,
            "numberMisscheduled": 0,
            "numberReady": 0,
        }

    def test_create_in_a_dry_run_creates_nothing(self, api: Api, name: str) -> None:
        paths = api.apps("daemonsets")
        answer = api.send("POST", paths, daemon_set(name), query={"dryRun": "All"})
        assert answer.status_code == 201
        assert answer.json()["spec"] == completed(daemon_set(name))
        assert "resourceVersion" not in answer.json()["metadata"]
        assert api.send("GET", f"{paths}/{name}").status_code == 404

    def test_create_tells_that_the_name_is_taken(self, api: Api, name: str, path: str) -> None:
        answer = api.send("POST", api.apps("daemonsets"), daemon_set(name))
        details = {"name": name, "group": "apps", "kind": "daemonsets"}
        message = f'daemonsets.apps "{name}" already exists'
        assert answer.status_code == 409
        assert answer.json() == failure(409, "AlreadyExists", message, details)

    def test_an_invalid_object_is_invalid_whatever_there_is(
        self, api: Api, name: str, path: str
    ) -> None:
        manifest = daemon_set(name)
        first_of(manifest)["image"] = ""
        answer = api.send("POST", api.apps("daemonsets"), manifest)
        assert_invalid(answer, name, [(*EMPTY, f"{CONTAINERS}[0].image")])

    def test_create_keeps_owners(self, api: Api, name: str) -> None:
        manifest = daemon_set(name)
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "u"}
        manifest["metadata"]["ownerReferences"] = [owner]
        query = {"dryRun": "All"}
        answer = api.send("POST", api.apps("daemonsets"), manifest, query=query)
        assert answer.json()["metadata"]["ownerReferences"] == [owner]

    def test_create_in_an_unknown_namespace(self, api: Api, name: str) -> None:
        answer = api.send("POST", "/apis/apps/v1/namespaces/nowhere/daemonsets", daemon_set(name))
        details = {"name": "nowhere", "kind": "namespaces"}
        message = 'namespaces "nowhere" not found'
        assert answer.json() == failure(404, "NotFound", message, details)

    def test_create_with_another_namespace_than_the_paths(self, api: Api, name: str) -> None:
        manifest = daemon_set(name)
        manifest["metadata"]["namespace"] = "nowhere"
        answer = api.send("POST", api.apps("daemonsets"), manifest)
        message = "the namespace of the provided object does not match the namespace sent on the "
        assert answer.json() == failure(400, "BadRequest", f"{message}request")

    @pytest.mark.parametrize("body", ["nope", "[]", "", '{"kind": "Pod", "apiVersion": "apps/v1"}'])
    def test_create_of_what_is_no_daemonset(self, api: Api, body: str) -> None:
        answer = api.send("POST", api.apps("daemonsets"), body)
        assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")
        assert "details" not in answer.json()

    def test_create_of_the_wrong_shape(self, api: Api, name: str) -> None:
        manifest = daemon_set(name)
        pod_of(manifest)["containers"] = "none"
        answer = api.send("POST", api.apps("daemonsets"), manifest)
        assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")
        message = 'DaemonSet in version "v1" cannot be handled as a DaemonSet: '
        assert answer.json()["message"].startswith(message)
        assert "details" not in answer.json()

    @pytest.mark.parametrize(("written", "read"), QUANTITIES.items())
    def test_quantities_have_one_form(self, api: Api, name: str, written: str, read: str) -> None:
        manifest = daemon_set(name)
        first_of(manifest)["resources"] = {"limits": {"memory": written}}
        query = {"dryRun": "All"}
        answer = api.send("POST", api.apps("daemonsets"), manifest, query=query)
        assert first_of(answer.json())["resources"] == {"limits": {"memory": read}}

    @pytest.mark.parametrize("text", ["abc", "", "1e3Mi", "1_000"])
    def test_what_is_no_quantity(self, api: Api, name: str, text: str) -> None:
        manifest = daemon_set(name)
        first_of(manifest)["resources"] = {"limits": {"memory": text}}
        answer = api.send("POST", api.apps("daemonsets"), manifest)
        assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")

    @pytest.mark.parametrize(("image", "policy"), PULL_POLICIES.items())
    def test_the_pull_policy_follows_the_tag(
        self, api: Api, name: str, image: str, policy: str
    ) -> None:
        manifest = daemon_set(name)
        first_of(manifest)["image"] = image
        query = {"dryRun": "All"}
        answer = api.send("POST", api.apps("daemonsets"), manifest, query=query)
        assert first_of(answer.json())["imagePullPolicy"] == policy

    # Reading

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    def test_what_is_not_there(self, api: Api, name: str, method: str) -> None:
        answer = api.send(method, f"{api.apps('daemonsets')}/{name}")
        assert (answer.status_code, answer.json()) == (404, not_found(name))

    def test_patch_of_what_is_not_there(self, api: Api, name: str) -> None:
        answer = api.send("PATCH", f"{api.apps('daemonsets')}/{name}", [operation("test", "/x", 1)])
        assert (answer.status_code, answer.json()) == (404, not_found(name))

    @pytest.mark.parametrize("method", ["GET", "PATCH"])
    def test_metadata_alone(self, api: Api, path: str, method: str) -> None:
        body: list[Json] | None = [] if method == "PATCH" else None
        answer = api.send(method, path, body, headers={"Accept": METADATA_ONLY}).json()
        answer["metadata"].pop("managedFields", None)
        expected = api.send("GET", path).json()["metadata"]
        expected.pop("managedFields", None)
        # The server keeps this one elsewhere, and does not look there for metadata alone.
        del expected["annotations"][TEMPLATE_GENERATION]
        assert answer == {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": expected,
        }

    def test_a_list_has_more_than_metadata(self, api: Api) -> None:
        answer = api.send("GET", api.apps("daemonsets"), headers={"Accept": METADATA_ONLY})
        assert (answer.status_code, answer.json()["reason"]) == (406, "NotAcceptable")

    def test_a_list_can_be_of_one(self, api: Api, name: str, path: str) -> None:
        query = {"fieldSelector": f"metadata.name={name}"}
        answer = api.send("GET", api.apps("daemonsets"), query=query).json()
        assert (answer["kind"], answer["apiVersion"]) == ("DaemonSetList", "apps/v1")
        assert answer["metadata"].keys() == {"resourceVersion"}
        (item,) = answer["items"]
        assert item["metadata"]["name"] == name
        assert "kind" not in item
        assert "apiVersion" not in item

    def test_a_list_can_be_empty(self, api: Api, name: str) -> None:
        query = {"fieldSelector": f"metadata.name={name}"}
        assert api.send("GET", api.apps("daemonsets"), query=query).json()["items"] == []

    def test_a_list_by_an_unknown_field(self, api: Api) -> None:
        query = {"fieldSelector": "spec.none=1"}
        answer = api.send("GET", api.apps("daemonsets"), query=query)
        message = (
            '"spec.none" is not a known field selector: only "metadata.name", "metadata.namespace"'
        )
        assert answer.json() == failure(400, "BadRequest", message)

    def test_a_watch_tells_every_write_after_a_version(self, api: Api, name: str) -> None:
        paths = api.apps("daemonsets")
        version = api.send("GET", paths).json()["metadata"]["resourceVersion"]
        api.send("POST", paths, daemon_set(name))
        api.send("PATCH", f"{paths}/{name}", [operation("replace", STATE, "2")])
        api.send("DELETE", f"{paths}/{name}")
        query = {"resourceVersion": version, "fieldSelector": f"metadata.name={name}"}
        changes = list(api.watched(paths, query, until="DELETED"))
        types = [change["type"] for change in changes]
        assert (types[0], types[-1]) == ("ADDED", "DELETED")
        assert set(types[1:-1]) == {"MODIFIED"}
        assert {change["object"]["kind"] for change in changes} == {"DaemonSet"}
        versions = [int(change["object"]["metadata"]["resourceVersion"]) for change in changes]
        assert versions == sorted(versions)

    def test_a_watch_without_a_version_tells_what_is_there(
        self, api: Api, name: str, path: str
    ) -> None:
        query = {"fieldSelector": f"metadata.name={name}"}
        (change,) = api.watched(api.apps("daemonsets"), query, until="ADDED")
        assert change["object"]["metadata"]["name"] == name

    # Patching

    def test_compare_and_set_changes_what_it_compared(self, api: Api, path: str) -> None:
        before = api.send("GET", path).json()["metadata"]
        patch = [operation("test", STATE, "1"), operation("replace", STATE, "2")]
        answer = api.send("PATCH", path, patch)
        after = answer.json()["metadata"]
        assert answer.status_code == 200
        assert after["annotations"]["example.com/state"] == "2"
        assert after["resourceVersion"] != before["resourceVersion"]
        assert after["generation"] == before["generation"]
        assert api.send("PATCH", path, patch).json() == PATCH_REFUSED

    @pytest.mark.parametrize("patch", REFUSED_PATCHES.values(), ids=REFUSED_PATCHES)
    def test_a_patch_that_can_not_be_applied(self, api: Api, path: str, patch: list[Json]) -> None:
        before = api.send("GET", path).json()
        answer = api.send("PATCH", path, patch)
        assert (answer.status_code, answer.json()) == (422, PATCH_REFUSED)
        assert api.send("GET", path).json() == before

    @pytest.mark.parametrize("text", UNREADABLE_PATCHES)
    def test_a_patch_that_can_not_be_read(self, api: Api, path: str, text: str) -> None:
        answer = api.send("PATCH", path, text)
        assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")
        assert answer.json()["message"].startswith("error decoding patch: ")
        assert "details" not in answer.json()

    def test_a_patch_of_another_type(self, api: Api, path: str) -> None:
        answer = api.send("PATCH", path, [], headers={"Content-Type": "text/plain"})
        message = "415: Unsupported Media Type"
        assert answer.json() == failure(415, "UnsupportedMediaType", message, {})

    def test_a_missing_member_counts_as_null(self, api: Api, path: str) -> None:
        patch = [operation("test", "/metadata/annotations/none", None)]
        assert api.send("PATCH", path, patch).status_code == 200

    def test_replace_adds_a_missing_member(self, api: Api, path: str) -> None:
        answer = api.send("PATCH", path, [operation("replace", "/metadata/annotations/new", "x")])
        assert answer.json()["metadata"]["annotations"]["new"] == "x"

    def test_replace_reaches_into_lists(self, api: Api, path: str) -> None:
        other = container("other", "nginx:1.3")
        patch = [operation("replace", "/spec/template/spec/containers/0", other)]
        names = [one["name"] for one in pod_of(api.send("PATCH", path, patch).json())["containers"]]
        assert names == ["other", "second"]

    def test_own_text_of_what_is_live_is_no_change(self, api: Api, name: str, path: str) -> None:
        before = api.send("GET", path).json()
        patch = [operation("replace", "/spec/template", daemon_set(name)["spec"]["template"])]
        dry = api.send("PATCH", path, patch, query={"dryRun": "All"}).json()
        wet = api.send("PATCH", path, patch).json()
        assert dry["spec"] == before["spec"]
        assert dry["metadata"]["generation"] == before["metadata"]["generation"]
        assert wet == before

    def test_an_empty_patch_is_no_write(self, api: Api, path: str) -> None:
        before = api.send("GET", path).json()
        assert api.send("PATCH", path, []).json() == before

    def test_a_new_template_is_a_new_generation(self, api: Api, path: str) -> None:
        answer = api.send("PATCH", path, [operation("replace", FIRST_IMAGE, "nginx:1.3")]).json()
        assert answer["metadata"]["generation"] == 2
        assert answer["metadata"]["annotations"][TEMPLATE_GENERATION] == "2"

    def test_another_spec_of_the_same_template(self, api: Api, path: str) -> None:
        answer = api.send("PATCH", path, [operation("add", "/spec/minReadySeconds", 1)]).json()
        assert answer["metadata"]["generation"] == 2
        assert answer["metadata"]["annotations"][TEMPLATE_GENERATION] == "1"

    def test_a_dry_run_of_a_patch_changes_nothing(self, api: Api, path: str) -> None:
        before = api.send("GET", path).json()
        patch = [operation("replace", FIRST_IMAGE, "nginx:1.3")]
        answer = api.send("PATCH", path, patch, query={"dryRun": "All"}).json()
        assert first_of(answer)["image"] == "nginx:1.3"
        assert answer["metadata"]["generation"] == 2
        assert answer["metadata"]["annotations"][TEMPLATE_GENERATION] == "2"
        assert answer["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
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
    def test_what_only_the_server_sets(
        self, api: Api, path: str, field_path: str, value: object
    ) -> None:
        before = api.send("GET", path).json()
        assert api.send("PATCH", path, [operation("replace", field_path, value)]).json() == before

    def test_annotations_can_all_go_and_come_back(self, api: Api, path: str) -> None:
        gone = api.send("PATCH", path, [operation("remove", "/metadata/annotations")]).json()
        back = api.send("PATCH", path, [operation("add", STATE, "3")]).json()
        assert gone["metadata"]["annotations"] == {TEMPLATE_GENERATION: "1"}
        assert back["metadata"]["annotations"]["example.com/state"] == "3"

    def test_a_patch_for_another_version(self, api: Api, name: str, path: str) -> None:
        patch = [operation("replace", "/metadata/resourceVersion", "1")]
        answer = api.send("PATCH", path, [*patch, operation("replace", STATE, "2")])
        message = (
            f'Operation cannot be fulfilled on daemonsets.apps "{name}": the object has been '
            "modified; please apply your changes to the latest version and try again"
        )
        details = {"name": name, "group": "apps", "kind": "daemonsets"}
        assert answer.json() == failure(409, "Conflict", message, details)

    def test_a_patch_of_the_uid(self, api: Api, name: str, path: str) -> None:
        answer = api.send("PATCH", path, [operation("replace", "/metadata/uid", "1")])
        cause = ("FieldValueInvalid", 'Invalid value: "1": field is immutable', "metadata.uid")
        assert_invalid(answer, name, [cause])

    def test_a_patch_of_the_name(self, api: Api, name: str, path: str) -> None:
        answer = api.send("PATCH", path, [operation("replace", "/metadata/name", "other")])
        message = f"the name of the object (other) does not match the name on the URL ({name})"
        assert answer.json() == failure(400, "BadRequest", message)

    def test_the_selector_can_not_be_changed(self, api: Api, name: str, path: str) -> None:
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
        assert_invalid(api.send("PATCH", path, patch), name, [immutable, mismatch])
        patch.append(operation("replace", "/spec/template/metadata/labels", other))
        assert_invalid(api.send("PATCH", path, patch), name, [immutable])

    @pytest.mark.parametrize(
        ("field_path", "value"),
        [("/spec/template", "x"), ("/metadata/annotations/new", 1)],
    )
    def test_a_patch_to_the_wrong_shape(
        self, api: Api, path: str, field_path: str, value: object
    ) -> None:
        answer = api.send("PATCH", path, [operation("add", field_path, value)])
        status = answer.json()
        assert (answer.status_code, status["reason"]) == (422, "Invalid")
        assert status["message"].startswith(' "" is invalid: patch: Invalid value: ')
        assert status["details"].keys() == {"causes"}
        (cause,) = status["details"]["causes"]
        assert (cause["reason"], cause["field"]) == ("FieldValueInvalid", "patch")

    # Rules

    @pytest.mark.parametrize(("edit", "causes"), INVALID.values(), ids=INVALID)
    def test_create_of_an_invalid_daemonset(
        self, api: Api, name: str, edit: Edit, causes: list[Cause]
    ) -> None:
        manifest = daemon_set(name)
        edit(manifest)
        query = {"dryRun": "All"}
        answer = api.send("POST", api.apps("daemonsets"), manifest, query=query)
        assert_invalid(answer, name, causes)

    @pytest.mark.parametrize(("edit", "causes"), INVALID.values(), ids=INVALID)
    def test_patch_to_an_invalid_daemonset(
        self, api: Api, name: str, path: str, edit: Edit, causes: list[Cause]
    ) -> None:
        manifest = daemon_set(name)
        edit(manifest)
        answer = api.send("PATCH", path, [operation("replace", "/spec", manifest["spec"])])
        assert_invalid(answer, name, causes)

    def test_annotations_have_a_limit(self, api: Api, name: str, path: str) -> None:
        long = "x" * 256 * 1024
        manifest = daemon_set("other")
        manifest["metadata"]["annotations"]["long"] = long
        complaint = "Too long: may not be more than 262144 bytes"
        cause = ("FieldValueTooLong", complaint, "metadata.annotations")
        answer = api.send("POST", api.apps("daemonsets"), manifest)
        assert_invalid(answer, "other", [cause])
        answer = api.send("PATCH", path, [operation("add", "/metadata/annotations/long", long)])
        assert_invalid(answer, name, [cause])

    def test_an_empty_selector(self, api: Api, name: str) -> None:
        manifest = daemon_set(name)
        manifest["spec"]["selector"] = {}
        answer = api.send("POST", api.apps("daemonsets"), manifest)
        complaint = "Invalid value: {}: empty selector is invalid for daemonset"
        assert_invalid(answer, name, [("FieldValueInvalid", complaint, "spec.selector")])

    @pytest.mark.parametrize("missing", ["spec", "template"])
    def test_nothing_to_run(self, api: Api, name: str, missing: str) -> None:
        manifest = daemon_set(name)
        del (manifest if missing == "spec" else manifest["spec"])[missing]
        answer = api.send("POST", api.apps("daemonsets"), manifest)
        complaint = "Invalid value: null: `selector` does not match template `labels`"
        mismatch = ("FieldValueInvalid", complaint, "spec.template.metadata.labels")
        assert_invalid(answer, name, [mismatch, (*EMPTY, CONTAINERS)])

    def test_a_name_that_is_no_name(self, api: Api) -> None:
        manifest = daemon_set("x")
        manifest["metadata"]["name"] = "Bad_"
        answer = api.send("POST", api.apps("daemonsets"), manifest)
        (cause,) = answer.json()["details"]["causes"]
        assert answer.status_code == 422
        assert (cause["reason"], cause["field"]) == ("FieldValueInvalid", "metadata.name")

    def test_no_name_at_all(self, api: Api) -> None:
        manifest = daemon_set("x")
        del manifest["metadata"]["name"]
        answer = api.send("POST", api.apps("daemonsets"), manifest)
        complaint = "Required value: name or generateName is required"
        assert_invalid(answer, "", [("FieldValueRequired", complaint, "metadata.name")])

    def test_an_unknown_kind_of_dry_run(self, api: Api, name: str) -> None:
        query = {"dryRun": "Some"}
        answer = api.send("POST", api.apps("daemonsets"), daemon_set(name), query=query)
        complaint = 'Unsupported value: ["Some"]: supported values: "All"'
        message = f'CreateOptions.meta.k8s.io "" is invalid: dryRun: {complaint}'
        cause = {"reason": "FieldValueNotSupported", "message": complaint, "field": "dryRun"}
        details = {"group": "meta.k8s.io", "kind": "CreateOptions", "causes": [cause]}
        assert answer.json() == failure(422, "Invalid", message, details)

    # Deleting

    def test_delete_tells_what_is_gone(self, api: Api, name: str, path: str) -> None:
        uid = api.send("GET", path).json()["metadata"]["uid"]
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        answer = api.send("DELETE", path, options)
        assert answer.status_code == 200
        assert answer.json() == {
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
    def test_delete_of_another_object(
        self, api: Api, name: str, path: str, precondition: str, label: str, consequence: str
    ) -> None:
        live = api.send("GET", path).json()["metadata"][precondition]
        answer = api.send("DELETE", path, {"preconditions": {precondition: "1"}})
        message = (
            f'Operation cannot be fulfilled on DaemonSet.apps "{name}": the {label} in the '
            f"precondition (1) does not match the {label} in record ({live}). The object might "
            f"have been {consequence}"
        )
        details = {"name": name, "group": "apps", "kind": "DaemonSet"}
        assert answer.json() == failure(409, "Conflict", message, details)

    # Pods, nodes, Events

    def test_a_pod_can_be_tried_out(self, api: Api, name: str) -> None:
        pod = {
            "metadata": {"generateName": f"{name}-", "labels": {"app": name}},
            "spec": {"containers": [container("first", "nginx:1.2")]},
        }
        answer = api.send("POST", api.core("pods"), pod, query={"dryRun": "All"})
        made = answer.json()
        assert answer.status_code == 201
        assert (made["kind"], made["apiVersion"]) == ("Pod", "v1")
        assert made["metadata"]["name"].removeprefix(f"{name}-").isalnum()
        assert made["status"]["phase"] == "Pending"
        query = {"labelSelector": f"app={name}"}
        assert api.send("GET", api.core("pods"), query=query).json()["items"] == []

    def test_an_invalid_pod(self, api: Api, name: str) -> None:
        pod = {"metadata": {"name": name}, "spec": {"containers": [container("first", "")]}}
        answer = api.send("POST", api.core("pods"), pod, query={"dryRun": "All"})
        message = f'Pod "{name}" is invalid: spec.containers[0].image: Required value'
        cause = {
            "reason": "FieldValueRequired",
            "message": "Required value",
            "field": "spec.containers[0].image",
        }
        details = {"name": name, "kind": "Pod", "causes": [cause]}
        assert answer.json() == failure(422, "Invalid", message, details)

    @pytest.mark.parametrize("plural", ["pods", "nodes"])
    def test_core_objects_that_are_not_there(self, api: Api, name: str, plural: str) -> None:
        paths = "/api/v1/nodes" if plural == "nodes" else api.core("pods")
        details = {"name": name, "kind": plural}
        expected = failure(404, "NotFound", f'{plural} "{name}" not found', details)
        assert api.send("GET", f"{paths}/{name}").json() == expected

    def test_a_deployment_that_is_not_there(self, api: Api, name: str) -> None:
        answer = api.send("GET", f"{api.apps('deployments')}/{name}")
        details = {"name": name, "group": "apps", "kind": "deployments"}
        message = f'deployments.apps "{name}" not found'
        assert answer.json() == failure(404, "NotFound", message, details)

    def test_nodes_are_listed(self, api: Api) -> None:
        answer = api.send("GET", "/api/v1/nodes").json()
        assert (answer["kind"], answer["apiVersion"]) == ("NodeList", "v1")

    def test_an_event_can_be_left(self, api: Api, name: str) -> None:
        event = {
            "metadata": {"generateName": f"{name}."},
            "involvedObject": {"kind": "DaemonSet", "name": name, "namespace": api.namespace},
            "reason": "Refused",
            "message": "for a reason",
            "type": "Warning",
        }
        answer = api.send("POST", api.core("events"), event)
        made = answer.json()
        assert answer.status_code == 201
        assert made["metadata"]["name"].startswith(f"{name}.")
        assert (made["eventTime"], made["reportingComponent"]) == (None, "")
        query = {"fieldSelector": f"involvedObject.name={name}"}
        listed = api.send("GET", api.core("events"), query=query).json()
        assert [item["message"] for item in listed["items"]] == ["for a reason"]

    def test_an_event_of_another_namespace(self, api: Api, name: str) -> None:
        event = {"metadata": {"name": name}, "involvedObject": {"namespace": "nowhere"}}
        answer = api.send("POST", api.core("events"), event)
        (cause,) = answer.json()["details"]["causes"]
        assert cause == {
            "reason": "FieldValueInvalid",
            "message": 'Invalid value: "nowhere": does not match event.namespace',
            "field": "involvedObject.namespace",
        }

    # The rest

    def test_nobody_knows_another_token(self, api: Api) -> None:
        answer = api.send("GET", "/apis", headers={"Authorization": "Bearer other"})
        assert answer.status_code == 401
        assert answer.json() == failure(401, "Unauthorized", "Unauthorized")

    @pytest.mark.parametrize("kind", ["apps/v1/trifles", "apps/v9/daemonsets"])
    def test_an_unknown_kind(self, api: Api, kind: str) -> None:
        answer = api.send("GET", f"/apis/{kind}")
        message = "the server could not find the requested resource"
        assert answer.json() == failure(404, "NotFound", message, {})

    @pytest.mark.parametrize("path", ["/none", "/apis/example.com/v1/namespaces/none/services/x"])
    def test_nothing_is_there(self, api: Api, path: str) -> None:
        answer = api.send("GET", path)
        assert (answer.status_code, answer.text) == (404, "404 page not found\n")
        assert answer.headers["Content-Type"].startswith("text/plain")

    def test_a_verb_that_there_is_not(self, api: Api, name: str) -> None:
        answer = api.send("POST", f"{api.apps('daemonsets')}/{name}", daemon_set(name))
        message = "the server does not allow this method on the requested resource"
        assert answer.json() == failure(405, "MethodNotAllowed", message, {})

    def test_groups_and_version(self, api: Api) -> None:
        groups = api.send("GET", "/apis").json()
        assert (groups["kind"], groups["apiVersion"]) == ("APIGroupList", "v1")
        (apps,) = [group for group in groups["groups"] if group["name"] == "apps"]
        version = {"groupVersion": "apps/v1", "version": "v1"}
        assert apps == {"name": "apps", "versions": [version], "preferredVersion": version}
        assert api.send("GET", "/version").json().keys() >= {"major", "minor", "gitVersion"}
        assert api.send("GET", "/readyz").text == "ok"


def assert_invalid(answer: requests.Response, name: str, causes: list[Cause]) -> None:
    """Check the Status of an invalid DaemonSet, word by word."""
    wordings = [f"{where}: {message}" for _, message, where in causes]
    listed = wordings[0] if len(wordings) == 1 else f"[{', '.join(wordings)}]"
    details: Json = {"name": name} if name else {}
    details |= {"group": "apps", "kind": "DaemonSet"}
    details["causes"] = [
        {"reason": reason, "message": message, "field": where} for reason, message, where in causes
    ]
    message = f'DaemonSet.apps "{name}" is invalid: {listed}'
    status = answer.json()
    # The real server tells some causes as often as it looks, which depends on its version.
    status["details"]["causes"] = unique(status["details"]["causes"])
    assert status == failure(422, "Invalid", message, details)
    assert answer.status_code == 422


def unique(items: list[Json]) -> list[Json]:
    """Drop what is there before."""
    return [item for place, item in enumerate(items) if item not in items[:place]]
