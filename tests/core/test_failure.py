"""What the words of container runtimes say about a failure."""

import pytest

from image_puller.core.failure import Cause, cause, is_pull, is_told

_RESOLVE = 'failed to resolve reference "quay.io/org/app:1": '
_PULL = (
    'ErrImagePull: rpc error: code = NotFound desc = failed to pull and unpack image "q/a:1": '
    + _RESOLVE
)
_BACK_OFF = f'ImagePullBackOff: Back-off pulling image "q/a:1": {_PULL}'


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        (f"{_PULL}quay.io/org/app:1: not found", Cause.IMAGE),
        (f"{_BACK_OFF}quay.io/org/app:1: not found", Cause.IMAGE),
        (f"{_PULL}unexpected status from HEAD request to https://q/v2: 401 Unauthorized", "IMAGE"),
        (f"{_PULL}unexpected status from HEAD request to https://q/v2: 403 Forbidden", "IMAGE"),
        (f"{_PULL}pull access denied, repository does not exist", Cause.IMAGE),
        ("ErrImagePull: reading manifest 1 in quay.io/org/app: manifest unknown", Cause.IMAGE),
        ("InvalidImageName: couldn't parse image name", Cause.IMAGE),
        ("CrashLoopBackOff: back-off 5m0s; the last exit: OOMKilled (exit code 137)", Cause.IMAGE),
        ('RunContainerError: exec: "/kip/sleep": permission denied', Cause.IMAGE),
        (f"{_PULL}no match for platform in manifest: not found", Cause.PLATFORM),
        ("ErrImagePull: no image found in image index for architecture arm64", Cause.PLATFORM),
        ("CrashLoopBackOff: exec /kip/sleep: exec format error", Cause.PLATFORM),
        (f"{_PULL}write /var/lib/x: no space left on device", Cause.NODE),
        (f"{_PULL}failed to do request: Head: dial tcp: lookup q: no such host", Cause.TRANSIENT),
        (f"{_PULL}failed to do request: dial tcp 10.0.0.1:443: i/o timeout", Cause.TRANSIENT),
        (f"{_PULL}dial tcp 10.0.0.1:443: connect: connection refused", Cause.TRANSIENT),
        (f"{_PULL}x509: certificate signed by unknown authority", Cause.TRANSIENT),
        (f"{_PULL}unexpected status code: 503 Service Unavailable", Cause.TRANSIENT),
        (f"{_PULL}429 Too Many Requests", Cause.TRANSIENT),
        ("ErrImagePull: rpc error: code = Unavailable desc = error reading: EOF", Cause.TRANSIENT),
        ('ImagePullBackOff: Back-off pulling image "q/denied:not found"', Cause.TRANSIENT),
        ("ErrImagePull: something that nobody has seen yet", Cause.TRANSIENT),
    ],
)
def test_the_words_of_the_runtime_show_the_cause(reason: str, found: Cause | str) -> None:
    assert cause(reason) is (Cause[found] if isinstance(found, str) else found)


def test_a_container_that_can_not_run_was_pulled() -> None:
    assert is_pull(_BACK_OFF)
    assert not is_pull("CrashLoopBackOff: back-off 10s")


def test_a_back_off_may_lack_the_words_of_the_runtime() -> None:
    assert is_told(_BACK_OFF)
    assert is_told("CrashLoopBackOff: back-off 10s")
    assert not is_told('ImagePullBackOff: Back-off pulling image "quay.io/org/app:1"')
