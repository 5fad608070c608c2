"""The errors, each with the HTTP status of the answer to the request."""


class ImagePullerError(Exception):
    """The base of all errors of this project. The message says what to do."""

    status = 500


class ConfigurationError(ImagePullerError):
    """The configuration is wrong. The message has a line per problem, with its variable."""


class BadEventError(ImagePullerError):
    """A request can't be read, or breaks the CloudEvents specification. A retry won't help."""

    status = 400


class BadQueryError(ImagePullerError):
    """A parameter in the URL of a request is wrong. The message names it."""

    status = 400


class UnauthenticatedError(ImagePullerError):
    """A request does not authenticate its sender."""

    status = 401


class KeysUnavailableError(ImagePullerError):
    """A token can't be verified now, because its issuer's keys can't be read."""

    status = 503


class SecretsUnavailableError(ImagePullerError):
    """The secrets of senders are there and can't be read, so nobody can be authenticated now."""

    status = 503


class ClusterUnavailableError(ImagePullerError):
    """The API server can't be reached, or the commit can't be made now. The sender tries again."""

    status = 503


class OverloadedError(ImagePullerError):
    """Too much slow work is being done already. The sender tries again.

    `reason` is the label of a metric.
    """

    status = 503

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class SupersededError(ClusterUnavailableError):
    """Another process, with a newer configuration or release, is in charge of the DaemonSet."""


class ForeignDaemonSetError(ClusterUnavailableError):
    """The DaemonSet belongs to somebody else. It is never changed."""


class SinkUnavailableError(ImagePullerError):
    """The sink did not take an event now. The event is sent again."""


class RefusedBySinkError(ImagePullerError):
    """The sink refuses an event. Sending it again won't help."""


class RefusedByClusterError(ImagePullerError):
    """The API server refused an object or a patch. The message is the server's."""

    status = 503


class MissingError(ImagePullerError):
    """The DaemonSet, or another object of the cluster, does not exist."""

    status = 503


class LostRaceError(ImagePullerError):
    """Another process has written first, so the change must be decided again."""

    status = 503


class RegistryError(ImagePullerError):
    """A registry did not answer. The message says which one, about what, and why."""

    status = 503


class UnknownRegistryError(RegistryError):
    """A registry is not asked, because no entry names it, or its name is malformed."""


class RefusedByRegistryError(RegistryError):
    """A registry does not show an image with any credentials that the service has."""


class RegistryUnavailableError(RegistryError):
    """A registry can't be reached, limits requests, or sends a malformed answer. Retry later."""
