"""How long pulls took, from the words of the kubelet's Events. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime

from image_puller.core.daemonset import Manifest

_PULLED = re.compile(r'Successfully pulled image "([^"]+)" in ([0-9][0-9a-zµμ.]*)')
"""The first time is without the wait for other pulls. Older kubelets give no other one."""
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|us|µs|μs|ns|h|m|s)")
_SECONDS = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A pull that has ended. `uid` is that of the Event, and `time` when it was created."""

    uid: str
    pod: str
    image: str
    seconds: float
    time: datetime


def of_event(event: Manifest) -> Pulled | None:
    """Return the pull that an Event reports, or None where it reports none."""
    found = _PULLED.match(str(event.get("message") or ""))
    seconds = None if found is None else _duration(found[2])
    times = (event.get(key) for key in ("lastTimestamp", "eventTime", "firstTimestamp"))
    time = next(filter(None, times), None)
    if found is None or seconds is None or time is None:
        return None
    return Pulled(
        uid=str(event["metadata"].get("uid") or ""),
        pod=str((event.get("involvedObject") or {}).get("name") or ""),
        image=found[1],
        seconds=seconds,
        time=datetime.fromisoformat(time),
    )


def _duration(text: str) -> float | None:
    """Return the seconds of a duration as Go writes it, such as `1m2.5s`, or None."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
