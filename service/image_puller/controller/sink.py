"""The sink: where the service sends CloudEvents by HTTP."""

import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests
import urllib3

from image_puller import __version__, limits
from image_puller.config import configuration
from image_puller.errors import RefusedBySinkError, SinkUnavailableError
from image_puller.outbound import Adapter

_AGENT = f"image-puller/{__version__}"
_SUCCESSES = range(200, 300)
_TOO_EARLY, _TOO_MANY_REQUESTS, _SERVER_ERROR = 425, 429, 500
_REQUEST_TIMEOUT = 408
_TRANSIENT = (_REQUEST_TIMEOUT, _TOO_EARLY, _TOO_MANY_REQUESTS)


class Sink:
    """Sends one request after another, on one connection. Not thread-safe.

    Proxies and CA bundles come from the environment, as with requests. Passwords do not.
    """

    def __init__(self, sink: configuration.Sink, *, seconds: float = limits.SINK_SECONDS) -> None:
        self._url = sink.url
        self._host = urlsplit(sink.url).netloc
        self._timeout = seconds / 2  # for the connection, and for the answer
        self._session = requests.Session()
        self._session.mount("http://", Adapter())
        self._session.mount("https://", Adapter(_context(sink.ca_certs)))

    def post(self, headers: Mapping[str, str], body: bytes) -> None:
        """Send a request. Raises SinkUnavailableError, or RefusedBySinkError."""
        try:
            with self._session.post(
                self._url,
                data=body,
                headers={**headers, "User-Agent": _AGENT},
                auth=_without_credentials,
                allow_redirects=False,
                stream=True,  # so that the body of the answer is not read
                timeout=self._timeout,
            ) as answer:
                status = answer.status_code
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise SinkUnavailableError(f"{self._host} can't be reached: {error}") from error
        if status in _SUCCESSES:
            return
        message = f"{self._host} answered {status}"
        if status in _TRANSIENT or status >= _SERVER_ERROR:
            raise SinkUnavailableError(message)
        raise RefusedBySinkError(message)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()


def _context(ca_certs: str | None) -> ssl.SSLContext | None:
    """Return what trusts these certificates beside the usual ones, or None for only those."""
    if ca_certs is None:
        return None
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=ca_certs)
    return context


def _without_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add no credentials. Without this function, requests would read them from a .netrc file."""
    return request
