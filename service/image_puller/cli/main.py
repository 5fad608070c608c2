"""The command line, `image-puller`."""

import argparse
import json
import os
import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from image_puller import __version__, logs
from image_puller.cli import (
    demo,
    demo_content,
    demo_push,
    demo_session,
    event_json,
    service_client,
    webhook_setup,
)
from image_puller.config import variables
from image_puller.config.configuration import Config, Google, HoldBy, LogFormat, from_environ
from image_puller.controller.clock import Clock
from image_puller.core import daemonset, decide, holding, quota, rollout, state
from image_puller.errors import BadEventError, ConfigurationError, ImagePullerError
from image_puller.events import sources
from image_puller.events.cloudevents_http import to_request
from image_puller.events.sources import SOURCES
from image_puller.http.authentication import EVENTS, READ, Secrets

_DESCRIPTION = "Keep container images on the nodes of a Kubernetes cluster."
_EPILOG = "Run `image-puller <command> --help` for the arguments of a command."
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_ADDRESS = re.compile(
    r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?", re.ASCII
)
_NODES_MOST = 1_000_000
_BIND = re.compile(r"fd://[0-9]{1,9}|([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", re.ASCII)
_DEFAULT_PORT = "8080"
_FAILED = 1
_BAD_INPUT = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code: 0, 1 if it failed, 2 if its input is bad."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments, os.environ) or 0)
    except (BadEventError, ConfigurationError) as error:
        print(error, file=sys.stderr)
        return _BAD_INPUT
    except (ImagePullerError, OSError) as error:
        print(error, file=sys.stderr)
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="image-puller", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument(
        "--version", action="version", version=__version__, help="print the version and exit"
    )
    commands = parser.add_subparsers(required=True, title="commands", metavar="<command>")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    serve = command("serve", _serve, "Run the service, configured by environment variables.")
    serve.add_argument(
        "--bind",
        type=_bind_address,
        metavar="ADDRESS",
        help="the address to listen on, such as 127.0.0.1:8080, or fd://<number> for an open "
        "socket (default: all addresses, port $PORT)",
    )
    _add_demo_push(
        command("demo", _demo, "Run the service beside a simulated cluster of three nodes.")
    )
    for name, run, text in (
        ("trigger-check", _trigger_check, "Start a check in a running service."),
        ("status", _status, "Print the images, and the nodes that hold them, as JSON."),
    ):
        client = command(name, run, text)
        client.add_argument(
            "--url", help="the address of the service (default: this machine, port $PORT)"
        )
        client.add_argument(
            "--token-file",
            type=Path,
            metavar="FILE",
            help="a file with the secret or token (default: the file in $WEBHOOK_SECRETS_DIR, "
            "or the secret of the demo on $PORT)",
        )
    render = command("render", _render, "Print the DaemonSets that the environment configures.")
    render.add_argument(
        "--quota",
        type=_nodes,
        metavar="NODES",
        help="print the ResourceQuota for that many nodes instead",
    )
    webhook_url = command("webhook-url", _webhook_url, "Print how to set up a sender's webhook.")
    _add_source(webhook_url)
    webhook_url.add_argument(
        "--url",
        type=_address,
        required=True,
        help="the address at which senders reach the service, such as https://puller.example.com",
    )
    parse = command("parse", _parse, "Print the events in a request body on standard input.")
    _add_source(parse)
    parse.add_argument(
        "--headers",
        type=Path,
        metavar="FILE",
        help="a file with the headers of the request, one `Name: value` on each line",
    )
    return parser


def _add_demo_push(demo_parser: argparse.ArgumentParser) -> None:
    text = "Send the webhook of a registry to the running demo, and wait for its nodes."
    commands = demo_parser.add_subparsers(title="commands", metavar="<command>")
    push = commands.add_parser("push", help=text, description=text)
    push.set_defaults(run=_demo_push)
    names = list(demo_content.WEBHOOKS)
    push.add_argument(
        "source",
        choices=names,
        metavar="<source>",
        help=f"the kind of registry that reports a push: {', '.join(names)}",
    )


def _add_source(parser: argparse.ArgumentParser) -> None:
    names = sorted(SOURCES)
    parser.add_argument(
        "source",
        choices=names,
        metavar="<source>",
        help=f"the kind of sender: {', '.join(names)}",
    )


