"""The command line, `image-puller`."""

import argparse
import os
import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import argcomplete
import yaml
from argcomplete.shell_integration import shellcode

from image_puller import __version__, logs
from image_puller.cli import (
    connection,
    demo,
    demo_content,
    demo_push,
    event_json,
    service_client,
    status_command,
    status_reader,
    suggest_command,
    wait_command,
    webhook_setup,
)
from image_puller.cli.service_client import MissingImageError, ServiceError
from image_puller.cli.status_command import OUTPUTS, View
from image_puller.config import variables
from image_puller.config.configuration import Config, Google, HoldBy, LogFormat, from_environ
from image_puller.controller.clock import Clock
from image_puller.core import daemonset, decide, holding, quota, rollout, state
from image_puller.core.awaiting import Enough
from image_puller.errors import BadEventError, ConfigurationError, ImagePullerError
from image_puller.events import sources
from image_puller.events.cloudevents_http import to_request
from image_puller.events.sources import SOURCES
from image_puller.http.authentication import EVENTS

_DESCRIPTION = "Keep container images on the nodes of a Kubernetes cluster."
_EPILOG = "Run `image-puller <command> --help` for the arguments of a command."
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NODES_MOST = 1_000_000
_BIND = re.compile(r"fd://[0-9]{1,9}|([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", re.ASCII)
_CHECK_OUTPUTS = ("text", "json")
_SHELLS = ("bash", "zsh", "fish", "tcsh")
_FAILED = 1
_BAD_INPUT = 2
_UNREACHABLE = 4
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code, as docs/cli.md lists them."""
    parser = _parser()
    argcomplete.autocomplete(parser)  # a shell asks by a variable of the environment
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments, os.environ) or 0)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (BadEventError, ConfigurationError, MissingImageError) as error:
        print(error, file=sys.stderr)
        return _BAD_INPUT
    except ServiceError as error:
        print(error, file=sys.stderr)
        return _UNREACHABLE
    except (ImagePullerError, OSError) as error:
        print(error, file=sys.stderr)
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="image-puller", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument(
        "--version", action="version", version=__version__, help="print the version and exit"
    )
    commands = parser.add_subparsers(required=True, title="commands", metavar="<command>")

    def command(name: str, run: Any, text: str, *examples: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=_examples(examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        return added

    serve = command(
        "serve",
        _serve,
        "Run the service, configured by environment variables.",
        "serve",
        "serve --bind 127.0.0.1:8080",
    )
    serve.add_argument(
        "--bind",
        type=_bind_address,
        metavar="ADDRESS",
        help="the address to listen on, such as 127.0.0.1:8080, or fd://<number> for an open "
        "socket (default: all addresses, port $PORT)",
    )
    _add_demo_push(
        command(
            "demo",
            _demo,
            "Run the service beside a simulated cluster of three nodes.",
            "demo",
            "demo push harbor",
        )
    )
    trigger_check = command(
        "trigger-check", _trigger_check, "Start a check in a running service.", "trigger-check"
    )
    connection.add_arguments(trigger_check)
    _add_status(
        command(
            "status",
            _status,
            "Print the images, and the nodes that hold them.",
            "status",
            "status quay.io/org/app:1.2.4 -o wide",
            "status --failing --watch",
            "status --namespace k8s-image-puller --context production",
            "status -o json --url http://127.0.0.1:8080 --token-file read.txt",
        )
    )
    _add_wait(
        command(
            "wait",
            _wait,
            "Wait until the nodes hold images.",
            "wait",
            "wait app --timeout 5m",
            "wait quay.io/org/app:1.2.4 quay.io/org/tool --nodes 95%",
            "wait --namespace k8s-image-puller --selector pool=gpu",
        )
    )
    check = command(
        "check",
        _check,
        "Check whether the service has all that it needs, and print what to correct.",
        "check",
        "check -o json",
        "check --url http://kubernetes-image-puller",
    )
    check.add_argument(
        "-o",
        "--output",
        choices=_CHECK_OUTPUTS,
        default=_CHECK_OUTPUTS[0],
        metavar="FORMAT",
        help="the format: text or json (default: text)",
    )
    check.add_argument(
        "--url",
        type=connection.address,
        help="ask also whether the service answers at this address",
    )
    _add_suggest(
        command(
            "suggest",
            _suggest,
            "Print the images that the pods of a cluster use most, as a value for IMAGES.",
            "suggest",
            "suggest --namespace team-a --namespace team-b --most 5",
            "suggest --by-node-label node.kubernetes.io/instance-type",
        )
    )
    render = command(
        "render",
        _render,
        "Print the DaemonSets that the environment configures.",
        "render",
        "render --quota 20",
    )
    render.add_argument(
        "--quota",
        type=_nodes,
        metavar="NODES",
        help="print the ResourceQuota for that many nodes instead",
    )
    webhook_url = command(
        "webhook-url",
        _webhook_url,
        "Print how to set up a sender's webhook.",
        "webhook-url harbor --url https://puller.example.com",
    )
    _add_source(webhook_url)
    webhook_url.add_argument(
        "--url",
        type=connection.address,
        required=True,
        help="the address at which senders reach the service, such as https://puller.example.com",
    )
    parse = command(
        "parse",
        _parse,
        "Print the events in a request body on standard input.",
        "parse harbor < payload.json",
    )
    _add_source(parse)
    parse.add_argument(
        "--headers",
        type=Path,
        metavar="FILE",
        help="a file with the headers of the request, one `Name: value` on each line",
    )
    completion = command(
        "completion",
        _completion,
        "Print the script that completes commands in a shell.",
        'eval "$(image-puller completion bash)"',
    )
    completion.add_argument(
        "shell",
        choices=_SHELLS,
        metavar="<shell>",
        help=f"the shell: {', '.join(_SHELLS)}",
    )
    command("version", _version, "Print the version.", "version")
    return parser


def _examples(commands: Sequence[str]) -> str:
    lines = (each if "image-puller" in each else f"image-puller {each}" for each in commands)
    return "\n  ".join(("examples:", *lines))


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image",
        nargs="?",
        metavar="<image>",
        help="the name of an entry, or an image, such as quay.io/org/app:1.2.4 (default: all)",
    )
    parser.add_argument(
        "-o",
        "--output",
        choices=OUTPUTS,
        default=OUTPUTS[0],
        metavar="FORMAT",
        help="the format: table; wide, with more columns; or json, the answer of the service "
        "(default: table)",
    )
    parser.add_argument(
        "--failing",
        action="store_true",
        help="show only the images that a node lacks; not with json",
    )
    parser.add_argument(
        "--watch", action="store_true", help="show the status every two seconds, until Ctrl-C"
    )
    connection.add_arguments(parser)
    connection.add_cluster_arguments(parser)


def _add_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="*",
        type=wait_command.image,
        metavar="<image>",
        help="the name of an entry, or an image: <repository>[:<tag>][@<digest>] (default: all "
        "desired images)",
    )
    parser.add_argument(
        "--nodes",
        type=wait_command.nodes,
        default=Enough(),
        help="how many of the nodes that count must hold each image: a number, or a percentage "
        "such as 95%% (default: 100%%)",
    )
    parser.add_argument(
        "-l",
        "--selector",
        type=wait_command.selector,
        help="the labels of the nodes that count, as kubectl takes them, such as "
        "'pool in (gpu,cpu)' (default: all nodes)",
    )
    parser.add_argument(
        "--timeout",
        type=wait_command.duration,
        default="10m",
        metavar="TIME",
        help="how long to wait, such as 90s or 1h30m (default: 10m)",
    )
    connection.add_arguments(parser)
    connection.add_cluster_arguments(parser)


def _add_suggest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--namespace",
        action="append",
        default=[],
        type=suggest_command.namespace,
        metavar="NAME",
        help="count only the pods of this namespace; may be repeated (default: all namespaces)",
    )
    parser.add_argument(
        "--most",
        type=suggest_command.number,
        default=20,
        metavar="NUMBER",
        help="the number of images at most, of each group with --by-node-label (default: 20)",
    )
    parser.add_argument(
        "--by-node-label",
        type=suggest_command.label,
        metavar="LABEL",
        help="print a value for IMAGE_GROUPS, with a group for each value of this label of nodes",
    )


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
    from image_puller.cluster.api_server import connect  # noqa: PLC0415
    from image_puller.cluster.client import KubernetesCluster  # noqa: PLC0415

    config = _config(environ)
    logs.set_up(config.log_level, as_json=config.log_format is LogFormat.JSON, stream=sys.stdout)
    serve.run(config, KubernetesCluster(connect(environ), config), arguments.bind)


def _demo(_arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    return demo.run(environ)


def _demo_push(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    demo_push.run(arguments.source, connection.port(environ), Clock())


def _trigger_check(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    headers, body = to_request(
        event_type="io.image-puller.check",
        source="/image-puller/trigger-check",
        event_id=str(uuid.uuid4()),
        time=datetime.now(UTC),
        data=None,
    )
    service = connection.find(arguments, environ, EVENTS)
    service_client.send(
        "POST", service.url, EVENTS, headers={**headers, **service.headers}, data=body
    )


def _status(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if arguments.failing and arguments.output == "json":
        raise ConfigurationError("--failing can't be used with -o json, which shows everything")
    read = status_reader.reader(arguments, environ, image=arguments.image)
    view = View(output=arguments.output, only_failing=arguments.failing)
    if arguments.watch:
        return status_command.watch(read, view, Clock())
    return status_command.show(read, view)


def _wait(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    read = status_reader.reader(arguments, environ, selector=arguments.selector)
    return wait_command.run(read, arguments.images, arguments.nodes, arguments.timeout, Clock())


def _check(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    # These imports take time that the other commands do not need.
    from image_puller.cli import check_command  # noqa: PLC0415

    return check_command.run(
        lambda: _config(environ),
        environ,
        url=arguments.url,
        output=arguments.output,
        is_in_pod=_NAMESPACE_FILE.is_file(),
        clock=Clock(),
    )


def _suggest(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    # This import takes 0.25 s of processor time, which the other commands do not need.
    from image_puller.cluster.api_server import connect  # noqa: PLC0415
    from image_puller.cluster.survey import Survey  # noqa: PLC0415

    with closing(connect(environ)) as api:
        return suggest_command.run(
            Survey(api),
            namespaces=arguments.namespace,
            most=arguments.most,
            label=arguments.by_node_label,
        )


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
    secrets = connection.secrets(environ).of(source)
    secret = secrets[0] if secrets else None
    if secret is not None and webhook_setup.prints_secret(source, google):
        print(
            f"The output has the secret of {source} in a URL. Anybody who has it can report pushes "
            f"as {source}. Keep it out of tickets, chats and logs.\n",
            file=sys.stderr,
        )
    print(webhook_setup.render(source, arguments.url, secret, google), end="")


def _completion(arguments: argparse.Namespace, _environ: Mapping[str, str]) -> None:
    print(shellcode(["image-puller"], shell=arguments.shell))


def _version(_arguments: argparse.Namespace, _environ: Mapping[str, str]) -> None:
    print(__version__)


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
