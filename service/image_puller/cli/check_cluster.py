"""The part of `image-puller check` that asks the API server. It writes nothing: dry runs only."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TypeGuard

from image_puller.cli.findings import Finding, failed, ok, skipped, warning
from image_puller.cluster.client import KubernetesCluster
from image_puller.cluster.image_volumes import ImageVolumes
from image_puller.cluster.json_patch import put
from image_puller.cluster.ownership import Whose, whose
from image_puller.cluster.stored_state import text_of
from image_puller.config.configuration import Config
from image_puller.core import daemonset, decide, holding, quota, rights
from image_puller.core import state as states
from image_puller.core.charge import Process
from image_puller.core.daemonset import Manifest, Platform
from image_puller.core.rights import Right
from image_puller.core.state import State, UnknownSchemaError, UnreadableStateError
from image_puller.errors import (
    ClusterUnavailableError,
    MissingError,
    RefusedByClusterError,
)
from image_puller.registries import pull_secrets
from image_puller.registries.pull_secrets import Credentials, Keyring
from image_puller.values.reference import Reference

_SETTLING_SECONDS = 10
"""How long the service may take after its start until it has written its DaemonSets."""
_UNREACHABLE = "the API server can't be asked"
_NO_RIGHT = "a right is missing, see above"
_ROLE = (
    "apply the Role of this release, deploy/kubernetes/rbac.yaml or that of the chart, and bind it "
    "to the service account of the service"
)
_NODES = "apply deploy/kubernetes/nodes.yaml, or with Helm set nodes.watch=true"
_STARTUP = (
    "apply deploy/kubernetes/startup-taint/nodes.yaml, or with Helm set configMap.nodeStartupTaint"
)
_FIXES = (
    ("quota", "see kubectl describe resourcequota, and image-puller render --quota NODES"),
    ("PriorityClass", "create the PriorityClass, or correct PRIORITY_CLASS_NAME"),
    ("RuntimeClass", "create the RuntimeClass, or correct RUNTIME_CLASS_NAME"),
    ("serviceaccount", "create the ServiceAccount, or correct POD_SERVICE_ACCOUNT"),
    (
        "PodSecurity",
        (
            "kubectl label namespace {namespace} --overwrite "
            "pod-security.kubernetes.io/enforce=restricted, or privileged with HOST_NETWORK=true"
        ),
    ),
    (
        "usage per",
        (
            "see kubectl describe limitrange, and set CACHING_MEMORY_LIMIT, "
            "CACHING_MEMORY_REQUEST, CACHING_CPU_LIMIT and CACHING_CPU_REQUEST to what it allows"
        ),
    ),
)
"""Words of the cluster's refusals of pods, and what to do about each."""


