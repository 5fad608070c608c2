"""Tests of the configuration from environment variables."""

import dataclasses
import json
from datetime import timedelta
from pathlib import Path

import pytest

from image_puller import __version__
from image_puller.config.configuration import (
    Config,
    EventAuth,
    Google,
    HoldBy,
    LogFormat,
    LogLevel,
    Oidc,
    ReadAuth,
    Resources,
    Sink,
    from_environ,
)
from image_puller.config.startup_taint import StartupTaint
from image_puller.core import daemonset
from image_puller.errors import ConfigurationError
from image_puller.events.sources import SOURCES
from tests.support.building import configuration
from tests.support.tls import self_signed

SLEEP_IMAGE = f"quay.io/kubernetes-image-puller/kubernetes-image-puller-sleep:{__version__}"
IMAGES = "app=quay.io/org/app:1.2.3"

DEFAULTS: dict[str, object] = {
    "group": None,
    "groups": (),
    "group_names": (),
    "installation": "kubernetes-image-puller",
    "warnings": (),
    "advice": (),
    "keep_tags": 2,
    "caching_interval": timedelta(hours=1),
    "resources": Resources(
        memory_request="10Mi", memory_limit="20Mi", cpu_request=".05", cpu_limit=".2"
    ),
    "daemonset_name": "kubernetes-image-puller",
    "namespace": "k8s-image-puller",
    "deployment_name": "kubernetes-image-puller",
    "node_selector": {},
    "affinity": {},
    "tolerations": (),
    "daemonset_annotations": {},
    "image_pull_secrets": (),
    "kip_image": SLEEP_IMAGE,
    "hold_by": HoldBy.AUTO,
    "rollout_min_interval": timedelta(seconds=10),
    "rollout_max_unavailable": "100%",
    "rollout_seed_nodes": 0,
    "node_startup_taint": None,
    "node_startup_timeout": timedelta(seconds=600),
    "priority_class_name": None,
    "pod_labels": {},
    "pod_annotations": {},
    "pod_service_account": None,
    "runtime_class_name": None,
    "host_network": False,
    "registry_aliases": (),
    "webhook_registries": {},
    "webhook_secrets_dir": Path("/etc/image-puller/secrets"),
    "event_auth": EventAuth.TOKEN,
    "oidc": None,
    "google": None,
    "read_auth": ReadAuth.TOKEN,
    "ask_registries": True,
    "verify_pushes": False,
    "registry_ca_file": {},
    "insecure_registries": (),
    "port": 8080,
    "knative_service": None,
    "sink": None,
    "log_level": LogLevel.INFO,
    "log_format": LogFormat.TEXT,
}