def _serve(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    # These imports take 0.25 s of processor time, which the other commands do not need.
    from image_puller import serve  # noqa: PLC0415
    from image_puller.cluster import client as cluster  # noqa: PLC0415

    config = _config(environ)
    logs.set_up(config.log_level, as_json=config.log_format is LogFormat.JSON, stream=sys.stdout)
    serve.run(config, cluster.KubernetesCluster(cluster.connect(environ), config), arguments.bind)


def _demo(_arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    return demo.run(environ)


def _demo_push(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    demo_push.run(arguments.source, _port(environ), Clock())


def _trigger_check(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    headers, body = to_request(
        event_type="io.image-puller.check",
        source="/image-puller/trigger-check",
        event_id=str(uuid.uuid4()),
        time=datetime.now(UTC),
        data=None,
    )
    url = _service_url(arguments, environ)
    credentials = _credentials(arguments, environ, EVENTS)
    service_client.send("POST", url, EVENTS, headers={**headers, **credentials}, data=body)


def _status(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    url = f"{_service_url(arguments, environ)}/status"
    answer = service_client.send("GET", url, READ, headers=_credentials(arguments, environ, READ))
    try:
        status = answer.json()
    except ValueError as error:
        raise ImagePullerError(
            f"{url} did not answer with JSON ({error}); check the address in --url"
        ) from error
    print(json.dumps(status, indent=2))


def _service_url(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str:
    url: str = arguments.url or f"http://127.0.0.1:{_port(environ)}"
    return url.rstrip("/")


def _port(environ: Mapping[str, str]) -> str:
    return environ.get("PORT", "").strip() or _DEFAULT_PORT


def _credentials(
    arguments: argparse.Namespace, environ: Mapping[str, str], name: str
) -> dict[str, str | bytes]:
    """Return the Authorization header with the secret of a name, or nothing without a secret."""
    if arguments.token_file is not None:
        return service_client.bearer(arguments.token_file.read_bytes().strip())
    secrets = _secrets(environ).of(name)
    if not secrets and not arguments.url and not environ.get("WEBHOOK_SECRETS_DIR"):
        folder = demo_session.found(_port(environ))
        secrets = Secrets(folder).of(name) if folder else ()
    return service_client.bearer(secrets[0]) if secrets else {}


def _secrets(environ: Mapping[str, str]) -> Secrets:
    return Secrets(Path(environ.get("WEBHOOK_SECRETS_DIR") or "/etc/image-puller/secrets"))


def _render(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    config = _config(environ)
    warnings = (each for group in config.all_groups for each in group.warnings)
    for message in (*warnings, *config.advice, *map(quota.describe, config.all_groups)):
        print(message, file=sys.stderr)
    if arguments.quota is None:
        manifests = [_new_daemonset(group) for group in config.all_groups]
    else:
        manifests = [quota.manifest(config, arguments.quota)]
    print("---\n".join(yaml.safe_dump(each, sort_keys=False) for each in manifests), end="")


def _new_daemonset(config: Config) -> dict[str, Any]:
    """Return the DaemonSet as the service creates it at its first start."""
    empty = state.State(configuration="")
    adopted = decide.adopt(config, empty, daemonset.configuration_hash(config))
    if config.hold_by is HoldBy.VOLUMES:
        adopted = holding.by_volumes(config, adopted)
    applied = rollout.advance(config, adopted, datetime.now(UTC))
    return daemonset.manifest(config, applied, daemonset.Platform(), state.encode(applied))


def _nodes(text: str) -> int:
    try:
        return variables.whole_number(1, _NODES_MOST)(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parse(arguments: argparse.Namespace, _environ: Mapping[str, str]) -> None:
    headers = _read_headers(arguments.headers) if arguments.headers else {}
    for event in sources.decode(arguments.source, headers, sys.stdin.buffer.read()):
        print(event_json.render(event))


def _webhook_url(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    source = arguments.source
    account, audience = (environ.get(f"GAR_{name}") for name in ("SERVICE_ACCOUNT", "AUDIENCE"))
    google = Google(audience=audience, service_account=account) if account and audience else None
    secrets = _secrets(environ).of(source)
    secret = secrets[0] if secrets else None
    if secret is not None and webhook_setup.prints_secret(source, google):
        print(
            f"The output has the secret of {source} in a URL. Anybody who has it can report pushes "
            f"as {source}. Keep it out of tickets, chats and logs.\n",
            file=sys.stderr,
        )
    print(webhook_setup.render(source, arguments.url, secret, google), end="")


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"must have the form https://host[:port][/path], not {text!r}"
        )
    return text.rstrip("/")


def _bind_address(text: str) -> str:
    if not _BIND.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"must have the form host:port or fd://<number>, not {text!r}"
        )
    return text


def _read_headers(file: Path) -> dict[str, str]:
    try:
        return event_json.read_headers(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadEventError(f"file {file} of --headers can't be read: {error}") from error


def _config(environ: Mapping[str, str]) -> Config:
    pod_namespace = _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.is_file() else None
    return from_environ(environ, pod_namespace=pod_namespace)
