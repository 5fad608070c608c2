"""The end of a request in the bytes of a connection. Pure.

The server waits for a whole request before a thread takes it. Gunicorn parses the bytes afterwards,
and decides what is valid. So a wrong end here makes the request invalid, and nothing else.
"""

import re
from dataclasses import dataclass

from image_puller import limits

HEAD_BYTES = 64 * 1024
"""The size of a request's line and headers. Gunicorn limits each of them further."""
_CHUNKED_BYTES = 2 * limits.BODY_BYTES
"""The size of a chunked body, with its chunk sizes."""
_CHUNK_LINE_BYTES = 1024
"""The length of a line with a chunk size and its extensions."""

_HEAD_END = b"\r\n\r\n"
_FRAMING_HEADER = re.compile(rb"(?i)\r\n(content-length|transfer-encoding)([^\r\n]*)")
_LENGTH = re.compile(rb":[ \t]*([0-9]{1,10})[ \t]*")
_CHUNKED = re.compile(rb"(?i):[ \t]*chunked[ \t]*")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;.*)?", re.DOTALL)
_EXPECTS_CONTINUE = re.compile(rb"(?i)\r\nexpect:[ \t]*100-continue[ \t]*\r\n")


@dataclass(frozen=True, slots=True)
class Request:
    """The bytes of one request.

    `is_whole` is False for a request that is too large, or cut off, or that can't be framed. Its
    connection can't be used again, because nobody knows where the next request starts.
    """

    data: bytes
    is_whole: bool


class Incoming:
    """The bytes that a connection has received, without the requests that were taken."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._forget()

    def __len__(self) -> int:
        """Return the number of bytes."""
        return len(self._data)

    def add(self, data: bytes) -> None:
        """Add received bytes."""
        self._data += data

    def expects_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body."""
        return self._expects_continue

    def take(self, *, is_last: bool = False) -> Request | None:
        """Remove and return the first request, or None while a part of it is missing.

        With `is_last` the client sends nothing more, so what is there is the request.
        """
        length = self._length()
        is_whole = length is not None and not self._is_unframed
        if length is None:
            if not is_last:
                return None
            length = len(self._data)
        data = bytes(self._data[:length])
        del self._data[:length]
        self._forget()
        return Request(data, is_whole)

    def _forget(self) -> None:
        """Forget what is known about the first request."""
        self._searched = 0
        self._head_bytes: int | None = None
        self._body_bytes: int | None = None
        self._next_chunk = 0
        self._is_unframed = False
        self._expects_continue = False

    def _length(self) -> int | None:
        """Return the length of the first request, or None while it is not known."""
        if self._head_bytes is None:
            self._find_head()
        if self._head_bytes is not None and self._body_bytes is None and not self._is_unframed:
            self._find_last_chunk(self._head_bytes)
        if self._is_unframed:
            return len(self._data)
        if self._head_bytes is None or self._body_bytes is None:
            return None
        length = self._head_bytes + self._body_bytes
        return length if len(self._data) >= length else None

    def _find_head(self) -> None:
        start = max(self._searched - len(_HEAD_END), 0)
        end = self._data.find(_HEAD_END, start)
        self._searched = len(self._data)
        if end < 0:
            self._is_unframed = len(self._data) > HEAD_BYTES
            return
        self._head_bytes = self._next_chunk = end + len(_HEAD_END)
        head = bytes(self._data[: self._head_bytes])
        self._expects_continue = _EXPECTS_CONTINUE.search(head) is not None
        match _FRAMING_HEADER.findall(head):
            case []:
                self._body_bytes = 0
            case [(_, value)] if length := _LENGTH.fullmatch(value):
                self._body_bytes = int(length[1])
                # The application refuses a longer body without reading it.
                self._is_unframed = self._body_bytes > limits.BODY_BYTES + 1
            case [(_, value)] if _CHUNKED.fullmatch(value):
                pass
            case _:
                self._is_unframed = True

    def _find_last_chunk(self, head_bytes: int) -> None:
        """Read the sizes of the chunks that were received since."""
        while (line_end := self._data.find(b"\r\n", self._next_chunk)) >= 0:
            size = _CHUNK_SIZE.fullmatch(self._data, self._next_chunk, line_end)
            if size is None:
                self._is_unframed = True
                return
            if int(size[1], 16) == 0:
                # Trailers may follow, and then an empty line.
                end = self._data.find(_HEAD_END, line_end)
                if end >= 0:
                    self._body_bytes = end + len(_HEAD_END) - head_bytes
                break
            self._next_chunk = line_end + 2 + int(size[1], 16) + 2
        unread = len(self._data) - self._next_chunk
        is_too_long = len(self._data) - head_bytes > _CHUNKED_BYTES
        is_endless_line = unread > _CHUNK_LINE_BYTES and self._body_bytes is None
        self._is_unframed = is_too_long or is_endless_line