def problems_of(**environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        from_environ({"IMAGES": IMAGES} | environ)
    return str(error.value).split("\n")


@pytest.mark.parametrize(("field", "value"), DEFAULTS.items())
def test_unset_variable_has_its_default(field: str, value: object) -> None:
    assert getattr(from_environ({"IMAGES": IMAGES}), field) == value


def test_table_of_defaults_is_complete() -> None:
    fields = {field.name for field in dataclasses.fields(Config)}

    assert fields == {*DEFAULTS, "entries"}


VALUES: list[tuple[str, str, str, object]] = [
    ("KEEP_TAGS", "20", "keep_tags", 20),
    ("LOG_LEVEL", "warning", "log_level", LogLevel.WARNING),
    ("LOG_LEVEL", "DEBUG", "log_level", LogLevel.DEBUG),
    ("LOG_FORMAT", "json", "log_format", LogFormat.JSON),
    ("ASK_REGISTRIES", "false", "ask_registries", False),
    ("VERIFY_PUSHES", "True", "verify_pushes", True),
    ("REGISTRY_CA_FILE", __file__, "registry_ca_file", {None: Path(__file__)}),
    (
        "REGISTRY_CA_FILE",
        f"A.local:5000={__file__}; index.docker.io = {__file__};",
        "registry_ca_file",
        {"a.local:5000": Path(__file__), "docker.io": Path(__file__)},
    ),
    ("INSECURE_REGISTRIES", "a:5000; B.local ;", "insecure_registries", ("a:5000", "b.local")),
    ("CACHING_INTERVAL_HOURS", "24", "caching_interval", timedelta(days=1)),
    ("CACHING_INTERVAL_HOURS", "0.5", "caching_interval", timedelta(minutes=30)),
    ("DAEMONSET_NAME", "my.puller", "daemonset_name", "my.puller"),
    ("NAMESPACE", "images", "namespace", "images"),
    ("DEPLOYMENT_NAME", "puller.v2", "deployment_name", "puller.v2"),
    ("NODE_SELECTOR", '{"pool": "ci"}', "node_selector", {"pool": "ci"}),
    ("NODE_SELECTOR", "null", "node_selector", {}),
    ("AFFINITY", "{}", "affinity", {}),
    ("AFFINITY", '{"nodeAffinity": {}}', "affinity", {"nodeAffinity": {}}),
    ("TOLERATIONS", '[{"operator": "Exists"}]', "tolerations", ({"operator": "Exists"},)),
    ("TOLERATIONS", "[]", "tolerations", ()),
    ("DAEMONSET_ANNOTATIONS", '{"a/b": "c"}', "daemonset_annotations", {"a/b": "c"}),
    ("IMAGE_PULL_SECRETS", "quay; hub.docker ;", "image_pull_secrets", ("quay", "hub.docker")),
    ("KIP_IMAGE", "mirror.local/sleep:1", "kip_image", "mirror.local/sleep:1"),
    ("HOLD_BY", "volumes", "hold_by", HoldBy.VOLUMES),
    ("ROLLOUT_MIN_INTERVAL_SECONDS", "0", "rollout_min_interval", timedelta(0)),
    ("ROLLOUT_MAX_UNAVAILABLE", "3", "rollout_max_unavailable", 3),
    ("ROLLOUT_MAX_UNAVAILABLE", "10%", "rollout_max_unavailable", "10%"),
    ("ROLLOUT_SEED_NODES", "3", "rollout_seed_nodes", 3),
    ("ROLLOUT_SEED_NODES", "0", "rollout_seed_nodes", 0),
    (
        "NODE_STARTUP_TAINT",
        "image-puller.io/startup:NoSchedule",
        "node_startup_taint",
        StartupTaint(key="image-puller.io/startup", value=None, effect="NoSchedule"),
    ),
    (
        "NODE_STARTUP_TAINT",
        "startup=images:NoExecute",
        "node_startup_taint",
        StartupTaint(key="startup", value="images", effect="NoExecute"),
    ),
    ("NODE_STARTUP_TIMEOUT_SECONDS", "90", "node_startup_timeout", timedelta(seconds=90)),
    ("NODE_STARTUP_TIMEOUT_SECONDS", "0", "node_startup_timeout", None),
    ("PRIORITY_CLASS_NAME", "low", "priority_class_name", "low"),
    ("POD_LABELS", '{"team": ""}', "pod_labels", {"team": ""}),
    ("POD_LABELS", '{"a.b/T_m": "V-1.x"}', "pod_labels", {"a.b/T_m": "V-1.x"}),
    ("POD_LABELS", "null", "pod_labels", {}),
    ("POD_ANNOTATIONS", '{"a.b/c": "x y\\n"}', "pod_annotations", {"a.b/c": "x y\n"}),
    ("POD_ANNOTATIONS", '{"A.b/C": ""}', "pod_annotations", {"A.b/C": ""}),
    ("POD_SERVICE_ACCOUNT", "images", "pod_service_account", "images"),
    ("RUNTIME_CLASS_NAME", "kata.v2", "runtime_class_name", "kata.v2"),
    ("HOST_NETWORK", "true", "host_network", True),
    ("REGISTRY_ALIASES", "a.b=c.d/e;f=g/", "registry_aliases", (("a.b", "c.d/e"), ("f", "g"))),
    ("REGISTRY_ALIASES", "A.B/x=[::1]:5000", "registry_aliases", (("a.b/x", "[::1]:5000"),)),
    ("REGISTRY_ALIASES", "index.docker.io=M", "registry_aliases", (("docker.io", "M"),)),
    ("WEBHOOK_REGISTRIES", "quay=Quay.io/org/", "webhook_registries", {"quay": "quay.io/org"}),
    ("WEBHOOK_SECRETS_DIR", "/run/secrets", "webhook_secrets_dir", Path("/run/secrets")),
    ("EVENT_AUTH", "none", "event_auth", EventAuth.NONE),
    ("EVENT_AUTH", "token", "event_auth", EventAuth.TOKEN),
    ("READ_AUTH", "none", "read_auth", ReadAuth.NONE),
    ("PORT", "65535", "port", 65535),
    ("K_SERVICE", "image-puller", "knative_service", "image-puller"),
    *(
        ("K_SINK", url, "sink", Sink(url=url, ca_certs=None, extensions={}))
        for url in (
            "http://broker-ingress.knative-eventing.svc.cluster.local/images/default",
            "https://[::1]:8443?code=a/b",
        )
    ),
]


@pytest.mark.parametrize(("variable", "text", "field", "value"), VALUES)
def test_variable_is_parsed(variable: str, text: str, field: str, value: object) -> None:
    environ = {"ASK_REGISTRIES": "true", variable: text}
    assert getattr(configuration(**environ), field) == value


@pytest.mark.parametrize(("variable", "text", "field", "value"), VALUES)
def test_white_space_around_a_value_is_removed(
    variable: str, text: str, field: str, value: object
) -> None:
    environ = {"ASK_REGISTRIES": "true", variable: text}
    assert configuration(**environ | {variable: f" {text}\n"}) == configuration(**environ)


@pytest.mark.parametrize("variable", sorted({row[0] for row in VALUES} | {"IMAGE_TAG_POLICIES"}))
@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_empty_variable_counts_as_unset(variable: str, text: str) -> None:
    assert from_environ({"IMAGES": IMAGES, variable: text}) == from_environ({"IMAGES": IMAGES})


def test_resources_are_parsed() -> None:
    config = configuration(
        CACHING_MEMORY_REQUEST="1Mi",
        CACHING_MEMORY_LIMIT="5Mi\n",
        CACHING_CPU_REQUEST="1m",
        CACHING_CPU_LIMIT="1",
    )

    assert config.resources == Resources(
        memory_request="1Mi", memory_limit="5Mi", cpu_request="1m", cpu_limit="1"
    )


def test_requests_and_limits_can_be_left_out() -> None:
    limits = {"CACHING_MEMORY_LIMIT": "none", "CACHING_CPU_LIMIT": " none\n"}

    assert configuration(**limits).resources == Resources(
        memory_request="10Mi", memory_limit=None, cpu_request=".05", cpu_limit=None
    )
    requests = {"CACHING_MEMORY_REQUEST": "none", "CACHING_CPU_REQUEST": "none"}
    assert configuration(**requests).resources == Resources(
        memory_request=None, memory_limit="20Mi", cpu_request=None, cpu_limit=".2"
    )


def test_request_without_a_limit_has_no_upper_bound() -> None:
    config = configuration(CACHING_MEMORY_REQUEST="1Gi", CACHING_MEMORY_LIMIT="none")

    assert config.resources.memory_request == "1Gi"


def test_request_may_equal_its_limit_in_another_unit() -> None:
    config = configuration(CACHING_CPU_REQUEST="200m", CACHING_MEMORY_REQUEST="20480Ki")

    assert config.resources.cpu_request == "200m"


def test_images_and_their_policies_are_parsed() -> None:
    config = configuration(
        IMAGES="\n  app=quay.io/org/app:1.2.3;\n  web=nginx;\n", IMAGE_TAG_POLICIES="web=any;"
    )

    assert [(e.name, e.image, e.policy.text) for e in config.entries] == [
        ("app", "quay.io/org/app:1.2.3", "auto"),
        ("web", "nginx", "any"),
    ]
    assert config.entry("web") == config.entries[1]


def test_malformed_entry_is_a_warning() -> None:
    config = configuration(IMAGES=f"{IMAGES};oops")

    assert config.warnings == ("IMAGES: 'oops': not of the form name=image; the entry is ignored",)
    assert [entry.name for entry in config.entries] == ["app"]


@pytest.mark.parametrize(
    ("text", "pod", "namespace"),
    [
        (None, "mine", "mine"),
        ("configured", "mine", "configured"),
        ("configured", None, "configured"),
        ("", "mine", "mine"),
    ],
)
def test_namespace_defaults_to_that_of_the_pod(
    text: str | None, pod: str | None, namespace: str
) -> None:
    environ = {"IMAGES": IMAGES} | ({} if text is None else {"NAMESPACE": text})

    assert from_environ(environ, pod_namespace=pod).namespace == namespace


OIDC = {"EVENT_AUTH": "oidc", "OIDC_AUDIENCE": "puller"}
OWN_SUBJECTS = ("system:serviceaccount:k8s-image-puller:*",)


def test_tokens_of_the_own_namespace_are_accepted_by_default() -> None:
    config = configuration(**OIDC)

    assert config.event_auth is EventAuth.OIDC
    assert config.oidc == Oidc(audience="puller", issuer=None, keys=None, subjects=OWN_SUBJECTS)
    other = configuration(**OIDC, NAMESPACE="a").oidc
    assert other is not None
    assert other.subjects == ("system:serviceaccount:a:*",)


@pytest.mark.parametrize(
    ("variables", "field", "value"),
    [
        ({"OIDC_ISSUER": "https://a.b:1/c/d"}, "issuer", "https://a.b:1/c/d"),
        (
            {"OIDC_ISSUER": "https://a", "OIDC_KEYS": "https://[::1]/keys"},
            "keys",
            "https://[::1]/keys",
        ),
        ({"OIDC_ISSUER": "https://a", "OIDC_KEYS": "/k/jwks"}, "keys", Path("/k/jwks")),
        ({"OIDC_SUBJECTS": "a; b:* ;"}, "subjects", ("a", "b:*")),
    ],
)
def test_oidc_variables_are_parsed(variables: dict[str, str], field: str, value: object) -> None:
    assert getattr(configuration(**OIDC, **variables).oidc, field) == value


def test_oidc_variables_are_ignored_without_oidc() -> None:
    assert configuration(OIDC_AUDIENCE="a b", OIDC_KEYS="no") == configuration()


def test_google_variables_are_parsed() -> None:
    config = configuration(GAR_AUDIENCE="https://a/b", GAR_SERVICE_ACCOUNT="a-b@c.d")

    assert config.google == Google(audience="https://a/b", service_account="a-b@c.d")


NOT_PRINTABLE = "must be of printable ASCII without spaces, 512 characters at most, not "
NOT_A_URL = "must be a URL such as https://host/path, not "


@pytest.mark.parametrize(
    ("variables", "problems"),
    [
        (
            {"OIDC_AUDIENCE": ""},
            [
                (
                    "OIDC_AUDIENCE: must be set where EVENT_AUTH is oidc, to the audience that "
                    "senders' tokens are issued for"
                )
            ],
        ),
        ({"OIDC_AUDIENCE": "a b"}, [f"OIDC_AUDIENCE: {NOT_PRINTABLE}'a b'"]),
        ({"OIDC_AUDIENCE": "ä"}, [f"OIDC_AUDIENCE: {NOT_PRINTABLE}'ä'"]),
        *(
            ({"OIDC_ISSUER": text}, [f"OIDC_ISSUER: {NOT_A_URL}{text!r}"])
            for text in ("kubernetes", "http://a", "https://", "https://a@b", "https://a?b=c")
        ),
        *(
            (
                {"OIDC_ISSUER": "https://a", "OIDC_KEYS": text},
                [f"OIDC_KEYS: {NOT_A_URL}{text!r}, nor the absolute path of a file"],
            )
            for text in ("jwks.json", "http://a/keys", "file:///keys", "https://a/#b")
        ),
        ({"OIDC_KEYS": "/keys"}, ["OIDC_ISSUER: must be set where OIDC_KEYS is"]),
        (
            {"OIDC_KEYS": "keys"},
            [
                f"OIDC_KEYS: {NOT_A_URL}'keys', nor the absolute path of a file",
                "OIDC_ISSUER: must be set where OIDC_KEYS is",
            ],
        ),
        ({"OIDC_SUBJECTS": ";"}, ["OIDC_SUBJECTS: has no subject"]),
        ({"OIDC_SUBJECTS": "a b"}, [f"OIDC_SUBJECTS: {NOT_PRINTABLE}'a b'"]),
        *(
            (
                {"OIDC_SUBJECTS": f"a;{text}"},
                [f"OIDC_SUBJECTS: a * is allowed only at the end, after a prefix: {text!r}"],
            )
            for text in ("*", "*a", "a*b", "a**")
        ),
        ({"GAR_AUDIENCE": "a"}, ["GAR_SERVICE_ACCOUNT: must be set where GAR_AUDIENCE is"]),
        (
            {"GAR_SERVICE_ACCOUNT": "a@b"},
            ["GAR_AUDIENCE: must be set where GAR_SERVICE_ACCOUNT is"],
        ),
        (
            {"GAR_AUDIENCE": "a b", "GAR_SERVICE_ACCOUNT": "a@b"},
            [f"GAR_AUDIENCE: {NOT_PRINTABLE}'a b'"],
        ),
        *(
            (
                {"GAR_AUDIENCE": "a", "GAR_SERVICE_ACCOUNT": text},
                [f"GAR_SERVICE_ACCOUNT: must be an e-mail address, not {text!r}"],
            )
            for text in ("a", "a@", "@b", "a@b@c", "a b@c")
        ),
    ],
)
def test_malformed_oidc_and_google_variables_are_rejected(
    variables: dict[str, str], problems: list[str]
) -> None:
    assert problems_of(**(OIDC | variables)) == problems


NAME = "must be a name of lower-case letters, digits and '-', 63 characters at most, not "
NAME_63 = "must be a name of lower-case letters, digits, '-' and '.', 63 characters at most, not "
NAME_253 = NAME_63.replace("63", "253")
URL = "must be a URL such as http://host/path, not "
NO_EXTENSION = (
    "is not the name of an extension: lower-case letters and digits, 20 at most, and no attribute "
    "of CloudEvents"
)
TAINT_FORM = "must be key:Effect or key=value:Effect"
NO_NAME = "is not a name such as team or example.com/team"
LABEL_VALUE = (
    "must be of letters, digits, '-', '_' and '.', with a letter or digit at both ends, "
    "63 characters at most, not "
)
OWN = "is not allowed: the service or Kubernetes sets it itself"
QUANTITY = "must be a Kubernetes quantity such as 10Mi or .05, or none, not "
HOURS = "must be a number of hours above 0, such as 1 or 0.5, 100000 at most, not "
NOT_JSON = "is not JSON (Expecting value: line 1 column 1 (char 0)): "
PAIRS = "must be a list of name=value;…; "
NODES = "must be a number of nodes or a percentage from 1% to 100%, not "
KNOWN_SOURCES = ", ".join(sorted(SOURCES))
IGNORED = "the entry is ignored"
NO_ENTRY = f"not of the form name=image; {IGNORED}"
POLICIES = "auto, exact, any, pinned, semver:<range>, glob:<pattern>, regex:<pattern>"
NO_SLEEP = (
    "is an image of the original puller, which has no /sleep; leave the variable out, "
    f"or name this project's sleep image ({SLEEP_IMAGE})"
)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("IMAGES", "", "must be set, as name=image;name=image;…"),
        ("IMAGES", " \n", "must be set, as name=image;name=image;…"),
        ("IMAGES", ";", "has no valid entry"),
        (
            "IMAGES",
            "a:1;B=c",
            f"has no valid entry; IMAGES: 'a:1': {NO_ENTRY}; IMAGES: 'B=c': {NAME}'B'; {IGNORED}",
        ),
        ("IMAGE_TAG_POLICIES", "app", f"{PAIRS}'app' is not of that form"),
        ("IMAGE_TAG_POLICIES", "app=any;app=auto", "'app' is set twice"),
        ("IMAGE_TAG_POLICIES", "app=new", f"app: 'new' is not one of the policies {POLICIES}"),
        ("KEEP_TAGS", "0", "must be a whole number from 1 to 20, not '0'"),
        ("KEEP_TAGS", "21", "must be a whole number from 1 to 20, not '21'"),
        ("CACHING_INTERVAL_HOURS", "0", f"{HOURS}'0'"),
        ("CACHING_INTERVAL_HOURS", "-1", f"{HOURS}'-1'"),
        ("CACHING_INTERVAL_HOURS", "1h", f"{HOURS}'1h'"),
        ("CACHING_INTERVAL_HOURS", "200000", f"{HOURS}'200000'"),
        ("CACHING_MEMORY_REQUEST", "10MB", f"{QUANTITY}'10MB'"),
        ("CACHING_MEMORY_LIMIT", "-1", f"{QUANTITY}'-1'"),
        ("CACHING_CPU_REQUEST", "a", f"{QUANTITY}'a'"),
        ("CACHING_CPU_LIMIT", "1 m", f"{QUANTITY}'1 m'"),
        ("CACHING_CPU_LIMIT", "None", f"{QUANTITY}'None'"),
        ("CACHING_MEMORY_REQUEST", "30Mi", "30Mi is more than CACHING_MEMORY_LIMIT, 20Mi"),
        ("CACHING_CPU_REQUEST", "201m", "201m is more than CACHING_CPU_LIMIT, .2"),
        ("DAEMONSET_NAME", "My_Puller", f"{NAME_63}'My_Puller'"),
        ("DAEMONSET_NAME", "a" * 64, f"{NAME_63}'{'a' * 64}'"),
        ("NAMESPACE", "a.b", f"{NAME}'a.b'"),
        ("DEPLOYMENT_NAME", "a..b", f"{NAME_253}'a..b'"),
        ("NODE_SELECTOR", "pool=ci", f"{NOT_JSON}'pool=ci'"),
        ("NODE_SELECTOR", "[]", "must be a JSON object, not '[]'"),
        ("NODE_SELECTOR", '{"a": true}', "must be a JSON object of strings; 'a' is True"),
        ("AFFINITY", "yes", f"{NOT_JSON}'yes'"),
        ("AFFINITY", "[]", "must be a JSON object, not '[]'"),
        (
            "AFFINITY",
            '{"nodeaffinity": {}}',
            "'nodeaffinity' is not one of nodeAffinity, podAffinity, podAntiAffinity",
        ),
        ("TOLERATIONS", "all", f"{NOT_JSON}'all'"),
        ("TOLERATIONS", "{}", "must be a JSON array of objects, not '{}'"),
        ("TOLERATIONS", '["a"]', "must be a JSON array of objects, not '[\"a\"]'"),
        ("DAEMONSET_ANNOTATIONS", "a: b", f"{NOT_JSON}'a: b'"),
        ("DAEMONSET_ANNOTATIONS", '{"a": 1}', "must be a JSON object of strings; 'a' is 1"),
        ("DAEMONSET_ANNOTATIONS", '{"a b": ""}', f"'a b' {NO_NAME}"),
        *(
            ("DAEMONSET_ANNOTATIONS", json.dumps({key: "1"}), f"{key!r} {OWN}")
            for key in (
                daemonset.STATE,
                daemonset.DIGESTS,
                "image-puller.io/anything",
                "deprecated.daemonset.template.generation",
            )
        ),
        ("LOG_LEVEL", "trace", "must be debug or info or warning or error, not 'trace'"),
        ("LOG_FORMAT", "yaml", "must be text or json, not 'yaml'"),
        ("IMAGE_PULL_SECRETS", "a,b", f"{NAME_253}'a,b'"),
        ("KIP_IMAGE", "A", "'A' is not an image reference: the repository must be in lower case"),
        *(
            ("KIP_IMAGE", image, f"{image} {NO_SLEEP}")
            for image in (
                "quay.io/eclipse/kubernetes-image-puller:next",
                "Quay.io/eclipse/kubernetes-image-puller",
                "registry.redhat.io/devspaces/imagepuller-rhel8:3.16",
                "registry.redhat.io/devspaces/imagepuller-rhel9",
            )
        ),
        (
            "ROLLOUT_MIN_INTERVAL_SECONDS",
            "10s",
            "must be a number of seconds, such as 10 or 0, not '10s'",
        ),
        ("ROLLOUT_MAX_UNAVAILABLE", "0", f"{NODES}'0'"),
        ("ROLLOUT_MAX_UNAVAILABLE", "200%", f"{NODES}'200%'"),
        ("PRIORITY_CLASS_NAME", "Low", f"{NAME_253}'Low'"),
        ("POD_LABELS", "team=a", f"{NOT_JSON}'team=a'"),
        ("POD_LABELS", '{"a": 1}', "must be a JSON object of strings; 'a' is 1"),
        *(
            ("POD_LABELS", json.dumps({key: "x"}), f"{key[:80]!r} {NO_NAME}")
            for key in ("", "a b", "/a", "a/", "a/b/c", "A.b/c", "-a", "a_", "a" * 64)
        ),
        ("POD_LABELS", json.dumps({f"{'a.' * 127}a/b": ""}), f"'{'a.' * 40}' {NO_NAME}"),
        ("POD_LABELS", '{"team": "a b"}', f"the value of 'team' {LABEL_VALUE}'a b'"),
        ("POD_LABELS", '{"team": "a."}', f"the value of 'team' {LABEL_VALUE}'a.'"),
        (
            "POD_LABELS",
            json.dumps({"team": "a" * 64}),
            f"the value of 'team' {LABEL_VALUE}'{'a' * 64}'",
        ),
        *(
            ("POD_LABELS", json.dumps({"a": "b", key: "x"}), f"{key!r} {OWN}")
            for key in (
                "app.kubernetes.io/name",
                "image-puller.io/daemonset",
                "image-puller.io/other",
                "sidecar.istio.io/inject",
                "controller-revision-hash",
                "pod-template-generation",
            )
        ),
        ("POD_ANNOTATIONS", "a: b", f"{NOT_JSON}'a: b'"),
        ("POD_ANNOTATIONS", '{"a b": ""}', f"'a b' {NO_NAME}"),
        *(
            ("POD_ANNOTATIONS", json.dumps({key: "x"}), f"{key!r} {OWN}")
            for key in (
                "image-puller.io/digests",
                "image-puller.io/pulled-again",
                "image-puller.io/state",
                "sidecar.istio.io/inject",
            )
        ),
        ("NODE_STARTUP_TAINT", "startup", f"{TAINT_FORM}, not 'startup'"),
        ("NODE_STARTUP_TAINT", ":NoSchedule", f"{TAINT_FORM}, not ':NoSchedule'"),
        (
            "NODE_STARTUP_TAINT",
            "startup:PreferNoSchedule",
            (
                "the effect must be NoSchedule or NoExecute, which keep pods from a node, "
                "not 'PreferNoSchedule'"
            ),
        ),
        ("NODE_STARTUP_TAINT", "a b:NoSchedule", f"{TAINT_FORM}: 'a b' {NO_NAME}"),
        (
            "NODE_STARTUP_TIMEOUT_SECONDS",
            "10m",
            "must be a number of seconds, such as 10 or 0, not '10m'",
        ),
        ("POD_SERVICE_ACCOUNT", "A", f"{NAME_253}'A'"),
        ("RUNTIME_CLASS_NAME", "a/b", f"{NAME_253}'a/b'"),
        ("HOST_NETWORK", "yes", "must be true or false, not 'yes'"),
        ("REGISTRY_ALIASES", "a.b", f"{PAIRS}'a.b' is not of that form"),
        ("REGISTRY_ALIASES", "a=b;a=c", "'a' is set twice"),
        ("REGISTRY_ALIASES", "https://a.b=c", "'https://a.b' is not of the form host or host/path"),
        ("REGISTRY_ALIASES", "a=b//c", "'b//c' is not of the form host or host/path"),
        ("REGISTRY_ALIASES", "/a=b", "'/a' is not of the form host or host/path"),
        ("WEBHOOK_REGISTRIES", "quay.io", f"{PAIRS}'quay.io' is not of that form"),
        ("WEBHOOK_REGISTRIES", "kwai=quay.io", f"'kwai' is not one of {KNOWN_SOURCES}"),
        (
            "WEBHOOK_REGISTRIES",
            "quay=https://quay.io",
            "'https://quay.io' is not of the form host or host/path",
        ),
        ("REGISTRY_CA_FILE", "/no/file", "'/no/file' is not a file"),
        ("REGISTRY_CA_FILE", "no-file", "'no-file' is not a file"),
        (
            "REGISTRY_CA_FILE",
            f"a.b=/no/file; c.d/e={__file__}; f.g={__file__}; F.g=/; h=/none;",
            (
                "'/no/file' is not a file; 'c.d/e' is not of the form host or host:port; "
                "'F.g' is set twice; '/' is not a file; '/none' is not a file"
            ),
        ),
        ("REGISTRY_CA_FILE", f"a.b={__file__};x", f"{PAIRS}'x' is not of that form"),
        ("INSECURE_REGISTRIES", "a/b", "'a/b' is not of the form host or host:port"),
        ("EVENT_AUTH", "None", "must be token or oidc or none, not 'None'"),
        ("READ_AUTH", "basic", "must be token or none, not 'basic'"),
        ("PORT", "0", "must be a whole number from 1 to 65535, not '0'"),
        (
            "PORT",
            "tcp://10.0.0.1:80",
            "must be a whole number from 1 to 65535, not 'tcp://10.0.0.1:80'",
        ),
        ("K_SERVICE", "a b", f"{NAME_253}'a b'"),
        ("K_SINK", "broker", f"{URL}'broker'"),
        ("K_SINK", "http://user:word@host/", f"{URL}'http://user:word@host/'"),
        ("K_CE_OVERRIDES", "[]", "must be a JSON object, not '[]'"),
        ("K_CE_OVERRIDES", '{"extensions": [1]}', "extensions must be an object, not [1]"),
        ("K_CE_OVERRIDES", '{"extensions": {"A": "b"}}', f"'A' {NO_EXTENSION}"),
        ("K_CE_OVERRIDES", '{"extensions": {"id": "b"}}', f"'id' {NO_EXTENSION}"),
        ("K_CE_OVERRIDES", '{"extensions": {"a": 1}}', "the value of a must be a string, not 1"),
    ],
)
def test_error_names_the_variable_and_the_expected_form(
    variable: str, text: str, message: str
) -> None:
    assert problems_of(**{variable: text}) == [f"{variable}: {message}"]


