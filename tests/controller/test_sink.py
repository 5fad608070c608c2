"""The sink: its requests, and the meaning of its answers."""

import socket
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests
import responses

from image_puller import __version__
from image_puller.config import configuration
from image_puller.controller.sink import Sink
from image_puller.errors import RefusedBySinkError, SinkUnavailableError
from tests.support.tls import self_signed, tls_server

URL = "http://sink.example.com/events?a=b"
HEADERS = {"ce-id": "1", "content-type": "application/json"}


def sink(url: str = URL, ca_certs: str | None = None, *, seconds: float = 4.0) -> Sink:
    """Return the sink at a URL."""
    config = configuration.Sink(url=url, ca_certs=ca_certs, extensions={})
    return Sink(config, seconds=seconds)


@pytest.fixture
def web() -> Iterator[responses.RequestsMock]:
    """Simulate all servers."""
    with responses.RequestsMock() as mock:
        yield mock


@pytest.mark.parametrize("status", [200, 202, 204])
def test_an_event_is_posted(web: responses.RequestsMock, status: int) -> None:
    web.post(URL, status=status, body="not read")
    sink().post(HEADERS, b"{}")
    request = web.calls[0].request
    assert request.body == b"{}"
    assert {name: request.headers[name] for name in HEADERS} == HEADERS
    assert request.headers["User-Agent"] == f"image-puller/{__version__}"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_an_answer_of_a_sink_in_trouble_is_no_refusal(
    web: responses.RequestsMock, status: int
) -> None:
    web.post(URL, status=status)
    with pytest.raises(SinkUnavailableError, match=f"^sink.example.com answered {status}$"):
        sink().post(HEADERS, b"{}")


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 413])
def test_any_other_answer_is_a_refusal_and_no_redirect_is_followed(
    web: responses.RequestsMock, status: int
) -> None:
    web.post(URL, status=status, headers={"Location": "http://other.example.com"})
    with pytest.raises(RefusedBySinkError, match=f"^sink.example.com answered {status}$"):
        sink().post(HEADERS, b"{}")


def test_no_credentials_of_the_environment_are_sent(
    web: responses.RequestsMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine sink.example.com login me password word")
    monkeypatch.setenv("NETRC", str(netrc))
    web.post(URL)
    sink().post(HEADERS, b"{}")
    assert "Authorization" not in web.calls[0].request.headers


def test_the_token_that_knative_mounts_and_renews_is_sent(
    web: responses.RequestsMock, tmp_path: Path
) -> None:
    web.post(URL)
    config = configuration.Sink(url=URL, ca_certs=None, extensions={})
    token = tmp_path / "token"
    own = Sink(config, token_file=token)
    for text in ("one\n", "two"):
        token.write_text(text)
        own.post(HEADERS, b"{}")
    sent = [call.request.headers["Authorization"] for call in web.calls]
    assert sent == ["Bearer one", "Bearer two"]


def test_a_sink_that_does_not_answer_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SinkUnavailableError, match=r"^127\.0\.0\.1:\d+ can't be reached: "):
            sink(f"http://127.0.0.1:{port}", seconds=2.1).post(HEADERS, b"{}")


def test_an_error_does_not_name_the_query_which_may_be_secret() -> None:
    with pytest.raises(SinkUnavailableError, match="Connection refused") as error:
        sink("http://127.0.0.1:1/events?code=s3cret").post(HEADERS, b"{}")
    assert "s3cret" not in str(error.value)


def test_an_error_without_words_is_named(web: responses.RequestsMock) -> None:
    web.post(URL, body=requests.ConnectionError())
    with pytest.raises(SinkUnavailableError, match=r"can't be reached: ConnectionError$"):
        sink().post(HEADERS, b"{}")


class Accepts(BaseHTTPRequestHandler):
    """Accepts each event."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_certificates_of_knative_are_trusted(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with tls_server(Accepts, certificate) as port:
        url = f"https://127.0.0.1:{port}"
        sink(url, ssl.DER_cert_to_PEM_cert(_der(certificate))).post(HEADERS, b"{}")
        with pytest.raises(SinkUnavailableError, match="certificate verify failed"):
            sink(url).post(HEADERS, b"{}")


def _der(certificate: Path) -> bytes:
    """Return the certificate of a file, without its key."""
    text = certificate.read_text()
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(text[: text.index(end) + len(end)])
