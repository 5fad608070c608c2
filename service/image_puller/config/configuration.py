"""The configuration of the service, read once from environment variables.

The variables of the original Kubernetes Image Puller keep their names and formats.
`docs/configuration.md` describes all variables.
"""

import re
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum, auto
from pathlib import Path
from typing import Any, TypeVar

from image_puller import __version__, limits
from image_puller.config import advice, groups, startup_taint, variables
from image_puller.config.entries import Entry, names_in, parse_entries
from image_puller.config.startup_taint import StartupTaint
from image_puller.errors import ConfigurationError
from image_puller.events.sources import SOURCES
from image_puller.values import quantity
from image_puller.values.reference import normalise_name, parse

Value = TypeVar("Value")
Default = TypeVar("Default")

SLEEP_IMAGE = f"quay.io/kubernetes-image-puller/kubernetes-image-puller-sleep:{__version__}"
ORIGINAL_IMAGES = (
    "quay.io/eclipse/kubernetes-image-puller",
    "registry.redhat.io/devspaces/imagepuller-rhel8",
    "registry.redhat.io/devspaces/imagepuller-rhel9",
)
_PREFIX = re.compile(r"[A-Za-z0-9.:\[\]_-]+(/[a-z0-9._-]+)*")
_EMAIL = re.compile(r"[!-?A-~]+@[A-Za-z0-9.-]+", re.ASCII)
_LABEL_VALUE_CHARACTERS = 63
_OWN_PREFIX = "image-puller.io/"
_OWN_LABELS = frozenset(
    {
        "app.kubernetes.io/name",
        "sidecar.istio.io/inject",
        "controller-revision-hash",  # this and the next: set by the DaemonSet controller
        "pod-template-generation",
    }
)
_OWN_ANNOTATIONS = frozenset({"sidecar.istio.io/inject"})
_DAEMONSET_GENERATION = "deprecated.daemonset.template.generation"
_AFFINITIES = ("nodeAffinity", "podAffinity", "podAntiAffinity")
_OIDC = ("OIDC_AUDIENCE", "OIDC_ISSUER", "OIDC_KEYS", "OIDC_SUBJECTS")
_SET_BY_KNATIVE = frozenset({"K_SERVICE", "K_CA_CERTS", "K_CE_OVERRIDES"})
_EXTENSION = re.compile(r"[a-z0-9]{1,20}", re.ASCII)
_ATTRIBUTES = frozenset(
    {
        "data",
        "datacontenttype",
        "dataschema",
        "id",
        "source",
        "specversion",
        "subject",
        "time",
        "type",
    }
)


class EventAuth(StrEnum):
    """How senders authenticate at `POST /`."""

    TOKEN = auto()
    OIDC = auto()
    NONE = auto()


class ReadAuth(StrEnum):
    """How readers authenticate at `/status` and `/metrics`."""

    TOKEN = auto()
    NONE = auto()


class HoldBy(StrEnum):
    """How images whose tag does not move are held."""

    CONTAINERS = auto()
    VOLUMES = auto()
    AUTO = auto()
    """By volumes where the cluster and all selected nodes can, else by containers."""


class LogLevel(StrEnum):
    """The least level of a line in the log."""

    DEBUG = auto()
    INFO = auto()
    WARNING = auto()
    ERROR = auto()