class ClusterCheck:
    """Asks the API server in steps, each of which yields findings. A step needs those before it.

    `connect` may raise ClusterUnavailableError. `wait` waits for so many seconds.
    """

    def __init__(
        self,
        config: Config,
        connect: Callable[[], KubernetesCluster],
        *,
        now: Callable[[], datetime],
        wait: Callable[[float], None],
    ) -> None:
        self._config = config
        self._connect = connect
        self._now = now
        self._wait = wait
        self._cluster: KubernetesCluster | None = None
        self._denied: frozenset[Right] = frozenset()
        self._platform = Platform()
        self._live: dict[str, Manifest | None] = {}
        self._waits = _SETTLING_SECONDS
        self._keyring = Keyring()
        self.lacks_secrets = bool(self._secret_names())
        """Whether a pull secret could not be read, so that a registry may refuse access."""

    def api_server(self) -> Iterator[Finding]:
        """Yield whether the API server answers."""
        title = "API server"
        try:
            cluster = self._connect()
            version = cluster.version()
        except ClusterUnavailableError as error:
            yield failed(
                title,
                str(error),
                "correct KUBECONFIG, the pod's service account, or the NetworkPolicy that keeps "
                "the pod from the API server",
            )
            return
        self._cluster, self._platform = cluster, cluster.platform()
        yield ok(title, f"it answers, and is Kubernetes {version}")

    def rights(self) -> Iterator[Finding]:
        """Yield which rights are missing."""
        title = "rights"
        if self._cluster is None:
            yield skipped(title, _UNREACHABLE)
            return
        asked = rights.needed(self._config)
        try:
            allowed = {right for right in asked if self._cluster.allows(right)}
        except RefusedByClusterError as error:
            yield skipped(title, f"nobody may ask for them: {error}")
            return
        self._denied = frozenset(asked) - allowed
        yield from of_rights(asked, self._denied)

    def daemonset(self, group: Config) -> Iterator[Finding]:
        """Yield whose the DaemonSet of a group is, and who is in charge of it."""
        title = f"DaemonSet {group.daemonset_name}"
        if self._cluster is None:
            yield skipped(title, _UNREACHABLE)
            return
        if self._lacks("get", "daemonsets", group.daemonset_name):
            yield skipped(title, _NO_RIGHT)
            return
        cluster = self._cluster.of_group(group)
        live = self._settled(group, cluster)
        self._live[group.daemonset_name] = live
        if live is None:
            yield warning(
                title,
                "it does not exist yet: the service creates it at its first check",
                "if it stays so, read the log of the service",
            )
        elif whose(group, live) is Whose.FOREIGN:
            yield failed(
                title,
                f"it belongs to somebody else: its selector is {live['spec']['selector']}",
                f"kubectl delete daemonset {group.daemonset_name} --namespace {group.namespace}, "
                "or set DAEMONSET_NAME to another name",
            )
        elif whose(group, live) is Whose.OF_THE_ORIGINAL:
            yield warning(
                title,
                "it is of the original puller, and the service replaces it",
                "if it stays so, read the log of the service",
            )
        else:
            yield in_charge(group, live, cluster.lives)
            yield self._owned(live)

    def dry_run(self, group: Config) -> Iterator[Finding]:
        """Yield whether the cluster takes a pod of the wanted template, and the DaemonSet."""
        title = f"dry run of a pod of {group.daemonset_name}"
        if self._cluster is None:
            yield skipped(title, _UNREACHABLE)
            return
        if self._lacks("create", "pods") or self._lacks("list", "pods"):
            yield skipped(title, _NO_RIGHT)
            return
        cluster = self._cluster.of_group(group)
        live = self._live.get(group.daemonset_name)
        ours = live if _is_ours(live, group) else None
        try:
            state = self._wanted(group, ours, cluster)
            refusal = self._refusal(group, state, live, cluster)
        except ClusterUnavailableError as error:
            if "does its namespace exist?" not in str(error):
                raise
            fix = f"kubectl create namespace {group.namespace}, or correct NAMESPACE"
            yield failed(title, str(error), fix)
            return
        if refusal is None:
            yield ok(title, "the cluster takes it")
        else:
            yield failed(title, f"the cluster refuses it: {refusal}", _fix(refusal, group))

    def pull_secrets(self) -> Iterator[Finding]:
        """Yield whether each Secret of `IMAGE_PULL_SECRETS` is there and can be read."""
        names, found = self._secret_names(), []
        for name in names:
            title = f"pull secret {name}"
            if self._cluster is None:
                yield skipped(title, _UNREACHABLE)
                continue
            if self._lacks("get", "secrets", name):
                yield skipped(title, _NO_RIGHT)
                continue
            try:
                secret = self._cluster.pull_secret(name)
            except MissingError:
                yield failed(
                    title,
                    f"it does not exist in namespace {self._config.namespace}",
                    f"{_create(name, self._config)}, or correct IMAGE_PULL_SECRETS",
                )
                continue
            finding, is_readable = of_pull_secret(secret, self._config)
            found += [secret] if is_readable else []
            yield finding
        self._keyring, _ = pull_secrets.read(found)
        self.lacks_secrets = len(found) < len(names)

    def credentials(self, reference: Reference) -> tuple[Credentials, ...]:
        """Return the credentials for an image, from those pull secrets that could be read."""
        return self._keyring.credentials(reference)

    def issuer(self) -> Callable[[], tuple[str, bytes]] | None:
        """Return what reads the keys of the API server's tokens, or None if it can't be asked."""
        return None if self._cluster is None else self._cluster.issuer

    def running(self, image: str) -> bool:
        """Whether a container of an image runs in a pod of any group, as far as can be seen."""
        if self._cluster is None or self._lacks("list", "pods"):
            return False
        return any(
            container.image == image and container.running_since is not None
            for group in self._config.all_groups
            for pod in self._cluster.of_group(group).pods()
            for container in pod.containers
        )

    def _secret_names(self) -> Sequence[str]:
        groups = self._config.all_groups
        return tuple(dict.fromkeys(name for each in groups for name in each.image_pull_secrets))

    def _lacks(self, verb: str, resource: str, name: str | None = None) -> bool:
        wanted = (verb, resource, name)
        return any((each.verb, each.resource, each.name) == wanted for each in self._denied)

    def _settled(self, group: Config, cluster: KubernetesCluster) -> Manifest | None:
        """Return the DaemonSet. A service that has just started may take a moment to write it."""
        while True:
            live = _read(cluster)
            is_foreign = live is not None and whose(group, live) is Whose.FOREIGN
            if is_foreign or _has_configuration(group, live) or not self._waits:
                return live
            self._wait(1)
            self._waits -= 1

    def _owned(self, live: Manifest) -> Finding:
        """Return whether the DaemonSet is deleted together with the service."""
        name = live["metadata"]["name"]
        title = f"owner of {name}"
        kind = "Deployment" if self._config.knative_service is None else "Knative Service"
        wanted = f"{kind} {self._config.deployment_name}"
        resource = "deployments" if self._config.knative_service is None else "services"
        if self._lacks("get", resource, self._config.deployment_name):
            return skipped(title, _NO_RIGHT)
        owner = self._platform.owner
        if owner is None:
            return warning(
                title,
                f"{wanted} can't be found, so its deletion would keep the pods",
                f"set DEPLOYMENT_NAME to the {kind} of the service",
            )
        references = live["metadata"].get("ownerReferences") or ()
        if owner.uid not in [each.get("uid") for each in references]:
            return warning(
                title,
                f"the DaemonSet does not have {wanted} as its owner, so its deletion would keep "
                "the pods",
                "run image-puller trigger-check, which lets the service repair it",
            )
        return ok(title, f"it is {wanted}, and both are deleted together")

    def _wanted(self, group: Config, ours: Manifest | None, cluster: KubernetesCluster) -> State:
        """Return the state whose template the service would apply next."""
        state = _state_of(ours) or State(configuration="")
        names = {entry.name for entry in group.entries}
        configuration = daemonset.configuration_hash(group)
        if state.configuration != configuration or state.entries.keys() != names:
            state = decide.adopt(group, state, configuration)
        state = ImageVolumes(group, cluster, now=self._now).fitted(state, ours, self._platform)
        return holding.joined(group, state)

    def _refusal(
        self, group: Config, state: State, live: Manifest | None, cluster: KubernetesCluster
    ) -> str | None:
        """Return why the cluster refuses a pod of a state's template, or the DaemonSet, or None."""
        template = daemonset.template(group, state, self._platform)
        try:
            cluster.admit_pod(template)
            if live is None and not self._lacks("create", "daemonsets"):
                text = states.encode(state)
                manifest = daemonset.manifest(group, state, self._platform, text)
                cluster.create(manifest, dry_run=True)
            if _is_ours(live, group) and not self._lacks(
                "patch", "daemonsets", group.daemonset_name
            ):
                cluster.patch([put("/spec/template", template)], dry_run=True)
        except RefusedByClusterError as error:
            if _is_ours(live, group) and _has_room(str(error), live, template):
                return None
            return str(error)
        return None


