"""What can go wrong, each with the HTTP status that its sender should see."""


class ImagePullerError(Exception):
    """Anything this project raises on purpose; the message says what to do about it."""

    status = 500


class ConfigurationError(ImagePullerError):
    """The environment is wrong. One line for each problem, each naming its variable."""


class BadEventError(ImagePullerError):
    """A request can't be read, or breaks the CloudEvents specification: again won't help."""

    status = 400


class UnauthenticatedError(ImagePullerError):
    """A request does not prove who sends it."""

    status = 401


class KeysUnavailableError(ImagePullerError):
    """Whether a token is genuine can't be said now: its issuer's keys can't be read."""

    status = 503


class ClusterUnavailableError(ImagePullerError):
    """The API server can't be reached, or can't take a write now. The sender tries again."""

    status = 503


class SupersededError(ClusterUnavailableError):
    """Another process, of a newer configuration or release, is in charge of the DaemonSet."""


class ForeignDaemonSetError(ClusterUnavailableError):
    """A DaemonSet of that name belongs to somebody else, and is never touched."""


class RejectedError(ImagePullerError):
    """The API server would not have an object or a patch as it is; the message has its words."""

    status = 503


class MissingError(ImagePullerError):
    """The DaemonSet is not there."""

    status = 503


class LostRaceError(ImagePullerError):
    """Another writer was first: what the decision rested on is no longer so."""

    status = 503


class RegistryError(ImagePullerError):
    """A registry did not say what it was asked; the message says which, about what, and why."""

    status = 503


class UnknownRegistryError(RegistryError):
    """Nobody named this registry, so it is not asked."""


class RefusedByRegistryError(RegistryError):
    """A registry does not show an image to whoever the service can prove to be."""


class RegistryUnavailableError(RegistryError):
    """A registry can't be reached, limits requests, or answers what can't be read: later again."""