def test_knative_adds_extensions_and_certificates_to_the_sink(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path).read_text().strip()
    config = configuration(
        K_SINK="https://sink.example.com",
        K_CA_CERTS=certificate,
        K_CE_OVERRIDES='{"extensions": {"team": "ci"}}',
    )
    expected = Sink(url="https://sink.example.com", ca_certs=certificate, extensions={"team": "ci"})
    assert config.sink == expected


def test_certificates_that_can_not_be_read_are_a_problem() -> None:
    (problem,) = problems_of(K_CA_CERTS="no PEM")
    assert problem.startswith("K_CA_CERTS: must be certificates in PEM: ")


def test_all_problems_are_reported_together() -> None:
    problems = problems_of(
        IMAGES="",
        IMAGE_TAG_POLICIES="x",
        KEEP_TAGS="many",
        NODE_SELECTOR="[]",
        CACHING_MEMORY_LIMIT="1Mi",
        CACHING_CPU_LIMIT="all",
        PORT="80a",
    )

    assert [problem.partition(":")[0] for problem in problems] == [
        "IMAGE_TAG_POLICIES",
        "IMAGES",
        "KEEP_TAGS",
        "CACHING_MEMORY_REQUEST",
        "CACHING_CPU_LIMIT",
        "NODE_SELECTOR",
        "PORT",
    ]


def test_verification_needs_the_permission_to_ask_registries() -> None:
    assert problems_of(VERIFY_PUSHES="true", ASK_REGISTRIES="false") == [
        "VERIFY_PUSHES: must not be true where ASK_REGISTRIES is false"
    ]


def test_malformed_value_causes_no_second_problem() -> None:
    assert problems_of(CACHING_MEMORY_REQUEST="30Mi", CACHING_MEMORY_LIMIT="bogus") == [
        f"CACHING_MEMORY_LIMIT: {QUANTITY}'bogus'"
    ]


def test_malformed_policy_of_the_only_entry_is_the_only_problem() -> None:
    assert len(problems_of(IMAGE_TAG_POLICIES="app=semver:x.y")) == 1


def test_configuration_is_immutable() -> None:
    field = "port"
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(configuration(), field, 1)


def test_other_variables_are_ignored() -> None:
    read = configuration(HOME="/root", images="x", PATH="/bin", HTTPS_PROXY="http://proxy")
    assert dataclasses.replace(read, advice=()) == configuration()