def of_rights(asked: Sequence[Right], denied: frozenset[Right]) -> Iterator[Finding]:
    """Yield which rights are missing: those without which nothing works, then those of features."""
    required = [right for right in asked if right in denied and right.serves is None]
    if required:
        listed = ", ".join(map(str, required))
        yield failed("rights", f"the service may not {listed}", _ROLE)
    for right in (each for each in asked if each in denied and each.serves is not None):
        fix = _ROLE
        if right.is_cluster_wide:
            fix = _STARTUP if right.verb == "patch" else _NODES
        yield warning(f"right to {right}", f"it is missing, and serves {right.serves}", fix)
    if not denied:
        yield ok("rights", f"the service has all {len(asked)}")


def in_charge(group: Config, live: Manifest, lives: Callable[[Process], bool]) -> Finding:
    """Return which configuration is in charge of a DaemonSet of ours."""
    title = f"DaemonSet {group.daemonset_name}"
    try:
        state = states.decode(text_of(live))
    except UnknownSchemaError as error:
        return failed(
            title,
            str(error),
            "run the newer release, or remove the annotation as docs/upgrade-and-uninstall.md says",
        )
    except UnreadableStateError as error:
        return warning(
            title,
            f"{error}: the service starts again from IMAGES",
            "run image-puller trigger-check, which lets the service write it again",
        )
    if state.configuration == daemonset.configuration_hash(group):
        return ok(title, "it is ours, and this configuration is in charge")
    living = next((each for each in state.processes if lives(each)), None)
    if living is None:
        return warning(
            title,
            "it has another configuration, and no process lives that wrote it",
            "if it stays so, read the log of the service, which applies this configuration",
        )
    where = "process" if living.outside else "pod"
    return failed(
        title,
        f"another configuration is in charge, that of {where} {living.name}, which started at "
        f"{living.since:%Y-%m-%d %H:%M} UTC",
        "restart the Deployment if its variables were changed, or delete another Deployment or "
        "Revision that should not run",
    )


