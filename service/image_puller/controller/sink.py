"""The sink: where the service sends CloudEvents by HTTP."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import requests

from image_puller import __version__, limits, outbound
from image_puller.config import configuration
from image_puller.errors import RefusedBySinkError, SinkUnavailableError

_AGENT = f"image-puller/{__version__}"
_SUCCESSES = range(200, 300)
_SERVER_ERROR = 500
_TRANSIENT = (408, 425, 429)
"""The statuses after which an event is sent again, beside those from 500."""


_TOKEN_FILE = Path("/oidc/token")
"""Where a SinkBinding mounts a token for the sink, if the sink requires one."""


class Sink:
    """Sends one request after another, on one connection. Not thread-safe.

    Proxies and CA bundles come from the environment, as with requests. Passwords do not.
    """

    def __init__(
        self,
        sink: configuration.Sink,
        *,
        seconds: float = limits.SINK_SECONDS,
        token_file: Path = _TOKEN_FILE,
    ) -> None:
        self._token_file = token_file
        self._url = sink.url
        self._host = urlsplit(sink.url).netloc
        self._timeout = limits.CONNECT_SECONDS, seconds - limits.CONNECT_SECONDS
        self._session = outbound.session(_context(sink.ca_certs))

    def post(self, headers: Mapping[str, str], body: bytes) -> None:
        """Send a request. Raises SinkUnavailableError, or RefusedBySinkError."""
        try:
            with self._session.post(
                self._url,
                data=body,
                headers={**headers, "User-Agent": _AGENT},
                auth=self._authorize,
                allow_redirects=False,
                stream=True,  # so that the body of the answer is not read
                timeout=self._timeout,
            ) as answer:
                status = answer.status_code
        except requests.RequestException as error:
            raise SinkUnavailableError(f"{self._host} can't be reached: {_why(error)}") from error
        if status in _SUCCESSES:
            return
        message = f"{self._host} answered {status}"
        if status in _TRANSIENT or status >= _SERVER_ERROR:
            raise SinkUnavailableError(message)
        raise RefusedBySinkError(message)

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token of the file, which Knative renews, and no other credentials."""
        try:
            token = self._token_file.read_text().strip()
        except OSError:  # the sink requires none
            return request
        request.headers["Authorization"] = f"Bearer {token}"
        return request


def _why(error: requests.RequestException) -> object:
    """Return the reason of an error. The error itself may name the URL, whose query is secret."""
    cause = error.args[0] if error.args else type(error).__name__
    return getattr(cause, "reason", cause)


def _context(ca_certs: str | None) -> ssl.SSLContext | None:
    """Return what trusts these certificates beside the usual ones, or None for only those."""
    if ca_certs is None:
        return None
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=ca_certs)
    return context
