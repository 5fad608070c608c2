"""The credentials of the pull secrets, kept for a while and then read again."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from image_puller import limits
from image_puller.errors import ClusterUnavailableError, RegistryUnavailableError
from image_puller.registries import pull_secrets
from image_puller.registries.pull_secrets import Credentials, Keyring
from image_puller.values.reference import Reference

log = logging.getLogger(__name__)


class KeyringCache:
    """Returns the credentials for an image, for several threads at once."""

    def __init__(
        self,
        read_secrets: Callable[[], Sequence[dict[str, Any]]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_secrets = read_secrets
        self._clock = clock
        self._lock = threading.Lock()
        self._keyring: Keyring | None = None
        self._warnings: tuple[str, ...] = ()
        self._until = 0.0

    def __call__(self, reference: Reference) -> Sequence[Credentials]:
        """Return the credentials to try, in order. Raises RegistryUnavailableError."""
        with self._lock:
            if self._keyring is None or self._clock() >= self._until:
                self._read()
            return self._keyring.credentials(reference) if self._keyring else ()

    def _read(self) -> None:
        try:
            secrets = self._read_secrets()
        except ClusterUnavailableError as error:
            self._until = self._clock() + limits.RETRY_SECONDS
            if self._keyring is None:
                raise RegistryUnavailableError(f"pull secrets can't be read: {error}") from error
            return
        self._keyring, warnings = pull_secrets.read(secrets)
        for warning in warnings if warnings != self._warnings else ():
            log.warning("%s", warning)
        self._warnings = warnings
        self._until = self._clock() + limits.PULL_SECRETS_SECONDS
