"""A running service, with a client of its web application."""

from pathlib import Path

from flask.testing import FlaskClient

from image_puller.serve import Service
from tests.support.clock import ManualClock
from tests.support.waiting import TIMEOUT_SECONDS, wait_until


class Web:
    """A service, a client of its web application, and the folder of its secrets."""

    def __init__(self, service: Service, secrets: Path) -> None:
        self.service = service
        self.secrets = secrets
        self.client: FlaskClient = service.app.test_client()

    def secret(self, name: str, *secrets: str) -> None:
        """Replace the secrets of a name."""
        for old in self.secrets.glob(f"{name}*"):
            old.unlink()
        for number, secret in enumerate(secrets):
            (self.secrets / (f"{name}.{number}" if number else name)).write_text(f"{secret}\n")

    def wait_for_first_check(self, clock: ManualClock) -> None:
        """Wait until the check at start has ended, so that it can't disturb a test."""
        wait_until(lambda: 'source="check"' in self.service.metrics.text().decode())
        wait_until(
            lambda: all(clock.waits(group._schedule._wakes) for group in self.service._groups)
        )

    def stop(self) -> None:
        """Stop the service, as SIGTERM does."""
        self.service.stop()
        self.service.join(TIMEOUT_SECONDS)
        self.service.flush()
