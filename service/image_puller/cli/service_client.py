"""Requests from the command line to a running service."""

from collections.abc import Mapping

import requests

from image_puller.errors import ImagePullerError

_TIMEOUT_SECONDS = 30
_UNAUTHENTICATED = 401
_LOCAL = "http://127.0.0.1:"


class NoAnswerError(ImagePullerError):
    """Nothing answers at the address of the service."""


def send(
    method: str,
    url: str,
    name: str,
    *,
    headers: Mapping[str, str | bytes],
    data: bytes | None = None,
) -> requests.Response:
    """Send a request to the service that needs the secret of a name, and return the answer.

    Raises NoAnswerError, and ImagePullerError for an answer that is an error.
    """
    # No proxy leads back to this machine, so one in the environment is not used.
    proxies = {"no_proxy": "127.0.0.1"} if url.startswith(_LOCAL) else None
    try:
        answer = requests.request(
            method, url, headers=headers, data=data, timeout=_TIMEOUT_SECONDS, proxies=proxies
        )
    except requests.RequestException as error:
        raise NoAnswerError(
            f"no answer from {url} ({error}); check the address in --url, or PORT"
        ) from error
    if answer.status_code == _UNAUTHENTICATED:
        raise ImagePullerError(
            f"{url} answered 401; put the secret of `{name}` into a file, and name it in "
            "--token-file"
        )
    if not answer.ok:
        raise ImagePullerError(f"{url} answered {answer.status_code}; see the log of the service")
    return answer


def bearer(secret: bytes) -> dict[str, str | bytes]:
    """Return the Authorization header of a secret."""
    return {"Authorization": b"Bearer " + secret}
