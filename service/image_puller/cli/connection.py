"""Where the commands find a running service and its secret: arguments, environment, files."""

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from image_puller.cli import demo_session, service_client
from image_puller.cluster import kubeconfig
from image_puller.errors import ConfigurationError
from image_puller.http.authentication import Secrets

_DEFAULT_PORT = "8080"
_DEPLOYMENT = "kubernetes-image-puller"
_URL = "IMAGE_PULLER_URL"
_BEARER = "IMAGE_PULLER_TOKEN"
_ADDRESS = re.compile(
    r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """The address of a service, without a slash at its end, and the headers with the secret."""

    url: str
    headers: Mapping[str, str | bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a cluster has the service. None: the current context, the namespace of the context."""

    context: str | None
    namespace: str | None
    deployment: str


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `is_to_cluster` and `place` read."""
    parser.add_argument(
        "-n",
        "--namespace",
        help="read the cluster of the kubeconfig, and not the service: the namespace of the "
        "service (default: that of the context)",
    )
    parser.add_argument(
        "--context", help="the same: the context of the kubeconfig (default: the current one)"
    )
    parser.add_argument(
        "--deployment",
        help=f"the same: the name of the Deployment or Knative Service (default: {_DEPLOYMENT})",
    )


def place(arguments: argparse.Namespace) -> Place:
    """Return where the cluster has the service."""
    return Place(
        context=arguments.context,
        namespace=arguments.namespace,
        deployment=arguments.deployment or _DEPLOYMENT,
    )


def is_to_cluster(arguments: argparse.Namespace, environ: Mapping[str, str], name: str) -> bool:
    """Whether to read the cluster of the kubeconfig: on request, or where no service is found.

    `name` is that of the secret for a service. Raises ConfigurationError for arguments that exclude
    each other, and without a kubeconfig.
    """
    is_named = arguments.url is not None or arguments.token_file is not None
    has_kubeconfig = kubeconfig.file_of(environ) is not None
    if arguments.namespace or arguments.context or arguments.deployment:
        options = "--namespace, --context and --deployment"
        if is_named:
            raise ConfigurationError(f"{options} can't be used with --url or --token-file")
        if not has_kubeconfig:
            raise ConfigurationError(f"{options} need a kubeconfig; set KUBECONFIG")
        return True
    variables = (_URL, _BEARER, "PORT", "WEBHOOK_SECRETS_DIR")
    is_named = is_named or any(environ.get(each, "").strip() for each in variables)
    if is_named or not has_kubeconfig:
        return False
    return not secrets(environ).of(name) and demo_session.found(port(environ)) is None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `find` reads."""
    parser.add_argument(
        "--url",
        type=address,
        help=f"the address of the service, such as http://127.0.0.1:8080 (default: ${_URL}, "
        "else this machine, port $PORT)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"a file with the secret or token (default: ${_BEARER}, else the file in "
        "$WEBHOOK_SECRETS_DIR, else the secret of the demo on $PORT)",
    )


def find(arguments: argparse.Namespace, environ: Mapping[str, str], name: str) -> Connection:
    """Return how to reach the service, with the secret of a name, or without where none is found.

    Raises ConfigurationError for a variable that is malformed.
    """
    url = arguments.url or _from_environment(environ)
    return Connection(
        url=url or f"http://127.0.0.1:{port(environ)}",
        headers=_credentials(arguments.token_file, environ, name, may_be_demo=url is None),
    )


def port(environ: Mapping[str, str]) -> str:
    """Return the port of the service on this machine."""
    return environ.get("PORT", "").strip() or _DEFAULT_PORT


def secrets(environ: Mapping[str, str]) -> Secrets:
    """Return the secrets that `serve` reads."""
    return Secrets(Path(environ.get("WEBHOOK_SECRETS_DIR") or "/etc/image-puller/secrets"))


def address(text: str) -> str:
    """Return a URL without a slash at its end. Raises ArgumentTypeError."""
    if not _ADDRESS.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"must have the form https://host[:port][/path], not {text!r}"
        )
    return text.rstrip("/")


def _from_environment(environ: Mapping[str, str]) -> str | None:
    text = environ.get(_URL, "").strip()
    try:
        return address(text) if text else None
    except argparse.ArgumentTypeError as error:
        raise ConfigurationError(f"{_URL}: {error}") from None


def _credentials(
    file: Path | None, environ: Mapping[str, str], name: str, *, may_be_demo: bool
) -> dict[str, str | bytes]:
    """Return the Authorization header. The secret of the demo is sent only to this machine."""
    if file is not None:
        return service_client.bearer(file.read_bytes().strip())
    token = environ.get(_BEARER, "").strip()
    if token:
        return service_client.bearer(token.encode(errors="surrogateescape"))
    found = secrets(environ).of(name)
    if not found and may_be_demo and not environ.get("WEBHOOK_SECRETS_DIR"):
        folder = demo_session.found(port(environ))
        found = Secrets(folder).of(name) if folder else ()
    return service_client.bearer(found[0]) if found else {}
