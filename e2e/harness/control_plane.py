"""A real Kubernetes control plane: etcd, API server, controller manager and scheduler."""

import json
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from e2e.harness.kubernetes_api import ApiError, Json, KubernetesApi
from e2e.harness.processes import Process, answers, listens
from e2e.harness.workspace import ADDRESS, Workspace, wait_until

ETCD = "http://127.0.0.1:2379"
URL = f"https://{ADDRESS}:6443"
ADMIN_TOKEN = "admin-of-a-cluster-that-nobody-else-reaches"
# The default of 20 requests a second makes large DaemonSets slow.
CLIENT_LIMITS = ("--kube-api-qps=500", "--kube-api-burst=1000")


class ControlPlane:
    """The four programs of a control plane, and what tests need to use and to disturb them.

    A test can stop and start `api_server`; the others go on. As a context manager, the control
    plane ends with the context. After `start` and `leave` it runs on, and later runs `adopt` it.
    """

    url = URL
    admin_token = ADMIN_TOKEN

    def __init__(self, workspace: Workspace, *, etcd: Path, kubernetes: Path) -> None:
        self._workspace = workspace
        # Their paths in the cache differ from version to version, and `adopt` compares them.
        self._programs = {
            path.name: str(path.resolve())
            for path in (
                etcd / "etcd",
                kubernetes / "kube-apiserver",
                kubernetes / "kube-controller-manager",
                kubernetes / "kube-scheduler",
            )
        }
        self._folder = workspace.state / "control-plane"
        self._folder.mkdir(exist_ok=True)
        self.ca = self._folder / "certificates" / "apiserver.crt"
        self.admin = self.client(ADMIN_TOKEN)
        self._own_kubeconfig = self._write_kubeconfig(self._folder / "kubeconfig", ADMIN_TOKEN)
        self.etcd = self._etcd()
        self.api_server = self._api_server()
        self.controller_manager = self._controller_manager()
        self.scheduler = self._scheduler()

    @property
    def _processes(self) -> tuple[Process, ...]:
        return self.etcd, self.api_server, self.controller_manager, self.scheduler

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def start(self) -> None:
        """Start all programs, which takes about 3 s; stop all if one fails."""
        with ExitStack() as started:
            started.callback(self._kill)
            for process in self._processes:
                process.start()
            started.pop_all()

    def leave(self) -> None:
        """Let all programs run on when this run ends, for later runs to adopt them."""
        for process in self._processes:
            process.leave()

    def adopt(self) -> None:
        """Take over the programs of an earlier run; raise StartError if one can't be used."""
        for process in self._processes:
            process.adopt()

    def _kill(self) -> None:
        """Kill all programs: no data is kept, so none needs an orderly stop."""
        for process in reversed(self._processes):
            process.kill()

    @property
    def minor(self) -> int:
        """The minor version of Kubernetes that runs."""
        return int(self.admin.get("/version")["minor"])

    def client(self, token: str) -> KubernetesApi:
        """Return a client with this token."""
        return KubernetesApi(url=self.url, ca=self.ca, token=token)

    def token_for(self, namespace: str, service_account: str) -> str:
        """Request a token of a service account; it is valid for an hour."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token: str = self.admin.post(path, request)["status"]["token"]
        return token

    def kubeconfig(self, token: str) -> Path:
        """Write a kubeconfig file for the owner of this token."""
        return self._write_kubeconfig(self._workspace.folder("kubeconfig") / "config", token)

    def _write_kubeconfig(self, path: Path, token: str) -> Path:
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "e2e", "cluster": cluster}],
            "users": [{"name": "owner", "user": {"token": token}}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "owner"}}],
            "current-context": "e2e",
        }
        path.write_text(json.dumps(config))
        return path

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the API server's samples with this name and labels; 0 without any.

        A restart of the API server resets counters.
        """
        # There are tens of thousands of lines; parsing only those of the metric saves time.
        lines = [line for line in self.admin.text("/metrics").splitlines() if line.startswith(name)]
        return sum(
            sample.value
            for family in text_string_to_metric_families("\n".join(lines) + "\n")
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def wait_until_refused(self, path: str, body: Json, *, message: str) -> ApiError:
        """Try to create an object, as a dry run, until admission refuses it with this message.

        Policies and quotas are enforced only some time after they were created.
        """

        def refusal() -> ApiError | None:
            try:
                self.admin.post(path, body, dryRun="All")
            except ApiError as error:
                return error if message in str(error) else None
            return None

        return wait_until(refusal, f"refused with {message!r}: {path}")

    def _etcd(self) -> Process:
        return self._process(
            "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={ETCD}",
            f"--advertise-client-urls={ETCD}",
            "--log-level=warn",
            "--unsafe-no-fsync",  # the data need not survive a crash of the machine
            is_ready=lambda: answers(f"{ETCD}/health"),
        )

    def _api_server(self) -> Process:
        key = str(self._folder / "service-accounts.key")
        if not Path(key).exists():
            command = ["openssl", "genrsa", "-out", key, "2048"]
            subprocess.run(command, check=True, capture_output=True)
        tokens = self._folder / "tokens.csv"
        tokens.write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')
        return self._process(
            "kube-apiserver",
            f"--etcd-servers={ETCD}",
            f"--cert-dir={self.ca.parent}",
            f"--bind-address={ADDRESS}",
            f"--advertise-address={ADDRESS}",
            "--secure-port=6443",
            "--service-cluster-ip-range=10.1.0.0/16",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            # The default makes a stop take a minute, because the API server waits for watches.
            "--shutdown-watch-termination-grace-period=1s",
            is_ready=lambda: answers(f"{URL}/readyz", ca=self.ca),
        )

    def _controller_manager(self) -> Process:
        return self._process(
            "kube-controller-manager",
            f"--kubeconfig={self._own_kubeconfig}",
            f"--service-account-private-key-file={self._folder / 'service-accounts.key'}",
            f"--root-ca-file={self.ca}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            *CLIENT_LIMITS,
            is_ready=lambda: listens("127.0.0.1", 10257),
        )

    def _scheduler(self) -> Process:
        return self._process(
            "kube-scheduler",
            f"--kubeconfig={self._own_kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            *CLIENT_LIMITS,
            is_ready=lambda: listens("127.0.0.1", 10259),
        )

    def _process(self, name: str, *flags: str, is_ready: Callable[[], bool]) -> Process:
        log = self._workspace.logs / f"{name}.log"
        log.touch()
        return Process(
            name=name,
            command=(self._programs[name], *flags),
            environment=self._workspace.environment(),
            log=log,
            is_ready=is_ready,
            pid_file=self._folder / f"{name}.pid",
        )
