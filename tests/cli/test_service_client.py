"""The errors of requests from the command line: each says what is wrong, and what to do."""

import socket
import ssl
from typing import Any

import pytest
import requests
import responses
import urllib3

from image_puller.cli import service_client
from image_puller.cli.service_client import BusyError, MissingImageError, NoAnswerError

URL = "http://puller.example.com/status"
UNREACHABLE = f"Cannot reach the service at {URL}: "


def get(headers: Any = None) -> Any:
    answer = service_client.send("GET", URL, "read", headers=headers or {})
    return service_client.status_of(answer, URL)


def caused_by(cause: OSError, kind: type[Exception] = requests.ConnectionError) -> Exception:
    """Return an error as requests raises it: the cause is deep inside."""
    error = urllib3.exceptions.NewConnectionError(None, "failed")  # type: ignore[arg-type]
    error.__cause__ = cause
    pool = urllib3.HTTPConnectionPool("puller.example.com")
    return kind(urllib3.exceptions.MaxRetryError(pool, "/status", error))


@responses.activate
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            caused_by(ConnectionRefusedError(111, "Connection refused")),
            "connection refused. Is it running? Use --url.",
        ),
        (
            caused_by(socket.gaierror(-2, "Name or service not known")),
            "the host is unknown. Check the name in --url.",
        ),
        (
            caused_by(OSError(113, "No route to host")),
            "no route to host. Is it running? Use --url.",
        ),
        (
            requests.ConnectionError("('Connection aborted.')"),
            "the connection broke off. Is it running? Use --url.",
        ),
        (
            requests.ReadTimeout("read timed out"),
            "no answer within 30 s. Check the address and the network, or use --url.",
        ),
        (
            requests.ConnectTimeout("timed out"),
            "no answer within 30 s. Check the address and the network, or use --url.",
        ),
        (
            caused_by(ssl.SSLCertVerificationError(1, "self-signed"), requests.exceptions.SSLError),
            (
                "its certificate is not accepted. Use an address that the certificate names, and "
                "set REQUESTS_CA_BUNDLE to the file of its authority."
            ),
        ),
        (
            caused_by(ConnectionRefusedError(111, "x"), requests.exceptions.ProxyError),
            (
                "the proxy of the environment does not answer. Correct HTTP_PROXY or HTTPS_PROXY, "
                "or add the host to NO_PROXY."
            ),
        ),
    ],
    ids=repr,
)
def test_error_without_an_answer_says_why(error: Exception, message: str) -> None:
    responses.get(URL, body=error)
    with pytest.raises(NoAnswerError) as raised:
        get()
    assert str(raised.value) == UNREACHABLE + message


@responses.activate
@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (
            401,
            {},
            "it needs a secret. Put the secret of `read` into a file, and name it in --token-file.",
        ),
        (
            401,
            service_client.bearer(b"wrong"),
            (
                "the secret is wrong. Put the secret of `read` into a file, and name it in "
                "--token-file."
            ),
        ),
        (404, {}, "this is not the address of the service, or of another release. Use --url."),
        (503, {}, "it can't answer now. Try again, and see its log."),
    ],
)
def test_error_about_an_answer_says_what_to_do(
    status: int, headers: dict[str, str | bytes], message: str
) -> None:
    responses.get(URL, status=status, body="<html>")
    with pytest.raises(service_client.ServiceError) as raised:
        get(headers)
    assert str(raised.value) == f"{URL} answered {status}: {message}"
    assert isinstance(raised.value, BusyError) is (status == 503)


@responses.activate
def test_error_about_another_answer_has_its_status() -> None:
    responses.get(URL, status=500, body="internal error\n")
    with pytest.raises(service_client.ServiceError) as raised:
        get()
    assert str(raised.value) == f"{URL} answered 500. See the log of the service."


@responses.activate
@pytest.mark.parametrize("body", ["<html>", "[]", "{}", "{"])
def test_answer_that_is_no_status_is_an_error(body: str) -> None:
    responses.get(URL, body=body)
    with pytest.raises(service_client.ServiceError) as raised:
        get()
    assert str(raised.value) == (
        f"{URL} did not answer with the JSON of the service. Does something else listen there? "
        "Use --url."
    )


@responses.activate
def test_error_about_an_unknown_image_is_that_of_the_service_without_control_characters() -> None:
    responses.get(URL, status=404, body="no image is called 'a\x1b[31m'; /status lists all\n")
    with pytest.raises(MissingImageError) as raised:
        get()
    assert str(raised.value) == "no image is called 'a [31m'. `image-puller status` shows all."
