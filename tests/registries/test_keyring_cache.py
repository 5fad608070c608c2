"""KeyringCache keeps the credentials of pull secrets for a while."""

import pytest

from image_puller import limits
from image_puller.errors import ClusterUnavailableError, RegistryUnavailableError
from image_puller.registries.keyring_cache import KeyringCache
from image_puller.values.reference import parse
from tests.support.clock import ManualClock
from tests.support.pull_secrets import pull_secret

APP = parse("quay.io/org/app:1.2.3")


class Secrets:
    """The results of reading the Secrets, one for each read; an error is raised."""

    def __init__(self, *reads: list[dict[str, object]] | Exception) -> None:
        self.reads = iter(reads)

    def __call__(self) -> list[dict[str, object]]:
        result = next(self.reads)
        if isinstance(result, Exception):
            raise result
        return result


def users(cache: KeyringCache) -> list[str]:
    return [each.username for each in cache(APP)]


def test_pull_secrets_are_read_again_after_a_while(clock: ManualClock) -> None:
    secrets = Secrets([pull_secret("mine", "me")], [pull_secret("mine", "you")])
    cache = KeyringCache(secrets, clock=clock.monotonic)
    assert users(cache) == ["me"]
    clock.advance(limits.PULL_SECRETS_SECONDS - 1)
    assert users(cache) == ["me"]
    clock.advance(1)
    assert users(cache) == ["you"]


def test_credentials_stay_while_the_api_server_is_unavailable(clock: ManualClock) -> None:
    secrets = Secrets(
        [pull_secret("mine", "me")],
        ClusterUnavailableError("no connection"),
        [pull_secret("mine", "you")],
    )
    cache = KeyringCache(secrets, clock=clock.monotonic)
    assert users(cache) == ["me"]
    clock.advance(limits.PULL_SECRETS_SECONDS)
    assert users(cache) == ["me"]
    clock.advance(limits.RETRY_SECONDS)
    assert users(cache) == ["you"]


def test_no_registry_is_asked_before_pull_secrets_were_read(clock: ManualClock) -> None:
    secrets = Secrets(ClusterUnavailableError("no connection"), [pull_secret("mine", "me")])
    cache = KeyringCache(secrets, clock=clock.monotonic)
    with pytest.raises(RegistryUnavailableError, match="pull secrets can't be read: no connection"):
        cache(APP)
    assert users(cache) == ["me"]


def test_warning_about_a_pull_secret_is_logged_once(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    bad = pull_secret("mine", "me") | {"type": "Opaque"}
    cache = KeyringCache(Secrets([bad], [bad]), clock=clock.monotonic)
    for _ in range(2):
        assert users(cache) == []
        clock.advance(limits.PULL_SECRETS_SECONDS)
    warnings = [each for each in caplog.messages if each.startswith("pull secret mine: ")]
    assert len(warnings) == 1
