"""What can go wrong, each with the HTTP status that its sender should see."""


class ImagePullerError(Exception):
    """Anything this project raises on purpose; the message says what to do about it."""

    status = 500


class ConfigurationError(ImagePullerError):
    """The environment is wrong. One line for each problem, each naming its variable."""


class BadEventError(ImagePullerError):
    """A request can't be read, or breaks the CloudEvents specification: sending it again won't help."""

    status = 400


class UnauthenticatedError(ImagePullerError):
    """A request does not prove who sends it."""

    status = 401


class ClusterUnavailableError(ImagePullerError):
    """The API server can't be reached, or can't take a write now. The sender tries again."""

    status = 503


class SupersededError(ImagePullerError):
    """Another process with a newer configuration or schema is in charge of the DaemonSet."""

    status = 503


class ForeignDaemonSetError(ImagePullerError):
    """A DaemonSet of that name belongs to somebody else, and is never touched."""

    status = 503