class LogFormat(StrEnum):
    """The format of all lines in the log."""

    TEXT = auto()
    JSON = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """The requests and limits of each container of the DaemonSet, as Kubernetes quantities.

    None leaves one out.
    """

    memory_request: str | None
    memory_limit: str | None
    cpu_request: str | None
    cpu_limit: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Oidc:
    """Which OpenID Connect tokens are accepted at `POST /`.

    `keys` is the https URL or the file of the issuer's keys. None means the API server's keys.
    `issuer` is None only without `keys`, and then means the API server's issuer.
    A subject may end in `*`.
    """

    audience: str
    issuer: str | None
    keys: str | Path | None
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Google:
    """Which of Google's tokens are accepted at `/webhooks/gar`.

    `service_account` is the e-mail address of the account that Pub/Sub signs as.
    """

    audience: str
    service_account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """Where the service sends CloudEvents.

    `ca_certs` has certificates in PEM that are trusted beside the usual ones, or is None.
    `extensions` are attributes of each event.
    """

    url: str
    ca_certs: str | None
    extensions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The values of all variables, for one group.

    `group` is its name, or None for the group of `IMAGES`, whose `groups` has the named ones.
    `group_names` has the names of all groups, and `installation` is `DAEMONSET_NAME`.
    `tolerations` has that of `node_startup_taint` too. `node_startup_timeout` is None where nodes
    wait without an end.
    `warnings` are about single malformed entries. `advice` is about what is valid, but probably a
    mistake. The key None of `registry_ca_file` means all registries.
    """

    group: str | None
    groups: "tuple[Config, ...]"
    group_names: tuple[str, ...]
    installation: str
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...]
    advice: tuple[str, ...]
    keep_tags: int
    caching_interval: timedelta
    resources: Resources
    daemonset_name: str
    namespace: str
    deployment_name: str
    node_selector: Mapping[str, str]
    affinity: Mapping[str, Any]
    tolerations: tuple[Mapping[str, Any], ...]
    node_startup_taint: StartupTaint | None
    node_startup_timeout: timedelta | None
    daemonset_annotations: Mapping[str, str]
    image_pull_secrets: tuple[str, ...]
    kip_image: str
    hold_by: HoldBy
    rollout_min_interval: timedelta
    rollout_max_unavailable: int | str
    rollout_seed_nodes: int
    priority_class_name: str | None
    pod_labels: Mapping[str, str]
    pod_annotations: Mapping[str, str]
    pod_service_account: str | None
    runtime_class_name: str | None
    host_network: bool
    registry_aliases: tuple[tuple[str, str], ...]
    webhook_registries: Mapping[str, str]
    webhook_secrets_dir: Path
    event_auth: EventAuth
    oidc: Oidc | None
    google: Google | None
    read_auth: ReadAuth
    ask_registries: bool
    verify_pushes: bool
    registry_ca_file: Mapping[str | None, Path]
    insecure_registries: tuple[str, ...]
    port: int
    knative_service: str | None
    sink: Sink | None
    log_level: LogLevel
    log_format: LogFormat

    @property
    def all_groups(self) -> "tuple[Config, ...]":
        """Return the configurations of all groups that have entries."""
        return tuple(each for each in (self, *self.groups) if each.entries)

    def entry(self, name: str) -> Entry:
        """Return the entry of a name. It must exist."""
        return next(entry for entry in self.entries if entry.name == name)


def from_environ(environ: Mapping[str, str], *, pod_namespace: str | None = None) -> Config:
    """Return the configuration of these environment variables.

    `pod_namespace` is the namespace of the service's pod, or None outside a pod. White space around
    a value is removed, because a ConfigMap's often ends in a newline. An empty variable is unset.
    Raises ConfigurationError with one line for each problem, beginning with the variable's name.
    """
    read = _Reader(environ)
    overrides = read("IMAGE_GROUPS", groups.parse, {})
    elsewhere = {entry for own in overrides.values() for entry in names_in(own["IMAGES"])}
    names = tuple(sorted(overrides))
    config = _group(read, None, names, pod_namespace, elsewhere, is_optional=bool(overrides))
    named = tuple(
        _named_group(read, name, names, environ, own, pod_namespace)
        for name, own in overrides.items()
    )
    if config.verify_pushes and not config.ask_registries:
        read.problems.append("VERIFY_PUSHES: must not be true where ASK_REGISTRIES is false")
    misspelt = advice.on_names(environ, (read.names | {*_OIDC}) - _SET_BY_KNATIVE)
    if read.problems:
        # A misspelt variable is often the reason for a problem.
        raise ConfigurationError("\n".join([*read.problems, *misspelt]))
    of_memory = dict.fromkeys(each.resources.memory_limit for each in (config, *named))
    memory = [warning for limit in of_memory for warning in advice.on_memory(limit)]
    return replace(config, groups=named, advice=(*misspelt, *memory))


def _named_group(
    parent: "_Reader",
    name: str,
    names: tuple[str, ...],
    environ: Mapping[str, str],
    own: Mapping[str, str],
    pod_namespace: str | None,
) -> Config:
    """Return the configuration of a named group. What it does not set is that of the variables."""
    read = _Reader({**environ, **own})
    # Inherited policies may be of entries of other groups.
    elsewhere = () if "IMAGE_TAG_POLICIES" in own else None
    config = _group(read, name, names, pod_namespace, elsewhere)
    parent.problems.extend(groups.located(name, own, read.problems))
    if len(config.daemonset_name) > _LABEL_VALUE_CHARACTERS:
        parent.problems.append(
            f"IMAGE_GROUPS: {name}: the DaemonSet's name {config.daemonset_name} is longer than "
            f"{_LABEL_VALUE_CHARACTERS} characters; shorten the group's name or DAEMONSET_NAME"
        )
    return replace(config, warnings=tuple(groups.located(name, own, config.warnings)))


def _group(
    read: "_Reader",
    name: str | None,
    group_names: tuple[str, ...],
    pod_namespace: str | None,
    elsewhere: Collection[str] | None,
    *,
    is_optional: bool = False,
) -> Config:
    """Return the configuration of one group.

    `elsewhere` has the entries of other groups, whose policies give no warning. None means all.
    """
    entries, warnings = _entries(read, elsewhere, is_optional=is_optional)
    daemonset_name = read("DAEMONSET_NAME", _daemonset_name, "kubernetes-image-puller")
    namespace = read("NAMESPACE", variables.dns_label, pod_namespace or "k8s-image-puller")
    event_auth = read("EVENT_AUTH", variables.one_of(EventAuth), EventAuth.TOKEN)
    taint = read("NODE_STARTUP_TAINT", startup_taint.parse, None)
    return Config(
        group=name,
        groups=(),
        group_names=group_names,
        installation=daemonset_name,
        entries=entries,
        warnings=warnings,
        advice=(),
        keep_tags=read("KEEP_TAGS", variables.whole_number(1, limits.KEEP_TAGS_MOST), 2),
        caching_interval=read("CACHING_INTERVAL_HOURS", variables.hours, timedelta(hours=1)),
        resources=_resources(read),
        daemonset_name=daemonset_name if name is None else f"{daemonset_name}-{name}",
        namespace=namespace,
        deployment_name=read("DEPLOYMENT_NAME", variables.dns_subdomain, "kubernetes-image-puller"),
        node_selector=read("NODE_SELECTOR", variables.json_strings, {}),
        affinity=read("AFFINITY", _affinity, {}),
        tolerations=(
            *read("TOLERATIONS", variables.json_objects, ()),
            *(() if taint is None else (taint.toleration,)),
        ),
        node_startup_taint=taint,
        node_startup_timeout=read("NODE_STARTUP_TIMEOUT_SECONDS", _timeout, timedelta(seconds=600)),
        daemonset_annotations=read("DAEMONSET_ANNOTATIONS", _daemonset_annotations, {}),
        image_pull_secrets=read("IMAGE_PULL_SECRETS", _names, ()),
        kip_image=read("KIP_IMAGE", _sleep_image, SLEEP_IMAGE),
        hold_by=read("HOLD_BY", variables.one_of(HoldBy), HoldBy.AUTO),
        rollout_min_interval=read(
            "ROLLOUT_MIN_INTERVAL_SECONDS", variables.seconds, timedelta(seconds=10)
        ),
        rollout_max_unavailable=read("ROLLOUT_MAX_UNAVAILABLE", variables.max_unavailable, "100%"),
        rollout_seed_nodes=read("ROLLOUT_SEED_NODES", variables.whole_number(0, 1_000_000), 0),
        priority_class_name=read("PRIORITY_CLASS_NAME", variables.dns_subdomain, None),
        pod_labels=read("POD_LABELS", _pod_labels, {}),
        pod_annotations=read("POD_ANNOTATIONS", _pod_annotations, {}),
        pod_service_account=read("POD_SERVICE_ACCOUNT", variables.dns_subdomain, None),
        runtime_class_name=read("RUNTIME_CLASS_NAME", variables.dns_subdomain, None),
        host_network=read("HOST_NETWORK", variables.boolean, default=False),
        registry_aliases=read("REGISTRY_ALIASES", _aliases, ()),
        webhook_registries=read("WEBHOOK_REGISTRIES", _webhook_registries, {}),
        webhook_secrets_dir=read("WEBHOOK_SECRETS_DIR", Path, Path("/etc/image-puller/secrets")),
        event_auth=event_auth,
        oidc=_oidc(read, namespace) if event_auth is EventAuth.OIDC else None,
        google=_google(read),
        read_auth=read("READ_AUTH", variables.one_of(ReadAuth), ReadAuth.TOKEN),
        ask_registries=read("ASK_REGISTRIES", variables.boolean, default=True),
        verify_pushes=read("VERIFY_PUSHES", variables.boolean, default=False),
        registry_ca_file=read("REGISTRY_CA_FILE", _ca_files, {}),
        insecure_registries=read("INSECURE_REGISTRIES", _hosts, ()),
        port=read("PORT", variables.whole_number(1, 65535), 8080),
        knative_service=read("K_SERVICE", variables.dns_subdomain, None),
        sink=_sink(read),
        log_level=read("LOG_LEVEL", _log_level, LogLevel.INFO),
        log_format=read("LOG_FORMAT", variables.one_of(LogFormat), LogFormat.TEXT),
    )


class _Reader:
    """Reads single variables. It collects their names, and the problems of all of them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.names: set[str] = set()
        self.problems: list[str] = []

    def has(self, variable: str) -> bool:
        return bool(self._text(variable))

    def _text(self, variable: str) -> str:
        self.names.add(variable)
        return self._environ.get(variable, "").strip()

    def __call__(
        self, variable: str, parse: Callable[[str], Value], default: Default
    ) -> Value | Default:
        text = self._text(variable)
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.problems.append(f"{variable}: {error}")
            return default


