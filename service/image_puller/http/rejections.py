"""What the log has about rejected requests: one line for each source, status and minute."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from image_puller.errors import UnauthenticatedError

log = logging.getLogger(__name__)

_SECONDS = 60.0
_ADDRESSES_MOST = 5
_OTHERS = "other addresses"


@dataclass(slots=True)
class _Minute:
    """The rejected requests of one source and status that no line has yet, by their address."""

    start: float
    advice: str
    addresses: Counter[str] = field(default_factory=Counter)


class Rejections:
    """Logs rejected requests: the first of a source at once, and then a count once a minute.

    The address is that of the connection. Behind an ingress it is the ingress's, because a header
    such as `X-Forwarded-For` may have any text.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._minutes: dict[tuple[str, int], _Minute] = {}

    def note(
        self,
        source: str,
        address: str | None,
        advice: str,
        *,
        status: int = UnauthenticatedError.status,
    ) -> None:
        """Log or count one request. `advice` says what is wrong, or what to do."""
        self.write_due()
        # The socket is one of IPv6, and shows IPv4 addresses in the form ::ffff:10.1.2.3.
        sender = (address or "an unknown address").removeprefix("::ffff:")
        with self._lock:
            minute = self._minutes.get((source, status))
            if minute is None:
                self._minutes[source, status] = _Minute(self._clock(), advice)
            else:
                known = sender in minute.addresses or len(minute.addresses) < _ADDRESSES_MOST
                minute.addresses[sender if known else _OTHERS] += 1
                return
        log.warning("%s: a request from %s was rejected: %s", source, sender, advice)

    def write_due(self) -> None:
        """Log the counts whose minute is over. Each request calls this, so probes do too."""
        now = self._clock()
        with self._lock:
            due = {
                key: minute
                for key, minute in self._minutes.items()
                if now - minute.start >= _SECONDS
            }
            for key, minute in due.items():
                if minute.addresses:
                    self._minutes[key] = _Minute(now, minute.advice)
                else:
                    del self._minutes[key]
        for (source, _), minute in due.items():
            if minute.addresses:
                more = minute.addresses.total()
                log.warning(
                    "%s: %s rejected within %d s, from %s: %s",
                    source,
                    "1 more request was" if more == 1 else f"{more} more requests were",
                    now - minute.start,
                    ", ".join(f"{each} ({n})" for each, n in minute.addresses.most_common()),
                    minute.advice,
                )
