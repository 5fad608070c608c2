"""Advice about a valid configuration that is probably a mistake."""

import pytest

from image_puller.errors import ConfigurationError
from tests.support.building import configuration
from tests.support.environment import variables

KNOWN = variables() - {"K_SERVICE", "K_CA_CERTS", "K_CE_OVERRIDES"}
OF_OTHERS = (
    "HOME",
    "PATH",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "HOSTNAME",
    "HOST",
    "LOGNAME",
    "USER",
    "SHELL",
    "PWD",
    "TERM",
    "DEBUG",
    "SERVICE",
    "IMAGE_TAG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "https_proxy",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "KUBECONFIG",
    "K_REVISION",
    "K_CONFIGURATION",
    "PULL_POLICY",
    "NODE_NAME",
    "POD_NAME",
    "POD_IP",
    "POD_NAMESPACE",
    "MY_NAMESPACE",
    "OPERATOR_NAMESPACE",
    "SERVER_PORT",
    "HTTP_PORT",
    "METRICS_PORT",
    "KUBERNETES_PORT",
    "KUBERNETES_PORT_443_TCP",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "KUBERNETES_IMAGE_PULLER_PORT",
    "KUBERNETES_IMAGE_PULLER_SERVICE_HOST",
    "PYTHONUNBUFFERED",
    "GUNICORN_CMD_ARGS",
    "OTEL_LOG_LEVEL",
    "SEGAMI",
)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("KEEPTAGS", "KEEP_TAGS"),
        ("keep_tags", "KEEP_TAGS"),
        ("keepTags", "KEEP_TAGS"),
        ("KEEP-TAGS", "KEEP_TAGS"),
        ("KEEP_TAG", "KEEP_TAGS"),
        ("IMAGE", "IMAGES"),
        ("IMAGE_TAG_POLICY", "IMAGE_TAG_POLICIES"),
        ("IMAGE_PULL_SECRET", "IMAGE_PULL_SECRETS"),
        ("CACHING_INTERVAL", "CACHING_INTERVAL_HOURS"),
        ("CACHING_MEM_LIMIT", "CACHING_MEMORY_LIMIT"),
        ("DEAMONSET_NAME", "DAEMONSET_NAME"),
        ("ROLLOUT_MIN_INTERVAL", "ROLLOUT_MIN_INTERVAL_SECONDS"),
        ("INSECURE_REGISTRY", "INSECURE_REGISTRIES"),
        ("PRIORITY_CLASS", "PRIORITY_CLASS_NAME"),
        ("VERIFY_PUSH", "VERIFY_PUSHES"),
        ("OIDC_AUDIENCES", "OIDC_AUDIENCE"),
        ("LOGLEVEL", "LOG_LEVEL"),
    ],
)
def test_misspelt_variable_is_warned_about(name: str, near: str) -> None:
    assert configuration(**{name: "5"}).advice == (
        f"{name}: the service has no such variable, and ignores it; did you mean {near}?",
    )


@pytest.mark.parametrize("known", sorted(KNOWN))
def test_each_variable_is_found_by_its_name_without_underscores(known: str) -> None:
    misspelt = known.replace("_", "") if "_" in known else f"{known}_"
    (warning,) = configuration(**{misspelt: "5"}).advice
    assert warning.endswith(f"did you mean {known}?")


@pytest.mark.parametrize("name", OF_OTHERS)
def test_variable_of_another_program_is_not_warned_about(name: str) -> None:
    assert configuration(**{name: "5"}).advice == ()


def test_warning_about_a_variable_does_not_have_its_value() -> None:
    assert "s3cret" not in configuration(IMAGE_PULL_SECRET="s3cret").advice[0]


def test_configuration_error_names_the_misspelt_variable_too() -> None:
    with pytest.raises(ConfigurationError) as error:
        configuration(IMAGES="", IMAGE="app=nginx")
    assert str(error.value).splitlines() == [
        "IMAGES: must be set, as name=image;name=image;…",
        "IMAGE: the service has no such variable, and ignores it; did you mean IMAGES?",
    ]


@pytest.mark.parametrize("limit", ["4Mi", "7Mi", "11.9Mi", "12M", "5e6", "1"])
def test_memory_limit_below_what_runtimes_need_is_warned_about(limit: str) -> None:
    config = configuration(CACHING_MEMORY_REQUEST="0", CACHING_MEMORY_LIMIT=limit)
    warning = (
        f"CACHING_MEMORY_LIMIT: with {limit} containers may not start; set 12Mi or more: "
        "CRI-O accepts no less, and runc 1.1 fails below 8Mi"
    )
    assert config.advice == (warning,)


@pytest.mark.parametrize("limit", ["12Mi", "12288Ki", "20Mi", "1Gi", "0"])
def test_memory_limit_that_runtimes_accept_is_not_warned_about(limit: str) -> None:
    config = configuration(CACHING_MEMORY_REQUEST="0", CACHING_MEMORY_LIMIT=limit)
    assert config.advice == ()