def _entries(
    read: _Reader, elsewhere: Collection[str] | None, *, is_optional: bool
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    policies = read("IMAGE_TAG_POLICIES", variables.assignments, {})
    text = read("IMAGES", str, "")
    if not text:
        if not is_optional:
            read.problems.append("IMAGES: must be set, as name=image;name=image;…")
        return (), ()
    entries, warnings, problems = parse_entries(text, policies, elsewhere)
    read.problems.extend(problems)
    if not entries and not problems:
        faults = "".join(f"; {warning}" for warning in warnings)
        read.problems.append(f"IMAGES: has no valid entry{faults}")
    return entries, warnings


def _resources(read: _Reader) -> Resources:
    memory_request, memory_limit = _bounds(read, "CACHING_MEMORY", "10Mi", "20Mi")
    cpu_request, cpu_limit = _bounds(read, "CACHING_CPU", ".05", ".2")
    return Resources(
        memory_request=memory_request,
        memory_limit=memory_limit,
        cpu_request=cpu_request,
        cpu_limit=cpu_limit,
    )


def _bounds(read: _Reader, name: str, least: str, most: str) -> tuple[str | None, str | None]:
    count = len(read.problems)
    request = read(f"{name}_REQUEST", _quantity, least)
    limit = read(f"{name}_LIMIT", _quantity, most)
    if len(read.problems) > count or request is None or limit is None:
        return request, limit
    if quantity.parse(request) > quantity.parse(limit):
        read.problems.append(f"{name}_REQUEST: {request} is more than {name}_LIMIT, {limit}")
    return request, limit


def _quantity(text: str) -> str | None:
    """Parse a quantity. `none` leaves the request or limit out."""
    if text == "none":
        return None
    try:
        quantity.parse(text)
    except ValueError:
        raise ValueError(
            "must be a Kubernetes quantity such as 10Mi or .05, or none, "
            f"not {variables.quoted(text)}"
        ) from None
    return text


def _timeout(text: str) -> timedelta | None:
    """Parse a number of seconds. 0 means never."""
    return variables.seconds(text) or None


def _daemonset_name(text: str) -> str:
    """Parse a name that is also the value of a label, so it must be short enough for one."""
    return variables.dns_subdomain(text, longest=_LABEL_VALUE_CHARACTERS)


def _daemonset_annotations(text: str) -> dict[str, str]:
    # The API server sets the generation again after each write.
    return _without_own(variables.annotations(text), (_DAEMONSET_GENERATION,))


def _pod_labels(text: str) -> dict[str, str]:
    return _without_own(variables.labels(text), _OWN_LABELS)


def _pod_annotations(text: str) -> dict[str, str]:
    return _without_own(variables.annotations(text), _OWN_ANNOTATIONS)


def _without_own(given: dict[str, str], own: Collection[str]) -> dict[str, str]:
    """Return labels or annotations. Raise ValueError if one of them is set anyway."""
    for key in given:
        if key in own or key.startswith(_OWN_PREFIX):
            raise ValueError(
                f"{variables.quoted(key)} is not allowed: the service or Kubernetes sets it itself"
            )
    return given


def _affinity(text: str) -> dict[str, Any]:
    affinity = variables.json_object(text)
    for key in affinity:
        if key not in _AFFINITIES:
            expected = ", ".join(_AFFINITIES)
            raise ValueError(f"{variables.quoted(key)} is not one of {expected}")
    return affinity


def _log_level(text: str) -> LogLevel:
    return variables.one_of(LogLevel)(text.lower())


def _oidc(read: _Reader, namespace: str) -> Oidc:
    audience = read("OIDC_AUDIENCE", variables.printable, None)
    issuer = read("OIDC_ISSUER", variables.https_url, None)
    keys = read("OIDC_KEYS", _keys, None)
    own = (f"system:serviceaccount:{namespace}:*",)
    if not read.has("OIDC_AUDIENCE"):
        read.problems.append(
            "OIDC_AUDIENCE: must be set where EVENT_AUTH is oidc, to the audience that senders' "
            "tokens are issued for"
        )
    if read.has("OIDC_KEYS") and not read.has("OIDC_ISSUER"):
        read.problems.append("OIDC_ISSUER: must be set where OIDC_KEYS is")
    return Oidc(
        audience=audience or "",
        issuer=issuer,
        keys=keys,
        subjects=read("OIDC_SUBJECTS", _subjects, own),
    )


def _google(read: _Reader) -> Google | None:
    audience = read("GAR_AUDIENCE", variables.printable, None)
    service_account = read("GAR_SERVICE_ACCOUNT", _email, None)
    for name, other in (
        ("GAR_AUDIENCE", "GAR_SERVICE_ACCOUNT"),
        ("GAR_SERVICE_ACCOUNT", "GAR_AUDIENCE"),
    ):
        if read.has(other) and not read.has(name):
            read.problems.append(f"{name}: must be set where {other} is")
    if audience is None or service_account is None:
        return None
    return Google(audience=audience, service_account=service_account)


def _sink(read: _Reader) -> Sink | None:
    url = read("K_SINK", variables.http_url, None)
    ca_certs = read("K_CA_CERTS", _certificates, None)
    extensions = read("K_CE_OVERRIDES", _extensions, {})
    return None if url is None else Sink(url=url, ca_certs=ca_certs, extensions=extensions)


def _certificates(text: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:  # ValueError: not ASCII
        raise ValueError(f"must be certificates in PEM: {error}") from None
    return text


def _extensions(text: str) -> dict[str, str]:
    """Parse the overrides of a SinkBinding: `{"extensions": {name: value}}`."""
    extensions = variables.json_object(text).get("extensions") or {}
    if not isinstance(extensions, dict):
        raise ValueError(f"extensions must be an object, not {variables.quoted(extensions)}")
    for name, value in extensions.items():
        if not _EXTENSION.fullmatch(name) or name in _ATTRIBUTES:
            raise ValueError(
                f"{variables.quoted(name)} is not the name of an extension: lower-case letters "
                "and digits, 20 at most, and no attribute of CloudEvents"
            )
        if not isinstance(value, str):
            raise ValueError(f"the value of {name} must be a string, not {variables.quoted(value)}")
    return extensions


def _keys(text: str) -> str | Path:
    if text.startswith("/"):
        return Path(text)
    try:
        return variables.https_url(text)
    except ValueError as error:
        raise ValueError(f"{error}, nor the absolute path of a file") from None


def _subjects(text: str) -> tuple[str, ...]:
    subjects = tuple(map(variables.printable, variables.items(text)))
    for subject in subjects:
        if "*" in subject[:-1] or subject == "*":
            raise ValueError(f"a * is allowed only at the end, after a prefix: {subject!r}")
    if not subjects:
        raise ValueError("has no subject")
    return subjects


def _email(text: str) -> str:
    if not _EMAIL.fullmatch(text):
        raise ValueError(f"must be an e-mail address, not {variables.quoted(text)}")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(map(variables.dns_subdomain, variables.items(text)))


def _sleep_image(text: str) -> str:
    if parse(text).name in ORIGINAL_IMAGES:
        raise ValueError(
            f"{text} is an image of the original puller, which has no /sleep; leave the "
            f"variable out, or name this project's sleep image ({SLEEP_IMAGE})"
        )
    return text


def _aliases(text: str) -> tuple[tuple[str, str], ...]:
    aliases = variables.assignments(text)
    return tuple((_prefix(reported), _prefix(pull)) for reported, pull in aliases.items())


def _webhook_registries(text: str) -> dict[str, str]:
    registries = variables.assignments(text)
    for source in registries:
        if source not in SOURCES:
            raise ValueError(
                f"{variables.quoted(source)} is not one of {', '.join(sorted(SOURCES))}"
            )
    return {source: _prefix(prefix) for source, prefix in registries.items()}


def _ca_files(text: str) -> dict[str | None, Path]:
    """Parse one file for all registries (None), or `host=file;…`.

    One error has all problems.
    """
    if text.startswith("/") or "=" not in text:
        return {None: _file(text)}
    files: dict[str | None, Path] = {}
    problems = []
    for name, path in variables.assignments(text).items():
        try:
            host = _host(name)
            if host in files:
                problems.append(f"{variables.quoted(name)} is set twice")
            files[host] = _file(path)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return files


def _file(text: str) -> Path:
    file = Path(text)
    try:
        is_file = file.is_file()
    except OSError as error:
        raise ValueError(f"{variables.quoted(text)} can't be read: {error.strerror}") from error
    if not is_file:
        raise ValueError(f"{variables.quoted(text)} is not a file")
    return file


def _hosts(text: str) -> tuple[str, ...]:
    return tuple(map(_host, variables.items(text)))


def _host(text: str) -> str:
    host = _prefix(text)
    if "/" in host:
        raise ValueError(f"{variables.quoted(host)} is not of the form host or host:port")
    return host


def _prefix(text: str) -> str:
    """Parse a registry's host with an optional path. The host is normalised."""
    prefix = text.rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{variables.quoted(text)} is not of the form host or host/path")
    host, slash, path = prefix.partition("/")
    return normalise_name(host, "")[0] + slash + path
