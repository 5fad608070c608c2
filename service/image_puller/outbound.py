"""Requests to registries, token issuers and the sink: an answer arrives whole before its deadline.

The timeouts of requests and urllib3 begin again with each byte, so a server that sends one byte a
second could hold a thread for ever.
"""

import http.client
import io
import ssl
import time
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter


class Adapter(HTTPAdapter):
    """Reads each answer, its headers included, within the read timeout of the request.

    Every request needs a timeout. A TLS context is used through proxies too.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._tls = {} if context is None else {"ssl_context": context}
        super().__init__()

    def init_poolmanager(
        self,
        connections: int,
        maxsize: int,
        block: bool = False,  # noqa: FBT001, FBT002 - the signature of the base class
        **options: Any,
    ) -> None:
        super().init_poolmanager(connections, maxsize, block, **options, **self._tls)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options, **self._tls)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def session(context: ssl.SSLContext | None = None) -> requests.Session:
    """Return a session whose answers have to arrive within the timeout of each request."""
    found = requests.Session()
    found.mount("https://", Adapter(context))
    found.mount("http://", Adapter())
    return found


def without_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add no credentials. Without this function, requests would read them from a .netrc file."""
    return request


class _Source(io.RawIOBase):
    """What a socket receives until a deadline. The deadline begins with the socket's timeout."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + connection.gettimeout()
        self._file = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the answer is not complete")
        self._connection.settimeout(seconds)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Received:
    """Takes the place of a socket where http.client opens it as a file."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Source(self._connection))


class _Answer(http.client.HTTPResponse):
    """An answer, also that of a proxy to CONNECT."""

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(_Received(sock), *arguments, **options)  # type: ignore[arg-type]


class _HttpConnection(urllib3.connection.HTTPConnection):
    response_class = _Answer


class _HttpsConnection(urllib3.connection.HTTPSConnection):
    response_class = _Answer


# urllib3 puts the names of these classes into its messages.
class HTTPConnectionPool(urllib3.HTTPConnectionPool):
    """Connections without TLS."""

    ConnectionCls = _HttpConnection


class HTTPSConnectionPool(urllib3.HTTPSConnectionPool):
    """Connections with TLS."""

    ConnectionCls = _HttpsConnection


_POOLS = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}
