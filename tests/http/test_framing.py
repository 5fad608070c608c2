"""The end of a request in the bytes of a connection."""

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser
from gunicorn.http.errors import NoMoreData, ParseException
from hypothesis import given
from hypothesis import strategies as st

from image_puller import limits
from image_puller.http.framing import HEAD_BYTES, Incoming, Request

GET = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
LENGTH = POST + b"Content-Length: 5\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def taken(data: bytes, *, is_last: bool = False) -> Request | None:
    incoming = Incoming()
    incoming.add(data)
    return incoming.take(is_last=is_last)


WHOLE = [
    GET,
    POST + b"\r\n",
    LENGTH + b"12345",
    POST + b"content-length:5\r\n\r\n12345",
    POST + b"CONTENT-LENGTH: \t5 \r\n\r\n12345",
    POST + b"Content-Length: 0\r\n\r\n",
    CHUNKED + b"0\r\n\r\n",
    CHUNKED + b"5\r\n12345\r\n0\r\n\r\n",
    CHUNKED + b"5;name=value\r\n12345\r\nA \r\n1234567890\r\n0\r\n\r\n",
    CHUNKED + b"5\r\n0\r\n\r\n\r\n0\r\n\r\n",
    CHUNKED + b"0\r\nTrailer: value\r\n\r\n",
]


@pytest.mark.parametrize("request_", WHOLE)
def test_a_request_ends_where_its_headers_say(request_: bytes) -> None:
    incoming = Incoming()
    incoming.add(request_ + GET)
    assert incoming.take() == Request(request_, is_whole=True)
    assert incoming.take() == Request(GET, is_whole=True)
    assert incoming.take() is None
    assert len(incoming) == 0


@pytest.mark.parametrize("request_", WHOLE)
def test_a_request_that_arrives_byte_by_byte_is_complete_at_its_last_byte(request_: bytes) -> None:
    incoming = Incoming()
    for byte in request_[:-1]:
        incoming.add(bytes((byte,)))
        assert incoming.take() is None
    incoming.add(request_[-1:])
    assert incoming.take() == Request(request_, is_whole=True)


@pytest.mark.parametrize("request_", WHOLE)
def test_a_request_that_is_cut_off_is_not_whole(request_: bytes) -> None:
    for length in range(1, len(request_)):
        assert taken(request_[:length]) is None
        assert taken(request_[:length], is_last=True) == Request(request_[:length], is_whole=False)


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: five\r\n\r\n12345",
        POST + b"Content-Length: +5\r\n\r\n12345",
        POST + b"Content-Length: 00000000005\r\n\r\n12345",
        POST + b"Content-Length : 5\r\n\r\n12345",
        POST + b"Content-Length: 5, 5\r\n\r\n12345",
        POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n12345",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"five\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"-5\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"1_0\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"5;" + b"x" * 2000,
        CHUNKED + b"0\r\nTrailer: " + b"x" * 2000,
        POST + b"X: " + b"x" * HEAD_BYTES,
        POST + b"Content-Length: %d\r\n\r\n" % (limits.BODY_BYTES + 2),
        CHUNKED + b"400000\r\n" + b"x" * 3 * limits.BODY_BYTES,
    ],
    ids=lambda request_: request_[len(POST) : len(POST) + 70],
)
def test_what_can_not_be_framed_or_is_too_large_is_not_whole(request_: bytes) -> None:
    assert taken(request_) == Request(request_, is_whole=False)


def test_a_body_of_the_largest_size_is_awaited() -> None:
    head = POST + b"Content-Length: %d\r\n\r\n" % (limits.BODY_BYTES + 1)
    assert taken(head) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"Expect: 100-continue\r\n", True),
        (b"expect:100-Continue \r\n", True),
        (b"Expect: other\r\n", False),
        (b"", False),
    ],
)
def test_a_client_that_waits_for_100_continue_is_known(header: bytes, expected: bool) -> None:
    incoming = Incoming()
    incoming.add(POST + header + b"Content-Length: 5\r\n\r\n")
    assert incoming.take() is None
    assert incoming.expects_continue() is expected
    incoming.add(b"12345" + LENGTH)
    assert incoming.take() is not None
    assert incoming.take() is None
    assert not incoming.expects_continue()


PIECES = st.sampled_from(
    [
        *(b"\r\n", b"\r\n\r\n", b"\n", b" ", b":", b";", b"0", b"5", b"a", b"\0", b"\xff"),
        *(b"GET / HTTP/1.1", b"POST / HTTP/1.0", b"Host: x", b"Content-Length"),
        *(b"Transfer-Encoding", b"chunked", b"12345", b"0\r\n\r\n", b"5\r\n12345\r\n"),
        *(CHUNKED, LENGTH, GET),
    ]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_gunicorn_finds_the_same_end_of_each_whole_request(data: bytes) -> None:
    incoming = Incoming()
    incoming.add(data)
    request = incoming.take()
    if request is None or not request.is_whole:
        return
    parser = get_parser(Config(), [data], ("127.0.0.1", 1))
    try:
        parsed = next(parser)
        parsed.body.read()
    except (ParseException, NoMoreData, StopIteration, OSError):
        return  # gunicorn answers with an error, and closes the connection
    assert parser.unreader.take_buffered() == data[len(request.data) :]


def test_bytes_that_arrive_in_any_pieces_give_the_same_requests() -> None:
    data = b"".join(WHOLE) * 3
    for size in (1, 2, 3, 7, 64, 1000):
        incoming, found = Incoming(), []
        for start in range(0, len(data), size):
            incoming.add(data[start : start + size])
            while request := incoming.take():
                found.append(request.data)
        assert found == WHOLE * 3
