"""The part of `image-puller check` that reads the keys of signed tokens.

An image for FIPS lacks the packages of these, so this module is imported only where they are used.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from image_puller.cli.findings import Finding, failed, ok, skipped
from image_puller.config.configuration import Config
from image_puller.errors import KeysUnavailableError
from image_puller.http import key_sets, oidc
from image_puller.http.authentication import EVENTS

Issuer = Callable[[], tuple[str, bytes]]


def token_keys(config: Config, issuer: Issuer | None) -> Iterator[Finding]:
    """Yield whether the keys of each kind of tokens can be read.

    `issuer` reads those of the API server, and is None where it can't be asked.
    """
    if config.oidc is not None:
        yield _readable(EVENTS, config.oidc.keys, issuer)
    if config.google is not None:
        yield _readable("gar", oidc.GOOGLE_KEYS, issuer)


def _readable(name: str, where: str | Path | None, issuer: Issuer | None) -> Finding:
    title = f"keys of tokens for {name}"
    try:
        if isinstance(where, Path):
            found = key_sets.from_file(where)
        elif where is not None:
            found = key_sets.from_url(where)
        elif issuer is not None:
            found = key_sets.from_issuer(issuer)
        else:
            return skipped(title, "they are the API server's, which can't be asked")
    except KeysUnavailableError as error:
        fix = "correct OIDC_KEYS, or let the service reach the keys: see NetworkPolicy and proxy"
        return failed(title, str(error), fix)
    return ok(title, f"{len(found.keys)} can be read")
