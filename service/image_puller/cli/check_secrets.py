"""The part of `image-puller check` that looks for the secrets of senders and readers."""

from collections.abc import Iterator

from image_puller.cli.findings import Finding, failed, ok, skipped, warning
from image_puller.config.configuration import Config, EventAuth, ReadAuth
from image_puller.errors import SecretsUnavailableError
from image_puller.events.sources import SOURCES
from image_puller.http.authentication import EVENTS, READ, Secrets

_SENDERS = "secrets of senders"
_READERS = "secret of readers"
_MODE = "correct the mode of the mounted Secret"


def webhook_secrets(config: Config, *, is_in_pod: bool) -> Iterator[Finding]:
    """Yield whether senders and readers can authenticate, by the files of the secrets' folder."""
    folder = config.webhook_secrets_dir
    if not is_in_pod and not folder.is_dir():
        yield skipped(_SENDERS, f"{folder} is in the pod of the service only")
        return
    secrets = Secrets(folder)
    try:
        names = [name for name in (*SOURCES, EVENTS) if secrets.of(name)]
        has_read = bool(secrets.of(READ))
    except SecretsUnavailableError as error:
        yield failed(_SENDERS, str(error), _MODE)
        return
    yield of_senders(config, names)
    if config.read_auth is ReadAuth.NONE:
        yield ok(_READERS, "READ_AUTH is none, so everybody may read")
    elif has_read:
        yield ok(_READERS, f"{folder} has the file {READ}")
    elif names or config.event_auth is not EventAuth.TOKEN or config.google is not None:
        yield failed(
            _READERS,
            f"{folder} has no file {READ}, so nobody can read /status and /metrics",
            f"add the key {READ} to the Secret of the service, or set READ_AUTH=none",
        )


def of_senders(config: Config, names: list[str]) -> Finding:
    """Return which senders can authenticate. `names` has those with a secret."""
    folder = config.webhook_secrets_dir
    tokens = ["gar (by Google's tokens)"] if config.google is not None else []
    if config.event_auth is EventAuth.OIDC:
        tokens.append("events (by tokens)")
    elif config.event_auth is EventAuth.NONE:
        tokens.append("events (without a secret)")
    senders = [*names, *tokens]
    if not senders:
        return failed(
            _SENDERS,
            f"{folder} has no secret, so every request is rejected",
            "create the Secret of the service with a key for each sender, such as harbor, "
            f"{EVENTS} and {READ}, and mount it there",
        )
    if config.event_auth is EventAuth.TOKEN and EVENTS not in names:
        return warning(
            _SENDERS,
            f"there are those of {', '.join(senders)}, and none for POST / and trigger-check",
            f"add the key {EVENTS} to the Secret of the service, if they are used",
        )
    return ok(_SENDERS, f"these can authenticate: {', '.join(senders)}")
