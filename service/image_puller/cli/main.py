"""The command line: `image-puller serve | demo | tick | status | render | parse | webhook-url`."""

import argparse
import json
import logging
import os
import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
import yaml

from image_puller import __version__
from image_puller.cli import demo, event_json, webhook_setup
from image_puller.config import configuration, variables
from image_puller.core import daemonset, decide, quota, rollout, state
from image_puller.errors import BadEventError, ConfigurationError, ImagePullerError
from image_puller.events import sources
from image_puller.events.cloudevents_http import to_request
from image_puller.events.sources import SOURCES
from image_puller.http.authentication import EVENTS, READ, Secrets

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_ADDRESS = re.compile(
    r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?", re.ASCII
)
_TIMEOUT_SECONDS = 30
_NODES_MOST = 1_000_000
_FAILED = 1
_UNUSABLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code is 0, 1 where it failed, 2 where it can't be read."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.run(asked, os.environ) or 0)
    except (BadEventError, ConfigurationError) as error:
        print(error, file=sys.stderr)
        return _UNUSABLE
    except (ImagePullerError, requests.RequestException, OSError) as error:
        print(error, file=sys.stderr)
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="image-puller", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    command("serve", _serve, "Run the service, configured by environment variables.")
    command("demo", _demo, "Run the service beside a simulated cluster of three nodes.")
    for name, run, text in (
        ("trigger-check", _trigger_check, "Tell a running service to check now."),
        ("status", _status, "Show what a running service has cached where."),
    ):
        sent = command(name, run, text)
        sent.add_argument("--url", help="the service (default: on this machine, port $PORT)")
        sent.add_argument(
            "--token-file",
            type=Path,
            help="file that holds the token (default: that of $WEBHOOK_SECRETS_DIR)",
        )
    rendering = command("render", _render, "Print the DaemonSet of this environment as YAML.")
    rendering.add_argument(
        "--quota",
        type=_nodes,
        metavar="NODES",
        help="print instead the ResourceQuota that its pods need on so many nodes",
    )
    webhook = command("webhook-url", _webhook_url, "Print how to point a registry's webhook here.")
    webhook.add_argument("source", choices=sorted(SOURCES))
    webhook.add_argument(
        "--url",
        type=_address,
        required=True,
        help="where senders reach the service, such as https://puller.example.com",
    )
    parsing = command("parse", _parse, "Print the events that a request on standard input means.")
    parsing.add_argument("source", choices=sorted(SOURCES))
    parsing.add_argument("--headers", type=Path, help="file of `Name: value` lines")
    return parser


def _serve(_asked: argparse.Namespace, environ: Mapping[str, str]) -> None:
    # They take 0.25 s of processor time to import, which a tick every few minutes need not pay.
    from image_puller import serve  # noqa: PLC0415
    from image_puller.cluster import client as cluster  # noqa: PLC0415

    _log()
    configuration = _configuration(environ)
    serve.run(configuration, cluster.KubernetesCluster(cluster.connect(environ), configuration))


def _demo(_asked: argparse.Namespace, environ: Mapping[str, str]) -> int:
    return demo.run(environ)


def _trigger_check(asked: argparse.Namespace, environ: Mapping[str, str]) -> None:
    headers, body = to_request(
        event_type="io.image-puller.check",
        source="/image-puller/trigger-check",
        event_id=str(uuid.uuid4()),
        time=datetime.now(UTC),
        data=None,
    )
    url, token = _service(asked, environ, EVENTS)
    answer = requests.post(url, headers={**headers, **token}, data=body, timeout=_TIMEOUT_SECONDS)
    answer.raise_for_status()


def _status(asked: argparse.Namespace, environ: Mapping[str, str]) -> None:
    url, token = _service(asked, environ, READ)
    answer = requests.get(f"{url}/status", headers=token, timeout=_TIMEOUT_SECONDS)
    answer.raise_for_status()
    print(json.dumps(answer.json(), indent=2))


def _service(
    asked: argparse.Namespace, environ: Mapping[str, str], secret: str
) -> tuple[str, dict[str, bytes]]:
    """Where the running service is, and the header that proves who asks."""
    url = asked.url or f"http://127.0.0.1:{environ.get('PORT') or 8080}"
    tokens = _secrets(environ).of(secret)
    if asked.token_file is not None:
        tokens = (asked.token_file.read_bytes().strip(),)
    header = {"Authorization": b"Bearer " + tokens[0]} if tokens else {}
    return url.rstrip("/"), header


def _secrets(environ: Mapping[str, str]) -> Secrets:
    return Secrets(Path(environ.get("WEBHOOK_SECRETS_DIR") or "/etc/image-puller/secrets"))


def _render(asked: argparse.Namespace, environ: Mapping[str, str]) -> None:
    configuration = _configuration(environ)
    for warning in configuration.warnings:
        print(warning, file=sys.stderr)
    if asked.quota is None:
        manifest = _fresh_daemonset(configuration)
    else:
        manifest = quota.manifest(configuration, asked.quota)
    print(yaml.safe_dump(manifest, sort_keys=False), end="")


def _fresh_daemonset(configuration: configuration.Config) -> dict[str, Any]:
    fresh = state.State(configuration="")
    decided = decide.adopt(configuration, fresh, daemonset.configuration_hash(configuration))
    applied = rollout.advance(configuration, decided, datetime.now(UTC))
    return daemonset.manifest(configuration, decided, daemonset.Platform(), state.encode(applied))


def _nodes(text: str) -> int:
    try:
        return variables.whole_number(1, _NODES_MOST)(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parse(asked: argparse.Namespace, _environ: Mapping[str, str]) -> None:
    headers = _read_headers(asked.headers) if asked.headers else {}
    for event in sources.decode(asked.source, headers, sys.stdin.buffer.read()):
        print(event_json.render(event))


def _webhook_url(asked: argparse.Namespace, environ: Mapping[str, str]) -> None:
    account, audience = (environ.get(f"GAR_{name}") for name in ("SERVICE_ACCOUNT", "AUDIENCE"))
    google = (
        configuration.Google(audience=audience, service_account=account)
        if account and audience
        else None
    )
    secrets = _secrets(environ).of(asked.source)
    secret = secrets[0] if secrets else None
    if secret is not None and webhook_setup.shows_secret(asked.source, google):
        print(
            f"This prints the secret of {asked.source}, in a URL. Whoever reads it can push as "
            f"{asked.source}: keep it out of tickets, chats and logs.\n",
            file=sys.stderr,
        )
    print(webhook_setup.render(asked.source, asked.url, secret, google), end="")


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"not of the form https://host[:port][/path]: {text!r}")
    return text.rstrip("/")


def _read_headers(file: Path) -> dict[str, str]:
    try:
        return event_json.read_headers(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadEventError(f"the headers can't be read: {error}") from error


def _configuration(environ: Mapping[str, str]) -> configuration.Config:
    pod = _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.is_file() else None
    return configuration.from_environ(environ, pod_namespace=pod)


def _log() -> None:
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stdout,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
