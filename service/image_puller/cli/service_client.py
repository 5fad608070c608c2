"""Requests from the command line to a running service, and errors that say what to do."""

import socket
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import requests

from image_puller.errors import ImagePullerError

_TIMEOUT_SECONDS = 30
_LOCAL = "http://127.0.0.1:"
_MOST_CHARACTERS = 300


class ServiceError(ImagePullerError):
    """The service can't be reached, or does not give the answer."""


class NoAnswerError(ServiceError):
    """Nothing answers at the address of the service."""


class BusyError(ServiceError):
    """The service can't answer now. The same request may be answered later."""


class MissingImageError(ServiceError):
    """The service has no image of that name."""


def send(
    method: str,
    url: str,
    name: str,
    *,
    headers: Mapping[str, str | bytes],
    data: bytes | None = None,
    may_use_proxy: bool = True,
) -> requests.Response:
    """Send a request to the service that needs the secret of a name, and return the answer.

    Raises ServiceError where there is none, and for one that is an error.
    """
    # No proxy leads back to this machine, so one in the environment is not used.
    is_near = url.startswith(_LOCAL) or not may_use_proxy
    proxies = {"no_proxy": "*"} if is_near else None
    try:
        answer = requests.request(
            method, url, headers=headers, data=data, timeout=_TIMEOUT_SECONDS, proxies=proxies
        )
    except requests.RequestException as error:
        raise NoAnswerError(f"Cannot reach the service at {url}: {_why(error)}") from error
    if not answer.ok:
        raise _error(answer, url, name, has_secret="Authorization" in headers)
    return answer


def status_of(answer: requests.Response, url: str) -> dict[str, Any]:
    """Return the status that an answer has as JSON. Raises ServiceError for anything else."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict) or "daemonset" not in found:
        raise ServiceError(
            f"{url} did not answer with the JSON of the service. Does something else listen "
            "there? Use --url."
        )
    return found


def bearer(secret: bytes) -> dict[str, str | bytes]:
    """Return the Authorization header of a secret."""
    return {"Authorization": b"Bearer " + secret}


def _why(error: requests.RequestException) -> str:
    """Return why there is no answer, and what to do."""
    causes = list(_causes(error))
    if isinstance(error, requests.exceptions.ProxyError):
        return (
            "the proxy of the environment does not answer. Correct HTTP_PROXY or HTTPS_PROXY, or "
            "add the host to NO_PROXY."
        )
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "its certificate is not accepted. Use an address that the certificate names, and set "
            "REQUESTS_CA_BUNDLE to the file of its authority."
        )
    if any(isinstance(each, socket.gaierror) for each in causes):
        return "the host is unknown. Check the name in --url."
    if isinstance(error, requests.Timeout):
        return (
            f"no answer within {_TIMEOUT_SECONDS} s. Check the address and the network, or use "
            "--url."
        )
    if any(isinstance(each, ConnectionRefusedError) for each in causes):
        return "connection refused. Is it running? Use --url."
    words = next((each.strerror for each in causes if _has_words(each)), None)
    return f"{(words or 'the connection broke off').lower()}. Is it running? Use --url."


def _has_words(error: BaseException) -> bool:
    return isinstance(error, OSError) and bool(error.strerror)


def _causes(error: BaseException) -> Iterator[Any]:
    """Yield the errors that led to an error. The libraries keep them in several places."""
    seen: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            yield each
            waiting += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]


def _error(answer: requests.Response, url: str, name: str, *, has_secret: bool) -> ServiceError:
    start = f"{url} answered {answer.status_code}"
    match answer.status_code:
        case HTTPStatus.BAD_REQUEST if answer.text:
            return ServiceError(f"{start}: {_first_line(answer.text)}")
        case HTTPStatus.UNAUTHORIZED:
            what = "the secret is wrong" if has_secret else "it needs a secret"
            return ServiceError(
                f"{start}: {what}. Put the secret of `{name}` into a file, and name it in "
                "--token-file."
            )
        case HTTPStatus.NOT_FOUND if answer.text.startswith("no image is called"):
            what = _first_line(answer.text).partition(";")[0]
            return MissingImageError(f"{what}. `image-puller status` shows all.")
        case HTTPStatus.NOT_FOUND:
            return ServiceError(
                f"{start}: this is not the address of the service, or of another release. Use "
                "--url."
            )
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return BusyError(f"{start}: it can't answer now. Try again, and see its log.")
        case _:
            return ServiceError(f"{start}. See the log of the service.")


def _first_line(text: str) -> str:
    line = text.splitlines()[0][:_MOST_CHARACTERS]
    return "".join(each if each.isprintable() else " " for each in line)
