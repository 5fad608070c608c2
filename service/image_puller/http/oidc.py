"""Verifies OpenID Connect tokens: the issuer's signature and the claims.

https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation. `key_sets` reads the keys.
PyJWT takes time to import, so this module is imported only if tokens are configured.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import cryptography  # noqa: F401 - otherwise PyJWT fails only at the first token
import jwt

from image_puller import limits
from image_puller.config.configuration import Google, Oidc
from image_puller.errors import BadEventError
from image_puller.events.payload import load, quote

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""The algorithms of Kubernetes and Google. None uses a shared secret."""
GOOGLE_ISSUERS = ("https://accounts.google.com", "accounts.google.com")
GOOGLE_KEYS = "https://www.googleapis.com/oauth2/v3/certs"

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_REQUIRED = ("exp", "iss", "aud", "sub")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """An issuer's public keys by id. `issuer` is its name, if it came with the keys."""

    keys: Mapping[str, jwt.PyJWK]
    issuer: str | None = None


class Keys(Protocol):
    """Provides key sets."""

    def current(self, key_id: str) -> KeySet:
        """Return a key set that is new enough to decide whether the issuer has this key.

        Raises KeysUnavailableError.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRule:
    """The values that a token's claims must have.

    Without `issuers`, the issuer is that of the key set. Without `subjects`, any subject is valid.
    A subject may end in `*`. With `email`, the issuer must have verified that address.
    """

    issuers: tuple[str, ...] = ()
    audience: str
    subjects: tuple[str, ...] = ()
    email: str | None = None


def of_cluster(oidc: Oidc) -> TokenRule:
    """Return the rule for tokens of Knative Triggers and sources."""
    issuers = (oidc.issuer,) if oidc.issuer else ()
    return TokenRule(issuers=issuers, audience=oidc.audience, subjects=oidc.subjects)


def of_google(google: Google) -> TokenRule:
    """Return the rule for tokens of a Pub/Sub subscription.

    Any Google account can get a token for any audience, so the e-mail address decides.
    """
    return TokenRule(issuers=GOOGLE_ISSUERS, audience=google.audience, email=google.service_account)


def key_set(document: bytes, issuer: str | None = None) -> KeySet:
    """Return the usable keys of a JSON Web Key Set (RFC 7517). Raises ValueError."""
    try:
        payload = load(document)
    except BadEventError as error:
        raise ValueError(str(error)) from error
    listed = payload.get("keys") if isinstance(payload, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it has no list of keys")
    usable = (key for item in listed[: limits.KEYS_MOST] if (key := _key(item)) is not None)
    keys = {key.key_id: key for key in usable if key.key_id}
    if not keys:
        raise ValueError(f"it has no key with an id for any of {', '.join(ALGORITHMS)}")
    return KeySet(keys=keys, issuer=issuer)


def _key(item: Any) -> jwt.PyJWK | None:
    if not isinstance(item, dict) or item.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK(item)
    except (jwt.PyJWTError, TypeError, ValueError):
        return None
    return key if key.algorithm_name in ALGORITHMS and isinstance(key.key_id, str) else None


class _RejectedError(Exception):
    """A token does not fit the rule. The message quotes what comes from the token."""


class OidcVerifier:
    """Verifies tokens against a rule. `name` is the source, for the log."""

    def __init__(self, name: str, rule: TokenRule, keys: Keys) -> None:
        self._name = name
        self._rule = rule
        self._keys = keys

    def verify(self, authorization: str | None) -> bool:
        """Whether an `Authorization` header has a valid token. Raises KeysUnavailableError."""
        scheme, _, token = (authorization or "").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or len(token) > limits.TOKEN_CHARACTERS:
            return False
        if not _TOKEN.fullmatch(token):
            return False
        try:
            self._check(token)
        except _RejectedError as error:
            log.warning("a token for %s was rejected: %s", self._name, str(error)[:300])
            return False
        except (jwt.PyJWTError, RecursionError, ValueError) as error:
            # PyJWT puts parts of the token into its messages as they are.
            log.warning("a token for %s was rejected: %s", self._name, quote(str(error)))
            return False
        return True

    def _check(self, token: str) -> None:
        key_id = jwt.get_unverified_header(token).get("kid")
        if not isinstance(key_id, str):
            raise _RejectedError("it names no key")
        found = self._keys.current(key_id)
        key = found.keys.get(key_id)
        if key is None:
            raise _RejectedError(f"its issuer has no key {quote(key_id)}")
        self._check_claims(self._decode(token, key, found.issuer))

    def _decode(self, token: str, key: jwt.PyJWK, issuer: str | None) -> dict[str, Any]:
        rule = self._rule
        issuers = rule.issuers or ((issuer,) if issuer else ())
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=rule.audience,
                issuer=issuers,
                leeway=limits.TOKEN_LEEWAY_SECONDS,
                options={"require": list(_REQUIRED), "enforce_minimum_key_length": True},
            )
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError) as error:
            expected = f"audience {rule.audience}, issuer {' or '.join(issuers)}"
            raise _RejectedError(f"{error}; expected: {expected}") from error

    def _check_claims(self, claims: Mapping[str, Any]) -> None:
        """Check subject and e-mail address, once signature, issuer and audience are right."""
        rule = self._rule
        subject, email = claims["sub"], claims.get("email")
        if rule.subjects and not any(_matches(pattern, subject) for pattern in rule.subjects):
            raise _RejectedError(
                f"its subject is {quote(subject)}; accepted are {'; '.join(rule.subjects)}"
            )
        if rule.email and (email != rule.email or claims.get("email_verified") is not True):
            raise _RejectedError(
                f"its verified e-mail address is not {rule.email}, but {quote(email)}"
            )


def _matches(pattern: str, subject: str) -> bool:
    if pattern.endswith("*"):
        return subject.startswith(pattern[:-1])
    return subject == pattern
