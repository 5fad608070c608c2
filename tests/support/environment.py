"""The environment variables that the service reads."""

from typing import Any

from image_puller.config.configuration import from_environ


class RecordingEnvironment(dict[str, str]):
    """An environment that records the names of the variables that are read."""

    def __init__(self, **variables: str) -> None:
        super().__init__(variables)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def variables() -> set[str]:
    """Return the names of all variables that the service reads."""
    # With oidc, the service reads all variables.
    environ = RecordingEnvironment(IMAGES="a=b:1", EVENT_AUTH="oidc", OIDC_AUDIENCE="x")
    from_environ(environ)
    return environ.names
