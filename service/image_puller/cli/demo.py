"""The demo: runs the service beside a simulated cluster and registries, and prints what to try."""

import errno
import json
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from image_puller.cli import demo_content, demo_session
from image_puller.config import variables
from image_puller.errors import ConfigurationError, ImagePullerError
from image_puller.simulation import RegistryServer, SimulatedCluster

_NAMESPACE = "k8s-image-puller"
_NAME = "kubernetes-image-puller"
_ADDRESS = "127.0.0.1"
_DEFAULT_PORT = 8080
_KUBECONFIG = "kubeconfig"
_ENVIRONMENT = {
    "IMAGES": ";".join(f"{entry}={image}" for entry, image in demo_content.IMAGES.items()),
    "NAMESPACE": _NAMESPACE,
    "ROLLOUT_MIN_INTERVAL_SECONDS": "2",
    "INSECURE_REGISTRIES": ";".join(demo_content.REGISTRIES),
    "NO_PROXY": _ADDRESS,  # the API server is on this machine
}


def run(environ: Mapping[str, str]) -> int:
    """Run the demo on `PORT` of 127.0.0.1, and return the exit code of its service.

    The service is a process of its own, the same as in a cluster. It gets the open socket, so
    requests wait for it from the beginning. Raises ConfigurationError for a wrong `PORT`, and
    ImagePullerError for one that is in use.
    """
    port = _port(environ)
    tokens = {name: secrets.token_urlsafe(12) for name in demo_content.SECRETS}
    with (
        _listening(port) as listener,
        SimulatedCluster(nodes=3, pull_seconds=1, only_images=True) as cluster,
        RegistryServer(cluster.images) as registries,
        demo_session.created(
            port, {**tokens, _KUBECONFIG: json.dumps(cluster.kubeconfig())}
        ) as folder,
    ):
        demo_content.push_configured(registries)
        cluster.add(_deployment(), _NAMESPACE)
        environment = {
            **_inherited(environ),
            **_ENVIRONMENT,
            "WEBHOOK_SECRETS_DIR": str(folder),
            "PORT": str(port),
            "KUBECONFIG": str(folder / _KUBECONFIG),
            "HTTP_PROXY": registries.url,  # by which registries of any name are reached
        }
        url = f"http://{_ADDRESS}:{port}"

        def on_creation() -> None:
            # The first check is over, so it does not find what the webhooks report.
            demo_content.push_new(registries)
            print(introduction(url, tokens, _command(environ, port)), flush=True)

        cluster.before("POST", on_creation, path="/daemonsets")
        cluster.run()
        print(title(url), flush=True)
        with _service(listener, environment) as service:
            listener.close()
            return _wait(service)


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("PORT", "").strip() or str(_DEFAULT_PORT)
    try:
        return variables.whole_number(1, 65535)(text)
    except ValueError as error:
        raise ConfigurationError(f"PORT: {error}") from None


def _listening(port: int) -> socket.socket:
    """Return a socket that listens on a port of this machine only."""
    try:
        return socket.create_server((_ADDRESS, port))
    except OSError as error:
        where = f"PORT: port {port} of {_ADDRESS}"
        problem = (
            "is in use; stop what listens there, or set PORT to another port"
            if error.errno == errno.EADDRINUSE
            else f"can't be used ({error.strerror}); set PORT to another port"
        )
        raise ImagePullerError(f"{where} {problem}") from error


def _deployment() -> dict[str, object]:
    """Return the Deployment of the service, which becomes the owner of its DaemonSet."""
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": _NAME}}


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a process needs, and those of the log.

    All others could change the configuration.
    """
    names = ("HOME", "PATH", "LANG", "LOG_LEVEL", "LOG_FORMAT")
    return {name: environ[name] for name in names if name in environ}


def _service(listener: socket.socket, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the service on a socket that listens."""
    number = listener.fileno()
    command = (sys.executable, "-m", "image_puller", "serve", "--bind", f"fd://{number}")
    return subprocess.Popen(command, env=environment, pass_fds=(number,))  # noqa: S603 - fixed


def _wait(service: subprocess.Popen[bytes]) -> int:
    """Wait for the end of the service, and return its exit code. Pass SIGTERM on to it."""
    previous = signal.signal(signal.SIGTERM, lambda *_: service.terminate())
    try:
        return service.wait()
    except KeyboardInterrupt:
        # The terminal sends SIGINT to the service too.
        return service.wait()
    finally:
        signal.signal(signal.SIGTERM, previous)


def _command(environ: Mapping[str, str], port: int) -> str:
    """Return how to run `image-puller` in another terminal, in the same folder."""
    program = Path(sys.executable).with_name("image-puller")
    if shutil.which(program.name, path=environ.get("PATH")) == str(program):
        text = program.name
    elif program.is_relative_to(Path.cwd()):
        text = str(program.relative_to(Path.cwd()))
    else:
        text = str(program)
    variable = "" if port == _DEFAULT_PORT else f"PORT={port} "
    return variable + shlex.quote(text)


def title(url: str) -> str:
    """Return the first line that the demo prints."""
    return f"Kubernetes Image Puller at {url}, beside a simulated cluster of three nodes."


def introduction(url: str, tokens: Mapping[str, str], command: str) -> str:
    """Return the commands to try, each on a line of its own. `command` runs `image-puller`."""
    webhooks = demo_content.WEBHOOKS
    return "\n".join(
        (
            "",
            "Its simulated registries have new images, and no webhook was sent about them yet.",
            "Run these commands in another terminal, in this folder.",
            "",
            "Send a webhook, and wait until the nodes hold the image:",
            *(f"{command} demo push {source}" for source in webhooks),
            "",
            f"See the images on each node in a browser, with the password {tokens['read']}:",
            f"{url}/",
            "",
            "Print them:",
            f"{command} status",
            "",
            "The same requests with curl:",
            *(each.curl(url, tokens[each.file]) for each in webhooks.values()),
            f"curl -sS -u :{tokens['read']} {url}/status",
            "",
            "Press Ctrl-C to stop.",
            "",
        )
    )