def of_pull_secret(secret: Manifest, config: Config) -> tuple[Finding, bool]:
    """Return what is in a Secret of `IMAGE_PULL_SECRETS`, and whether it has credentials."""
    name = secret["metadata"]["name"]
    title = f"pull secret {name}"
    found, warnings = pull_secrets.read([secret])
    why = "; ".join(each.removeprefix(f"{title}: ") for each in warnings)
    if not found.entries:
        remove = f"kubectl delete secret {name} --namespace {config.namespace}"
        fix = f"{remove}, then {_create(name, config)}"
        return failed(title, why or "it has no credentials", fix), False
    if warnings:
        return warning(title, why, "correct that entry of the Secret"), True
    hosts = ", ".join(dict.fromkeys(str(pattern) for pattern, _ in found.entries))
    return ok(title, f"it has credentials for {hosts}"), True


def _create(name: str, config: Config) -> str:
    return (
        f"kubectl create secret docker-registry {name} --namespace {config.namespace} "
        "--docker-server=HOST --docker-username=NAME --docker-password=PASSWORD"
    )


def _read(cluster: KubernetesCluster) -> Manifest | None:
    try:
        return cluster.read()
    except MissingError:
        return None


def _is_ours(live: Manifest | None, group: Config) -> TypeGuard[Manifest]:
    return live is not None and whose(group, live) is Whose.OURS


def _state_of(live: Manifest | None) -> State | None:
    try:
        return None if live is None else states.decode(text_of(live))
    except (UnknownSchemaError, UnreadableStateError):
        return None


def _has_configuration(group: Config, live: Manifest | None) -> bool:
    state = _state_of(live)
    return state is not None and state.configuration == daemonset.configuration_hash(group)


def _has_room(refusal: str, ours: Manifest, template: Manifest) -> bool:
    """Whether the old pods free the quota that the new ones need."""
    return "exceeded quota" in refusal and quota.has_room(refusal, ours, template)


def _fix(refusal: str, group: Config) -> str:
    """Return what to do about a refused pod."""
    for words, fix in _FIXES:
        if words.lower() in refusal.lower():
            return fix.format(namespace=group.namespace)
    return "correct the policy or the webhook that refuses it, or the configuration"
